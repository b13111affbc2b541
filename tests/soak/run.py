"""One soak: the plan's faults are done and undone when their time comes, and the fleet is watched all the time."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tests.soak.bounds import END_SECONDS, GROWTH, PROMISES
from tests.soak.deeds import WAYS, Deed, NotNow, suspends
from tests.soak.faults import Effect, Fault
from tests.soak.fleet import SoakFleet
from tests.soak.growth import Growth, too_much
from tests.soak.promises import Promises, Violation
from tests.soak.truth import Done, Failed, explanation
from tests.soak.watcher import Watcher, differences, picture

ROUTES_EVERY_SECONDS: Final = 0.3
DAEMONS_EVERY_SECONDS: Final = 1.0
SAMPLES_EVERY_SECONDS: Final = 2.0
_TICK_SECONDS: Final = 0.05

_SHOWN: Final = 500

EVENTS_BEFORE: Final = 15
"""How many events stand before each violation in the report."""


@dataclass(slots=True, kw_only=True)
class _UnderWay:
    deed: Deed
    done: Done
    end: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a soak saw. `events` are all that were told, with when. `lag` is the longest that the soak itself did not
    get to look, in seconds: a busy machine."""

    seconds: float
    done: Sequence[Done]
    refused: Sequence[str]
    requests: int
    failed: Sequence[tuple[Failed, Done | None]]
    worst: dict[str, tuple[float, str]]
    growths: dict[tuple[str, str], Growth]
    most: dict[str, float]
    violations: Sequence[Violation]
    events: Sequence[tuple[float, str]]
    lag: float

    def before(self, violation: Violation) -> list[str]:
        """The last events before it."""
        events = [f"{at:7.1f} s  {words}" for at, words in self.events if at <= violation.at]
        return events[-EVENTS_BEFORE:]


