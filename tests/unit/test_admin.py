"""The local HTTP of a daemon: which requests are answered, by whom, and what a status looks like."""

import contextlib
import enum
import gc
import http.client
import json
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter

from smartstack.admin import AdminServer, standard_routes
from smartstack.errors import SmartStackError
from smartstack.forms import TcpAddress
from smartstack.http_limits import CONNECTIONS, THREADS, Workers
from smartstack.process import Heartbeat
from smartstack.responses import Response, json_response, one_of, text_response
from tests.support.eventually import eventually

LOOPBACK = TcpAddress("127.0.0.1", 0)


def fail_as_expected() -> Response:
    raise SmartStackError("the snapshot is not there yet")


def fail_unexpectedly() -> Response:
    raise ZeroDivisionError("a defect")


ROUTES = {
    "/hello": lambda: text_response(200, "hello"),
    "/down": lambda: text_response(503, "not yet"),
    "/expected": fail_as_expected,
    "/unexpected": fail_unexpectedly,
}


@pytest.fixture
def server() -> Iterator[AdminServer]:
    server = AdminServer(LOOPBACK, ROUTES)
    server.start()
    yield server
    server.stop()


@dataclass
class Answer:
    status: int
    body: str
    headers: dict[str, str]


def ask(server: AdminServer, path: str = "/hello", method: str = "GET", **headers: str) -> Answer:
    """One request on a connection of its own; `host` and `origin` as headers where given."""
    address = server.address
    connection = http.client.HTTPConnection("127.0.0.1", address.port, timeout=5)
    try:
        connection.putrequest(method, path, skip_host="host" in headers)
        for name, value in headers.items():
            if value:
                connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        return Answer(answer.status, answer.read().decode(), {k.lower(): v for k, v in answer.getheaders()})
    finally:
        connection.close()


def test_a_path_is_answered_by_its_route(server: AdminServer) -> None:
    """Port 0 takes a free port, `address` says which, and the route's answer comes back as it is."""
    assert server.address.port != 0
    answer = ask(server)
    assert (answer.status, answer.body) == (200, "hello\n")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"


def test_a_query_does_not_change_the_path(server: AdminServer) -> None:
    """What stands behind the question mark is nobody's business yet."""
    assert ask(server, "/hello?x=1").status == 200


def test_head_is_get_without_the_body(server: AdminServer) -> None:
    """HEAD has the status and the length of the GET, and no body."""
    answer = ask(server, method="HEAD")
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, "", "6")


