"""Clients that send requests all the time and forgive nothing: what a user of a service would notice, they count."""

import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType

from tests.support.eventually import eventually

TIMEOUT_SECONDS = 5.0

ENOUGH_SECONDS = 20.0
"""How long a busy machine may take for the requests that a test wants to judge; they take a second or two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A request that did not get its whole answer with status 200. `at`, when it ended, is in seconds since the client
    began, and `took` what it took until then."""

    at: float
    reason: str
    took: float = 0.0


class LoadClient:
    """Threads in a closed loop, each sending its share of `rate` requests a second and never more than one at a time.

    With `keep_alive` a thread uses one connection for as long as the server lets it: a connection that the server
    closes after an answer that announced it (`Connection: close`) is as it should be; one that ends in any other way
    is a failure. Without it, each request has a connection of its own.
    `answers` counts the answers by their text, which is who gave them. `began` is when it did, by the monotonic clock.
    With `tls` it speaks that.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        keep_alive: bool,
        rate: float = 150.0,
        threads: int = 3,
        tls: ssl.SSLContext | None = None,
        method: str = "GET",
    ) -> None:
        self.requests = 0
        self.connections = 0
        self.failures: list[Failure] = []
        self.answers: Counter[str] = Counter()
        self._address = host, port
        self._keep_alive = keep_alive
        self._tls = tls
        self._method = method
        self._period = threads / rate
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self.began = time.monotonic()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]

    def __enter__(self) -> "LoadClient":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def stopped(self) -> bool:
        """Whether it was told to send no more."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Let the requests under way end, and send no more; safe to repeat."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(2 * TIMEOUT_SECONDS)

    def _run(self) -> None:
        connection: _Connection | None = None
        due = time.monotonic()
        while not self._stopping.wait(max(0.0, due - time.monotonic())):
            sent = time.monotonic()
            due = max(due + self._period, sent)
            try:
                if connection is None:
                    with self._lock:
                        self.connections += 1
                    connection = _Connection(self._address, self._tls)
                body = connection.get(last=not self._keep_alive, method=self._method)
                with self._lock:
                    self.answers[body] += 1
            except (OSError, _Bad) as error:
                ended = time.monotonic()
                with self._lock:
                    self.failures.append(Failure(at=ended - self.began, reason=_words(error), took=ended - sent))
                if connection is not None:
                    connection.close()
                connection = None
            with self._lock:
                self.requests += 1
            if connection is not None and connection.ended:
                connection.close()
                connection = None
        if connection is not None:
            connection.close()


def ask(host: str, port: int, tls: ssl.SSLContext | None = None) -> str:
    """One request on a connection of its own; the answer's text. Raises AssertionError when it is not a whole 200."""
    connection = None
    try:
        connection = _Connection((host, port), tls)
        return connection.get(last=True)
    except (OSError, _Bad) as error:
        raise AssertionError(f"{host}:{port}: {_words(error)}") from error
    finally:
        if connection is not None:
            connection.close()


def assert_none_failed(clients: Sequence[LoadClient], at_least: int) -> None:
    """None of their requests failed, and each sent enough of them for that to mean something.

    What a client has not sent yet is waited for, and then the clients are stopped. So this stands in a client's own
    `with` block: one that has been stopped sends no more.
    """
    with suppress(AssertionError):
        eventually(lambda: all(client.stopped or client.requests >= at_least for client in clients), ENOUGH_SECONDS)
    for client in clients:
        client.stop()
    for client in clients:
        assert client.requests >= at_least, f"only {client.requests} requests: the test proves nothing"
        failed = [f"after {failure.at:.2f} s: {failure.reason}" for failure in client.failures]
        assert not failed, f"{len(failed)} of {client.requests} requests failed: {failed[:10]}"


class _Bad(Exception):
    """An answer that is not what was asked for."""


class _Connection:
    """One connection; `ended` once the server has announced that it will close it."""

    def __init__(self, address: tuple[str, int], tls: ssl.SSLContext | None = None) -> None:
        self.ended = False
        self._socket = socket.create_connection(address, TIMEOUT_SECONDS)
        if tls is not None:
            self._socket = tls.wrap_socket(self._socket, server_hostname=address[0] if tls.check_hostname else None)
        self._host = f"{address[0]}:{address[1]}"
        self._buffer = b""

    def get(self, *, last: bool, method: str = "GET") -> str:
        """Send a request without a body and take its whole answer. `last` asks the server to close, and sees that."""
        connection = "close" if last else "keep-alive"
        lines = [f"{method} / HTTP/1.1", f"Host: {self._host}", f"Connection: {connection}"]
        if method != "GET":
            lines.append("Content-Length: 0")
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode())
        while b"\r\n\r\n" not in self._buffer:
            self._receive("the head of the answer")
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = {key.strip().lower(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", "0"))
        while len(self._buffer) < length:
            self._receive("the body of the answer")
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        if status.split(" ")[1:2] != ["200"]:
            raise _Bad(f"{status}: {body.decode('latin-1').strip()[:100]}")
        self.ended = headers.get("connection", "").lower() == "close"
        if last and (self._buffer or self._socket.recv(1)):
            raise _Bad("more bytes than the answer has")
        return body.decode("latin-1").strip()

    def close(self) -> None:
        self._socket.close()

    def _receive(self, what: str) -> None:
        data = self._socket.recv(65_536)
        if not data:
            raise _Bad(f"the connection ended before {what}" + (" was complete" if self._buffer else ""))
        self._buffer += data


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, _Bad) else f"{type(error).__name__}: {error}"
