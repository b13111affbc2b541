"""The `tcp` check against real sockets."""

import socket
import threading
import time

import pytest

from nerve.checks.tcp import ANSWER_LIMIT, TEXT, TcpCheck
from smartstack.forms import TcpAddress
from tests.support.check_servers import Speak, answer, drip, flood, ignore, outcome_of, server
from tests.support.eventually import eventually


def greet(text: bytes) -> Speak:
    """Say this without being asked, and wait for the client to go."""

    def speak(connection: socket.socket) -> None:
        connection.sendall(text)
        while connection.recv(1000):
            pass

    return speak


def echo(connection: socket.socket) -> None:
    """Answer with what was said, in two parts."""
    heard = connection.recv(1000)
    connection.sendall(heard[:2])
    threading.Event().wait(0.02)
    connection.sendall(heard[2:])


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_tcp_passes_when_somebody_accepts(host: str) -> None:
    """Connected is passed, by IPv4 and by IPv6; host and port may be others than the instance's."""
    with server(ignore, host) as address:
        assert outcome_of(TcpCheck(), address).reason == "connected"
        assert outcome_of(TcpCheck(host=address.host, port=address.port)).passed


def test_tcp_reaches_a_host_by_its_name() -> None:
    """The next address of a name is tried when the first refuses: localhost may be ::1 first."""
    with server(ignore) as address:
        assert outcome_of(TcpCheck(host="localhost"), address).passed


@pytest.mark.parametrize(
    ("check", "speak", "passed", "reason"),
    [
        pytest.param(TcpCheck(expect="220 "), greet(b"220 mail\r\n"), True, "answered '220 '", id="a greeting"),
        pytest.param(
            TcpCheck(send="PING\r\n", expect="PING\r\n"),
            echo,
            True,
            r"answered 'PING\r\n'",
            id="an answer in two parts",
        ),
        pytest.param(TcpCheck(send="hello"), ignore, True, "connected", id="nothing expected"),
        pytest.param(
            TcpCheck(expect="220 ", timeout=0.2),
            greet(b"554 go\x1b away\r\n"),
            False,
            r"no '220 ' in 0.2s, only 554 go\x1b away",
            id="another greeting",
        ),
        pytest.param(TcpCheck(expect="220 ", timeout=0.2), greet(b""), False, "no '220 ' in 0.2s", id="silence"),
        pytest.param(
            TcpCheck(send="x", expect="ok"),
            answer("no\nmore"),
            False,
            "no 'ok': the answer begins with no",
            id="another answer",
        ),
        pytest.param(
            TcpCheck(send="x", expect="ok"), answer(""), False, "no 'ok': closed without an answer", id="no answer"
        ),
        pytest.param(
            TcpCheck(send="x", expect="ok", timeout=5.0),
            flood("first\n", b"y" * ANSWER_LIMIT),
            False,
            "no 'ok': the answer begins with first",
            id="an endless answer",
        ),
        pytest.param(
            TcpCheck(send="x", expect="ok", timeout=0.2), drip("drops: "), False, None, id="an answer that drips"
        ),
    ],
)
def test_tcp_expects_a_text(check: TcpCheck, speak: Speak, passed: bool, reason: str | None) -> None:
    """Passes once the text is in what came back; gives up at the time-out, at the end, or after 64 KiB."""
    started = time.monotonic()
    with server(speak) as address:
        outcome = outcome_of(check, address)
    assert outcome.passed is passed
    assert reason is None or outcome.reason == reason
    assert time.monotonic() - started < 4


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
            eventually(lambda: not outcome_of(TcpCheck(timeout=0.05), address).passed)
            assert outcome_of(TcpCheck(timeout=0.05), address).reason == "no connection in 0.05s"


def test_tcp_is_not_connected_to_itself() -> None:
    """The kernel takes the ports of clients one after the other, and so comes to the one that is asked for: such a
    connection is no service."""
    # By IPv6, where hardly anybody of this machine's other tests takes the port meanwhile.
    with socket.socket(socket.AF_INET6) as odd, socket.socket(socket.AF_INET6) as even:
        odd.bind(("::1", 0))
        port = odd.getsockname()[1] & ~1  # the kernel gives odd ones to listeners, and even ones to clients
        even.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        even.bind(("::1", port))
    assert not any(outcome_of(TcpCheck(), TcpAddress("::1", port)).passed for _ in range(20_000))


def test_nobody_there_is_a_failure_in_few_words() -> None:
    """A refused connection and an unknown name."""
    assert outcome_of(TcpCheck(timeout=0.2)).reason == "connection refused"
    assert not outcome_of(TcpCheck(host="no-such-host.invalid")).passed


@pytest.mark.parametrize("value", ["", 5, None, "x" * 1001, ["a"]])
def test_what_is_no_text_is_refused(value: object) -> None:
    """Empty, too long, or a number without quotes."""
    with pytest.raises(ValueError, match="must be a text"):
        TEXT.parse(value)


def test_what_is_sent_is_not_shown() -> None:
    """It may hold a password: no log that shows a check shows it."""
    assert "abc" not in repr(TcpCheck(send="abc"))