@pytest.mark.parametrize("path", ["/", "/hello/", "/Hello", "/hello/x", "/%2e%2e/hello", "/../hello"])
def test_an_unknown_path_is_404_with_the_known_ones(path: str, server: AdminServer) -> None:
    """Paths are exact; the answer says which there are."""
    answer = ask(server, path)
    assert (answer.status, answer.body) == (404, "no such path; there are: /down /expected /hello /unexpected\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
def test_any_other_method_is_refused(method: str, server: AdminServer) -> None:
    """A path that is only looked at takes nothing that could change a state."""
    answer = ask(server, method=method)
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
    assert answer.body == f"'{method}' is not served here; only GET and HEAD are\n"
    assert ask(server, "/nowhere", method=method).status == 404


@pytest.fixture
def services() -> Iterator[AdminServer]:
    """A server with everything below one path, and a name that is hard to write."""
    values = {"web": {"port": 80}, "käse": {"port": 81}, "a/b": {"port": 82}, "..": {"port": 83}}
    server = AdminServer(LOOPBACK, ROUTES, prefixes={"/services/": one_of(lambda: values, "service")})
    server.start()
    yield server
    server.stop()


@pytest.mark.parametrize(
    ("path", "port"),
    [
        pytest.param("/services/web", 80, id="a name"),
        pytest.param("/services/web?pretty", 80, id="a query does not belong to it"),
        pytest.param("/services/%77eb", 80, id="decoded"),
        pytest.param("/services/k%C3%A4se", 81, id="UTF-8"),
        pytest.param("/services/a%2Fb", 82, id="a slash in the name"),
        pytest.param("/services/a/b", 82, id="a slash in the path is the same"),
        pytest.param("/services/..", 83, id="dots are a name like any other"),
        pytest.param("/services/%2577eb", None, id="decoded once only"),
        pytest.param("/services/../hello", None, id="no way up"),
        pytest.param("/services/%2e%2e%2fhello", None, id="no way up in disguise"),
        pytest.param("/services/web/", None, id="more than the name"),
        pytest.param("/services/WEB", None, id="another name"),
        pytest.param("/services/k%E4se", None, id="no UTF-8"),
        pytest.param("/services/web%00", None, id="a zero byte"),
        pytest.param("/services/", None, id="no name"),
        pytest.param("/services", None, id="not below it"),
    ],
)
def test_what_is_below_a_path_is_found_by_its_name(path: str, port: int | None, services: AdminServer) -> None:
    """The rest of the path is a name, decoded once, without any meaning as a path; what is unknown is 404."""
    answer = ask(services, path)
    assert answer.status == (404 if port is None else 200)
    assert port is None or json.loads(answer.body) == {"port": port}


def test_an_unknown_name_is_told_the_known_ones(services: AdminServer) -> None:
    """Who misspells a name sees how it is spelt; who misspells the path, which there are."""
    assert ask(services, "/services/wep").body == "no such service; there are: .. a/b käse web\n"
    assert ask(services, "/service").body == (
        "no such path; there are: /down /expected /hello /services/<name> /unexpected\n"
    )
    assert ask(services, "/services/web", method="POST").status == 405


@pytest.mark.parametrize(
    ("host", "status"),
    [
        pytest.param("localhost", 200, id="localhost"),
        pytest.param("LOCALHOST:3199", 200, id="localhost in capitals with any port"),
        pytest.param("127.0.0.1:80", 200, id="the loopback address"),
        pytest.param("[::1]:3199", 200, id="the loopback address of IPv6"),
        pytest.param("", 200, id="no host at all: no browser leaves it out, a probe of HTTP/1.0 does"),
        pytest.param(" ", 403, id="an empty host"),
        pytest.param("evil.example", 403, id="a name that resolves to this machine today"),
        pytest.param("localhost.evil.example", 403, id="a name that begins like ours"),
        pytest.param("10.0.0.5", 403, id="an address that is not bound"),
        pytest.param("user@localhost@evil.example", 403, id="a user before the host"),
        pytest.param("localhost, evil.example", 403, id="two hosts"),
        pytest.param("[::1", 403, id="no URL at all"),
        pytest.param("evil.example/@localhost", 403, id="a path in the host"),
    ],
)
def test_only_this_machines_names_are_served(host: str, status: int, server: AdminServer) -> None:
    """A web page whose name is made to resolve to 127.0.0.1 sends its own name as the host, and is refused."""
    assert ask(server, host=host).status == status


def test_a_page_of_others_without_a_host_is_refused(server: AdminServer) -> None:
    """That the host is missing excuses no foreign origin."""
    assert ask(server, host="", origin="https://evil.example").status == 403


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        pytest.param("http://localhost:8080", 200, id="a page of this machine"),
        pytest.param("http://127.0.0.1", 200, id="a page of this machine by address"),
        pytest.param("https://evil.example", 403, id="a foreign page"),
        pytest.param("http://localhost.evil.example", 403, id="a foreign page that begins like ours"),
        pytest.param("null", 403, id="a page without an origin"),
        pytest.param("http://[", 403, id="no URL at all"),
    ],
)
def test_pages_of_others_are_refused(origin: str, status: int, server: AdminServer) -> None:
    """A request that a foreign page makes in an administrator's browser is refused."""
    assert ask(server, origin=origin).status == status


@pytest.mark.parametrize(
    ("site", "mode", "destination", "status"),
    [
        pytest.param("same-origin", "cors", "empty", 200, id="our own page"),
        pytest.param("none", "navigate", "document", 200, id="typed by somebody"),
        pytest.param("same-site", "no-cors", "image", 200, id="a page of this machine"),
        pytest.param("cross-site", "navigate", "document", 200, id="a link that somebody follows"),
        pytest.param("cross-site", "no-cors", "image", 403, id="an image"),
        pytest.param("cross-site", "no-cors", "script", 403, id="a script"),
        pytest.param("cross-site", "navigate", "iframe", 403, id="a frame"),
        pytest.param("cross-site", "cors", "empty", 403, id="a fetch"),
    ],
)
def test_pages_of_others_cannot_keep_it_busy(
    site: str, mode: str, destination: str, status: int, server: AdminServer
) -> None:
    """A browser names no origin for an image or a script, but says that another site wants it: none of them holds a
    place of those who wait."""
    sent = {"sec-fetch-site": site, "sec-fetch-mode": mode, "sec-fetch-dest": destination}
    assert ask(server, **sent).status == status


