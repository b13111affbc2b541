"""The admin addresses of real daemons: what `docs/openapi-*.yaml` says of them is true, whatever is asked, and nobody
on this machine or behind a browser on it does more than that."""

import contextlib
import http.client
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from tests.support.eventually import eventually
from tests.support.pair import Daemon, Host

DOCS = Path(__file__).parents[2] / "docs"
OWNER = "alice"
"""Who gives the orders that the descriptions show."""

SCHEMATHESIS = str(Path(sys.executable).parent / "schemathesis")
EXAMPLES = 300 if os.environ.get("HYPOTHESIS_PROFILE") == "long" else 3
"""Requests that are made up for each operation, beside those that try out each value of the description."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """One admin address: the daemon behind it, its token, and the description of both."""

    daemon: Daemon
    address: str
    description: Path
    token: str

    @property
    def paths(self) -> dict[str, dict[str, Any]]:
        """What is described, by path."""
        described: dict[str, dict[str, Any]] = yaml.safe_load(self.description.read_text(encoding="utf-8"))["paths"]
        return described

    @property
    def authorized(self) -> dict[str, str]:
        """The header of who may give orders."""
        return {"Authorization": f"Bearer {self.token}"}

    def ask(self, method: str, path: str, **options: Any) -> requests.Response:
        """Its answer."""
        with requests.Session() as session:
            session.trust_env = False
            return session.request(method, f"http://{self.address}{path}", timeout=10, **options)


@pytest.fixture(scope="module")
def pair() -> Iterator[Host]:
    """A host whose nerve announces `web`, and whose synapse offers it and takes part in a fleet."""
    host = Host()
    host.serve("web", 3210)
    host.settings["fleet"] = {"listen": f"{host.address}:3201"}
    host.start()
    host.nerve(1, {"web": {}}).start()
    yield host
    host.close()


@pytest.fixture(scope="module", params=["nerve", "synapse"])
def api(request: pytest.FixtureRequest, pair: Host) -> Api:
    """The admin address of each daemon."""
    name = request.param
    daemon, run, address = (
        (pair.synapse, "run", pair.admin)
        if name == "synapse"
        else (pair.nerves[1], "run-1", f"{pair.instance(1).host}:3199")
    )
    token = (pair.directory / run / "token").read_text().strip()
    return Api(daemon=daemon, address=address, description=DOCS / f"openapi-{name}.yaml", token=token)


def test_whatever_is_asked_is_answered_as_described(api: Api) -> None:
    """schemathesis makes up requests of every kind, right and wrong: no answer has a status, a type or a form that the
    description does not have, nothing wrong is accepted, nothing is done without the token, and the loop turns on."""
    ran = subprocess.run(
        [
            *(SCHEMATHESIS, "run", str(without_waiting(api)), "--url", f"http://{api.address}"),
            *("--header", f"Authorization: Bearer {api.token}"),
            *("--checks", "all", "--exclude-checks", "not_a_server_error,positive_data_acceptance"),
            *("--phases", "examples,coverage,fuzzing", "--max-examples", str(EXAMPLES)),
            *("--generation-deterministic", "--no-shrink"),
            *("--request-timeout", "10", "--warnings", "off", "--no-color"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-14000:] + ran.stderr[-2000:]
    assert f"Tested: {len(api.paths)}" in ran.stdout
    assert api.ask("GET", "/healthz").text == "ok\n"
    assert api.daemon.running
    assert "Traceback" not in api.daemon.log()


def without_waiting(api: Api) -> Path:
    """The description without what asks the daemon to wait for a change, which would take its time."""
    described = yaml.safe_load(api.description.read_text(encoding="utf-8"))
    waits = [f"#/components/parameters/{name}" for name in ("after", "wait")]
    for path in described["paths"].values():
        for operation in path.values():
            parameters = operation.get("parameters", [])
            operation["parameters"] = [each for each in parameters if each.get("$ref") not in waits]
    written = api.daemon.configuration.with_name(f"{api.description.stem}.json")
    written.write_text(json.dumps(described))
    return written


def served(api: Api, address: str | None = None) -> set[str]:
    """The paths that the daemon itself says that it has: `/services/<name>`, `POST:/drain`."""
    answer = replace(api, address=address or api.address).ask("GET", "/no-such-path")
    assert answer.status_code == 404
    return {*answer.text.partition("there are: ")[2].split()}


def test_every_path_is_described_and_no_other(api: Api) -> None:
    """The description has exactly the paths of the code, but for those below a question that has nothing there."""
    described = {
        ("POST:" if method == "post" else "") + re.sub(r"{\w+}", "<name>", path)
        for path, operations in api.paths.items()
        for method in operations
    }
    there = served(api)
    assert described <= there
    for path in there - described:
        assert path == "/explain" or path.endswith("/<name>"), f"{path} is not described"
        assert api.ask("GET", path.replace("<name>", "x")).status_code == 404


def test_the_fleet_is_told_figures_and_nothing_else(pair: Host, api: Api) -> None:
    """At the address for other hosts there is only what the description says so of: no action, no status, no path that
    was asked for."""
    if "fleet" not in api.description.read_text():
        assert not any("fleet" in path for path in served(api))
        return
    address = f"{pair.address}:3201"
    eventually(lambda: requests.get(f"http://{address}/healthz", timeout=5).status_code == 200)
    told = {path for path, operations in api.paths.items() if operations.get("get", {}).get("tags") == ["fleet"]}
    assert {path for path in served(api, address) if not path.endswith("/<name>")} == told
    fleet = replace(api, address=address)
    for path, operations in api.paths.items():
        method = next(iter(operations)).upper()
        allowed = (200, 400) if path in told else (404, 405)
        assert fleet.ask(method, path, headers=api.authorized, json={}).status_code in allowed, path
    assert fleet.ask("GET", "/telemetry/routes?service=web&learn=1").status_code == 400


def actions(api: Api, pair: Host) -> dict[str, Any]:
    """An order for each action, as the description shows it, about an instance that is there."""
    orders = {
        path: operations["post"]["requestBody"]["content"]["application/json"]["example"]
        for path, operations in api.paths.items()
        if "post" in operations
    }
    address = pair.instance(1).address
    return {path: {**order, **({"address": address} if "address" in order else {})} for path, order in orders.items()}


def test_who_has_the_token_is_obeyed(api: Api, pair: Host) -> None:
    """The orders of the description are real ones: what the next test sees undone is done here."""
    orders = actions(api, pair)
    begin, end = ("/drain", "/undrain") if "/drain" in orders else ("/hold", "/unhold")
    assert api.ask("POST", begin, headers=api.authorized, json=orders[begin]).status_code == 200
    assert OWNER in api.ask("GET", "/status").text
    assert api.ask("POST", end, headers=api.authorized, json=orders[end]).status_code == 200
    assert OWNER not in api.ask("GET", "/status").text


FORM = "application/x-www-form-urlencoded"
NO_ORDERS: dict[str, tuple[dict[str, str | None], int]] = {
    "no token": ({"Authorization": None}, 401),
    "a wrong token": ({"Authorization": "Bearer wrong"}, 403),
    "half of the token": ({"Authorization": "half"}, 403),
    "the token by another scheme": ({"Authorization": "scheme"}, 401),
    "a page of another site": ({"Origin": "https://evil.example"}, 403),
    "a page without an origin": ({"Origin": "null"}, 403),
    "another site, as the browser says": ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
    "a name that was made to lead here": ({"Host": "evil.example:3200"}, 403),
    "a form": ({"Content-Type": FORM}, 400),
    "a form of text": ({"Content-Type": "text/plain"}, 400),
    "no type": ({"Content-Type": None}, 400),
}


@pytest.mark.parametrize("name", NO_ORDERS)
def test_nothing_is_done_for_others(name: str, api: Api, pair: Host) -> None:
    """An order that would be carried out is not, whatever the action, where one thing about it is not as it should be:
    the others, the token among them, are right."""
    changed, status = NO_ORDERS[name]
    headers = {"Content-Type": "application/json", **api.authorized, **changed}
    if headers["Authorization"] == "half":
        headers["Authorization"] = f"Bearer {api.token[:20]}"
    if headers["Authorization"] == "scheme":
        headers["Authorization"] = f"Basic {api.token}"
    for path, order in actions(api, pair).items():
        answer = api.ask("POST", path, data=json.dumps(order), headers=headers)
        assert answer.status_code == status, f"{path}: {answer.text}"
    assert OWNER not in api.ask("GET", "/status").text


TRAVERSALS = (
    *("/dashboard/../synapse.py", "/dashboard/..%2f..%2fdaemon.py", "/dashboard/%2e%2e/%2e%2e/settings.py"),
    *("/dashboard//etc/passwd", "/dashboard/%2fetc%2fpasswd", "/dashboard/vendor/../__init__.py"),
    *("/dashboard/__init__.py", "/dashboard/app.js%00", "/dashboard/..\\__init__.py", "/dashboard/....//app.js"),
    *("/../../../../etc/passwd", "/services/../../token", "/services/%2e%2e%2ftoken", "/explain/../token"),
    *("//etc/passwd", "/./token", "/token", "/dashboard/.", "/dashboard/vendor/"),
)


@pytest.mark.parametrize("path", TRAVERSALS)
def test_no_path_leads_out(path: str, api: Api) -> None:
    """Paths are words in a table: none is looked for in a directory, however it is written."""
    connection = http.client.HTTPConnection(api.address, timeout=10)
    try:
        connection.request("GET", path)  # as it stands here, which requests would tidy
        answer = connection.getresponse()
        body = answer.read().decode()
    finally:
        connection.close()
    assert answer.status in (400, 404) or (answer.status, '"services": {}' in body) == (200, True)
    assert api.token not in body and "root:" not in body and "import " not in body


@pytest.mark.parametrize(
    ("size", "place", "status"),
    [(20_000, "header", 431), (20_000, "body", 413), (8_000_000, "body", 413)],
)
def test_what_is_large_is_refused(size: int, place: str, status: int, api: Api) -> None:
    """16 KB are enough for an administrator, and a stranger fills no memory."""
    headers = {"X-Large": "x" * size} if place == "header" else {}
    body = "x" * size if place == "body" else ""
    with contextlib.suppress(requests.ConnectionError):  # it may end the connection before all of it is sent
        answer = api.ask("POST", "/log-level", headers={**api.authorized, **headers}, data=body)
        assert answer.status_code == status
    assert resident_kilobytes(api.daemon.pid) < 100_000
    assert api.ask("GET", "/healthz").status_code == 200


SLOW = 200
"""Connections, more than four times as many as nerve takes at once."""


@pytest.mark.parametrize(
    "begin",
    [b"", b"GET /status HTTP/1.1\r\nHost: l", b"POST /drain HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"],
    ids=["silent", "slow headers", "slow body"],
)
def test_slow_clients_stop_nobody(begin: bytes, api: Api, pair: Host) -> None:
    """With hundreds of connections that say nothing, or not all of it, an administrator is answered, and an instance
    that joins is in HAProxy as ever."""
    host, port = api.address.split(":")
    slow = []
    try:
        for _ in range(SLOW):
            slow.append(socket.create_connection((host, int(port)), timeout=5))
            slow[-1].sendall(begin)
        assert api.ask("GET", "/healthz").text == "ok\n"
        assert api.ask("POST", "/log-level", headers=api.authorized, json={"level": "info"}).status_code == 200
        new = pair.join("web", 4).address
        eventually(lambda: new in pair.members("web"))
    finally:
        for connection in slow:
            connection.close()
        pair.leave("web", 4)
    eventually(lambda: new not in pair.members("web"))


def resident_kilobytes(pid: int) -> int:
    """How much memory this process has."""
    return int(re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[0])
