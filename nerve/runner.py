"""The check threads: one for each announced service. They run checks, keep the results and ring; the loop reads."""

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from random import Random

from nerve.checks.base import Check, Heartbeat, Outcome, Target, failed, seconds_text
from nerve.health import Result
from nerve.services import Probe
from smartstack.wake import Wake

JITTER = 0.1
"""Largest share by which an interval is made longer or shorter, so that the checks of a fleet do not march in step."""

HANG_MARGIN_SECONDS = 0.5
"""How long beyond its time-out a check may take to come back before it counts as hanging. It covers a start of Python
or of the checked program on a busy machine, and the last read that began just before the time-out."""

SOONEST_LOOK_SECONDS = 0.05
"""How soon at the earliest the loop looks again for what hangs: a thread that is late for its turn must not spin it."""

RESULTS_LIMIT = 1000
"""Most results that wait for the loop, for each service."""


class Prompt(Enum):
    """Why a check is run out of turn, and what its result is worth then."""

    LOOK = "something happened to the service: a result like any other"
    READY = "it or somebody says that it is ready: a pass is conclusive"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """One result and whose it is."""

    service: str
    check: str
    result: Result


class Runner:
    """All check threads. Its methods are called by the loop thread only."""

    def __init__(self, ring: Callable[[], None], random: Random) -> None:
        self._ring = ring
        self._random = random
        self._threads: dict[str, _ServiceThread] = {}

    def watch(self, probes: Mapping[str, Probe]) -> None:
        """From now on check exactly these services. A thread whose probe did not change goes on undisturbed."""
        for service in list(self._threads):
            if self._threads[service].probe != probes.get(service):
                self._threads.pop(service).stop()
        for service, probe in probes.items():
            if service not in self._threads and probe.checks:
                self._threads[service] = _ServiceThread(service, probe, self._ring, Random(self._random.random()))

    def prompt(self, service: str, why: Prompt) -> None:
        """Run all checks of a service now, and once more if they are running; nothing where it has none."""
        if service in self._threads:
            self._threads[service].prompt(why)

    def report(self, service: str, heartbeat: Heartbeat) -> None:
        """A service reported itself; nothing where it is not watched."""
        if service in self._threads:
            self._threads[service].heartbeat = heartbeat
            self._threads[service].prompt(Prompt.READY if heartbeat.passed else Prompt.LOOK)

    def down(self, services: Collection[str]) -> None:
        """These are down now, and all others are not: their checks keep to `down_interval`."""
        for service, thread in self._threads.items():
            thread.down = service in services

    def drain(self) -> list[CheckResult]:
        """The results since the last call, in their order within a service. A service that is no longer watched, or
        whose probe was replaced, has none: a late answer of the old check says nothing of the new one."""
        return [found for thread in self._threads.values() for found in thread.drain()]

    def hanging(self, now: float) -> list[CheckResult]:
        """A failure for each check that has outlived its time-out; once, and again after each further interval.

        A thread that a check has ended is started anew: nobody else would notice.
        """
        for service, thread in self._threads.items():
            if not thread.alive:
                self._threads[service] = _ServiceThread(
                    service, thread.probe, self._ring, Random(self._random.random())
                )
        return [found for thread in self._threads.values() if (found := thread.hanging(now))]

    def next_look(self, now: float) -> float:
        """Seconds until a check may have outlived its time-out, if none gives a result (and so rings) before."""
        soonest = min((thread.hang_at() - now for thread in self._threads.values()), default=float("inf"))
        return max(SOONEST_LOOK_SECONDS, soonest)

    def stop(self) -> None:
        """End all threads without waiting for the checks that are running."""
        self.watch({})


@dataclass(frozen=True, slots=True)
class _Running:
    """A check that was begun at `started`, by a monotonic clock; `why` it is run, None in its turn."""

    check: str
    started: float
    why: Prompt | None


