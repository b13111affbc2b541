"""One HTTP request, byte for byte as a test wants it, by TCP or through a unix socket."""

import socket
from collections.abc import Iterable
from dataclasses import dataclass

from smartstack.forms import Listen, TcpAddress, UnixSocket

TIMEOUT_SECONDS = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """What came back: the status, the text, and the head of the answer as it is."""

    status: int
    text: str
    head: str


def exchange(
    to: Listen,
    target: str = "/",
    headers: Iterable[tuple[str, str]] = (),
    *,
    preface: bytes = b"",
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> Exchange:
    """A request on a connection of its own, which begins with `preface`.

    Raises AssertionError when the connection ends without an answer or cannot be made, TimeoutError when nothing comes.
    """
    lines = [f"GET {target} HTTP/1.1", "Host: localhost", "Connection: close", *(f"{n}: {v}" for n, v in headers)]
    try:
        with connect(to, timeout_seconds) as connection:
            connection.sendall(preface + "\r\n".join([*lines, "", ""]).encode("latin-1"))
            with connection.makefile("rb") as stream:
                answer = stream.read().decode("latin-1")
    except ConnectionError as error:
        raise AssertionError(f"{to}: {error}") from error
    head, separator, text = answer.partition("\r\n\r\n")
    assert separator, f"{to} ended the connection after {answer!r}"
    return Exchange(status=int(head.split()[1]), text=text.strip(), head=head)


def connect(to: Listen, timeout_seconds: float = TIMEOUT_SECONDS) -> socket.socket:
    """A connection. Raises OSError."""
    match to:
        case UnixSocket(path=path):
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(timeout_seconds)
            try:
                connection.connect(path)
            except OSError as error:
                connection.close()
                raise ConnectionError(str(error)) from error
            return connection
        case TcpAddress(host=host, port=port):
            return socket.create_connection((host, port), timeout_seconds)
