"""Health: what a row of check results says of a service. Pure; times come in as arguments.

A check starts UNKNOWN. One pass makes it UP at once, so that a restart of nerve does not keep a well service out;
`fall` failures in a row make it DOWN. From then on `fall` failures in a row bring it down and `rise` passes in a row
bring it up. A conclusive result is enough by itself.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

RECENT: Final = 5
"""How many of the last results of a check are kept for whoever asks."""


class State(Enum):
    """Whether something is well. UNKNOWN is not DOWN: nobody has found out yet."""

    UNKNOWN = "unknown"
    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One run of a check. `at` is when it ended and `duration_seconds` how long it took, by a monotonic clock.

    `conclusive`: this one is enough, whatever `rise` and `fall` say.
    """

    passed: bool
    reason: str
    duration_seconds: float
    at: float
    conclusive: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckHealth:
    """A check's history in short.

    `since` is when it came into this state, by a monotonic clock. `recent` are the last results, the newest at the
    end. `streak` counts the last results that agree with each other, the last one included.
    """

    state: State
    since: float
    recent: tuple[Result, ...] = ()
    streak: int = 0
    passes: int = 0
    failures: int = 0

    @property
    def last(self) -> Result | None:
        """The last result, None before the first."""
        return self.recent[-1] if self.recent else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceHealth:
    """A service's state and that of each of its checks, by the check's name."""

    state: State
    since: float
    checks: Mapping[str, CheckHealth] = field(default_factory=dict)


def observe_check(health: CheckHealth, result: Result, *, rise: int, fall: int) -> CheckHealth:
    """The check's health after one more result."""
    agrees = health.last is not None and health.last.passed == result.passed
    streak = health.streak + 1 if agrees else 1
    if result.passed:
        turned = result.conclusive or health.state is State.UNKNOWN or streak >= rise
        state = State.UP if turned else health.state
    else:
        turned = result.conclusive or streak >= fall
        state = State.DOWN if turned else health.state
    return CheckHealth(
        state=state,
        since=health.since if state is health.state else result.at,
        recent=(*health.recent[1 - RECENT :], result),
        streak=streak,
        passes=health.passes + result.passed,
        failures=health.failures + (not result.passed),
    )


def service_state(checks: Iterable[State]) -> State:
    """A service is UP when all of its checks are (or it has none), DOWN when one is, else UNKNOWN."""
    states = set(checks)
    if State.DOWN in states:
        return State.DOWN
    return State.UNKNOWN if State.UNKNOWN in states else State.UP


def observe(health: ServiceHealth, check: str, result: Result, *, rise: int, fall: int) -> ServiceHealth:
    """The service's health after one more result of one of its checks."""
    checks = {**health.checks, check: observe_check(health.checks[check], result, rise=rise, fall=fall)}
    return _with(health, checks, result.at)


def refuse(health: ServiceHealth, reason: str, at: float) -> ServiceHealth:
    """The service's health after it was seen that nobody listens at its address: every check has failed for certain."""
    result = Result(passed=False, reason=reason, duration_seconds=0.0, at=at, conclusive=True)
    checks = {name: observe_check(check, result, rise=1, fall=1) for name, check in health.checks.items()}
    return _with(health, checks, at)


def reshape(health: ServiceHealth | None, checks: Iterable[str], now: float) -> ServiceHealth:
    """The service's health with exactly these checks: known ones keep theirs, new ones start UNKNOWN.

    `health` None is a service that was not watched before.
    """
    known: Mapping[str, CheckHealth] = health.checks if health else {}
    shaped = {name: known.get(name) or CheckHealth(state=State.UNKNOWN, since=now) for name in checks}
    start = health or ServiceHealth(state=State.UNKNOWN, since=now)
    return _with(start, shaped, now)


def why(health: ServiceHealth) -> str:
    """The reason for the state, in a few words for a log line."""
    of_interest = [
        (name, check) for name, check in health.checks.items() if check.state is health.state and check.last is not None
    ]
    if not health.checks:
        return "no checks are configured"
    if health.state is State.UNKNOWN or not of_interest:
        waiting = [name for name, check in health.checks.items() if check.state is State.UNKNOWN]
        return f"no verdict yet of {', '.join(waiting)}"
    name, check = of_interest[0]
    assert check.last is not None
    named = f" ({name})" if len(health.checks) > 1 else ""
    if health.state is State.UP:
        return f"{_count(check.streak, 'check')} passed{named}, last: {check.last.reason}"
    return f"{_count(check.streak, 'check')} failed{named}, last: {check.last.reason}"


def _with(health: ServiceHealth, checks: Mapping[str, CheckHealth], now: float) -> ServiceHealth:
    state = service_state(check.state for check in checks.values())
    return replace(health, checks=checks, state=state, since=health.since if state is health.state else now)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
