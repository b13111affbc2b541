"""One question to many synapses at once, by plain HTTP, with an end to the waiting.

One thread asks all of them: hosts that hang hold up nobody but themselves, however many there are.
"""

import errno
import os
import selectors
import socket
import time
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import suppress
from typing import Final

from smartstack.forms import TcpAddress
from smartstack.instance import printable

EACH_SECONDS: Final = 2.0
ALL_SECONDS: Final = 3.0

AT_ONCE: Final = 128
"""Most connections at once: each takes a descriptor of this process."""

ANSWER_LIMIT: Final = 8 * 1024 * 1024
TOGETHER_LIMIT: Final = 8 * ANSWER_LIMIT
"""Most bytes of one answer, and of all that are being received."""

_HEAD_LIMIT: Final = 16_384
_CONNECTING: Final = (0, errno.EAGAIN, errno.EINPROGRESS)


def ask_all(
    addresses: Sequence[TcpAddress], path: str, *, all_seconds: float = ALL_SECONDS
) -> Generator[tuple[int, bytes | str], None, None]:
    """Ask each of these IP addresses for this path, and yield, as they come, the number of each with the body that it
    answered; in its place, in a few words, why there is none."""
    end = time.monotonic() + all_seconds
    waiting = deque(enumerate(addresses))
    with selectors.DefaultSelector() as selector:
        calls: set[_Call] = set()
        try:
            while waiting or calls:
                while waiting and len(calls) < AT_ONCE and time.monotonic() < end:
                    call = _Call(*waiting.popleft(), path, min(end, time.monotonic() + EACH_SECONDS))
                    calls.add(call)
                    call.begin(selector)
                if not calls:
                    break
                for call in [call for call in calls if call.result is not None]:
                    calls.discard(call)
                    yield call.number, call.result or b""
                if calls:
                    _wait(selector, calls)
        finally:
            for call in calls:
                call.close(selector)
    for number, _address in waiting:
        yield number, f"there was no time left to ask it: {AT_ONCE} are asked at once"


def _wait(selector: selectors.BaseSelector, calls: "set[_Call]") -> None:
    """Go on with what can go on, and give up what is due."""
    first = min(call.due for call in calls)
    for key, _events in selector.select(max(0.0, first - time.monotonic())):
        key.data.go_on(selector)
    received = sum(call.size for call in calls)
    now = time.monotonic()
    for call in calls:
        if call.result is None and now >= call.due:
            call.fail(selector, call.late())
        elif call.result is None and received > TOGETHER_LIMIT:
            received -= call.size
            call.fail(selector, "all answers together are too large")


class _Call:
    """One question to one synapse; `result` once it is over."""

    def __init__(self, number: int, address: TcpAddress, path: str, due: float) -> None:
        self.number = number
        self.due = due
        self.size = 0
        self.result: bytes | str | None = None
        self._began = time.monotonic()
        self._address = address
        # HTTP/1.0: the answer comes in one piece, and the connection's end is its end.
        self._request = f"GET {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode()
        self._parts: list[bytes] = []
        self._connected = False
        self._socket: socket.socket | None = None

    def begin(self, selector: selectors.BaseSelector) -> None:
        """Connect, without waiting for it."""
        try:
            opened = self._socket = socket.socket(socket.AF_INET6 if ":" in self._address.host else socket.AF_INET)
            opened.setblocking(False)
            number = opened.connect_ex((self._address.host, self._address.port))
            if number not in _CONNECTING:
                raise OSError(number, os.strerror(number))
            selector.register(opened, selectors.EVENT_WRITE, self)
        except OSError as error:
            self._broke(selector, error)

    def go_on(self, selector: selectors.BaseSelector) -> None:
        """Send or receive what can be now."""
        assert self._socket is not None
        try:
            if self._request:
                self._send(selector, self._socket)
            else:
                self._receive(selector, self._socket)
        except BlockingIOError:
            pass
        except OSError as error:
            self._broke(selector, error)

    def _broke(self, selector: selectors.BaseSelector, error: OSError) -> None:
        how = "the connection broke" if self._connected else "cannot be reached"
        self.fail(selector, f"{how}: {(error.strerror or str(error)).lower()}")

    def _send(self, selector: selectors.BaseSelector, opened: socket.socket) -> None:
        number = opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            raise OSError(number, os.strerror(number))
        self._connected = True
        self._request = self._request[opened.send(self._request) :]
        if not self._request:
            selector.modify(opened, selectors.EVENT_READ, self)

    def _receive(self, selector: selectors.BaseSelector, opened: socket.socket) -> None:
        part = opened.recv(262_144)
        self._parts.append(part)
        self.size += len(part)
        if self.size > ANSWER_LIMIT:
            self.fail(selector, f"its answer is over {ANSWER_LIMIT // 1_048_576} MB")
        elif not part:
            self.result = body_of(b"".join(self._parts))
            self.close(selector)

    def late(self) -> str:
        """That the time is over."""
        return f"{'no answer' if self._connected else 'cannot be reached'} within {self.due - self._began:.1f} s"

    def fail(self, selector: selectors.BaseSelector, why: str) -> None:
        """It is over, without an answer."""
        self.result = why
        self.close(selector)

    def close(self, selector: selectors.BaseSelector) -> None:
        """End the connection; safe to repeat."""
        self._parts.clear()
        if self._socket is not None:
            with suppress(KeyError, ValueError):  # it was not waited for, or is closed already
                selector.unregister(self._socket)
            self._socket.close()


def body_of(answer: bytes) -> bytes | str:
    """The body of an answer with status 200; in its place, in a few words, why there is none."""
    head, separator, body = answer.partition(b"\r\n\r\n")
    words = head[:_HEAD_LIMIT].split(b"\r\n", 1)[0].split(b" ", 2)
    if not separator or len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        return "what answers there is no synapse" if answer else "the connection ended without an answer"
    if words[1] != b"200":
        said = printable(body[:200].decode("utf-8", "replace").strip(), 200)
        return f"answers {printable(words[1].decode('latin-1'), 10)}: {said}"
    return body
