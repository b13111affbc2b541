"""HAProxy's socket, when who answers there is not HAProxy, or is sick: an end to the waiting, and to the memory."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
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


def endless(connection: socket.socket) -> None:
    """Few bytes at a time, and never a pause."""
    while True:
        connection.sendall(b"Pid")


def dripping(connection: socket.socket) -> None:
    """A byte now and then."""
    while not threading.Event().wait(0.05):
        connection.sendall(b"P")


@pytest.mark.parametrize("say", [endless, dripping])
def test_an_answer_has_its_time(say: Say, listener: socket.socket) -> None:
    """Whatever is sent, the loop goes on when the time is over."""
    began = time.monotonic()
    with pytest.raises(HAProxyAway, match=r"does not answer on .*: timed out"):
        answering(listener, say).info()
    assert time.monotonic() - began < 10


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
