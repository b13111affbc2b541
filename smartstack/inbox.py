"""Orders from the threads of the admin address to the loop, and back: the threads put and wait, the loop reads."""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from smartstack.errors import SmartStackError

ANSWER_SECONDS: Final = 4.0
"""How long an asker waits for the loop; less than a command line waits for the daemon, so that it hears why."""

WAITING_LIMIT: Final = 8
"""Most orders that wait at once; each holds a thread of the admin address, which has a few more for who only looks."""

PATIENCE_SECONDS: Final = 0.25
"""So long has the loop to answer the first of as many orders as may wait, before more are refused at once."""

TOLD_LIMIT: Final = 1000
"""Most orders that lie here at once and that nobody waits for."""

T = TypeVar("T")


class Unanswered(SmartStackError):
    """The loop did not answer: it is busy, it hangs, or it ends."""


class Envelope(Generic[T]):
    """One order, on its way to the loop and back. The loop answers or refuses it; only the first word counts."""

    def __init__(self, order: T) -> None:
        self.order = order
        self.done = threading.Event()
        self._value: Any = None
        self._error: SmartStackError | None = None

    def answer(self, value: Any) -> None:
        """It was done; `value` is what its asker gets."""
        if not self.done.is_set():
            self._value = value
            self.done.set()

    def refuse(self, error: SmartStackError) -> None:
        """It was not done; `error` is what its asker gets."""
        if not self.done.is_set():
            self._error = error
            self.done.set()

    def result(self) -> Any:
        """What it was answered with. Raises what it was refused with."""
        if self._error is not None:
            raise self._error
        return self._value


class Inbox(Generic[T]):
    """Orders that wait for the loop. `ring` asks the loop to look here.

    An order whose asker has given up before the loop took it is dropped, and never executed: who was told that nothing
    was done can rely on it. One that the loop has taken is executed, and its asker is told so if it gives up.
    """

    def __init__(self, ring: Callable[[], None], limit: int = WAITING_LIMIT, told_limit: int = TOLD_LIMIT) -> None:
        self._ring = ring
        self._limit = limit
        self._told_limit = told_limit
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._waiting: deque[Envelope[T]] = deque()
        self._since: dict[Envelope[T], float] = {}
        self._closed: str | None = None

    def ask(self, order: T, timeout_seconds: float = ANSWER_SECONDS) -> Any:
        """What the loop answers; called on any thread but the loop's own.

        More than may wait are a burst while the loop answers, and have a little patience; while it does not, they are
        refused at once, so that they hold no thread. Raises `Unanswered` for that, when the loop does not answer in
        time, or when it ends; and whatever SmartStackError the loop refused the order with.
        """
        envelope = Envelope(order)
        self._put(envelope)
        try:
            self._ring()
            if not envelope.done.wait(timeout_seconds):
                self._give_up(envelope, timeout_seconds)
        finally:
            with self._lock:
                del self._since[envelope]
                self._room.notify()
        return envelope.result()

    def tell(self, order: T) -> None:
        """Leave an order without waiting for its answer. Raises `Unanswered` when too many lie here, or at the end."""
        with self._lock:
            if self._closed is not None:
                raise Unanswered(self._closed)
            if len(self._waiting) >= self._told_limit:
                raise Unanswered(f"nothing was done: {len(self._waiting)} orders wait for the loop already; try again")
            self._waiting.append(Envelope(order))
        self._ring()

    def take(self) -> list[Envelope[T]]:
        """Every order that was not given up, the oldest first. Each is to be answered or refused."""
        with self._lock:
            taken = list(self._waiting)
            self._waiting.clear()
        return taken

    def close(self, why: str = "nothing was done: the daemon stops") -> None:
        """No more orders: those that wait, and all that come, are refused."""
        with self._lock:
            self._closed = why
            self._room.notify_all()
        for envelope in self.take():
            envelope.refuse(Unanswered(why))

    def _put(self, envelope: Envelope[T]) -> None:
        with self._room:
            while self._closed is None and len(self._since) >= self._limit:
                oldest = next(iter(self._since.values()))
                patience = oldest + PATIENCE_SECONDS - time.monotonic()
                if patience <= 0:
                    raise Unanswered(
                        f"nothing was done: {len(self._since)} orders wait for the loop already; try again"
                    )
                self._room.wait(patience)
            if self._closed is not None:
                raise Unanswered(self._closed)
            self._since[envelope] = time.monotonic()
            self._waiting.append(envelope)

    def _give_up(self, envelope: Envelope[T], timeout_seconds: float) -> None:
        """Take the order back, or raise that it is too late for that; neither when it was answered this moment."""
        with self._lock:
            waits = envelope in self._waiting
            if waits:
                self._waiting.remove(envelope)
        if waits:
            raise Unanswered(
                f"nothing was done: the loop did not look for orders within {timeout_seconds:g} s; see the daemon's log"
            )
        if not envelope.done.is_set():
            raise Unanswered(
                f"the loop did not finish it within {timeout_seconds:g} s, and may still do so: see the daemon's status"
            )
