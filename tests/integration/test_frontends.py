"""Several services behind one address, and what else a frontend does: on the real synapse, with the real HAProxy."""

import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from smartstack.forms import TcpAddress
from tests.support.clients import LoadClient, assert_none_failed
from tests.support.eventually import eventually
from tests.support.exchange import Exchange, connect, exchange
from tests.support.pair import BACKEND_PORT, CHECK, Host
from tests.support.scripted import Reply, Request
from tests.support.stage import QUIET, Stage

PORT = 3210


def place(host: Host, port: int = PORT) -> TcpAddress:
    """The address of a service."""
    return TcpAddress(host.address, port)


def get(host: Host, target: str = "/", **headers: str) -> Exchange:
    """A request to `web`; `x_team` is the header X-Team."""
    return exchange(place(host), target, [(name.replace("_", "-"), value) for name, value in headers.items()])


def behind(host: Host, name: str, *instances: int, **proxy: Any) -> None:
    """A service without an address of its own, with these instances."""
    for number in instances:
        host.join(name, number)
    host.write(f"services/{name}.yaml", json.dumps({"port": BACKEND_PORT, "check": CHECK, "proxy": proxy}))


def address(host: Host, number: int) -> str:
    """What the instance with this number answers."""
    return host.instance(number).address


# By path and by header


def test_one_address_leads_to_several_services(host: Host) -> None:
    """By path and by header; the longest path wins, then the most headers; what fits nothing is the service's own."""
    routes = [
        {"path": "/api", "to": "api"},
        {"headers": {"X-Team": "blue"}, "to": "blue"},
        {"path": "/api/admin", "headers": {"X-Team": "blue"}, "to": "blue"},
        {"path": "/api/admin", "headers": {"X-Team": "blue", "X-Role": "root"}, "to": "root"},
    ]
    host.serve("web", PORT, instances=1, routes=routes)
    for number, name in enumerate(("api", "blue", "root"), 2):
        behind(host, name, number)
    host.start()
    web, api, blue, root = (address(host, number) for number in (1, 2, 3, 4))
    assert get(host).text == web
    assert get(host, "/apix").text == web
    assert get(host, "/x/api").text == web
    assert get(host, "/", x_team="green").text == web
    assert get(host, "/", x_team="blue green").text == web
    assert get(host, "/api").text == api
    assert get(host, "/api?x=/y").text == api
    assert get(host, "/api/x", x_team="blue").text == api
    assert get(host, "/other", x_team="blue").text == blue
    assert get(host, "/api/admin/x", x_team="blue").text == blue
    assert get(host, "/api/admin", x_team="blue", x_role="root").text == root
    assert get(host, "/api/admin", x_role="root").text == api


HOSTILE = [
    *("}", "{ path / }", "a b", "a  b", "# a", "it's", "''", '"', '"a"', "\\", "\\'", "$HOME", "${HOME}", '"${HOME}"'),
    *(
        "%[src]",
        "%",
        "-f /etc/passwd",
        "--",
        "-i",
        "!",
        "||",
        "if",
        "a,b",
        "'; bind :1",
        "<<EOF",
        "`id`",
        "~",
        "'" * 1000,
    ),
]


def test_a_value_is_only_itself(host: Host) -> None:
    """Whatever means something to a shell, to YAML or to HAProxy is a header's value here, to the letter."""
    routes = [{"headers": {"X-Value": value.replace("${", "$${")}, "to": "api"} for value in HOSTILE]
    host.serve("web", PORT, instances=1, routes=routes)
    behind(host, "api", 2)
    host.start()
    for value in HOSTILE:
        assert get(host, "/", x_value=value).text == address(host, 2), value
        assert get(host, "/", x_value=f"{value}x").text == address(host, 1), value
        assert get(host, "/", x_value=f"x{value}").text == address(host, 1), value
        assert exchange(place(host), "/", [("X-Value", "x"), ("x-value", value)]).text == address(host, 2), value


# Where the service that a route leads to is not there


