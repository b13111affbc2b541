"""The timeline: the last events by number, for whoever asks what changed, and for who waits for the next."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter
from typing import Any

from smartstack.inbox import Unanswered
from smartstack.responses import Question, Response, json_response, text_response
from synapse.board import LONGEST_WAIT_SECONDS, WAITING_LIMIT
from synapse.events import Event, Kind
from synapse.services import waiting

LIMIT = 2000
"""How many events are kept; the oldest go first."""

FLEETING = frozenset({Kind.WEIGHTS})
FLEETING_LIMIT = 500
"""Weights follow every breath of the instances: of them fewer are kept, apart, so that they drive out nothing else."""


class Timeline:
    """Anybody posts, the threads of the admin address wait.

    Numbers are never used again, not by the process that comes after this one either: they begin at the time of day.
    """

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._changed = threading.Condition()
        self._number = int(wall() * 1000)
        self._events: deque[tuple[int, Event]] = deque(maxlen=LIMIT)
        self._fleeting: deque[tuple[int, Event]] = deque(maxlen=FLEETING_LIMIT)
        self._waiting = 0
        self._closed = False

    def post(self, events: Iterable[Event]) -> None:
        """Put these behind those that are there."""
        with self._changed:
            for event in events:
                self._number += 1
                kept = self._fleeting if event.kind in FLEETING else self._events
                kept.append((self._number, event))
            self._changed.notify_all()

    def since(self, after: int = 0, service: str | None = None) -> tuple[int, list[tuple[int, Event]]]:
        """The number of the last event, and those with a number above `after`, the oldest first: all of them, or those
        of this service and of this host as a whole. A number that was never given counts as 0."""
        with self._changed:
            return self._number, self._found(after, service)

    def wait(self, after: int, service: str | None, seconds: float) -> tuple[int, list[tuple[int, Event]]]:
        """The same, but while there are none it waits, so long at most. Raises `Unanswered` when too many wait
        already, and at the end nobody waits."""
        deadline = time.monotonic() + min(seconds, LONGEST_WAIT_SECONDS)
        with self._changed:
            if self._waiting >= WAITING_LIMIT:
                raise Unanswered(f"{self._waiting} wait for events already: ask again without waiting")
            self._waiting += 1
            try:
                while not self._found(after, service) and not self._closed:
                    left = deadline - time.monotonic()
                    if left <= 0 or not self._changed.wait(left):
                        break
            finally:
                self._waiting -= 1
            return self._number, self._found(after, service)

    def close(self) -> None:
        """Let everybody go who waits."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _found(self, after: int, service: str | None) -> list[tuple[int, Event]]:
        if after > self._number:
            after = 0
        found: list[tuple[int, Event]] = []
        for kept in (self._events, self._fleeting):
            for number, event in reversed(kept):
                if number <= after:
                    break
                if service is None or event.service in (service, None):
                    found.append((number, event))
        return sorted(found, key=itemgetter(0))


def events(timeline: Timeline) -> Question:
    """`GET /events?after=NUMBER&wait=30s&service=web`: without `after` all that is kept, with it what came since then,
    which is waited for."""

    def answer(name: str, query: Mapping[str, str]) -> Response:
        if name:
            return text_response(404, "no such path; ask for /events")
        after, seconds = waiting(query, "service")
        service = query.get("service")
        if after is None:
            number, found = timeline.since(0, service)
        else:
            number, found = timeline.wait(after, service, seconds)
        return json_response(200, {"number": number, "events": [_told(each, event) for each, event in found]})

    return answer


def _told(number: int, event: Event) -> dict[str, Any]:
    return {
        "number": number,
        "at": event.at,
        "kind": event.kind,
        "service": event.service,
        "what": event.what,
        "why": event.why,
        "level": event.level,
    }