class _ServiceThread:
    """The thread of one service. It shares with the loop: what it is asked for out of turn, a deque of results, and
    which check it is running now."""

    def __init__(self, service: str, probe: Probe, ring: Callable[[], None], random: Random) -> None:
        self.probe = probe
        self.heartbeat: Heartbeat | None = None
        self.down = False
        self._service = service
        self._ring = ring
        self._random = random
        self._results: deque[CheckResult] = deque(maxlen=RESULTS_LIMIT)
        self._lock = threading.Lock()
        self._prompts: dict[str, Prompt] = {}
        self._stopped = False
        self._kick = Wake()
        self._running: _Running | None = None
        self._since = time.monotonic()
        self._due = dict.fromkeys(probe.checks, self._since)
        self._agreed: dict[str, tuple[bool, int]] = {}
        self._reported: tuple[_Running, int] | None = None
        self._thread = threading.Thread(target=self._turn, name=f"check-{service}", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it still checks."""
        return self._thread.is_alive()

    def stop(self) -> None:
        self._stopped = True
        self._kick.ring()

    def prompt(self, why: Prompt) -> None:
        with self._lock:
            for check in self.probe.checks:
                self._prompts[check] = Prompt.READY if Prompt.READY in (why, self._prompts.get(check)) else why
        self._kick.ring()

    def drain(self) -> list[CheckResult]:
        found = []
        while self._results:
            found.append(self._results.popleft())
        return found

    def hanging(self, now: float) -> CheckResult | None:
        running = self._running
        if running is None or now < self.hang_at():
            return None
        reports = self._reported[1] if self._reported and self._reported[0] is running else 0
        self._reported = (running, reports + 1)
        taken = now - running.started
        timeout = self.probe.checks[running.check].timeout
        reason = f"still running after {taken:.1f} s, time-out {seconds_text(timeout)}"
        return self._result(running, now, failed(reason))

    def hang_at(self) -> float:
        """When the check that is running, or that is due next, is to be called hanging (again)."""
        running = self._running
        if running is None:
            name = min(self._due, key=self._due.__getitem__)
            return self._due[name] + self.probe.checks[name].timeout + HANG_MARGIN_SECONDS
        check = self.probe.checks[running.check]
        reports = self._reported[1] if self._reported and self._reported[0] is running else 0
        return running.started + check.timeout + HANG_MARGIN_SECONDS + reports * check.interval

    def _turn(self) -> None:
        while (turn := self._next()) is not None:
            name, why = turn
            check = self.probe.checks[name]
            running = self._running = _Running(name, time.monotonic(), why)
            outcome = self._run(check, running.started)
            ended = time.monotonic()
            # The next one is counted from the start of this one; what was missed is missed, and not made up for.
            jitter = self._random.uniform(1 - JITTER, 1 + JITTER)
            interval = check.down_interval if self.down and check.down_interval is not None else check.interval
            self._due = {**self._due, name: max(ended, running.started + interval * jitter)}
            self._running = None
            if outcome is None:
                continue
            if outcome.passed and ended - running.started > check.timeout + HANG_MARGIN_SECONDS:
                outcome = failed(f"passed, but after {ended - running.started:.1f} s, time-out {check.timeout:g}s")
            self._results.append(self._result(running, ended, outcome))
            if self._may_matter(name, check, outcome) or why is not None:
                self._ring()

    def _next(self) -> tuple[str, Prompt | None] | None:
        """Wait for the next check and say why it is run; None at the end."""
        while not self._stopped:
            with self._lock:
                for check in self._prompts:
                    return check, self._prompts.pop(check)
            name = min(self._due, key=self._due.__getitem__)
            wait = self._due[name] - time.monotonic()
            if wait <= 0:
                return name, None
            self._kick.wait(wait)
        return None

    def _may_matter(self, name: str, check: Check, outcome: Outcome) -> bool:
        """Whether a result may change a state: the loop reads the others when it turns next, and nobody waits."""
        passed, streak = self._agreed.get(name, (outcome.passed, 0))
        streak = streak + 1 if passed is outcome.passed else 1
        self._agreed[name] = outcome.passed, streak
        disagrees = outcome.passed is self.down
        return outcome.conclusive or disagrees or streak <= max(check.rise, check.fall)

    def _run(self, check: Check, now: float) -> Outcome | None:
        target = Target(
            service=self._service,
            address=self.probe.address,
            heartbeat=self.heartbeat,
            watched_since=self._since,
            now=now,
        )
        try:
            return check.run(target)
        except Exception as error:  # a check that blows up: one of the two places where this may stand
            return failed(f"the check itself failed: {type(error).__name__}: {error}")

    def _result(self, running: _Running, ended: float, outcome: Outcome) -> CheckResult:
        result = Result(
            passed=outcome.passed,
            reason=outcome.reason,
            duration_seconds=ended - running.started,
            at=ended,
            conclusive=outcome.conclusive or (outcome.passed and running.why is Prompt.READY),
        )
        return CheckResult(service=self._service, check=running.check, result=result)
