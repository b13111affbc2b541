"""HAProxy's socket, when who answers there is not HAProxy, or is sick: an end to the waiting, and to the memory."""

import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from synapse.haproxy import runtime
from synapse.haproxy.errors import HAProxyAway
from synapse.haproxy.runtime import Runtime

Say = Callable[[socket.socket], None]


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    """A socket where HAProxy's would be."""
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "haproxy.sock"))
        made.listen()
        yield made


def answering(listener: socket.socket, say: Say) -> Runtime:
    """Who asks there is answered once, by this; and is given half a second."""

    def answer() -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            connection.recv(100)
            say(connection)

    threading.Thread(target=answer, daemon=True).start()
    return Runtime(listener.getsockname(), None, answer_seconds=0.5)


def large(connection: socket.socket) -> None:
    """Lines without end, as fast as they are taken."""
    while True:
        connection.sendall(b"Pid: 1\n" * 10_000)


def dripping(connection: socket.socket) -> None:
    """A byte now and then."""
    while not threading.Event().wait(0.05):
        connection.sendall(b"P")


def test_an_answer_that_drips_has_its_time(listener: socket.socket) -> None:
    """The time is for the whole answer, not for each piece."""
    began = time.monotonic()
    with pytest.raises(HAProxyAway, match="timed out"):
        answering(listener, dripping).info()
    assert time.monotonic() - began < 10


def test_an_answer_without_a_pause_has_its_time(listener: socket.socket) -> None:
    """That there is always more to read is no reason to go on when the time is over."""
    seconds = itertools.chain([0.0], itertools.repeat(100.0))
    asked = answering(listener, lambda connection: connection.sendall(b"Pid: 1\n" * 10_000))
    with pytest.raises(HAProxyAway, match="timed out: the answer has no end"):
        replace(asked, clock=lambda: next(seconds)).info()


def test_who_says_nothing_has_the_same_time(listener: socket.socket) -> None:
    """A HAProxy that hangs takes connections still: the kernel does."""
    with pytest.raises(HAProxyAway, match="timed out"):
        Runtime(listener.getsockname(), None, answer_seconds=0.1).info()


def test_an_answer_has_a_largest_size(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer fills the memory before its time is over."""
    monkeypatch.setattr(runtime, "ANSWER_LIMIT", 1_048_576)
    with pytest.raises(HAProxyAway, match="is over 1 MB"):
        answering(listener, large).info()


def test_what_is_no_answer_is_said_so(listener: socket.socket) -> None:
    """Who listens there instead of HAProxy is not believed."""
    with pytest.raises(HAProxyAway, match="is not one of HAProxy"):
        answering(listener, lambda connection: connection.sendall(b"220 mail.example.com\xff\r\n")).info()
