"""The feed: what a real HAProxy tells synapse of each request, and who called."""

import contextlib
import os
import secrets
import socket
import socketserver
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from smartstack.definitions import load_settings
from smartstack.instance import Instance, encode, node_name
from smartstack.logs import EventLog
from smartstack.registry.protocol import NodeId
from synapse.settings import Settings
from synapse.telemetry.netlink import own_addresses
from synapse.telemetry.request import Outcome, Request
from synapse.telemetry.source import of_cgroup, safe
from synapse.telemetry.station import Telemetry
from tests.support.eventually import eventually
from tests.support.pair import BACKEND_PORT, Host
from tests.support.scripted import Reply, Scripted
from tests.support.scripted import Request as Asked
from tests.support.stage import PORT, QUIET, Client, Stage, ask, connect

HEADER = "x-smartstack-source"
CALLER = """
import http.client, sys
connection = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]))
for target in sys.stdin:
    connection.request("GET", target.strip())
    print(connection.getresponse().read(), flush=True)
"""


class Ear:
    """What the HAProxy of a host tells after its synapse was stopped, as a synapse hears it: by the same parts."""

    def __init__(self, host: Host) -> None:
        self.requests: list[Request] = []
        settings = load_settings(Settings, str(host.directory / "synapse.yaml"), {})
        self.telemetry = Telemetry(settings, EventLog("test"), lambda: None, writes=False)
        self.telemetry.sinks.append(self)

    def take(self, requests: Sequence[Request], now: float) -> None:
        self.requests.extend(requests)

    def tick(self, now: float) -> None:
        """Nothing grows old here."""

    def heard(self, path: str = "/", count: int = 1) -> list[Request]:
        """The requests for this path, once there are so many."""

        def found() -> list[Request]:
            with self.telemetry.lock:
                requests = [request for request in self.requests if request.path == path]
            assert len(requests) >= count, self.requests
            return requests

        return eventually(found)


@contextlib.contextmanager
def ear(host: Host) -> Iterator[Ear]:
    """Stops the synapse of a host, and listens in its place."""
    host.synapse.stop()
    listener = Ear(host)
    listener.telemetry.start()
    assert listener.telemetry.problems == ()
    try:
        yield listener
    finally:
        listener.telemetry.stop()


def free_port() -> int:
    """A port that nobody has on any address."""
    with socket.socket() as probe:
        probe.bind(("0.0.0.0", 0))
        port: int = probe.getsockname()[1]
        return port


def test_each_request_is_told_of(host: Host) -> None:
    """Of each request on a connection: service, instance, status, times, sizes and path; its query is left out."""
    host.serve("web", PORT, instances=2, timeouts={"keep_alive": "1m"})
    host.start()
    with ear(host) as listener:
        client = Client(host)
        for number in range(3):
            assert client.ask("POST", f"/a/{number}?secret=1").status == 200
        told = [request for number in range(3) for request in listener.heard(f"/a/{number}")]
        client.close()
        places = {host.instance(number).address for number in (1, 2)}
        for request in told:
            assert (request.mode, request.service, request.frontend, request.method) == ("http", "web", "web", "POST")
            assert (request.status, request.termination, request.outcome) == (200, "--", Outcome.SUCCESS)
            assert request.instance in places
            assert request.slot in ("s1", "s2")
            assert request.response_ms is not None
            assert 0 <= request.response_ms <= request.total_ms
            assert request.sent_bytes > 0
            assert request.received_bytes > 0
        assert {request.client_port for request in told} == {told[0].client_port}
        assert "secret" not in repr(listener.requests)


class Greeter(socketserver.StreamRequestHandler):
    """An instance that speaks first, as a database does, and hangs up after the client's word."""

    def handle(self) -> None:
        self.wfile.write(b"hello, this is the database\r\n")
        self.rfile.readline()