def test_a_route_heals_when_its_service_comes(host: Host) -> None:
    """Until it does, its requests are told what is missing, and so is the operator; the other requests notice nothing
    of its coming and going."""
    host.serve("web", PORT, instances=2, routes=[{"path": "/api", "to": "api"}])
    host.start()
    clients = [LoadClient(host.address, PORT, keep_alive=each).__enter__() for each in (False, True)]
    for _ in range(3):
        gone = get(host, "/api/x")
        assert (gone.status, gone.text) == (503, "this request is for api, which is not used on this host")
        problems = eventually(lambda: host.synapse.status()["problems"].get("web"))
        assert "proxy.routes[0].to: leads to api, which is not used on this host" in problems[0]
        behind(host, "api", 3)
        eventually(lambda: get(host, "/api/x").text == address(host, 3), within=10)
        eventually(lambda: "web" not in host.synapse.status()["problems"])
        (host.services / "api.yaml").unlink()
        eventually(lambda: get(host, "/api/x").status == 503, within=10)
    assert_none_failed(clients, at_least=100)
    assert host.synapse.metric("synapse_haproxy_reloads_total", result="failed") == 0


ABSENT: Mapping[str, tuple[dict[str, Any], str]] = {
    "discovery only": ({"port": BACKEND_PORT}, "which has no proxy"),
    "mode tcp": ({"port": BACKEND_PORT, "proxy": {"mode": "tcp", "listen": "ADDRESS:3299"}}, "which is mode tcp"),
    "refused": ({"port": BACKEND_PORT, "proxy": {"raw": {"backend": "blance 7"}}}, "whose definition is refused"),
}


@pytest.mark.parametrize(("definition", "why"), ABSENT.values(), ids=ABSENT)
def test_why_nobody_answers(host: Host, definition: dict[str, Any], why: str) -> None:
    """The request is told, and /status of the service whose route it is; the rest of that service is served."""
    host.serve("web", PORT, instances=1, routes=[{"path": "/api", "to": "api"}])
    host.write("services/api.yaml", json.dumps(definition).replace("ADDRESS", host.address))
    host.start()
    answer = get(host, "/api")
    assert (answer.status, answer.text) == (503, f"this request is for api, {why}")
    assert get(host).text == address(host, 1)
    assert f"leads to api, {why}" in eventually(lambda: host.synapse.status()["problems"]["web"])[0]
    behind(host, "api", 2)
    eventually(lambda: get(host, "/api").text == address(host, 2), within=10)


def test_a_target_that_is_edited_badly_is_led_to_as_it_was(host: Host) -> None:
    """HAProxy refuses its new definition; the last good one answers."""
    host.serve("web", PORT, instances=1, routes=[{"path": "/api", "to": "api"}])
    behind(host, "api", 2)
    host.start()
    behind(host, "api", 2, raw={"backend": "blance 7"})
    eventually(lambda: host.told("api")["refused_definition"])
    assert get(host, "/api").text == address(host, 2)


def test_no_instance_of_the_service_that_a_route_leads_to(host: Host) -> None:
    """The 503 names that service, and not the one whose address it is."""
    host.serve("web", PORT, instances=1, routes=[{"path": "/api", "to": "api"}])
    behind(host, "api")
    host.start()
    answer = get(host, "/api")
    assert (answer.status, answer.text) == (503, "no live instance of api")
    assert get(host).text == address(host, 1)


def test_routes_of_routes_are_not_asked(host: Host) -> None:
    """/api of web is api's, whatever api's own address does with that path."""
    host.serve("web", PORT, instances=1, routes=[{"path": "/api", "to": "api"}])
    host.join("api", 2)
    host.define("api", 3211, routes=[{"path": "/", "to": "web"}])
    host.start()
    assert get(host, "/api").text == address(host, 2)
    assert exchange(place(host, 3211), "/api").text == address(host, 1)


# How long a route waits


