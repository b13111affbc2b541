"""Dashboards and rules against a real Prometheus that asks a real pair under load: every question has an answer."""

import re
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from smartstack.monitoring.dashboards import DASHBOARDS
from smartstack.monitoring.rules import RECORDING, Recording
from tests.support.eventually import eventually
from tests.support.pair import BACKEND_PORT, Host
from tests.support.prometheus import Prometheus
from tests.support.scripted import Reply, Scripted
from tests.support.stage import Client
from tests.support.tls import NAME, Authority

HTTP, TCP, SECURE = 3210, 3211, 3212
DATA_SECONDS = 30.0
"""How long it may take until every question has an answer: two scrapes after the last thing happened are enough."""

FILLED = {"__rate_interval": "15s", "__range": "1m"}
"""What Grafana fills in for a Prometheus that asks once a second. Everything else may be anything."""

PANELS = [
    (f"{dashboard.name}: {panel.title}: {query.legend}", query.expr)
    for dashboard in DASHBOARDS
    for panel in dashboard.panels
    for query in panel.queries
]
CHOICES = [
    (f"{dashboard.name}: choice of {variable.name}", f"count by ({variable.label}) ({variable.metric})")
    for dashboard in DASHBOARDS
    for variable in dashboard.variables
]
RECORDED = [(rule.record, rule.record) for group in RECORDING for rule in group.rules if isinstance(rule, Recording)]

OUTBOUND = 'namespace="smartstack", dst_service="web", direction="outbound"'
LINKERD = [
    (
        "success rate of a service",
        f'sum(irate(response_total{{classification="success", {OUTBOUND}}}[15s])) by (dst_service) / '
        f"sum(irate(response_total{{{OUTBOUND}}}[15s])) by (dst_service)",
    ),
    ("request rate of a service", f'sum(irate(request_total{{{OUTBOUND}, tls!="true"}}[15s])) by (dst_service)'),
    *(
        (
            f"p{share} of a service",
            f"histogram_quantile(0.{share}, sum(irate(response_latency_ms_bucket{{{OUTBOUND}}}[15s])) by "
            "(le, dst_service))",
        )
        for share in (50, 95, 99)
    ),
    (
        "success rate of callers",
        f'sum(irate(response_total{{classification="success", deployment!="", {OUTBOUND}}}[15s])) by (deployment) / '
        f'sum(irate(response_total{{deployment!="", {OUTBOUND}}}[15s])) by (deployment)',
    ),
    (
        "success rate of routes",
        f'sum(irate(route_response_total{{classification="success", {OUTBOUND}}}[15s])) by (rt_route) / '
        f"sum(irate(route_response_total{{{OUTBOUND}}}[15s])) by (rt_route)",
    ),
    ("connections of a service", f'sum(tcp_open_connections{{{OUTBOUND}, peer="src"}}) by (dst_service)'),
    ("bytes", f'sum(irate(tcp_write_bytes_total{{{OUTBOUND}, peer="src"}}[15s])) by (dst_service)'),
]
"""What Linkerd's own dashboards ask, by its own labels."""


class Fleet:
    """A host with everything that a panel may ask for: a service with routes, a certificate, an instance that fails,
    one in mode tcp, a nerve that registers, a synapse that writes targets for Prometheus, an instance that comes and
    goes, and clients."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.targets = host.directory / "prometheus" / "targets.json"
        host.settings["telemetry"] = {"instance_metrics": True}
        host.settings["fleet"] = {"listen": f"{host.address}:3201"}
        host.settings["prometheus"] = {"targets": str(self.targets), "nerve_port": 3199}
        authority = Authority(host.directory / "tls")
        authority.renew("web.pem", NAME)
        secure = {
            "address": f"{host.address}:{SECURE}",
            "tls": {"certificate": f"{authority.directory}/web.pem"},
        }
        host.define("web", HTTP, paths=["/users/{id}", "/static/*"], also_listen=[secure])
        host.define("db", TCP, mode="tcp")
        self._sick = self._fails(2)
        for number in (3, 4, 5):
            host.join("web", number)
        host.join("db", 3)
        host.nerve(250, {"web": {}}).start()
        host.start()
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(port,)) for port in (HTTP, TCP)]
        self._threads.append(threading.Thread(target=self._come_and_go))
        for thread in self._threads:
            thread.start()

    def _fails(self, number: int) -> Scripted:
        instance = self.host.instance(number)
        self.host.backends.close(instance.host, BACKEND_PORT)
        sick = Scripted(instance.host, BACKEND_PORT, lambda _: Reply(status=500))
        self.host.join("web", number)
        return sick

    def _call(self, port: int) -> None:
        number = 0
        while not self._stopping.wait(0.02):
            number += 1
            client = Client(self.host, port)
            try:
                client.ask(target=("/users/7", "/static/a.css", "/else")[number % 3])
            finally:
                client.close()

    def _come_and_go(self) -> None:
        while not self._stopping.wait(0.5):
            self.host.join("web", 6)
            self.host.leave("web", 6)

    def stop(self) -> None:
        """End the clients."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(10)
        self._sick.close()


@pytest.fixture
def prometheus(host: Host) -> Iterator[Prometheus]:
    """A Prometheus that has found its targets by the file that synapse wrote, and asks them."""
    fleet = Fleet(host)
    eventually(fleet.targets.exists, within=10)
    made = Prometheus(host.directory / "shipped", host.address, fleet.targets)
    try:
        made.ready()
        eventually(lambda: made.values('up{job=~"synapse|nerve"} == 1') == [1, 1], within=20)
        yield made
    finally:
        made.stop()
        fleet.stop()


def filled(expression: str) -> str:
    """An expression as Grafana sends it, with every choice at All."""
    return re.sub(r"\$(\w+)", lambda found: FILLED.get(found[1], ".*"), expression)


def unanswered(ask: Callable[[str], list[float]], questions: list[tuple[str, str]]) -> list[str]:
    """Which of these questions have no answer within the time; all of them have it together."""
    open_, end = dict(questions), time.monotonic() + DATA_SECONDS
    while True:
        open_ = {name: expression for name, expression in open_.items() if not ask(filled(expression))}
        if not open_ or time.monotonic() > end:
            return [f"{name}: {filled(expression)}" for name, expression in open_.items()]


def test_every_question_has_an_answer(prometheus: Prometheus, host: Host) -> None:
    """Each query of each panel, each choice at the head of a dashboard, each recording rule and each question of
    Linkerd's dashboards has data, that of the instance that fails too; every rule can be worked out; targets bear their
    host's name."""
    assert unanswered(prometheus.values, [*PANELS, *CHOICES, *RECORDED, *LINKERD]) == []
    sick = f'synapse_instance_share{{service="web",address="{host.instance(2).address}"}}'
    eventually(lambda: prometheus.values(f"{sick} < 1"), within=DATA_SECONDS)
    rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert len(rules) > len(RECORDED)
    assert [rule["lastError"] for rule in rules if rule["health"] != "ok"] == []
    alerts = {alert["labels"]["alertname"]: alert for alert in prometheus.get("alerts")["alerts"]}
    assert "SmartStackDaemonAway" not in alerts
    name = host.synapse.get("/telemetry/stat?service=web").json()["host"]
    assert {target["labels"]["host"] for target in prometheus.get("targets")["activeTargets"]} == {name}