def test_each_connection_in_mode_tcp_is_told_of(host: Host) -> None:
    """With its sizes, and who called by its listener, also where the instance speaks first."""
    host.define("db", 3211, mode="tcp", also_listen=[{"address": f"{host.address}:3212", "client": "cron"}], **QUIET)
    place = host.instance(1).host, BACKEND_PORT
    host.backends.close(*place)
    with socketserver.ThreadingTCPServer(place, Greeter) as database:
        threading.Thread(target=database.serve_forever, daemon=True).start()
        host.join("db", 1)
        host.start()
        with ear(host) as listener:
            for port in (3211, 3212):
                with socket.create_connection((host.address, port), 5) as connection:
                    assert connection.makefile("rb").readline() == b"hello, this is the database\r\n"
                    connection.sendall(b"bye\n")
            told = {request.source_kind: request for request in listener.heard("", 2)}
        database.shutdown()
    assert told["listener"].source == "cron"
    for each in told.values():
        assert (each.mode, each.service, each.status, each.outcome) == ("tcp", "db", 0, Outcome.SUCCESS)
        assert (each.sent_bytes, each.received_bytes) == (29, 4)


def test_what_only_connects_is_no_request(host: Host) -> None:
    """Probes that connect and hang up, in either mode, are not told of."""
    host.serve("web", PORT, instances=1)
    host.serve("db", 3211, instances=1, mode="tcp")
    host.start()
    with ear(host) as listener:
        for _ in range(3):
            for port in (PORT, 3211):
                socket.create_connection((host.address, port), 5).close()
        ask(host, target="/last")
        listener.heard("/last")
        assert [request.path for request in listener.requests] == ["/last"]


def test_what_went_wrong_is_told(stage: Stage) -> None:
    """A retry that another instance answered, a client that hung up, no instance at all: each by HAProxy's words."""
    host, asked = stage.host, threading.Event()

    def slow(request: Asked) -> Reply:
        if request.target == "/slow":
            asked.set()
            threading.Event().wait(2.0)
        return Reply()

    stage.play(1, slow)
    host.join("web", 2)
    host.serve("none", 3211, instances=0)
    stage.start(balance="roundrobin", **QUIET)
    with ear(host) as listener:
        host.backends.close(host.instance(2).host, BACKEND_PORT)
        for _ in range(4):
            assert ask(host, target="/again").status == 200
        again = listener.heard("/again", 4)
        assert any(request.retries > 0 and request.redispatched for request in again)
        assert all(request.instance == host.instance(1).address for request in again)
        hasty = connect(host, b"GET /slow HTTP/1.1\r\nHost: web\r\n\r\n")
        assert asked.wait(5)
        hasty.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # with a reset
        hasty.close()
        [aborted] = listener.heard("/slow")
        assert (aborted.outcome, aborted.termination[0]) == (Outcome.ABORTED, "C")
        client = Client(host, 3211)
        assert client.ask(target="/none").status == 503
        client.close()
        [nobody] = listener.heard("/none")
        assert (nobody.service, nobody.status, nobody.instance, nobody.slot) == ("none", 503, "", "")
        assert nobody.outcome is Outcome.FAILURE


def header_of(actor: Scripted, target: str) -> str | None:
    """What the instance was told of who calls."""
    [request] = [request for request in actor.requests if request.target == target]
    return request.headers.get(HEADER)


def test_who_calls_is_known_by_listener_and_header_and_told_to_the_instance(stage: Stage) -> None:
    """The listener's client stands above the header; a header that is no name, or comes twice, is nobody's."""
    host, actor = stage.host, stage.play(1)
    path = host.directory / "cron.sock"
    host.settings["telemetry"] = {"source": "batch"}
    stage.start(
        also_listen=[
            {"address": f"{host.address}:3211", "client": "billing"},
            {"address": str(path), "client": "cron@nightly"},
            {"address": f"{host.directory}/plain.sock"},
        ],
        **QUIET,
    )
    with ear(host) as listener:
        asked: dict[str, tuple[str | tuple[str, int], list[str]]] = {
            "/none": ((host.address, PORT), []),
            "/header": ((host.address, PORT), ["api"]),
            "/bad": ((host.address, PORT), ["a b"]),
            "/twice": ((host.address, PORT), ["api", "api"]),
            "/listener": ((host.address, 3211), []),
            "/both": ((host.address, 3211), ["api"]),
            "/socket": (str(path), ["api"]),
            "/plain-socket": (f"{host.directory}/plain.sock", ["api"]),
            "/plain-nobody": (f"{host.directory}/plain.sock", []),
        }
        for target, (place, names) in asked.items():
            request(place, target, names)
        told = {target: listener.heard(target)[0] for target in asked}
    assert {target: (each.source, each.source_kind) for target, each in told.items()} == {
        "/none": ("batch", "host"),
        "/header": ("api", "header"),
        "/bad": ("batch", "host"),
        "/twice": ("batch", "host"),
        "/listener": ("billing", "listener"),
        "/both": ("billing", "listener"),
        "/socket": ("cron@nightly", "listener"),
        "/plain-socket": ("api", "header"),
        "/plain-nobody": ("batch", "host"),
    }
    assert {target: header_of(actor, target) for target in asked} == {
        target: each.source for target, each in told.items()
    }


