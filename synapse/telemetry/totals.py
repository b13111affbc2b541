"""What the feed told since the start, added up for Prometheus: counters that only grow, bounded in labels. Pure.

The frames of the last hour (see series) answer people; Prometheus makes a history of its own, out of totals.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from synapse.telemetry import cells
from synapse.telemetry.cells import Cell
from synapse.telemetry.request import Outcome, Request
from synapse.telemetry.templates import METHODS, OTHER, Templates

CALLERS_LIMIT: Final = 2000
"""Pairs of a service and who calls it."""

ROUTES_LIMIT: Final = 2000
"""Routes of all services."""

INSTANCES_LIMIT: Final = 2000
"""Instances of all services."""

STATUSES_LIMIT: Final = 40
"""Statuses of one pair, good ones and bad ones each: an instance may answer any number."""

NO_STATUS: Final = "none"
"""The status of a request that nobody answered."""

Key = tuple[str, str]
"""A service, and its caller, route or instance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """All totals at one moment: `http` and `tcp` by service and caller, `routes` by service and route, `instances` by
    service and address. `responses` are those of `http`, by outcome (`success`, `failure`) and status. `folded` counts
    what had no room of its own and is in `(other)`. Nothing in it changes afterwards."""

    http: Mapping[Key, Sequence[float]] = field(default_factory=dict)
    responses: Mapping[Key, Mapping[tuple[str, str], float]] = field(default_factory=dict)
    tcp: Mapping[Key, Sequence[float]] = field(default_factory=dict)
    routes: Mapping[Key, Sequence[float]] = field(default_factory=dict)
    instances: Mapping[Key, Sequence[float]] = field(default_factory=dict)
    folded: int = 0


class Totals:
    """A sink of the feed. `instances`: those are told apart too, which is many series in a large fleet.

    Routes are counted for services that have `templates`, by service; they may be replaced at any time. Once there is
    no room for another label of a kind, what would need one is counted as `(other)` of its service.
    """

    def __init__(self, *, instances: bool = False) -> None:
        self.templates: Mapping[str, Templates] = {}
        self._instances_wanted = instances
        self._folded = 0
        self._http: dict[Key, Cell] = {}
        self._answers: dict[Key, _Answers] = {}
        self._tcp: dict[Key, Cell] = {}
        self._routes: dict[Key, Cell] = {}
        self._instances: dict[Key, Cell] = {}

    def take(self, requests: Sequence[Request], now: float) -> None:
        """Count these."""
        for request in requests:
            service = request.service
            key = (service, request.source)
            http = request.mode == "http"
            calls = self._http if http else self._tcp
            told = [calls.get(key) or self._room(calls, key, CALLERS_LIMIT)]
            if http:
                answers = self._answers.get(key if key in calls else (service, OTHER))
                (answers or self._answer(key)).add(request)
                templates = self.templates.get(service)
                if templates is not None:
                    route = f"{request.method if request.method in METHODS else OTHER} {templates.name(request.path)}"
                    told.append(self._room(self._routes, (service, route), ROUTES_LIMIT))
            if self._instances_wanted and request.host:
                told.append(self._room(self._instances, (service, request.instance), INSTANCES_LIMIT))
            cells.count(request, told)

    def tick(self, now: float) -> None:
        """Nothing grows old here."""

    def copy(self) -> Copy:
        """What was counted by now; quick, so that the lock is held for a moment only."""
        return Copy(
            http=_copied(self._http),
            responses={key: answers.copy() for key, answers in self._answers.items()},
            tcp=_copied(self._tcp),
            routes=_copied(self._routes),
            instances=_copied(self._instances),
            folded=self._folded,
        )

    def _room(self, kind: dict[Key, Cell], key: Key, limit: int) -> Cell:
        cell = kind.get(key)
        if cell is None:
            if len(kind) >= limit:
                self._folded += 1
                key = key[0], OTHER
            cell = kind.setdefault(key, cells.empty())
        return cell

    def _answer(self, key: Key) -> "_Answers":
        return self._answers.setdefault(key if key in self._http else (key[0], OTHER), _Answers())


class _Answers:
    """Answers by status: a success below 500, a failure above, or 0 where nobody answered. Both are there from the
    start, so that a service that only fails has a success rate of 0, and not none."""

    __slots__ = ("failures", "successes")

    def __init__(self) -> None:
        self.successes = {200: 0.0}
        self.failures = {503: 0.0}

    def add(self, request: Request) -> None:
        outcome = request.outcome
        if outcome is Outcome.ABORTED:
            return
        counted = self.successes if outcome is Outcome.SUCCESS else self.failures
        status = request.status
        if status not in counted and len(counted) >= STATUSES_LIMIT:
            status = _OTHER_STATUS
        counted[status] = counted.get(status, 0.0) + cells.stands_for(request)

    def copy(self) -> dict[tuple[str, str], float]:
        return {
            (outcome.value, _WORDS.get(status) or str(status)): number
            for outcome, counted in ((Outcome.SUCCESS, self.successes), (Outcome.FAILURE, self.failures))
            for status, number in counted.items()
        }


_OTHER_STATUS: Final = -1
_WORDS: Final = {0: NO_STATUS, _OTHER_STATUS: OTHER}


def _copied(kind: Mapping[Key, Cell]) -> dict[Key, Sequence[float]]:
    return {key: tuple(cell) for key, cell in kind.items()}
