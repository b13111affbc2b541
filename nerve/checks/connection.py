"""A check's connection: by TCP or by a unix socket, with TLS or without. Every step of it ends at one deadline."""

import contextlib
import errno
import os
import socket
import time
from collections.abc import Iterable
from typing import Any, TypeAlias

from nerve.checks.base import network_reason
from nerve.checks.tls import Tls, client_context
from smartstack.addresses import canonical_ip
from smartstack.forms import TcpAddress, UnixSocket
from smartstack.model import Form

Place: TypeAlias = TcpAddress | UnixSocket

SOCKET_PATH_LIMIT = 107
"""Longest path of a unix socket that the kernel takes, in bytes."""


def _socket_path(value: Any) -> str:
    fine = isinstance(value, str) and value.startswith("/") and value.isprintable()
    if not fine or len(value.encode()) > SOCKET_PATH_LIMIT:
        raise ValueError(f"must be the absolute path of a unix socket, of at most {SOCKET_PATH_LIMIT} bytes")
    return str(value)


UNIX_SOCKET = Form(_socket_path, {"type": "string", "pattern": "^/", "maxLength": SOCKET_PATH_LIMIT})


def socket_problems(unix_socket: str | None, host: str | None, port: int | None) -> Iterable[tuple[str, str]]:
    """The rule that a unix socket has no host and no port: the key, and what is wrong."""
    if unix_socket is not None:
        for key, value in (("host", host), ("port", port)):
            if value is not None:
                yield key, "stands beside unix_socket; give one of them"


class Connection:
    """Bytes to and from one server. Every method raises TimeoutError when the deadline has passed, and OSError when
    the connection broke. Closes at the end of its `with` block."""

    def __init__(self, link: socket.socket, deadline: float) -> None:
        self._link = link
        self._deadline = deadline

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self._link.close()

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self._link.settimeout(_left(self._deadline))
        self._link.sendall(data)

    def receive(self, limit: int) -> bytes:
        """What is there now, or comes next; empty at the end."""
        self._link.settimeout(_left(self._deadline))
        return self._link.recv(limit)

    def receive_into(self, buffer: Any) -> int:
        """The same, into a buffer; the number of bytes."""
        self._link.settimeout(_left(self._deadline))
        return self._link.recv_into(buffer)


def connect(
    place: Place, deadline: float, *, tls: Tls | None = None, name: str, protocols: tuple[str, ...] = ()
) -> Connection:
    """A connection that is made by `deadline` (monotonic clock), TLS handshake included. `name` is whom TLS asks for
    and verifies when its settings do not say.

    Raises TimeoutError, and OSError for all else, which `reason_of` puts in words. To look a host's name up is not
    bound by the deadline: the C library has its own.
    """
    link = _dial(place, deadline)
    if tls is None:
        return Connection(link, deadline)
    with contextlib.ExitStack() as undo:
        undo.callback(link.close)
        context = client_context(tls, protocols)
        link.settimeout(_left(deadline))
        secured = context.wrap_socket(link, server_hostname=tls.server_name or name)
        undo.pop_all()
    return Connection(secured, deadline)


def reason_of(error: OSError) -> str:
    """What a connection's error means, in a few words; those of ssl are told by their attributes, so that it need not
    be imported."""
    refused = getattr(error, "verify_message", None)
    if refused:
        hint = "; tls.server_name says which name it is to be for" if "mismatch" in refused else ""
        return f"TLS: the certificate is refused: {refused.rstrip('.')}{hint}"
    if hasattr(error, "library"):
        reason: str | None = getattr(error, "reason", None)
        ended = "the server ended the connection; does it want a certificate (tls.certificate)?"
        return f"TLS: {reason.replace('_', ' ').lower() if reason else ended}"
    # Our own errors have no number and are sentences already.
    return network_reason(error) if error.errno is not None else str(error)


def _dial(place: Place, deadline: float) -> socket.socket:
    error: OSError = OSError("the name has no address")
    for family, address in _addresses(place):
        link = socket.socket(family, socket.SOCK_STREAM)
        try:
            link.settimeout(_left(deadline))
            link.connect(address)
            # A port of the range from which the kernel takes those of clients, and nobody listens there: once in some
            # thousand times it takes just this one, and the socket is connected to itself.
            if family != socket.AF_UNIX and link.getsockname() == link.getpeername():
                raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
            return link
        except TimeoutError:
            link.close()
            raise
        except OSError as failure:
            link.close()
            error = failure
    raise error


def _addresses(place: Place) -> Iterable[tuple[int, Any]]:
    if isinstance(place, UnixSocket):
        return [(socket.AF_UNIX, place.path)]
    if canonical_ip(place.host):
        return [(socket.AF_INET6 if ":" in place.host else socket.AF_INET, (place.host, place.port))]
    # As bytes, because for a text Python imports its tables of international names: 1 MB.
    found = socket.getaddrinfo(place.host.encode("ascii"), place.port, type=socket.SOCK_STREAM)
    return [(family, address) for family, _, _, _, address in found]


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
