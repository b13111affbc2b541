"""The board: each service with a number that grows when it changes, for whoever waits for a change."""

import threading
import time
from collections.abc import Callable, Hashable, Mapping

from smartstack.inbox import Unanswered

WAITING_LIMIT = 20
"""Most askers that may wait for changes at once; each holds a thread of the admin address."""

LONGEST_WAIT_SECONDS = 60.0


class Board:
    """The loop posts, the threads of the admin address wait.

    Numbers are never used again, not by the process that comes after this one either: they begin at the time of day.
    """

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._changed = threading.Condition()
        self._number = int(wall() * 1000)
        self._posted: dict[str, tuple[Hashable, int]] = {}
        self._waiting = 0
        self._closed = False

    def post(self, contents: Mapping[str, Hashable], present: Mapping[str, object]) -> None:
        """What these services are now; those that are not `present` any more are taken down."""
        news = {name: content for name, content in contents.items() if self._content(name) != content}
        gone = self._posted.keys() - present.keys() if len(self._posted) > len(present) or news else ()
        if not news and not gone:
            return
        with self._changed:
            self._number += 1
            for name, content in news.items():
                self._posted[name] = (content, self._number)
            for name in gone:
                del self._posted[name]
            self._changed.notify_all()

    def number(self, name: str | None = None) -> int:
        """The number of a service, or of the whole board; 0 for a service that is not there."""
        if name is None:
            return self._number
        return self._posted.get(name, (None, 0))[1]

    def wait(self, name: str | None, after: int, seconds: float) -> int:
        """Wait until the service's number (or the board's) is not `after`, so long at most; answer it.

        Raises `Unanswered` when too many wait already, and at the end.
        """
        deadline = time.monotonic() + min(seconds, LONGEST_WAIT_SECONDS)
        with self._changed:
            if self._waiting >= WAITING_LIMIT:
                raise Unanswered(f"{self._waiting} wait for changes already: ask again without waiting")
            self._waiting += 1
            try:
                while self.number(name) == after and not self._closed:
                    left = deadline - time.monotonic()
                    if left <= 0 or not self._changed.wait(left):
                        break
            finally:
                self._waiting -= 1
            return self.number(name)

    def close(self) -> None:
        """Let everybody go who waits."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _content(self, name: str) -> Hashable:
        posted = self._posted.get(name)
        return None if posted is None else posted[0]
