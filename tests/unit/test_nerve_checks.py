"""The three kinds of check against real sockets and real programs."""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nerve.checks.base import Check
from nerve.checks.exec import COMMAND, OUTPUT_LIMIT, ExecCheck
from nerve.checks.http import HttpCheck
from nerve.checks.tcp import TcpCheck
from smartstack.forms import TcpAddress
from smartstack.model import model_fields
from tests.support.eventually import eventually

NOWHERE = TcpAddress("127.0.0.1", 1)

Speak = Callable[[socket.socket], None]


@contextmanager
def server(speak: Speak, host: str = "127.0.0.1") -> Iterator[TcpAddress]:
    """A TCP server that does this with each connection and then closes it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.bind((host, 0))
        listener.listen()

        def serve() -> None:
            while True:
                try:
                    connection = listener.accept()[0]
                except OSError:
                    return
                with connection:
                    try:
                        speak(connection)
                    except OSError:
                        continue

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield TcpAddress(host, listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def answer(text: str, *, stay: bool = False) -> Speak:
    """Read a request, answer it; with `stay`, keep the connection open until the client closes it."""

    def speak(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(text.encode())
        while stay and connection.recv(65_536):
            pass

    return speak


def drip(head: str) -> Speak:
    """Answer with a head, and then one byte every 20 ms, for ever."""

    def speak(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(head.encode())
        while not threading.Event().wait(0.02):
            connection.sendall(b"x")

    return speak


@pytest.mark.parametrize(
    ("text", "passed", "reason"),
    [
        pytest.param("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", True, "HTTP 200", id="200"),
        pytest.param("HTTP/1.1 204 No Content\r\n\r\n", True, "HTTP 204", id="204"),
        pytest.param("HTTP/1.0 200 OK\r\n\r\nuntil the end", True, "HTTP 200", id="a body without a length"),
        pytest.param(
            "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
            True,
            "HTTP 302",
            id="a redirect passes and is not followed",
        ),
        pytest.param("HTTP/1.1 399 Odd\r\nContent-Length: 0\r\n\r\n", True, "HTTP 399", id="399 is the last to pass"),
        pytest.param("HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n", False, "HTTP 400", id="400 is the first to fail"),
        pytest.param(
            "HTTP/1.1 503 No\r\nContent-Length: 26\r\n\r\n\nthe database is away\nmore",
            False,
            "HTTP 503: the database is away",
            id="an error's first line is in the reason",
        ),
        pytest.param(
            "HTTP/1.1 500 No\r\nContent-Length: 6\r\n\r\n\x1b[31m\x07", False, r"HTTP 500: \x1b[31m\x07", id="escapes"
        ),
        pytest.param("no http at all\r\n\r\n", False, None, id="something that is no HTTP"),
        pytest.param("", False, None, id="a closed connection"),
    ],
)
def test_http_judges_by_the_status(text: str, passed: bool, reason: str | None) -> None:
    """200 to 399 passes; the reason is one short printable line."""
    with server(answer(text)) as address:
        outcome = HttpCheck(path="/health").run(address)
    assert outcome.passed is passed
    assert reason is None or outcome.reason == reason
    assert outcome.reason.isprintable()


def test_http_asks_what_it_was_told_to_ask() -> None:
    """The path, and the host and port when they are not the instance's; no proxy of the environment."""
    heard = []

    def speak(connection: socket.socket) -> None:
        heard.append(connection.recv(65_536).decode())
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with pytest.MonkeyPatch.context() as patch, server(speak, "127.0.0.2") as address:
        patch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        patch.setenv("http_proxy", "http://127.0.0.1:1")
        assert HttpCheck(path="/a?b=c", host=address.host, port=address.port).run(NOWHERE).passed
    assert heard[0].startswith("GET /a?b=c HTTP/1.1\r\n")
    assert f"Host: 127.0.0.2:{address.port}\r\n" in heard[0]


def test_http_reaches_an_ipv6_instance() -> None:
    """An IPv6 address is put in brackets."""
    with server(answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), "::1") as address:
        assert HttpCheck().run(address).passed