@pytest.mark.parametrize(
    ("bound", "host", "status"),
    [
        pytest.param("0.0.0.0", "10.0.0.5:3199", 200, id="bound to all: any address is ours"),
        pytest.param("0.0.0.0", "evil.example", 403, id="bound to all: a name is still not"),
        pytest.param("127.0.0.2", "127.0.0.2:3199", 200, id="bound to one: it is ours"),
        pytest.param("127.0.0.2", "127.0.0.3:3199", 403, id="bound to one: another is not"),
    ],
)
def test_the_bound_address_is_served_too(bound: str, host: str, status: int) -> None:
    """Whoever binds another address means to be asked there; an address, unlike a name, cannot be made to move."""
    server = AdminServer(TcpAddress(bound, 0), ROUTES)
    environ = {"HTTP_HOST": host, "REQUEST_METHOD": "GET", "PATH_INFO": "/hello"}
    seen: list[str] = []
    server._answer(environ, lambda line, headers: seen.append(line))
    assert int(seen[0].split()[0]) == status


def test_a_route_that_fails_as_expected_is_500_with_its_sentence(server: AdminServer) -> None:
    """A SmartStackError is its own text."""
    answer = ask(server, "/expected")
    assert (answer.status, answer.body) == (500, "the snapshot is not there yet\n")


def test_a_route_that_fails_unexpectedly_is_500_and_the_server_lives(server: AdminServer) -> None:
    """A defect in a route ends that request only, and shows its inside to nobody but the log."""
    for _ in range(5):
        answer = ask(server, "/unexpected")
        assert answer.status == 500
        assert "ZeroDivisionError" not in answer.body
    assert ask(server).status == 200


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(b"\x00\xff\r\n\r\n", id="no HTTP"),
        pytest.param(b"GET /hello HTTP/9.9\r\nHost: localhost\r\n\r\n", id="no such version"),
        pytest.param(b"GET /hello HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100_000 + b"\r\n\r\n", id="long header"),
        pytest.param(b"GET /hello HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n", id="negative length"),
        pytest.param(b"GET /hello HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n", id="long body"),
        pytest.param(b"GET /hello HTTP/1.1\r\nHo", id="half a request"),
    ],
)
def test_garbage_ends_its_own_connection_only(garbage: bytes, server: AdminServer) -> None:
    """Whatever is sent, the next request is answered."""
    connection = socket.create_connection(("127.0.0.1", server.address.port), timeout=5)
    with connection, contextlib.suppress(OSError):
        connection.sendall(garbage)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65_536):
            pass
    assert ask(server).status == 200


@pytest.mark.parametrize(("size", "status"), [(10_000, 200), (20_000, 431)])
def test_a_request_has_a_largest_size(size: int, status: int, server: AdminServer) -> None:
    """A stranger's headers fill no memory."""
    assert ask(server, padding="x" * size).status == status


@pytest.mark.parametrize(
    "begin",
    [
        pytest.param(b"", id="silent"),
        pytest.param(b"GET /hello HTTP/1.1\r\nHost: local", id="headers"),
        pytest.param(b"POST /hello HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n\r\n{", id="body"),
    ],
)
def test_slow_connections_do_not_keep_others_out(begin: bytes, server: AdminServer) -> None:
    """Connections that say nothing, or half of something, take neither a thread nor a place from those that ask,
    however many there are; the oldest of them are ended for it, and their descriptors are free again."""
    slow = []
    try:
        for _ in range(3 * CONNECTIONS):
            slow.append(socket.create_connection(("127.0.0.1", server.address.port), timeout=5))
            slow[-1].sendall(begin)
        for _ in range(3):
            assert ask(server).status == 200
        with contextlib.suppress(ConnectionResetError):
            assert slow[0].recv(1) == b""
        assert eventually(lambda: len(server._map) <= CONNECTIONS)
    finally:
        for connection in slow:
            connection.close()


def test_a_taken_port_is_one_sentence(server: AdminServer) -> None:
    """The sentence names the address, the reason, and what to do; nothing of the second server stays."""
    threads = threading.active_count()
    second = AdminServer(server.address, ROUTES)
    with pytest.raises(SmartStackError) as caught:
        second.start()
    assert str(caught.value) == (
        f"cannot serve the admin address {server.address}: address already in use; "
        "stop what listens there, or set `admin` to another address or to null"
    )
    assert threading.active_count() == threads
    second.stop()