def request(place: str | tuple[str, int], target: str, names: Sequence[str]) -> None:
    """One request there, with as many headers that say who calls."""
    family = socket.AF_UNIX if isinstance(place, str) else socket.AF_INET
    with socket.socket(family) as connection:
        connection.settimeout(5)
        connection.connect(place)
        headers = "".join(f"X-SmartStack-Source: {name}\r\n" for name in names)
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: web\r\nConnection: close\r\n{headers}\r\n".encode())
        assert connection.makefile("rb").readline().split()[1] == b"200"


def announced(host: Host, name: str, *, here: bool) -> NodeId:
    """An instance of a service, registered, on this machine or on another one."""
    instance = Instance(host="127.0.0.1" if here else "192.0.2.77", port=BACKEND_PORT, name="machine")
    node = NodeId(path=f"services/{name}", node=node_name(instance))
    host.writer.put(node, encode(instance))
    return node


def named(stage: Stage, place: tuple[str, int] | None = None, names: Sequence[str] = ()) -> str | None:
    """Who calls, as an instance of `web` is told it of one request."""
    target = f"/{secrets.token_hex(8)}"
    request(place or (stage.host.address, PORT), target, names)
    [actor] = stage.actors
    return header_of(actor, target)


def test_an_instance_is_told_the_service_of_this_host_where_nobody_says_who_calls(stage: Stage) -> None:
    """The one that is announced from here, else the host, as that changes and without a reload; not where others can
    connect. synapse is not told it: there the process behind the port counts."""
    host, actor, port, name = stage.host, stage.play(1), free_port(), safe(socket.gethostname())
    for number, each in enumerate(("shop", "cart")):
        host.define(each, PORT + 1 + number, **QUIET)
        announced(host, each, here=False)
    node = announced(host, "shop", here=True)
    stage.start(also_listen=[{"address": f"0.0.0.0:{port}"}], **QUIET)
    before = host.haproxy()
    eventually(lambda: named(stage) == "shop")
    assert named(stage, names=["api"]) == "api"
    assert [named(stage, (address, port)) for address in ("127.0.0.1", host.address)] == [None, None]
    second = announced(host, "cart", here=True)
    eventually(lambda: named(stage) == name)
    host.writer.remove(node)
    eventually(lambda: named(stage) == "cart")
    host.writer.remove(second)
    eventually(lambda: named(stage) == name)
    assert host.haproxy() == before
    assert host.synapse.metric("synapse_haproxy_reloads_total") == 0
    with ear(host) as listener, Process(host) as process:
        eventually(lambda: process.ask(listener, "/process") == (process.own_name(), "process"))
    assert {each.headers.get(HEADER) for each in actor.requests if each.target == "/process"} == {name}


def test_an_instance_is_told_who_calls_also_without_a_feed(stage: Stage) -> None:
    """What is announced is known all the same."""
    stage.play(1)
    stage.host.settings["telemetry"] = {"listen": None}
    stage.host.define("shop", PORT + 1, **QUIET)
    announced(stage.host, "shop", here=True)
    stage.start(**QUIET)
    eventually(lambda: named(stage) == "shop")


def test_nobody_from_outside_says_who_calls(stage: Stage) -> None:
    """Where other hosts can connect, the header is removed, and its sender is not believed; not even from this host."""
    host, actor, port = stage.host, stage.play(1), free_port()
    host.settings["telemetry"] = {"source": "batch"}
    stage.start(also_listen=[{"address": f"0.0.0.0:{port}"}], **QUIET)
    outside = sorted(own for own in own_addresses() if ":" not in own)
    with ear(host) as listener:
        for number, address in enumerate(outside):
            request((address, port), f"/{number}", ["admin"])
            [told] = listener.heard(f"/{number}")
            assert (told.source, told.source_kind) == ("batch", "host")
            assert header_of(actor, f"/{number}") is None


