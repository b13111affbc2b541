"""The local HTTP of a daemon: who may change something and how, and what strangers on the same machine can do."""

import contextlib
import gc
import http.client
import json
import os
import socket
import threading
import tracemalloc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from smartstack import http_limits
from smartstack.actions import BadRequest
from smartstack.admin import AdminServer
from smartstack.errors import SmartStackError
from smartstack.forms import TcpAddress
from smartstack.inbox import WAITING_LIMIT, Inbox
from smartstack.responses import Response, json_response, text_response
from smartstack.tokens import HEARTBEAT_TOKEN, Token
from tests.support.eventually import eventually

LOOPBACK = TcpAddress("127.0.0.1", 0)


class Daemon:
    """An admin server with actions that note what they were asked for."""

    def __init__(self, run_directory: Path) -> None:
        self.asked: list[Mapping[str, Any]] = []
        self.inbox: Inbox[str] = Inbox(lambda: None)
        self.token = Token(run_directory)
        self.heartbeat_token = Token(run_directory, HEARTBEAT_TOKEN)
        self.token.write()
        self.heartbeat_token.write()
        self.server = AdminServer(
            LOOPBACK,
            {"/status": lambda: text_response(200, "ok"), "/both": lambda: text_response(200, "seen")},
            {
                "/drain": self.drain,
                "/both": self.drain,
                "/heartbeat": self.drain,
                "/wait": lambda arguments: json_response(200, self.inbox.ask("x", float(arguments["seconds"]))),
                "/bad": self.fail_as("bad"),
                "/refused": self.fail_as("refused"),
                "/defect": self.fail_as("defect"),
            },
            self.token,
            other_tokens={"/heartbeat": self.heartbeat_token},
        )

    def drain(self, arguments: Mapping[str, Any]) -> Response:
        self.asked.append(arguments)
        return json_response(200, {"drained": arguments})

    def fail_as(self, how: str) -> Any:
        def fail(arguments: Mapping[str, Any]) -> Response:
            raise {
                "bad": BadRequest("there is no argument 'x'"),
                "refused": SmartStackError("no service wep here"),
                "defect": ZeroDivisionError("inside"),
            }[how]

        return fail

    @property
    def authorization(self) -> str:
        return f"Bearer {self.token.path.read_text().strip()}"

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str | None) -> "Answer":
        """A request with the token and the content type, unless the headers say otherwise; None leaves one out."""
        sent = {"Content-Type": "application/json", **{name.replace("_", "-"): each for name, each in headers.items()}}
        if "Authorization" not in sent:
            sent["Authorization"] = self.authorization
        connection = http.client.HTTPConnection("127.0.0.1", self.server.address.port, timeout=5)
        try:
            connection.request(method, path, body or None, {k: v for k, v in sent.items() if v is not None})
            answer = connection.getresponse()
            return Answer(answer.status, answer.read().decode(), {k.lower(): v for k, v in answer.getheaders()})
        finally:
            connection.close()

    def send(self, data: bytes) -> bytes:
        """Whatever comes back for these bytes until the server closes."""
        answer = b""
        connection = socket.create_connection(("127.0.0.1", self.server.address.port), timeout=5)
        with connection, contextlib.suppress(OSError):
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while data := connection.recv(65_536):
                answer += data
        return answer


@dataclass
class Answer:
    status: int
    body: str
    headers: dict[str, str]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path)
    daemon.server.start()
    yield daemon
    daemon.inbox.close()
    daemon.server.stop()


def test_who_has_the_token_has_it_done(daemon: Daemon) -> None:
    """A POST with the token and a JSON object is an order, and its answer is JSON."""
    answer = daemon.ask("POST", "/drain", b'{"service": "web"}')
    assert (answer.status, json.loads(answer.body)) == (200, {"drained": {"service": "web"}})
    assert daemon.asked == [{"service": "web"}]