def test_stop_frees_the_port_and_ends_the_threads() -> None:
    """After a stop nothing is left: a server on the same port can start at once, open connections or not."""
    threads = threading.active_count()
    server = AdminServer(LOOPBACK, ROUTES)
    server.start()
    assert ask(server).status == 200
    address = server.address
    with socket.create_connection(("127.0.0.1", address.port), timeout=5) as idle:
        server.stop()
        # A connection that the server had accepted is closed; one that still waited for that is reset by the kernel.
        with contextlib.suppress(ConnectionResetError):
            assert idle.recv(1) == b""
    server.stop()
    assert eventually(lambda: threading.active_count() == threads)
    successor = AdminServer(address, ROUTES)
    successor.start()
    assert ask(successor).status == 200
    successor.stop()


def test_a_stop_meets_a_thread_that_wakes_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between a stop's order and its own wake-up somebody else may wake the server, which then ends: nothing is written
    to a descriptor that is closed by then."""
    server = AdminServer(LOOPBACK, ROUTES)
    server.start()
    thread, pull = server._thread, server._server.trigger._physical_pull
    assert thread is not None

    def pull_behind_another() -> None:
        pull()
        thread.join(timeout=5)
        pull()

    monkeypatch.setattr(server._server.trigger, "_physical_pull", pull_behind_another)
    server.stop()
    assert not thread.is_alive()


def test_threads_are_started_when_they_are_needed() -> None:
    """A server that nobody asks has no thread for answers; one after the other can be answered by one thread; while it
    is busy another one is started, up to a limit."""
    entered, release = threading.Semaphore(0), threading.Event()

    def hang() -> Response:
        entered.release()
        release.wait(10)
        return text_response(200, "late")

    def workers() -> int:
        return sum(thread.name.startswith("waitress") for thread in threading.enumerate()) - before

    before = sum(thread.name.startswith("waitress") for thread in threading.enumerate())
    server = AdminServer(LOOPBACK, {**ROUTES, "/hang": hang})
    server.start()
    assert workers() == 0
    for _ in range(20):
        assert ask(server).status == 200
    assert 1 <= workers() < THREADS
    with contextlib.ExitStack() as connections:
        for _ in range(THREADS + 1):
            connection = socket.create_connection(("127.0.0.1", server.address.port), timeout=5)
            connections.enter_context(connection).sendall(b"GET /hang HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert all(entered.acquire(timeout=5) for _ in range(THREADS))
        assert not entered.acquire(timeout=0.1)
        assert workers() == THREADS
        release.set()
    server.stop()
    assert eventually(lambda: workers() == 0)


def test_a_machine_without_a_thread_left_answers_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that cannot be started is not counted on: what waits for it is answered when one can be."""
    start, refused = threading.Thread.start, threading.Event()

    def refuse_once(thread: threading.Thread) -> None:
        if thread.name.startswith("waitress") and not refused.is_set():
            refused.set()
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse_once)
    server = AdminServer(LOOPBACK, ROUTES)
    server.start()
    with socket.create_connection(("127.0.0.1", server.address.port), timeout=5) as first:
        first.sendall(b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert refused.wait(5)
        workers = server._server.task_dispatcher
        assert eventually(lambda: (len(workers.threads), workers.active_count) == (0, 0))
        assert ask(server).status == 200
        assert first.recv(100).startswith(b"HTTP/1.1 ")
    server.stop()


def test_no_thread_is_started_after_a_stop() -> None:
    """A request that was being read then is dropped."""
    workers = Workers()
    workers.shutdown()
    workers.add_task(object())
    assert workers.threads == set()


def test_a_stop_does_not_wait_for_a_route_that_hangs(caplog: pytest.LogCaptureFixture) -> None:
    """What still runs ends by itself later, and finds nothing that it could break."""
    entered, release, threads = threading.Event(), threading.Event(), threading.active_count()

    def hang() -> Response:
        entered.set()
        release.wait(10)
        return text_response(200, "late")

    server = AdminServer(LOOPBACK, {"/hang": hang})
    server.start()
    with socket.create_connection(("127.0.0.1", server.address.port), timeout=5) as connection:
        connection.sendall(b"GET /hang HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert entered.wait(5)
        server.stop()
        assert connection.recv(1) == b""
    server._server.pull_trigger()  # as the thread that still runs may, in a race with the stop
    release.set()
    assert eventually(lambda: threading.active_count() == threads)
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


def test_servers_that_come_and_go_leave_no_descriptor() -> None:
    """A stop gives back everything that a start took."""

    def live() -> None:
        server = AdminServer(LOOPBACK, ROUTES)
        server.start()
        assert ask(server).status == 200
        server.stop()

    live()
    gc.collect()  # what earlier tests left
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        live()
    assert len(os.listdir("/proc/self/fd")) == before


class Color(enum.Enum):
    RED = "red"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    color: Color = Color.RED
    when: float = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    inner: Inner = Inner()
    names: frozenset[str] = frozenset({"b", "a"})
    table: Any = field(default_factory=lambda: MappingProxyType({Color.RED: (1, 2)}))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(
            Outer(),
            {"inner": {"color": "red", "when": 1.5}, "names": ["a", "b"], "table": {"red": [1, 2]}},
            id="dataclasses, enumerations, sets and read-only mappings",
        ),
        pytest.param({8080: "a", TcpAddress("10.0.0.5", 80): "b"}, {"8080": "a", "10.0.0.5:80": "b"}, id="keys"),
        pytest.param([float("nan"), float("inf"), 0.5], [None, None, 0.5], id="numbers that JSON has not"),
        pytest.param(Path("/run"), "/run", id="a path"),
        pytest.param(b"a\xff", "a\\xff", id="bytes"),
        pytest.param([True, None, 3], [True, None, 3], id="JSON's own"),
        pytest.param("a\ud800", "a\ud800", id="half a character"),
    ],
)
def test_a_status_may_hold_any_of_our_values(value: object, expected: object) -> None:
    """Whatever a snapshot is made of has a form in JSON, with the same bytes for the same value."""
    response = json_response(200, value)
    assert response == json_response(200, value)
    assert json.loads(response.body) == expected


