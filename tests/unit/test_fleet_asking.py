"""One question to many at once: what becomes of good answers, of bad ones, and of hosts that hang."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from smartstack.forms import TcpAddress
from synapse.fleet import asking
from synapse.fleet.asking import ask_all
from tests.support.eventually import eventually

Handle = Callable[[socket.socket], None]
OK = b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n"


@contextmanager
def serving(handle: Handle) -> Iterator[TcpAddress]:
    """A server that gives each of its connections to this."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=200)

    def run() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, suppress(OSError):
                    handle(connection)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield TcpAddress("127.0.0.1", listener.getsockname()[1])
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(5)


def says(*parts: bytes) -> Handle:
    """Takes the request, and sends these."""

    def handle(connection: socket.socket) -> None:
        connection.recv(65_536)
        for part in parts:
            connection.sendall(part)

    return handle


def asked(*addresses: TcpAddress, seconds: float = 3.0) -> list[bytes | str]:
    """What came of asking these, in their order."""
    found = dict(ask_all(addresses, "/telemetry/stat?window=60", all_seconds=seconds))
    assert sorted(found) == list(range(len(addresses)))
    return [found[number] for number in range(len(addresses))]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        pytest.param((OK, b'{"rows": []}'), b'{"rows": []}', id="an answer"),
        pytest.param((b"HTTP/1.1 200 OK\r\n", b"\r\n{}"), b"{}", id="in pieces"),
        pytest.param((), "the connection ended without an answer", id="nothing"),
        pytest.param((b"SSH-2.0-OpenSSH_9.2\r\n",), "what answers there is no synapse", id="another protocol"),
        pytest.param((b"\r\n\r\n",), "what answers there is no synapse", id="no status line"),
        pytest.param((b"HTTP/1.0 \xff\r\n\r\n",), "what answers there is no synapse", id="no status"),
        pytest.param(
            (b"HTTP/1.0 503 Service Unavailable\r\n\r\nthe loop\x1b[2J is busy\n",),
            "answers 503: the loop\\x1b[2J is busy",
            id="a refusal, with its sentence",
        ),
    ],
)
def test_what_is_answered_is_a_body_or_a_reason(parts: tuple[bytes, ...], expected: bytes | str) -> None:
    """Whatever stands at an announced address: it is a value, and what it says is safe to print."""
    with serving(says(*parts)) as address:
        assert asked(address) == [expected]


def test_the_question_is_one_that_every_server_understands() -> None:
    """HTTP/1.0 with the address as the host: a synapse refuses to be asked by another's name."""
    seen: list[bytes] = []

    def handle(connection: socket.socket) -> None:
        seen.append(connection.recv(65_536))
        connection.sendall(OK + b"{}")

    with serving(handle) as address:
        asked(address)
    assert seen == [f"GET /telemetry/stat?window=60 HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode()]


def test_an_address_where_nobody_listens_is_a_reason() -> None:
    """At once, and in the words of the machine."""
    assert asked(TcpAddress("127.0.0.1", 1)) == ["cannot be reached: connection refused"]


def test_an_answer_has_a_largest_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """No peer fills this daemon's memory."""
    monkeypatch.setattr(asking, "ANSWER_LIMIT", 1_048_576)
    with serving(says(OK, b"x" * 4_000_000)) as address, serving(says(OK, b"{}")) as other:
        assert asked(address, other) == ["its answer is over 1 MB", b"{}"]


def test_all_answers_together_have_a_largest_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many that are large would be as bad as one that is too large."""
    monkeypatch.setattr(asking, "TOGETHER_LIMIT", 100_000)
    release = threading.Event()

    def handle(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(OK + b"x" * 90_000)
        release.wait(5)

    with ExitStack() as stack:
        addresses = [stack.enter_context(serving(handle)) for _ in range(3)]
        stack.callback(release.set)
        found = asked(*addresses)
    assert "all answers together are too large" in found


def test_a_host_that_hangs_holds_up_nobody() -> None:
    """One that takes the connection and says nothing, one that drips: both are given up in time, the others heard."""
    release = threading.Event()

    def hang(connection: socket.socket) -> None:
        release.wait(10)

    def drip(connection: socket.socket) -> None:
        while not release.wait(0.05):
            connection.sendall(b"H")

    began = time.monotonic()
    with ExitStack() as stack:
        hanging = stack.enter_context(serving(hang))
        dripping = stack.enter_context(serving(drip))
        well = stack.enter_context(serving(says(OK, b"{}")))
        stack.callback(release.set)
        found = asked(hanging, dripping, well, seconds=0.5)
    assert found == ["no answer within 0.5 s", "no answer within 0.5 s", b"{}"]
    assert time.monotonic() - began < 5, "it waited for those that hang"


def test_a_good_answer_is_there_before_the_slow_ones() -> None:
    """Answers are taken as they come, so that they can be put together meanwhile."""
    release = threading.Event()

    def hang(connection: socket.socket) -> None:
        release.wait(10)

    with ExitStack() as stack:
        hanging = stack.enter_context(serving(hang))
        well = stack.enter_context(serving(says(OK, b"{}")))
        stack.callback(release.set)
        answers = ask_all([hanging, well], "/", all_seconds=1.0)
        assert next(answers) == (1, b"{}")
        answers.close()


def test_more_hosts_than_may_be_asked_at_once_have_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes a descriptor: the next is asked when one is done, and who has no turn in time is told as such."""
    monkeypatch.setattr(asking, "AT_ONCE", 2)
    release = threading.Event()

    def hang(connection: socket.socket) -> None:
        release.wait(10)

    with ExitStack() as stack:
        well = stack.enter_context(serving(says(OK, b"{}")))
        hanging = [stack.enter_context(serving(hang)) for _ in range(2)]
        stack.callback(release.set)
        assert asked(*[well] * 7) == [b"{}"] * 7
        assert asked(*hanging, well, seconds=0.3)[2] == "there was no time left to ask it: 2 are asked at once"


def test_no_descriptor_is_left_behind() -> None:
    """Not by those that answer, nor by those that do not."""
    before = _descriptors()
    with serving(says(OK, b"{}")) as address:
        for _ in range(3):
            asked(address, TcpAddress("127.0.0.1", 1))
    eventually(lambda: _descriptors() <= before)


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))