def writable_groups() -> list[Path]:
    """Where this machine's control groups of version 2 are, if this user may make one."""
    roots = map(Path, ("/sys/fs/cgroup/unified", "/sys/fs/cgroup"))
    return [root for root in roots if (root / "cgroup.procs").exists() and os.access(root / "cgroup.procs", os.W_OK)]


@contextlib.contextmanager
def process_group(pid: int, unit: str) -> Iterator[None]:
    """The process in a control group of a unit's name, where this user may make one."""
    for root in writable_groups()[:1]:
        place = root / f"{unit}.service"
        place.mkdir()
        (place / "cgroup.procs").write_text(str(pid))
        yield
        (root / "cgroup.procs").write_text(str(pid))
        place.rmdir()
        return
    yield


class Process:
    """A client that is a process of its own, and asks on one connection."""

    def __init__(self, host: Host) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-c", CALLER, host.address, str(PORT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.pid = self._child.pid

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self._child.kill()
        self._child.communicate()

    def ask(self, listener: Ear, target: str) -> tuple[str, str]:
        """One request; who called, as it is told, and how that is known."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        before = len(listener.requests)
        self._child.stdin.write(f"{target}\n".encode())
        self._child.stdin.flush()
        assert self._child.stdout.readline()
        told = listener.heard(target, before + 1)[-1]
        return told.source, told.source_kind

    def own_name(self) -> str:
        """Of the unit or container that this machine's processes are in, else of the process itself."""
        groups = Path(f"/proc/{self.pid}/cgroup").read_text().splitlines()
        found = (of_cgroup(line.split(":", 2)[2]) for line in groups)
        return next((name for name in found if name), Path(f"/proc/{self.pid}/comm").read_text().strip())


def test_who_calls_is_known_by_its_process(host: Host) -> None:
    """Who has no better name is called by its unit or container, else by its process's name: from the second request
    on at the latest, and where the kernel knows control groups of version 2 a unit from the first."""
    host.serve("web", PORT, instances=1)
    host.start()
    unit = f"checkout-{secrets.token_hex(4)}"
    with ear(host) as listener, Process(host) as plain, Process(host) as grouped:
        eventually(lambda: plain.ask(listener, "/") == (plain.own_name(), "process"))
        with process_group(grouped.pid, unit):
            eventually(lambda: grouped.ask(listener, "/") == (grouped.own_name(), "process"))
            assert grouped.own_name() == unit or not writable_groups()


def test_a_restart_of_synapse_costs_no_request_and_the_feed_goes_on(host: Host) -> None:
    """Clients notice neither that nobody listens to the feed nor that somebody does again; what is told meanwhile is
    lost, and what comes afterwards is counted."""
    host.serve("web", PORT)
    host.start()

    def lines() -> float:
        return host.synapse.metric("synapse_feed_lines_total")

    with host.client(PORT, keep_alive=True) as client:
        eventually(lambda: lines() > 20)
        host.synapse.kill()
        asked = client.requests
        eventually(lambda: client.requests > asked + 20)
        host.synapse.start()
        eventually(lambda: lines() > 20)
    assert client.failures == []
    assert host.synapse.metrics("synapse_haproxy_reloads_total", result="done") in ([], [0.0])


def test_an_address_that_is_taken_is_a_problem_until_it_is_free(host: Host) -> None:
    """Everything else goes on, /status and figures say it, and the feed begins once it can."""
    host.serve("web", PORT)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind((host.address, 3200))
        host.start()
        [problem] = host.synapse.status()["problems"][""]
        assert "telemetry: cannot receive at" in problem
        assert "address already in use" in problem
        assert host.synapse.get("/telemetry/stat").json()["problems"] == [problem.split("telemetry: ")[1]]
        assert ask(host).status == 200
    eventually(lambda: host.synapse.status()["problems"] == {}, within=10)
    ask(host)
    eventually(lambda: host.synapse.metric("synapse_feed_lines_total") >= 1)