def test_keys_are_sorted() -> None:
    """The same snapshot is the same text."""
    one = json_response(200, {"b": 1, "a": {"d": 1, "c": 2}})
    other = json_response(200, {"a": {"c": 2, "d": 1}, "b": 1})
    assert one == other


class Standard:
    """A daemon's state, as the standard routes see it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.heartbeat = Heartbeat(clock=lambda: self.now)
        self.ready = False
        self.metrics = CollectorRegistry()
        Counter("turns", "Turns of the loop.", registry=self.metrics).inc(3)
        self.routes = standard_routes(
            heartbeat=self.heartbeat,
            ready=lambda: (self.ready, {"missing": [] if self.ready else ["web"]}),
            status=Inner,
            metrics=self.metrics,
        )


def test_healthz_follows_the_heartbeat() -> None:
    """200 while the loop turns, and 503 with the reason once it has not turned for 30 seconds."""
    daemon = Standard()
    assert daemon.routes["/healthz"]() == text_response(200, "ok")
    daemon.now = 29.9
    assert daemon.routes["/healthz"]().status == 200
    daemon.now = 30.0
    assert daemon.routes["/healthz"]() == text_response(503, "the loop has not turned for 30.0 s (limit 30 s)")
    daemon.heartbeat.beat()
    assert daemon.routes["/healthz"]().status == 200


def test_healthz_tells_of_a_cycle_that_fails() -> None:
    """A loop that turns is alive, even if its cycles fail; what broke the last one is said."""
    daemon = Standard()
    daemon.heartbeat.failure = "ValueError: a"
    response = daemon.routes["/healthz"]()
    assert response == text_response(200, "the loop turns, but its last cycle failed: ValueError: a")


def test_readyz_says_what_is_missing() -> None:
    """503 and what is missing until the first full cycle is done, then 200."""
    daemon = Standard()
    response = daemon.routes["/readyz"]()
    assert (response.status, json.loads(response.body)) == (503, {"ready": False, "missing": ["web"]})
    daemon.ready = True
    response = daemon.routes["/readyz"]()
    assert (response.status, json.loads(response.body)) == (200, {"ready": True, "missing": []})


def test_metrics_are_prometheus_text() -> None:
    """The registry that the daemon gave, in the format that Prometheus reads."""
    response = Standard().routes["/metrics"]()
    assert response.content_type.startswith("text/plain; version=")
    assert b"turns_total 3.0\n" in response.body


def test_status_is_the_snapshot() -> None:
    """What the loop last saw, as JSON."""
    response = Standard().routes["/status"]()
    assert (response.content_type, json.loads(response.body)) == ("application/json", {"color": "red", "when": 1.5})