def test_a_route_has_its_own_time_out(stage: Stage) -> None:
    """/slow gives up in time, /slower and everything else go on waiting; so it is for a route to another service."""
    host, gate = stage.host, threading.Event()

    def slow(request: Request) -> Reply:
        if request.target != "/quick":
            gate.wait(20)
        return Reply(text=request.target)

    actor = stage.play(1, slow)
    behind(host, "api", **QUIET)
    host.join("api", 1)
    routes = [
        {"path": "/slow", "timeout": "300ms"},
        {"path": "/slower", "timeout": "1m"},
        {"path": "/api", "to": "api"},
        {"path": "/api/fast", "to": "api", "timeout": "300ms"},
    ]
    stage.start(routes=routes, timeouts={"server": "1m"}, **QUIET)
    with ThreadPoolExecutor(3) as pool:
        waiting = {target: pool.submit(get, host, target) for target in ("/", "/slower", "/api")}
        eventually(lambda: all(actor.asked("GET", target) for target in waiting))
        assert get(host, "/slow").status == 504
        assert get(host, "/slow/x").status == 504
        assert get(host, "/api/fast").status == 504
        assert not any(each.done() for each in waiting.values())
        gate.set()
        assert {target: each.result().text for target, each in waiting.items()} == {each: each for each in waiting}
    assert get(host, "/quick").text == "/quick"


def test_a_longer_time_out_than_the_service_has(stage: Stage) -> None:
    """`timeouts.server` is what a route's time-out stands in for, also where it is shorter."""
    gate = threading.Event()

    def slow(request: Request) -> Reply:
        gate.wait(20)
        return Reply(text=request.target)

    actor = stage.play(1, slow)
    stage.start(routes=[{"path": "/report", "timeout": "1m"}], timeouts={"server": "300ms"}, **QUIET)
    with ThreadPoolExecutor(1) as pool:
        report = pool.submit(get, stage.host, "/report")
        eventually(lambda: actor.asked("GET", "/report"))
        assert get(stage.host).status == 504
        gate.set()
        assert report.result().text == "/report"


# Lines of HAProxy's own, and limits


def test_raw_lines_are_in_use(host: Host) -> None:
    """They see every request after the routes did, and what they decide comes before the routes' services."""
    raw = """
        # by hand
        http-after-response set-header X-Raw "a # b"
        http-request deny deny_status 429 if { path /much }
        use_backend web if { path /api/mine }
    """
    host.serve("web", PORT, instances=1, routes=[{"path": "/api", "to": "api"}], raw={"frontend": raw})
    behind(host, "api", 2)
    host.start()
    assert "x-raw: a # b" in get(host).head.lower()
    assert get(host, "/much").status == 429
    assert get(host, "/api").text == address(host, 2)
    assert get(host, "/api/mine").text == address(host, 1)


def test_clients_beyond_the_limit_wait(host: Host) -> None:
    """They are answered when another has hung up."""
    host.serve("web", PORT, instances=1, limits={"clients": 1})
    host.start()
    with connect(place(host)) as first:
        first.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert first.recv(12) == b"HTTP/1.1 200"
        with pytest.raises(TimeoutError):
            exchange(place(host), timeout_seconds=0.3)
    assert get(host).text == address(host, 1)


def test_check_config_finds_routes_that_lead_nowhere(host: Host) -> None:
    """By the definitions alone, with the line of each and what was probably meant; exit code 2."""
    host.define("web", PORT, routes=[{"path": "/a", "to": "apl"}, {"path": "/b", "to": "raw"}, {"to": "api"}])
    behind(host, "api")
    host.define("raw", 3211, mode="tcp")
    command = [str(Path(sys.executable).parent / "synapse"), "check-config", "-c", str(host.configure())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2
    unknown, tcp = done.stderr.splitlines()
    assert "web.yaml:1:" in unknown
    assert "proxy.routes[0].to: leads to apl, which is not used on this host" in unknown
    assert "did you mean 'api'?" in unknown
    assert "proxy.routes[1].to: leads to raw, which is mode tcp" in tcp