def test_an_order_without_a_body_has_no_arguments(daemon: Daemon) -> None:
    """Where there is nothing to say, nothing need be sent."""
    assert daemon.ask("POST", "/drain").status == 200
    assert daemon.asked == [{}]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({"Authorization": None}, 401, id="no token"),
        pytest.param({"Authorization": "Basic eDp5"}, 401, id="another scheme"),
        pytest.param({"Authorization": "Bearer wrong"}, 403, id="a wrong token"),
        pytest.param({"Authorization": b"Bearer \xe4\xff".decode("latin-1")}, 403, id="a token that is no ASCII"),
        pytest.param({"Host": "evil.example"}, 403, id="a foreign host"),
        pytest.param({"Host": "localhost.evil.example"}, 403, id="a foreign host that begins like ours"),
        pytest.param({"Origin": "https://evil.example"}, 403, id="a foreign page"),
        pytest.param({"Origin": "null"}, 403, id="a page without an origin"),
        pytest.param({"Content_Type": None}, 400, id="no content type"),
        pytest.param({"Content_Type": "text/plain"}, 400, id="what a form sends"),
        pytest.param({"Content_Type": "application/json; charset=utf-16"}, 400, id="another charset"),
        pytest.param({"Host": "localhost:1"}, 200, id="localhost"),
        pytest.param({"Origin": "http://localhost:8080"}, 200, id="a page of this machine that has the token"),
    ],
)
def test_only_a_whole_order_is_carried_out(headers: dict[str, str | None], status: int, daemon: Daemon) -> None:
    """Whatever is missing, nothing is done, and the refusal is one line that does not show the token."""
    answer = daemon.ask("POST", "/drain", b"{}", **headers)
    assert (answer.status, len(daemon.asked)) == (status, status == 200)
    assert status == 200 or answer.body.count("\n") == 1
    assert daemon.token.path.read_text().strip() not in answer.body
    assert answer.headers.get("www-authenticate") == ("Bearer" if status == 401 else None)


def test_who_has_no_token_learns_nothing_of_the_body(daemon: Daemon) -> None:
    """The token comes first: without it nobody is told what is wrong with his order."""
    assert daemon.ask("POST", "/drain", b"[", Authorization=None, Content_Type=None).status == 401


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        pytest.param("GET", "/drain", "POST", id="an action is not looked at"),
        pytest.param("HEAD", "/drain", "POST", id="nor its head"),
        pytest.param("PUT", "/drain", "POST", id="PUT of an action"),
        pytest.param("DELETE", "/drain", "POST", id="DELETE of an action"),
        pytest.param("OPTIONS", "/drain", "POST", id="a browser that asks for leave"),
        pytest.param("TRACE", "/drain", "POST", id="an echo"),
        pytest.param("POST", "/status", "GET, HEAD", id="POST of what is looked at"),
        pytest.param("PUT", "/both", "GET, HEAD, POST", id="a path of both kinds"),
        pytest.param("POST", "/drain/", None, id="a slash too many"),
        pytest.param("POST", "/DRAIN", None, id="another spelling"),
        pytest.param("POST", "/status/../drain", None, id="a way around"),
        pytest.param("POST", "/status/%2e%2e/drain", None, id="a way around in disguise"),
        pytest.param("POST", "/drain%00", None, id="a zero byte"),
    ],
)
def test_an_action_has_one_path_and_one_method(method: str, path: str, allow: str | None, daemon: Daemon) -> None:
    """Nothing but the POST of the very path does anything, with a token and all; the others say which it is."""
    answer = daemon.ask(method, path, b"{}")
    assert (answer.status, answer.headers.get("allow")) == (404 if allow is None else 405, allow)
    assert daemon.asked == []
    assert allow is not None or answer.body == (
        "no such path; there are: /both /status POST:/bad POST:/both POST:/defect POST:/drain POST:/heartbeat "
        "POST:/refused POST:/wait\n"
    )


def test_a_path_of_both_kinds_is_told_apart_by_the_method(daemon: Daemon) -> None:
    """GET looks, without a token; POST does."""
    assert daemon.ask("GET", "/both", Authorization=None).body == "seen\n"
    assert daemon.asked == []
    assert daemon.ask("POST", "/both").status == 200
    assert daemon.asked == [{}]


def test_the_other_token_opens_its_own_action_only(daemon: Daemon) -> None:
    """A service that may report itself may not drain."""
    word = f"Bearer {daemon.heartbeat_token.path.read_text().strip()}"
    assert daemon.ask("POST", "/heartbeat", Authorization=word).status == 200
    assert daemon.ask("POST", "/heartbeat").status == 200
    assert daemon.ask("POST", "/drain", Authorization=word).status == 403


def test_a_token_that_others_may_read_opens_nothing(daemon: Daemon) -> None:
    """What `problem` says is what the asker hears, and it holds from the next request on, both ways."""
    daemon.token.path.chmod(0o644)
    answer = daemon.ask("POST", "/drain")
    assert (answer.status, answer.body) == (403, f"refused: {daemon.token.problem}\n")
    daemon.token.path.chmod(0o600)
    assert daemon.ask("POST", "/drain").status == 200
    assert len(daemon.asked) == 1


def test_without_a_run_directory_the_daemon_still_answers(tmp_path: Path) -> None:
    """Everything can be looked at, and actions say why they cannot be asked for."""
    (tmp_path / "file").touch()
    daemon = Daemon(tmp_path / "file")
    daemon.server.start()
    try:
        assert daemon.ask("GET", "/status", Authorization=None).status == 200
        answer = daemon.ask("POST", "/drain", Authorization="Bearer x")
        assert (answer.status, answer.body) == (503, f"refused: {daemon.token.problem}\n")
    finally:
        daemon.server.stop()


