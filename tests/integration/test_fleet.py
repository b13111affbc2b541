"""A fleet: three synapses on addresses of their own, whose services call each other, seen from any of them."""

import json
import signal
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import requests

from nerve.cleaning import PARENTS
from smartstack.forms import RegistryUrl
from smartstack.registry import open_surveyor
from synapse.cli import cli
from tests.support.browser import Browser, browser
from tests.support.commands import run_here
from tests.support.eventually import eventually
from tests.support.pair import Host
from tests.support.stage import Client

__all__ = ["browser"]

PORTS = {"web": 3210, "api": 3211, "db": 3212}
CALLS = {0: {"web": ["api", "db"], "cron": ["web"]}, 1: {"api": ["db"]}, 2: {}}
"""By host: who calls there whom. Nobody calls on the third."""

REQUESTS = 7


class Fleet:
    """Three hosts on one registry. Each service has an instance on one of them and is offered on all."""

    def __init__(self, registry: RegistryUrl | None = None) -> None:
        first = Host(registry)
        self.hosts = [first, *(Host(first.registry) for _ in range(2))]
        for host in self.hosts:
            host.settings["fleet"] = {"listen": f"{host.address}:3201"}
            for name, port in PORTS.items():
                host.define(name, port)
        for name, host in zip(PORTS, self.hosts, strict=True):
            host.join(name, 1)

    def start(self) -> None:
        """Start every synapse, and wait until all are announced."""
        for host in self.hosts:
            host.start()
        for host in self.hosts:
            eventually(partial(announced, host))

    def call(self) -> None:
        """What each host's services ask of others."""
        for number, calls in CALLS.items():
            for source, services in calls.items():
                for service in services:
                    client = Client(self.hosts[number], PORTS[service])
                    for _ in range(REQUESTS):
                        assert client.ask(x_smartstack_source=source).status == 200
                    client.close()

    def close(self) -> None:
        """End everything; the first host's directory holds the registry."""
        for host in self.hosts:
            host.synapse.end()
        for host in reversed(self.hosts):
            host.close()


def announced(host: Host) -> bool:
    """Whether a host's synapse stands in the registry, by its own word."""
    return bool(host.synapse.status()["fleet"]["announced"] == f"{host.address}:3201")


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """A fleet whose services have called each other."""
    made = Fleet()
    made.start()
    made.call()
    yield made
    made.close()


def synapse(host: Host, *arguments: str) -> str:
    """What a command prints on a host."""
    code, printed, _ = run_here(cli, *arguments, "-c", str(host.directory / "synapse.yaml"))
    assert code == 0
    return printed


def asked(host: Host, *arguments: str) -> str:
    """What it prints of the whole fleet."""
    return synapse(host, *arguments, "--fleet")


def told(host: Host, *arguments: str) -> dict[str, Any]:
    """The same as JSON."""
    answer: dict[str, Any] = json.loads(asked(host, *arguments, "--json"))
    return answer


def edges(answer: dict[str, Any]) -> list[tuple[str, str, str, int]]:
    """Source, address of the host, service and requests of each edge."""
    return sorted(
        (each["source"], each["host"].partition("(")[2].strip(")"), each["service"], each["requests"])
        for each in answer["edges"]
    )


def expected(fleet: Fleet) -> list[tuple[str, str, str, int]]:
    """The edges that exist."""
    return sorted(
        (source, f"{fleet.hosts[number].address}:3201", service, REQUESTS)
        for number, calls in CALLS.items()
        for source, services in calls.items()
        for service in services
    )


def sees_every_edge(fleet: Fleet, host: Host) -> bool:
    """Whether this host tells of the edges that exist and of no others."""
    assert edges(told(host, "edges")) == expected(fleet)
    return True


def test_edges_are_exactly_those_that_exist(fleet: Fleet) -> None:
    """Seen from any host, whether anybody called there or not. Hosts that share a name are told apart."""
    for host in fleet.hosts:
        eventually(partial(sees_every_edge, fleet, host), within=10)
    lines = asked(fleet.hosts[2], "edges").splitlines()
    assert sum("->" in line for line in lines) == len(expected(fleet))
    assert "3 of 3 synapses answered" in lines


def test_the_graph_shows_exactly_the_edges_that_exist(fleet: Fleet, browser: Browser) -> None:
    """In a browser in front of the host on which nobody calls."""
    browser.base = f"http://{fleet.hosts[2].admin}"
    browser.size(1280)
    browser.complaints()
    browser.open("topology")
    wanted = {f"{source} to {service}" for source, _, service, _ in expected(fleet)}

    def shown() -> set[str]:
        script = "return [...document.querySelectorAll('.edge title')].map((title) => title.textContent.split(':')[0])"
        return set(browser.driver.execute_script(script))

    eventually(lambda: shown() == wanted)
    assert "by 3 of 3 hosts" in browser.text()
    assert browser.complaints() == []