@pytest.mark.parametrize(
    "speak",
    [
        pytest.param(answer("", stay=True), id="no answer"),
        pytest.param(answer("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", stay=True), id="half a body"),
        pytest.param(drip("HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n"), id="a body that drips"),
        pytest.param(drip("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1000\r\n"), id="a chunk that drips"),
    ],
)
def test_http_gives_up_at_its_time_out(speak: Speak) -> None:
    """An answer that is not there in time is a failure that names the time-out, however alive the connection looks."""
    with server(speak) as address:
        started = time.monotonic()
        outcome = HttpCheck(timeout=0.2).run(address)
    assert not outcome.passed
    assert "in 0.2s" in outcome.reason
    assert time.monotonic() - started < 2


def test_http_leaves_a_long_body_unread() -> None:
    """A well instance with an endless answer is well, and costs 64 KiB a check."""

    def speak(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(b"x" * 65_536)

    with server(speak) as address:
        assert HttpCheck(timeout=5.0).run(address).reason == "HTTP 200"


@pytest.mark.parametrize("check", [HttpCheck(timeout=0.2), TcpCheck(timeout=0.2)], ids=lambda check: check.kind)
def test_nobody_there_is_a_failure_in_few_words(check: Check) -> None:
    """A refused connection says so, without layers of wrapping."""
    outcome = check.run(NOWHERE)
    assert (outcome.passed, outcome.reason) == (False, "connection refused")


def test_tcp_passes_when_somebody_accepts() -> None:
    """Connected is passed; host and port may be others than the instance's."""
    with server(lambda connection: None) as address:
        assert TcpCheck().run(address).passed
        assert TcpCheck(host=address.host, port=address.port).run(NOWHERE).passed


def test_tcp_gives_up_at_its_time_out() -> None:
    """A full backlog answers nothing: a failure that names the time-out."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = TcpAddress("127.0.0.1", listener.getsockname()[1])
        with socket.socket() as first, socket.socket() as second:
            for client in (first, second):
                client.setblocking(False)
                client.connect_ex((address.host, address.port))
            eventually(lambda: not TcpCheck(timeout=0.05).run(address).passed)
            assert TcpCheck(timeout=0.05).run(address).reason == "no connection in 0.05s"


def test_a_name_that_does_not_resolve_is_a_failure() -> None:
    """A check's host may be a name; that it is unknown is an outcome, for both kinds."""
    for check in (TcpCheck(host="no-such-host.invalid"), HttpCheck(host="no-such-host.invalid")):
        assert not check.run(NOWHERE).passed


def python(code: str) -> tuple[str, ...]:
    """A command that runs this, without the time that site-packages cost."""
    return (sys.executable, "-I", "-S", "-c", code)


@pytest.mark.parametrize(
    ("command", "passed", "reason"),
    [
        pytest.param(("true",), True, "exit 0", id="exit 0"),
        pytest.param(("false",), False, "exit 1", id="exit 1"),
        pytest.param(("echo", "all\nis well"), True, "is well", id="the last line of output is the reason"),
        pytest.param(("sh", "-c", "echo 17 left >&2; exit 3"), False, "exit 3: 17 left", id="standard error counts"),
        pytest.param(("echo", "$HOME; *"), True, "$HOME; *", id="no shell sees it"),
        pytest.param(("printf", r"\033[31m"), True, r"\x1b[31m", id="escapes are shown"),
        pytest.param(("sh", "-c", "kill -9 $$"), False, "ended by SIGKILL", id="a signal"),
        pytest.param(
            ("/no/such/program",), False, "cannot run /no/such/program: no such file or directory", id="no program"
        ),
        pytest.param(
            ("sh", "-c", "echo $SMARTSTACK_HOST $SMARTSTACK_PORT"), True, "127.0.0.1 1", id="it is told the address"
        ),
        pytest.param(("cat",), True, "exit 0", id="standard input is empty"),
    ],
)
def test_exec_judges_by_the_exit_code(command: tuple[str, ...], passed: bool, reason: str) -> None:
    """0 passes. The reason is the last line of output, whatever it holds, as printable text."""
    outcome = ExecCheck(command=command, timeout=10.0).run(NOWHERE)
    assert (outcome.passed, outcome.reason) == (passed, reason)


def test_exec_reads_all_output_and_keeps_the_end() -> None:
    """A program that writes megabytes does not block, and costs a few KB."""
    outcome = ExecCheck(command=python("print('x' * 5_000_000); print('the end')"), timeout=10.0).run(NOWHERE)
    assert outcome.reason == "the end"
    long_line = ExecCheck(command=python(f"print('x' * {2 * OUTPUT_LIMIT})"), timeout=10.0).run(NOWHERE)
    assert len(long_line.reason) <= 200


def alive(pid_file: Path) -> bool:
    """Whether the process that wrote this file is there and no zombie."""
    status = Path(f"/proc/{pid_file.read_text().strip()}/stat")
    return status.exists() and status.read_text().rpartition(") ")[2][0] not in "ZX"


def test_exec_kills_the_whole_group_at_its_time_out(tmp_path: Path) -> None:
    """Not the program alone: what it started is gone too, even when that ignores SIGTERM."""
    pid_file = tmp_path / "pid"
    script = f"trap '' TERM; sh -c 'trap \"\" TERM; echo $$ > {pid_file}; echo ready; sleep 60; sleep 60' & wait"
    started = time.monotonic()
    outcome = ExecCheck(command=("sh", "-c", script), timeout=0.5).run(NOWHERE)
    assert (outcome.passed, outcome.reason) == (False, "killed after 0.5s, last output: ready")
    assert time.monotonic() - started < 2
    eventually(lambda: not alive(pid_file))


def test_exec_does_not_wait_for_what_the_program_left_behind(tmp_path: Path) -> None:
    """A program that ended has ended, though its child keeps the pipe open."""
    pid_file = tmp_path / "pid"
    started = time.monotonic()
    outcome = ExecCheck(command=("sh", "-c", f"sleep 5 & echo $! > {pid_file}; echo done"), timeout=4.0).run(NOWHERE)
    assert (outcome.passed, outcome.reason) == (True, "done")
    assert time.monotonic() - started < 2
    assert alive(pid_file)
    os.kill(int(pid_file.read_text()), signal.SIGKILL)


@pytest.mark.parametrize(
    ("value", "command"),
    [
        pytest.param(["a", "b c"], ("a", "b c"), id="a list"),
        pytest.param("a 'b c' \"d\"", ("a", "b c", "d"), id="one text is split as a shell would"),
    ],
)
def test_a_command_may_be_a_list_or_one_text(value: object, command: tuple[str, ...]) -> None:
    """Both forms mean the same."""
    assert COMMAND.parse(value) == command


@pytest.mark.parametrize("value", ["", [], [1], "a 'b", {"a": "b"}, None, 5, [""], ["a\0b"]])
def test_what_is_no_command_is_refused(value: object) -> None:
    """Empty, not words, an open quote: refused when the file is read, and not when the check runs."""
    with pytest.raises(ValueError, match="must be a command"):
        COMMAND.parse(value)


@pytest.mark.parametrize("model", [HttpCheck, TcpCheck, ExecCheck], ids=lambda model: model.kind)
def test_every_kind_says_what_its_keys_mean(model: type) -> None:
    """Each key has words that an editor can show; the common ones have the documented defaults."""
    fields = {field.name: field for field in model_fields(model)}
    assert all(field.kind.description for field in fields.values())
    defaults = {name: fields[name].default for name in ("interval", "timeout", "rise", "fall")}
    assert {name: default and default() for name, default in defaults.items()} == {
        "interval": 2.0,
        "timeout": 1.0,
        "rise": 2,
        "fall": 3,
    }


@pytest.mark.parametrize("path", ["health", "/a b", "/a\nb", 5, None, ""])
def test_what_is_no_path_is_refused(path: object) -> None:
    """A path that would break the request line is refused when the file is read."""
    form = next(field.kind.form for field in model_fields(HttpCheck) if field.name == "path")
    assert form is not None
    with pytest.raises(ValueError, match="must be a path"):
        form.parse(path)