def test_actions_without_a_token_are_a_defect() -> None:
    """Nobody can forget the token and serve actions to everybody."""
    with pytest.raises(ValueError, match="actions need a token"):
        AdminServer(LOOPBACK, {}, {"/drain": lambda arguments: text_response(200, "x")})


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        pytest.param("/bad", 400, "there is no argument 'x'\n", id="wrong arguments"),
        pytest.param("/refused", 409, "no service wep here\n", id="what the daemon will not do"),
        pytest.param(
            "/wait",
            503,
            "nothing was done: the loop did not look for orders within 0.01 s; see the daemon's log\n",
            id="a loop that does not look",
        ),
    ],
)
def test_each_failure_has_its_status_and_its_sentence(path: str, status: int, body: str, daemon: Daemon) -> None:
    """The text is the daemon's own."""
    answer = daemon.ask("POST", path, b'{"seconds": 0.01}')
    assert (answer.status, answer.body) == (status, body)


def test_a_defect_in_an_action_is_500_and_the_server_lives(daemon: Daemon) -> None:
    """It ends that request only, and shows its inside to nobody but the log."""
    for _ in range(15):
        answer = daemon.ask("POST", "/defect")
        assert answer.status == 500
        assert "ZeroDivisionError" not in answer.body
    assert daemon.ask("POST", "/drain").status == 200


def test_a_loop_that_hangs_can_still_be_seen(daemon: Daemon) -> None:
    """However many orders wait for the loop, who only looks is answered: /healthz must say that the loop hangs."""
    askers = [
        threading.Thread(target=daemon.ask, args=("POST", "/wait", b'{"seconds": 30}')) for _ in range(WAITING_LIMIT)
    ]
    for asker in askers:
        asker.start()
    assert eventually(lambda: len(daemon.inbox._waiting) == WAITING_LIMIT)
    assert daemon.ask("GET", "/status").status == 200
    answer = daemon.ask("POST", "/wait", b'{"seconds": 30}')
    assert (answer.status, "try again" in answer.body) == (503, True)
    daemon.inbox.close()
    for asker in askers:
        asker.join()


def smuggled(*headers: str, body: bytes = b"", version: str = "1.1", authorization: str = "") -> bytes:
    lines = [f"POST /drain HTTP/{version}", "Host: localhost", "Content-Type: application/json", *headers]
    return "\r\n".join([*lines, f"Authorization: {authorization}", "", ""]).encode() + body


INNER = b'POST /drain HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n{"inner": 1}'

SMUGGLING = {
    "chunks": smuggled("Transfer-Encoding: chunked", body=b"2\r\n{}\r\n0\r\n\r\n"),
    "chunks in capitals": smuggled("TRANSFER-ENCODING: CHUNKED", body=b"2\r\n{}\r\n0\r\n\r\n"),
    "a length and chunks": smuggled("Content-Length: 5", "Transfer-Encoding: chunked", body=b"0\r\n\r\n" + INNER),
    "chunks and a length": smuggled("Transfer-Encoding: chunked", "Content-Length: 5", body=b"0\r\n\r\n" + INNER),
    "chunks in HTTP/1.0": smuggled("Transfer-Encoding: chunked", "Content-Length: 2", body=b"{}", version="1.0"),
    "another encoding": smuggled("Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n" + INNER),
    "an encoding with a tab": smuggled("Transfer-Encoding:\tchunked", body=b"0\r\n\r\n" + INNER),
    "an encoding with a blank before the colon": smuggled("Transfer-Encoding : chunked", body=b"0\r\n\r\n" + INNER),
    "two lengths": smuggled("Content-Length: 2", "Content-Length: 3", body=b"{} "),
    "two equal lengths": smuggled("Content-Length: 2", "Content-Length: 2", body=b"{}"),
    "a list of lengths": smuggled("Content-Length: 2, 2", body=b"{}"),
    "a length with a sign": smuggled("Content-Length: +2", body=b"{}"),
    "a length with an underscore": smuggled("Content-Length: 0_2", body=b"{}"),
    "a length in other digits": smuggled("Content-Length: \u0662", body=b"{}"),
    "a length of thousands of digits": smuggled("Content-Length: " + "9" * 5000, body=b"{}"),
    "a bare line feed": smuggled("X: y\nContent-Length: 2", body=b"{}"),
    "a bare carriage return": smuggled("X: y\rContent-Length: 2", body=b"{}"),
    "a length of two lines": smuggled("Content-Length: 2\r\n 2", body=b"{}"),
    "a body beyond the limit": smuggled("Content-Length: 16384", body=b"{" + b" " * 16_382 + b"}"),
    "a length beyond the limit": smuggled("Content-Length: 999999999", body=b"{}"),
    "chunks beyond the limit": smuggled("Transfer-Encoding: chunked", body=b"fffff\r\n" + b" " * 0xFFFFF),
    "a body that never comes": smuggled("Content-Length: 20", body=b"{}"),
}


