"""Small servers for checks to ask, one connection after the other, and whom a check is to ask."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nerve.checks.base import Check, Outcome, Target
from smartstack.forms import TcpAddress

NOWHERE = TcpAddress("127.0.0.1", 1)
"""Nobody listens there."""

Speak = Callable[[socket.socket], None]


def target(address: TcpAddress = NOWHERE) -> Target:
    """Whom a check asks when only the address matters."""
    return Target(service="web", address=address)


def outcome_of(check: Check, address: TcpAddress = NOWHERE) -> Outcome:
    """What one run of a check says, which must be a verdict in printable words."""
    outcome = check.run(target(address))
    assert outcome is not None
    assert outcome.reason.isprintable() and len(outcome.reason) <= 200
    return outcome


@contextmanager
def server(speak: Speak, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> Iterator[TcpAddress]:
    """A TCP server that does this with each connection and then closes it."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
        listener.bind((host, 0))
        with _serving(listener, speak, tls):
            yield TcpAddress(host, listener.getsockname()[1])


@contextmanager
def unix_server(speak: Speak, path: Path) -> Iterator[str]:
    """The same at a unix socket."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        with _serving(listener, speak, None):
            yield str(path)


@contextmanager
def _serving(listener: socket.socket, speak: Speak, tls: ssl.SSLContext | None) -> Iterator[None]:
    listener.listen()

    def serve() -> None:
        while True:
            try:
                connection = listener.accept()[0]
            except OSError:
                return
            with contextlib.ExitStack() as stack:
                stack.enter_context(connection)
                with contextlib.suppress(OSError):
                    if tls is not None:
                        connection = stack.enter_context(tls.wrap_socket(connection, server_side=True))
                    speak(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def answer(text: str | bytes, *, stay: bool = False) -> Speak:
    """Read a request, answer it; with `stay`, keep the connection open until the client closes it."""

    def speak(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(text.encode() if isinstance(text, str) else text)
        while stay and connection.recv(65_536):
            pass

    return speak


def drip(head: str, drop: bytes = b"x") -> Speak:
    """Answer with a head, and then a few bytes every 20 ms, for ever."""

    def speak(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(head.encode())
        while not threading.Event().wait(0.02):
            connection.sendall(drop)

    return speak


def flood(head: str, wave: bytes, taken: list[int] | None = None) -> Speak:
    """Answer with a head, and then these bytes as fast as they are taken, for ever; how many each time is noted."""

    def speak(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(head.encode())
        while True:
            connection.sendall(wave)
            if taken is not None:
                taken.append(len(wave))

    return speak


def ignore(_: socket.socket) -> None:
    """Accept, and close at once."""