def test_figures_are_those_of_all_hosts(fleet: Fleet) -> None:
    """What two hosts called is one row, with the quantiles of all requests."""

    def figures() -> dict[str, Any]:
        rows = {each["service"]: each for each in told(fleet.hosts[2], "stat")["rows"]}
        assert {name: row["requests"] for name, row in rows.items()} == {
            "web": REQUESTS,
            "api": REQUESTS,
            "db": 2 * REQUESTS,
        }
        return dict(rows["db"])

    row = eventually(figures, within=10)
    assert (row["success"], row["success_rate"]) == (2 * REQUESTS, 1.0)
    assert row["p99_ms"] is not None and "buckets" not in row
    [route] = told(fleet.hosts[2], "routes", "db")["rows"]
    assert (route["method"], route["requests"]) == ("GET", 2 * REQUESTS)
    lines = asked(fleet.hosts[2], "stat").splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["SERVICE", "api", "db", "web"]


def test_the_address_for_others_only_answers(fleet: Fleet) -> None:
    """Figures, events and whether it is well; no status, no action, no request that somebody made, no other's name."""
    base = f"http://{fleet.hosts[0].address}:3201"

    def status(path: str, method: str = "GET", **options: Any) -> int:
        with requests.Session() as session:
            session.trust_env = False
            return session.request(method, f"{base}{path}", timeout=5, **options).status_code

    for path in ("/healthz", "/telemetry/stat", "/telemetry/edges", "/telemetry/routes?service=db", "/events"):
        assert status(path) == 200, path
    for path in ("/status", "/readyz", "/services", "/explain/web", "/telemetry/tap?service=web", "/fleet/stat", "/"):
        assert status(path) == 404, path
    assert status("/telemetry/routes?service=db&learn=1") == 400
    for path in ("/hold", "/accept", "/log-level", "/telemetry/stat"):
        assert status(path, "POST", json={}) in (404, 405), path
    assert status("/telemetry/stat", headers={"Host": "evil.example"}) == 403
    assert status("/telemetry/stat", headers={"Origin": "https://evil.example"}) == 403


def test_who_hangs_is_named_and_the_others_are_shown(fleet: Fleet, browser: Browser) -> None:
    """Within the time-out, and with what it did say before nowhere in the figures; in a browser too."""
    hung = fleet.hosts[1]
    eventually(partial(sees_every_edge, fleet, fleet.hosts[0]), within=10)
    hung.synapse.suspend()
    try:
        began = time.monotonic()
        answer = told(fleet.hosts[0], "edges")
        took = time.monotonic() - began
        lines = asked(fleet.hosts[0], "edges").splitlines()
        browser.base = f"http://{fleet.hosts[0].admin}"
        browser.open("topology")
        missing = f"({hung.address}:3201) is missing here: no answer within 2.0 s"
        eventually(lambda: missing in browser.text(".notice"))
        assert "by 2 of 3 hosts" in browser.text()
    finally:
        hung.synapse.send(signal.SIGCONT)
    [failed] = [each for each in answer["hosts"] if each["error"] is not None]
    assert failed["address"] == f"{hung.address}:3201"
    assert failed["error"] == "no answer within 2.0 s"
    assert edges(answer) == [each for each in expected(fleet) if not each[1].startswith(f"{hung.address}:")]
    assert "2 of 3 synapses answered" in lines
    assert any(f"{hung.address}:3201" in line and "no answer within 2.0 s" in line for line in lines)
    assert took < 15, "it waited for a host that hangs"
    eventually(partial(sees_every_edge, fleet, fleet.hosts[0]), within=10)


def test_who_ends_is_gone_and_who_comes_back_is_there(zookeeper_url: RegistryUrl) -> None:
    """On ZooKeeper: a node beside the services, which is gone with a stop at once, and after a kill with the session.
    Whoever reads services meets none of it, and nerve's cleaning does not look there."""
    fleet = Fleet(zookeeper_url)
    try:
        fleet.start()
        first, second, third = fleet.hosts
        assert len(told(first, "stat")["hosts"]) == 3
        third.synapse.stop()
        eventually(lambda: len(told(first, "stat")["hosts"]) == 2, within=3)
        third.start()
        eventually(lambda: len(told(first, "stat")["hosts"]) == 3)
        second.synapse.kill()
        [gone] = [each for each in told(first, "stat")["hosts"] if each["error"] is not None]
        assert gone["error"] == "cannot be reached: connection refused"
        eventually(lambda: len(told(first, "stat")["hosts"]) == 2, within=20)
        assert f"fleet     announced as {first.address}:3201" in synapse(first, "status")
        assert [len(first.told(name)["instances"]) for name in PORTS] == [1, 1, 1]
        assert sorted(survey(zookeeper_url)) == sorted(PORTS)
    finally:
        fleet.close()


def survey(registry: RegistryUrl) -> list[str]:
    """The services of which nerve's cleaning finds a node."""
    surveyor = open_surveyor(registry)
    surveyor.start()
    try:
        nodes = surveyor.survey((), PARENTS, lambda name: True).nodes
    finally:
        surveyor.stop()
    return [node.where.split("/")[-2] for node in nodes]