@pytest.mark.parametrize("request_bytes", SMUGGLING.values(), ids=SMUGGLING)
def test_what_could_be_read_in_two_ways_is_not_read(request_bytes: bytes, daemon: Daemon) -> None:
    """A request whose end is not plain, or too far, is refused with its connection: nothing in it is carried out, with
    the right token and all, and nothing behind it is taken for a request."""
    answer = daemon.send(request_bytes.replace(b"Authorization: ", b"Authorization: " + daemon.authorization.encode()))
    assert daemon.asked == []
    assert answer.count(b"HTTP/1.") <= 1
    assert answer == b"" or answer.split()[1] in (b"400", b"413", b"501")
    assert daemon.ask("POST", "/drain").status == 200


@pytest.mark.parametrize("name", ["a length of thousands of digits", "a length and chunks", "chunks in HTTP/1.0"])
def test_what_cannot_be_read_is_answered(name: str, daemon: Daemon) -> None:
    """Who sent it hears so: it is no defect of the server, which would end the connection without a word."""
    assert daemon.send(SMUGGLING[name]).split()[1] == b"400"


def test_two_tokens_open_nothing(daemon: Daemon) -> None:
    """Of two headers neither counts, whichever of them is right."""
    for headers in (("Authorization: Bearer x", "Content-Length: 2"), ("AUTHORIZATION: Bearer x", "Content-Length: 2")):
        sent = smuggled(*headers, body=b"{}", authorization=daemon.authorization)
        assert daemon.send(sent).split()[1] == b"403"
    underscore = smuggled("Content-Length: 2", body=b"{}").replace(b"Authorization: ", b"X_Y: ")
    named = underscore.replace(b"X_Y: ", b"HTTP_AUTHORIZATION: " + daemon.authorization.encode())
    assert daemon.send(named).split()[1] == b"401"
    assert daemon.asked == []


def test_an_order_behind_another_is_one_of_its_own(daemon: Daemon) -> None:
    """On a connection that is kept each request is judged by itself: a token opens nothing for the next one."""
    first = smuggled("Content-Length: 2", body=b"{}", authorization=daemon.authorization)
    answer = daemon.send(first + smuggled("Content-Length: 2", body=b"{}", authorization="Bearer x"))
    statuses = [line.split()[1] for line in answer.splitlines() if line.startswith(b"HTTP/1.1 ")]
    assert (statuses, len(daemon.asked)) == ([b"200", b"403"], 1)


@pytest.mark.parametrize(
    "begin",
    [
        pytest.param(b"", id="headers"),
        pytest.param(smuggled("Content-Length: 9999"), id="body"),
    ],
)
def test_a_request_that_drips_is_ended(begin: bytes, daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that sends a byte at a time, and so is never idle, is given up on all the same."""
    monkeypatch.setattr(http_limits, "REQUEST_SECONDS", 0.1)
    with socket.create_connection(("127.0.0.1", daemon.server.address.port), timeout=5) as connection:
        connection.sendall(begin)

        def is_ended() -> bool:
            try:
                connection.sendall(b"x")
            except OSError:
                return True
            return False

        assert eventually(is_ended)
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(65_536).split()[1] == b"400"
    monkeypatch.undo()
    assert daemon.ask("POST", "/drain").status == 200


def test_a_client_that_reads_nothing_holds_no_thread(daemon: Daemon) -> None:
    """Answers that nobody takes wait in the kernel and in the connection's own buffer."""
    deaf = [socket.create_connection(("127.0.0.1", daemon.server.address.port), timeout=5) for _ in range(30)]
    try:
        for connection in deaf:
            connection.sendall(b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50)
        assert daemon.ask("POST", "/drain").status == 200
    finally:
        for connection in deaf:
            connection.close()


def test_hundreds_of_attempts_leave_nothing(daemon: Daemon) -> None:
    """Who tries tokens all night fills neither memory nor descriptors nor threads of the daemon."""

    def attempt() -> None:
        for word in (None, "Bearer wrong", "Bearer " + "x" * 1000):
            assert daemon.ask("POST", "/drain", b"{" + b" " * 5000, Authorization=word).status in (401, 403)

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    for _ in range(10):
        attempt()
    assert eventually(lambda: len(daemon.server._map) == 2)
    threads, files = threading.active_count(), descriptors()
    tracemalloc.start()
    try:
        for _ in range(20):
            attempt()
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(100):
            attempt()
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert eventually(lambda: len(daemon.server._map) == 2)
    assert descriptors() == files
    assert threading.active_count() < threads + http_limits.THREADS
    assert grown < 50_000, f"{grown} bytes for 300 attempts, with bodies of 1.5 MB"
    assert daemon.asked == []
