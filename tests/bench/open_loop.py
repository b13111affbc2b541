"""A client in an open loop: it sends when the time has come, answered or not, as many clients together do. Latency is
from that time on, so that nobody who waits hides how long he waited. `load` runs it in a process of its own:

    python -m tests.bench.open_loop HOST PORT RATE SECONDS TIMEOUT

It prints one line of JSON for each request: when it was due by the clock of the machine (`time.monotonic`), how long it
took, its status (0: none) and who answered.
"""

import json
import select
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

TIMEOUT_SECONDS = 2.0
_BEGIN_SECONDS = 0.1
_HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What became of one request: when it was due, by `time.monotonic`; how many seconds it took from then on; its
    status, 0 without an answer; and the body, which says who answered."""

    due: float
    took: float
    status: int
    by: str


def load(host: str, port: int, rate: float, seconds: float, timeout: float = TIMEOUT_SECONDS) -> list[Answer]:
    """Send so many requests a second from a process of its own, and wait for its end."""
    return read(begin(host, port, rate, seconds, timeout))


def begin(
    host: str, port: int, rate: float, seconds: float, timeout: float = TIMEOUT_SECONDS
) -> "subprocess.Popen[bytes]":
    """The client's process, which has begun; `read` it."""
    numbers = (str(each) for each in (port, rate, seconds, timeout))
    return subprocess.Popen([sys.executable, "-m", __name__, host, *numbers], stdout=subprocess.PIPE)


def read(client: "subprocess.Popen[bytes]") -> list[Answer]:
    """What the client saw, at its end."""
    told, _ = client.communicate()
    if client.returncode:
        raise RuntimeError(f"the client ended with {client.returncode}")
    lines = (json.loads(line) for line in told.splitlines())
    return [Answer(due=due, took=took, status=status, by=by) for due, took, status, by in lines]


class _Connection:
    """One connection, with at most one request under way, which was due at that time."""

    def __init__(self, host: str, port: int) -> None:
        self.socket = socket.create_connection((host, port), TIMEOUT_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.due = 0.0
        self._buffer = b""

    def answer(self) -> tuple[int, str, bool] | None:
        """Its status, body and whether the connection may be used again; None as long as it is not here as a whole.
        Raises OSError or ValueError when there will be none."""
        received = self.socket.recv(65_536)
        if not received:
            raise ConnectionResetError
        self._buffer += received
        head, found, body = self._buffer.partition(_HEAD_END)
        if not found:
            return None
        lines = head.decode("latin-1").lower()
        length = int(lines.partition("content-length:")[2].split("\r\n")[0])
        if len(body) < length:
            return None
        self._buffer = b""
        return int(lines.split()[1]), body.decode().strip(), "connection: close" not in lines


class _Client:
    def __init__(self, host: str, port: int, timeout: float) -> None:
        self._host, self._port, self._timeout = host, port, timeout
        self._request = f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
        self._poll = select.epoll()
        self._idle: list[int] = []
        self._open: dict[int, _Connection] = {}
        self._waiting: dict[int, _Connection] = {}  # the longest first: requests become due in this order
        self.answers: list[tuple[float, float, int, str]] = []

    def run(self, rate: float, seconds: float) -> None:
        """Send all, and wait for what is under way then."""
        began = time.monotonic() + _BEGIN_SECONDS
        sent, total = 0, int(rate * seconds)
        while sent < total or self._waiting:
            now = time.monotonic()
            while sent < total and began + sent / rate <= now:
                self._send(began + sent / rate)
                sent += 1
            self._give_up(now)
            next_ = [began + sent / rate] if sent < total else []
            next_ += [each.due + self._timeout for each in list(self._waiting.values())[:1]]
            if next_:
                # select waits to the microsecond, epoll in whole milliseconds.
                select.select([self._poll], [], [], max(0.0, min(next_) - time.monotonic()))
            for number, _ in self._poll.poll(0):
                self._receive(number)

    def _send(self, due: float) -> None:
        try:
            connection = self._open[self._idle.pop()] if self._idle else self._connect()
        except OSError:
            self._note(due, 0, "")
            return
        number = connection.socket.fileno()
        connection.due = due
        self._waiting[number] = connection
        try:
            connection.socket.sendall(self._request)
        except OSError:
            self._end(number)

    def _connect(self) -> _Connection:
        connection = _Connection(self._host, self._port)
        number = connection.socket.fileno()
        self._open[number] = connection
        self._poll.register(number, select.EPOLLIN)
        return connection

    def _receive(self, number: int) -> None:
        try:
            answer = self._open[number].answer()
        except (OSError, ValueError):
            self._end(number)
            return
        if answer is None:
            return
        status, by, reusable = answer
        asked = self._waiting.pop(number, None)
        if asked is not None:
            self._note(asked.due, status, by)
        if asked is not None and reusable:
            self._idle.append(number)
        else:
            self._end(number)

    def _give_up(self, now: float) -> None:
        """On those who have waited for too long."""
        for number, connection in list(self._waiting.items()):
            if connection.due + self._timeout > now:
                return
            self._end(number)

    def _end(self, number: int) -> None:
        """Close a connection; a request that is under way on it has failed."""
        connection = self._open.pop(number)
        if self._waiting.pop(number, None) is not None:
            self._note(connection.due, 0, "")
        with suppress(ValueError):
            self._idle.remove(number)
        connection.socket.close()

    def _note(self, due: float, status: int, by: str) -> None:
        self.answers.append((due, time.monotonic() - due, status, by))


def main(words: Sequence[str]) -> None:
    """Be the client."""
    host, port, rate, seconds, timeout = words
    client = _Client(host, int(port), float(timeout))
    client.run(float(rate), float(seconds))
    for answer in client.answers:
        print(json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1:])
