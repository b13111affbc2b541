"""Tethers, on real connections to real processes: what is heard of their ends, and what they cost."""

import errno
import os
import resource
import select
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from nerve import idle_connection, tether, tethering
from nerve.idle_connection import IdleConnection
from nerve.tether import Broken, Tethers
from smartstack.forms import TcpAddress
from tests.support.eventually import eventually
from tests.support.listeners import Listener

LOOPBACK = "127.0.0.1"


class Hearing:
    """Tethers, and what was heard of them."""

    def __init__(self) -> None:
        self.broken: list[Broken] = []
        self.tethers = Tethers(self.broken.append)

    def hold(self, **wanted: Listener | socket.socket) -> None:
        """Hold these, and wait until all are held."""
        self.tethers.hold({service: address(one) for service, one in wanted.items()})
        eventually(lambda: set(self.tethers.held()) == set(wanted))

    def hears(self, count: int) -> list[Broken]:
        """The first `count` that broke, of which there are no more."""
        eventually(lambda: len(self.broken) >= count)
        assert len(self.broken) == count
        return self.broken


def address(one: Listener | socket.socket) -> TcpAddress:
    if isinstance(one, Listener):
        return TcpAddress(one.host, one.port)
    host, port = one.getsockname()[:2]
    return TcpAddress(host, port)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def tether_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "tethers"]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


@pytest.fixture
def hearing(stack: ExitStack) -> Hearing:
    hearing = Hearing()
    stack.callback(hearing.tethers.stop)
    return hearing


@pytest.fixture
def listener(stack: ExitStack) -> socket.socket:
    """A service in this process, for what a child cannot be told to do in time."""
    listener = stack.enter_context(socket.create_server((LOOPBACK, 0)))
    listener.settimeout(10)
    return listener


def accept(stack: ExitStack, listener: socket.socket) -> socket.socket:
    served = stack.enter_context(listener.accept()[0])
    served.settimeout(10)
    return served


class Polls:
    """Stands for `select.epoll`, and keeps how long each wait was allowed to be."""

    def __init__(self, waits: list[float | None]) -> None:
        self._epoll = select.epoll()
        self._waits = waits

    def __getattr__(self, name: str) -> Any:
        return getattr(self._epoll, name)

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        self._waits.append(timeout)
        return self._epoll.poll(timeout)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """The waits of the tethers' thread; asked for before them."""
    waits: list[float | None] = []
    real = select.epoll

    def epoll() -> Polls:
        with monkeypatch.context() as within:
            within.setattr(select, "epoll", real)
            return Polls(waits)

    monkeypatch.setattr(select, "epoll", epoll)
    return waits


@pytest.mark.parametrize("host", [LOOPBACK, "::1"])
def test_a_service_that_is_killed(host: str, hearing: Hearing, stack: ExitStack) -> None:
    """It is heard at once, and that nobody listens there any more; the whole story is in the reason."""
    service = stack.enter_context(Listener("patient", host))
    hearing.hold(web=service)
    before = service.kill()
    last = eventually(lambda: [one for one in hearing.broken if one.refused])[0]
    assert (last.service, last.address) == ("web", TcpAddress(host, service.port))
    assert last.reason.endswith(f", and nobody listens at {last.address} any more")
    assert before <= last.at <= time.monotonic()
    assert hearing.tethers.held() == {}


def test_a_service_that_is_started_again(hearing: Hearing, stack: ExitStack) -> None:
    """The connection is made anew, without any event; and it did not keep the service, which does not set
    SO_REUSEADDR, from its own port."""
    service = stack.enter_context(Listener("patient"))
    hearing.hold(web=service)
    service.kill()
    eventually(lambda: hearing.broken and hearing.broken[-1].refused)
    heard = len(hearing.broken)
    again = stack.enter_context(Listener("patient", port=service.port))
    eventually(hearing.tethers.held)
    assert again.port == service.port
    assert len(hearing.broken) == heard


