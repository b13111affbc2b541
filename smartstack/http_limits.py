"""What the admin address takes from strangers on this machine: few connections, small requests, in little time."""

import time
from typing import Any, Final

from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.task import ThreadedTaskDispatcher
from waitress.utilities import BadRequest

from smartstack.inbox import WAITING_LIMIT
from smartstack.responses import SERVER

REQUEST_SECONDS: Final = 10.0
"""Longest time from the first byte of a request to its last."""

THREADS: Final = WAITING_LIMIT + 2
"""Orders that wait for the loop hold a thread each; two are left for who asks whether the loop turns."""

CONNECTIONS: Final = 50

ROOM: Final = 15
"""With so few places left, a connection that comes ends an idle one."""

# An administrator's few requests, and no more memory for a stranger's many.
LIMITS: Final = {
    "connection_limit": CONNECTIONS,
    "backlog": 64,
    "channel_timeout": 10,
    "cleanup_interval": 5,
    "asyncore_loop_timeout": 5,
    "max_request_header_size": 16_384,
    "max_request_body_size": 16_384,
    # select() cannot take a descriptor above 1023.
    "asyncore_use_poll": True,
    "ident": SERVER,
}
"""The settings of waitress."""


class Workers(ThreadedTaskDispatcher):  # type: ignore[misc]
    """The threads that answer requests. waitress starts all of them with the server; here one is started when a request
    comes while the others are busy: a daemon that is asked now and then has one or two."""

    def __init__(self, waiting: int = 0) -> None:
        """`waiting`: so many more, for requests that take their time."""
        super().__init__()
        self._limit = THREADS + waiting

    def add_task(self, task: Any) -> None:
        """Have a thread answer this."""
        with self.lock:
            self.queue.append(task)
            self.queue_cv.notify()
            count = len(self.threads)
            idle = count - self.stop_count - self.active_count
            more = len(self.queue) > idle and count < self._limit
        if more:
            self.set_thread_count(count + 1)

    def start_new_thread(self, target: Any, thread_no: int) -> None:
        """Called with the lock held. Where this machine has no thread left, the request waits for one that is there,
        or for the next request."""
        try:
            super().start_new_thread(target, thread_no)
        except RuntimeError as error:
            self.logger.warning("cannot answer at once: %s", error)
            self.threads.discard(thread_no)
            self.active_count -= 1  # whoever called counts it

    def shutdown(self, cancel_pending: bool = True, timeout: float = 5) -> bool:
        """End them, and start no more."""
        self._limit = 0
        return bool(super().shutdown(cancel_pending, timeout))


class _LimitedParser(HTTPRequestParser):  # type: ignore[misc]
    """waitress's own, without what a local client does not need: chunks, and time without end.

    Of a request with both a length and chunks waitress believes the chunks. A proxy in front may believe the length,
    and both would then disagree on where the next request begins.
    """

    error: Any

    def __init__(self, adjustments: Any) -> None:
        super().__init__(adjustments)
        self._until = time.monotonic() + REQUEST_SECONDS

    def received(self, data: bytes) -> int:
        consumed: int = super().received(data)
        if time.monotonic() > self._until and self.error is None:
            self.error = BadRequest("the request took too long")
            self.completed = True
        return consumed

    def parse_header(self, header_plus: bytes) -> None:
        try:
            super().parse_header(header_plus)
        except ValueError as error:  # a length of thousands of digits
            raise ParsingError(str(error)) from None
        if self.chunked or "TRANSFER_ENCODING" in self.headers:
            raise ParsingError("send the body whole, with a Content-Length")


class LimitedChannel(HTTPChannel):  # type: ignore[misc]
    """A connection whose requests are held to the limits.

    At the limit of connections waitress takes no more, so that many who say nothing, or say it slowly, would keep all
    others out. Here each that comes when there is little room ends the oldest one without a whole request.
    """

    parser_class = _LimitedParser

    def __init__(self, server: Any, *arguments: Any, **options: Any) -> None:
        super().__init__(server, *arguments, **options)
        if len(server.active_channels) > self.adj.connection_limit - ROOM:
            for each in server.active_channels.values():  # the oldest first
                if not (each is self or each.requests or each.will_close):
                    each.will_close = True  # ends it in the next turn of this thread
                    break
