"""A relay before a ZooKeeper that counts what its clients ask, by opcode, and what they are told."""

import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

_LENGTH = struct.Struct("!i")
_HEAD = struct.Struct("!ii")
_EVENT_XID = -1
_PING_XID = -2


class Relay:
    """Listens from the start to `stop`; `requests` are without pings and without the first frame of each connection."""

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._lock = threading.Lock()
        self._requests: Counter[int] = Counter()
        self._events = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host, self.port = self._listener.getsockname()
        self._open = [self._listener]
        threading.Thread(target=self._accept, name="relay", daemon=True).start()

    @property
    def hosts(self) -> str:
        """What a client connects to."""
        return f"{self.host}:{self.port}"

    def seen(self) -> tuple[dict[int, int], int]:
        """The requests so far by opcode, and the number of events."""
        with self._lock:
            return dict(sorted(self._requests.items())), self._events

    def cut(self) -> None:
        """Cut the connections that there are; new ones are taken."""
        for each in self._open[1:]:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        """Cut every connection."""
        for each in self._open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                server = socket.create_connection(self._server)
                self._open += [client, server]
                for source, target, count in ((client, server, self._asked), (server, client, self._told)):
                    threading.Thread(target=self._pass_on, args=(source, target, count), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, count: Callable[[int, int], None]) -> None:
        first = True
        with suppress(OSError):
            while (head := _receive(source, _LENGTH.size)) is not None:
                body = _receive(source, _LENGTH.unpack(head)[0])
                if body is None:
                    break
                if not first:
                    count(*_HEAD.unpack_from(body))
                first = False
                target.sendall(head + body)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _asked(self, xid: int, opcode: int) -> None:
        if xid != _PING_XID:
            with self._lock:
                self._requests[opcode] += 1

    def _told(self, xid: int, _zxid: int) -> None:
        if xid == _EVENT_XID:
            with self._lock:
                self._events += 1


def _receive(source: socket.socket, size: int) -> bytes | None:
    """Exactly so many bytes; None when the connection has ended."""
    parts = b""
    while len(parts) < size:
        if not (more := source.recv(size - len(parts))):
            return None
        parts += more
    return parts