def test_a_service_that_hangs_keeps_its_tether(hearing: Hearing, stack: ExitStack) -> None:
    """To be stopped is no event, and nor is to go on; the death of another one is, and its own death."""
    hung, other = (stack.enter_context(Listener("patient")) for _ in range(2))
    hearing.hold(hung=hung, other=other)
    held = hearing.tethers.held()["hung"]
    hung.signal(signal.SIGSTOP)
    other.kill()
    eventually(lambda: any(one.refused for one in hearing.broken))
    hung.signal(signal.SIGCONT)
    assert {one.service for one in hearing.broken} == {"other"}
    assert hearing.tethers.held() == {"hung": held}
    hung.signal(signal.SIGSTOP)
    hung.kill()
    eventually(lambda: any(one.refused and one.service == "hung" for one in hearing.broken))


def test_a_listener_that_is_closed_after_its_connections(
    hearing: Hearing, listener: socket.socket, stack: ExitStack
) -> None:
    """As the kernel may do it for a process that it ends: the new connection is made, and when it breaks too, it is
    heard that nobody is there. So it is for a tether that has only just been made."""
    hearing.hold(web=listener)
    accept(stack, listener).close()
    made = hearing.hears(1)[0]
    assert not made.refused
    assert made.reason == "the idle connection was closed by the service, and a new one was made"
    listener.close()
    refused = hearing.hears(2)[1]
    assert refused.refused
    assert refused.reason.startswith("the idle connection broke (connection reset by peer), and nobody listens at ")


