"""Servers that do what a test says: slow, sick, silent, or plain wrong; and they remember what they were asked."""

import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from io import BufferedReader

_V2 = b"\r\n\r\n\x00\r\nQUIT\n"
_END_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request as it arrived; `connection` counts the connections that brought any request, from 1."""

    method: str
    target: str
    headers: Mapping[str, str]
    connection: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the server says: a status with a text, or these raw bytes and then the end of the connection."""

    status: int = 200
    text: str = ""
    raw: bytes | None = None


EMPTY = Reply(raw=b"")
"""No answer at all: the connection ends."""

JUNK = Reply(raw=b"220 mail.example.com ESMTP\r\n\r\n")


@dataclass(slots=True)
class Scripted:
    """A server at this address until `close`, which is also the end of every connection.

    `answer` says what each request is answered with; a plain 200 with the address is `plain`. A request to upgrade is
    taken, and from then on every byte comes back. With `echo` nothing is HTTP: every byte comes back from the start.
    `prefaces` are the PROXY protocol headers that connections began with, checks' too, empty where there was none.
    """

    host: str
    port: int
    answer: Callable[[Request], Reply] | None = None
    echo: bool = False
    proxied: bool = False
    requests: list[Request] = field(default_factory=list)
    prefaces: list[bytes] = field(default_factory=list)
    _connections: int = 0
    _open: list[socket.socket] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _listener: socket.socket = field(init=False)

    def __post_init__(self) -> None:
        self._listener = socket.create_server((self.host, self.port), backlog=128)
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        """As an instance's."""
        return f"{self.host}:{self.port}"

    def plain(self, _: Request) -> Reply:
        """The answer of a server that is well."""
        return Reply(text=self.address)

    def asked(self, method: str = "GET", target: str = "/") -> int:
        """How many requests of this kind have arrived."""
        with self._lock:
            return sum((each.method, each.target) == (method, target) for each in self.requests)

    def close(self) -> None:
        """Die; safe to repeat."""
        with self._lock:
            for each in (self._listener, *self._open):
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(_END_SECONDS)
            with self._lock:
                self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError), connection, connection.makefile("rb") as stream:
            if self.proxied:
                preface = _preface(stream)
                with self._lock:
                    self.prefaces.append(preface)
            if self.echo:
                _give_back(connection, stream)
            number = 0
            while request := self._read(stream, number):
                number = request.connection
                if "upgrade" in request.headers:
                    connection.sendall(
                        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
                    )
                    _give_back(connection, stream)
                reply = (self.answer or self.plain)(request)
                if reply.raw is not None:
                    connection.sendall(reply.raw)
                    return
                head = f"HTTP/1.1 {reply.status} Scripted\r\nContent-Length: {len(reply.text)}\r\n\r\n"
                connection.sendall((head + reply.text).encode())

    def _read(self, stream: BufferedReader, number: int) -> Request | None:
        first = stream.readline().decode("latin-1").split()
        if len(first) != 3:
            return None
        headers: dict[str, str] = {}
        while line := stream.readline().decode("latin-1").strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        stream.read(int(headers.get("content-length", "0")))
        with self._lock:
            if number == 0:
                self._connections += 1
                number = self._connections
            request = Request(method=first[0], target=first[1], headers=headers, connection=number)
            self.requests.append(request)
        return request


def _preface(stream: BufferedReader) -> bytes:
    begin = stream.read(len(_V2))
    if begin == _V2:
        head = stream.read(4)
        return begin + head + stream.read(int.from_bytes(head[2:], "big"))
    return begin + stream.readline() if begin.startswith(b"PROXY ") else b""


def _give_back(connection: socket.socket, stream: BufferedReader) -> None:
    while data := stream.read1(65_536):
        connection.sendall(data)