@dataclass(slots=True)
class Soak:
    """`tell` is called with each event."""

    fleet: SoakFleet
    plan: Sequence[Fault]
    seconds: float
    tell: Callable[[str], None] = print
    _began: float = 0.0
    _events: list[tuple[float, str]] = field(default_factory=list)
    _done: list[Done] = field(default_factory=list)
    _refused: list[str] = field(default_factory=list)
    _under_way: list[_UnderWay] = field(default_factory=list)
    _promises: Promises = field(default_factory=lambda: Promises(PROMISES))
    _due: dict[str, float] = field(default_factory=dict)
    _lag: float = 0.0

    def run(self) -> Outcome:
        """Let the plan happen, then wait until all is as it was."""
        watcher = Watcher(self.fleet, self._promises)
        before = picture(self.fleet)
        self._began = time.monotonic()
        for host in self.fleet:
            host.start_clients()
        waiting = list(self.plan)
        last = self._now
        while self._now < self.seconds or waiting or self._under_way:
            self._lag, last = max(self._lag, self._now - last), self._now
            self._end_faults()
            waiting = self._begin_faults(waiting)
            faults = [each.done.fault for each in self._under_way]
            suspended = frozenset[str]().union(*map(suspends, faults))
            if any(fault.kind.effect is Effect.ALL_UNSURE for fault in faults):
                suspended |= {"zookeeper"}
            if self._is_due(watcher.look_at_routes, ROUTES_EVERY_SECONDS):
                watcher.look_at_routes(self._now, faults)
            if self._is_due(watcher.look_at_daemons, DAEMONS_EVERY_SECONDS):
                watcher.look_at_daemons(self._now, faults, suspended)
            if self._is_due(watcher.sample, SAMPLES_EVERY_SECONDS):
                watcher.sample(self._now, suspended)
                watcher.read_logs(self._now)
            time.sleep(_TICK_SECONDS)
        self._wait_for(before)
        watcher.read_logs(self._now)
        return self._outcome(watcher)

    @property
    def _now(self) -> float:
        return time.monotonic() - self._began

    def _is_due(self, what: Callable[..., None], every_seconds: float) -> bool:
        """Whether it was last done so long ago; it is done now, then."""
        if self._now < self._due.get(what.__name__, 0.0):
            return False
        self._due[what.__name__] = self._now + every_seconds
        return True

    def _say(self, words: str) -> None:
        self._events.append((self._now, words))
        self.tell(f"{self._now:7.1f} s  {words}")

    def _begin_faults(self, waiting: list[Fault]) -> list[Fault]:
        """Begin what is due, and return what is not, or must wait for a fault that takes longer than planned."""
        left = []
        for fault in waiting:
            taken = frozenset[str]().union(*(each.done.fault.locks for each in self._under_way))
            if fault.at > self._now or fault.locks & taken:
                left.append(fault)
                continue
            deed, done = Deed(fleet=self.fleet, fault=fault), Done(fault=fault, began=self._now)
            try:
                WAYS[fault.kind.name].do(deed)
            except NotNow:
                left.append(fault)
                continue
            except AssertionError as refusal:
                self._refused.append(f"{fault.words}: {refusal}")
                self._say(f"refused  {self._refused[-1]}")
                continue
            self._say(f"begin  {fault.words}")
            self._done.append(done)
            self._under_way.append(_UnderWay(deed=deed, done=done, end=self._now + fault.seconds))
        return left

    def _end_faults(self) -> None:
        """Undo what has lasted long enough, and see what is healed."""
        for each in list(self._under_way):
            fault = each.done.fault
            if each.done.undone is None:
                if self._now < each.end:
                    continue
                WAYS[fault.kind.name].undo(each.deed)
                each.done.undone = self._now
                self._say(f"undone {fault.words}")
            others = [other.done.fault for other in self._under_way if other is not each]
            each.deed.suspended = frozenset[str]().union(*map(suspends, others))
            missing = WAYS[fault.kind.name].missing(each.deed)
            # A daemon that was ended is whole again when it knows the registry, for which that must be there.
            is_held_up = any(other.kind.effect is Effect.ALL_UNSURE for other in others)
            self._promises.look("healed", fault.words, self._now, wrong="" if is_held_up else missing)
            if not missing:
                each.done.healed = self._now
                self._under_way.remove(each)
                if self._now - each.done.undone > 0.5:
                    self._say(f"healed {fault.words}, after {self._now - each.done.undone:.1f} s")

    def _wait_for(self, before: dict[str, Any]) -> None:
        """The fleet as it was at the start; the clients call on until then."""
        began = self._now
        self._say("the last fault is healed")
        wrong = ["nothing was seen yet"]
        while wrong and self._now - began <= END_SECONDS + 1.0:
            was, wrong = wrong, differences(before, picture(self.fleet))
            if wrong and wrong != was:
                self._say(f"not yet as at the start: {'; '.join(wrong)[:_SHOWN]}")
            self._promises.look("as at the start", "the fleet", self._now, wrong="; ".join(wrong))
            time.sleep(ROUTES_EVERY_SECONDS)
        self._say(
            f"all is as at the start, after {self._now - began:.1f} s" if not wrong else "all is NOT as at the start"
        )

    def _outcome(self, watcher: Watcher) -> Outcome:
        requests, failed = 0, []
        for host in self.fleet:
            for (service, _), client in host.clients.items():
                client.stop()
                requests += client.requests
                offset = client.began - self._began
                failed += [
                    Failed(
                        host=host.name,
                        service=service,
                        sent=failure.at - failure.took + offset,
                        ended=failure.at + offset,
                        reason=failure.reason,
                    )
                    for failure in client.failures
                ]
        explained = [(each, explanation(each, self._done)) for each in sorted(failed, key=lambda each: each.sent)]
        for _, done in explained:
            if done is not None:
                done.explains += 1
        growths = watcher.series.growths()
        ended = self._now
        return Outcome(
            seconds=ended,
            done=self._done,
            refused=self._refused,
            requests=requests,
            failed=explained,
            worst=self._promises.worst,
            growths=growths,
            most=watcher.series.most(),
            violations=[
                *self._promises.violations,
                *(
                    Violation(at=each.ended, promise="requests", about=each.service, words=each.words)
                    for each, done in explained
                    if done is None
                ),
                *(Violation(at=ended, promise="logs", about="", words=words) for words in watcher.tracebacks),
                *(Violation(at=ended, promise="flat", about="", words=words) for words in too_much(growths, GROWTH)),
            ],
            events=self._events,
            lag=self._lag,
        )