def test_a_connection_that_is_over_when_it_is_made(
    hearing: Hearing, listener: socket.socket, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same, when the reset comes before we have looked: it is tried once more, and then known."""
    hearing.hold(web=listener)

    def flaw(self: IdleConnection) -> int:
        monkeypatch.undo()
        listener.close()
        return errno.ECONNRESET

    monkeypatch.setattr(IdleConnection, "flaw", flaw)
    accept(stack, listener).close()
    assert hearing.hears(1)[0].refused


def test_a_service_that_closes_idle_connections(hearing: Hearing, stack: ExitStack) -> None:
    """Three times in a row it is no more than a reason to check, and the connection is made anew at once; then there
    is none for a second, and after that one for two."""
    service = stack.enter_context(Listener("hasty"))
    hearing.hold(web=service)
    for _ in range(6):
        service.accept()
    at = service.accepted_at
    assert at[3] - at[0] < at[4] - at[3]
    assert at[4] - at[3] >= 0.9
    broken = hearing.hears(4)
    assert not any(one.refused for one in broken)
    assert hearing.tethers.held() == {}
    service.accept()
    assert at[6] - at[5] >= 1.9


def test_a_service_that_serves_one_connection_at_a_time(hearing: Hearing, stack: ExitStack) -> None:
    """Beside a tether it serves nobody; when that is released, it serves whoever has waited."""
    service = stack.enter_context(Listener("serial"))
    hearing.hold(web=service)
    service.accept()
    client = stack.enter_context(socket.create_connection((LOOPBACK, service.port)))
    client.sendall(b"ping")
    client.settimeout(0.2)
    with pytest.raises(TimeoutError):
        client.recv(10)
    hearing.tethers.release("web")
    client.settimeout(10)
    assert client.recv(10) == b"pong"
    assert hearing.broken == []


def test_a_service_that_speaks_first(waits: list[float | None], hearing: Hearing, stack: ExitStack) -> None:
    """Its greeting is thrown away, is no event, and costs no more than to be read; its end is heard in the rest that
    follows as well."""
    service = stack.enter_context(Listener("greeting"))
    hearing.hold(web=service)
    eventually(lambda: waits and waits[-1] is not None)
    service.kill()
    eventually(lambda: hearing.broken and hearing.broken[-1].refused, within=tether.REST_SECONDS / 2)
    assert len(waits) < 20


def test_a_service_that_never_stops_talking(
    waits: list[float | None], hearing: Hearing, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read once in each rest, however much it says, and its end is heard."""
    monkeypatch.setattr(tether, "REST_SECONDS", 0.1)
    service = stack.enter_context(Listener("chatty"))
    start = time.monotonic()
    hearing.hold(web=service)
    eventually(lambda: len(waits) >= 14)
    # Two turns of the thread for each rest, and a few for the beginning.
    assert time.monotonic() - start >= 0.4
    service.kill()
    eventually(lambda: hearing.broken and hearing.broken[-1].refused)


def test_a_service_that_closes_its_half(hearing: Hearing, stack: ExitStack) -> None:
    """Who says that it will say no more has closed the connection."""
    service = stack.enter_context(Listener("half"))
    hearing.tethers.hold({"web": address(service)})
    eventually(lambda: hearing.broken)
    assert "was closed by the service" in hearing.broken[0].reason


def test_a_release_is_quiet(
    waits: list[float | None], hearing: Hearing, listener: socket.socket, stack: ExitStack
) -> None:
    """The service sees a client that left, not one that broke off, also when it has said something that was not read
    yet; nothing is heard of it, and it is not held any more until it is wanted anew."""
    hearing.hold(web=listener)
    served = accept(stack, listener)
    served.sendall(b"220 hello\r\n")
    eventually(lambda: waits[-1] is not None)
    served.sendall(b"421 said in its rest\r\n")
    hearing.tethers.release("web")
    assert served.recv(10) == b""
    assert hearing.tethers.held() == {}
    assert hearing.broken == []
    hearing.tethers.release("web")
    hearing.hold(web=listener)


def test_what_the_service_closed_leaves_nothing_behind(
    hearing: Hearing, listener: socket.socket, stack: ExitStack
) -> None:
    """Our end of it is reset, which frees the service's port at once."""
    hearing.hold(web=listener)
    served = accept(stack, listener)
    served.shutdown(socket.SHUT_WR)
    hearing.hears(1)
    with pytest.raises(ConnectionResetError):
        served.recv(10)


def test_what_is_wanted_already_is_left_undisturbed(hearing: Hearing, listener: socket.socket) -> None:
    """A tether stays through all changes of others; one whose address changed is made anew, and none is an event."""
    other = socket.create_server((LOOPBACK, 0))
    with other:
        hearing.hold(web=listener)
        held = hearing.tethers.held()["web"]
        assert held[0] == LOOPBACK
        hearing.hold(web=listener, api=other)
        hearing.hold(web=listener)
        assert hearing.tethers.held() == {"web": held}
        hearing.tethers.hold({"web": address(other)})
        eventually(lambda: hearing.tethers.held().get("web", held) != held)
    assert not any(one.address == address(listener) for one in hearing.broken)


def test_a_service_that_is_not_there_yet(hearing: Hearing, stack: ExitStack) -> None:
    """Not to reach it is no event; it is tried again until it is there."""
    service = stack.enter_context(socket.socket())
    service.bind((LOOPBACK, 0))
    hearing.tethers.hold({"web": address(service)})
    eventually(tether_threads)
    service.listen()
    eventually(hearing.tethers.held)
    assert hearing.broken == []


def test_a_connection_to_itself_is_refused(
    hearing: Hearing, listener: socket.socket, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody listens, the kernel may take that very port for our end, and the socket is connected to itself: it
    is as if refused, and does not keep the port, which is a service's."""
    hearing.hold(web=listener)
    place = address(listener)

    class ToItself(socket.socket):
        def connect_ex(self, wanted: Any) -> int:
            self.bind(wanted)
            return super().connect_ex(wanted)

    served = accept(stack, listener)
    monkeypatch.setattr(socket, "socket", ToItself)
    listener.close()
    served.close()
    assert hearing.hears(1)[0].refused
    assert hearing.tethers.held() == {}
    with socket.socket() as again:
        again.bind((place.host, place.port))


def fill(stack: ExitStack, listener: socket.socket) -> int:
    """Connect until the queue of who waits to be accepted is full; how many are in it."""
    for count in range(50):
        client = stack.enter_context(socket.socket())
        client.settimeout(0.2)
        try:
            client.connect(listener.getsockname())
        except TimeoutError:
            client.close()
            return count
    raise AssertionError("the queue never was full")


def test_a_service_whose_queue_is_full(hearing: Hearing, stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is not made in time says nothing for certain."""
    monkeypatch.setattr(tether, "CONNECT_SECONDS", 0.1)
    listener = stack.enter_context(socket.create_server((LOOPBACK, 0), backlog=0))
    hearing.hold(web=listener)
    served = accept(stack, listener)
    fill(stack, listener)
    served.close()
    broken = hearing.hears(1)[0]
    assert not broken.refused
    assert broken.reason.endswith(", and a new one could not be made: connection timed out")
    assert hearing.tethers.held() == {}


def test_a_connection_that_takes_its_time(hearing: Hearing, stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel tries again after a second, and then there is room: it is made, and held."""
    monkeypatch.setattr(tether, "CONNECT_SECONDS", 10.0)
    listener = stack.enter_context(socket.create_server((LOOPBACK, 0), backlog=0))
    hearing.hold(web=listener)
    served = accept(stack, listener)
    waiting = fill(stack, listener)
    served.close()
    eventually(lambda: not hearing.tethers.held())
    for _ in range(waiting):
        accept(stack, listener)
    eventually(hearing.tethers.held)
    assert hearing.hears(1)[0].reason.endswith(", and a new one was made")


def test_no_descriptor_left(
    waits: list[float | None], hearing: Hearing, listener: socket.socket, stack: ExitStack
) -> None:
    """The thread waits and tries again, without spinning; and it hears the end of what it holds."""
    other = stack.enter_context(socket.create_server((LOOPBACK, 0)))
    hearing.hold(web=listener)
    served = accept(stack, listener)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
    with pytest.raises(OSError, match="Too many open files"):
        os.dup(0)
    before = len(waits)
    hearing.tethers.hold({"web": address(listener), "api": address(other)})
    eventually(lambda: len(waits) > before)
    served.close()
    assert not hearing.hears(1)[0].refused
    assert set(hearing.tethers.held()) == {"web"}
    assert len(waits) < 15
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    eventually(lambda: set(hearing.tethers.held()) == {"web", "api"})


def test_ten_thousand_that_broke(
    hearing: Hearing, listener: socket.socket, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They leave no descriptor behind and no thread. Each counts as long-lived, so that none is waited for."""
    monkeypatch.setattr(tethering, "LONG_SECONDS", 0.0)
    hearing.hold(web=listener)
    accept(stack, listener).close()
    hearing.hears(1)
    before = open_descriptors(), len(tether_threads())
    for _ in range(10_000):
        listener.accept()[0].close()
    hearing.hears(10_001)
    eventually(hearing.tethers.held)
    # Others of this process may have closed theirs meanwhile.
    assert open_descriptors() <= before[0]
    assert len(tether_threads()) == before[1]
    assert not any(one.refused for one in hearing.broken)


def test_a_hundred_tethers_cost_nothing(waits: list[float | None], hearing: Hearing, stack: ExitStack) -> None:
    """One thread, which waits without a limit as long as nothing happens, and a descriptor each."""
    listeners = {f"web{n}": stack.enter_context(socket.create_server((LOOPBACK, 0))) for n in range(100)}
    before = open_descriptors()
    hearing.hold(**listeners)
    eventually(lambda: waits[-1] is None)
    turns = len(waits)
    assert turns < 10
    assert open_descriptors() == before + 100
    assert [thread.daemon for thread in tether_threads()] == [True]
    hearing.hold(**listeners)
    assert len(waits) == turns


def test_stop_closes_all(listener: socket.socket, stack: ExitStack) -> None:
    """No connection, descriptor or thread is left, and nothing is held afterwards; to repeat it is harmless."""
    before = open_descriptors()
    hearing = Hearing()
    hearing.hold(web=listener)
    served = accept(stack, listener)
    hearing.tethers.stop()
    assert served.recv(10) == b""
    served.close()
    assert open_descriptors() == before
    assert tether_threads() == []
    hearing.tethers.stop()
    hearing.tethers.hold({"api": address(listener)})
    assert tether_threads() == []
    assert (hearing.tethers.held(), hearing.broken) == ({}, [])


def test_who_holds_nothing_has_no_thread() -> None:
    """Where no service wants a tether, no thread is started, and what was opened is closed."""
    before = open_descriptors()
    tethers = Tethers(lambda broken: None)
    tethers.hold({})
    assert tether_threads() == []
    tethers.stop()
    assert open_descriptors() == before


def test_a_reading_has_an_end(stack: ExitStack, listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much is there, so much is read at once and no more."""
    monkeypatch.setattr(idle_connection, "READ_BYTES", 10)
    connection = IdleConnection(address(listener))
    stack.callback(connection.close, reset=True)
    served = accept(stack, listener)
    served.sendall(b"x" * 400)
    served.close()
    eventually(lambda: select.select([connection.descriptor], [], [], 0)[0])
    assert connection.discard()
    assert connection.discard()
    assert not connection.discard()
