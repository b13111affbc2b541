"""What the loop saw and did in its last turn, put into words only when somebody asks. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nerve.health import CheckHealth, Result, ServiceHealth, State, why
from nerve.plan import Remove
from nerve.registrar import Report
from nerve.registrations import Registration
from smartstack.registry.protocol import LinkStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class LastResult:
    """The last run of a check; `at` in seconds since the epoch."""

    passed: bool
    reason: str
    duration_seconds: float
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckStatus:
    """One check of a service; `since` in seconds since the epoch."""

    state: State
    since: float
    passes: int
    failures: int
    last: LastResult | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStatus:
    """One announced service: how it is, and its node in the registry.

    `registered`: the registry has its node, ours and as wanted; None while the registry does not answer. `contested`:
    another nerve has its place. `error` is what the last attempt to change its registration failed with.
    """

    state: State
    since: float
    reason: str
    address: str
    path: str
    node: str
    payload: str
    registered: bool | None
    contested: bool
    error: str | None
    checks: Mapping[str, CheckStatus]


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The loop's last snapshot: everything in it is frozen, or was copied for it.

    `at` and `started` are in seconds since the epoch; `clock_offset` makes that of a monotonic time. `seen_registry`:
    the registry answered at least once. `problems` of the configuration files are by service, under the empty name
    those of no service. `needs_restart` are the edited settings that only a restart applies.
    """

    version: str
    pid: int
    started: float
    at: float
    clock_offset: float
    host: str
    instance_id: str
    registry_url: str
    registry: LinkStatus
    seen_registry: bool
    registrations: tuple[Registration, ...]
    healths: Mapping[str, ServiceHealth]
    report: Report
    problems: Mapping[str, tuple[str, ...]]
    needs_restart: tuple[str, ...]

    @property
    def services(self) -> dict[str, ServiceStatus]:
        """Each announced service by name."""
        return {one.service: service_status(self, one) for one in self.registrations}

    @property
    def registry_error(self) -> str | None:
        """Why the last turn could not ask the registry."""
        return self.report.unavailable


def service_status(status: Status, registration: Registration) -> ServiceStatus:
    """One service's part."""
    health, report, clock_offset = status.healths[registration.service], status.report, status.clock_offset
    return ServiceStatus(
        state=health.state,
        since=round(health.since + clock_offset, 3),
        reason=why(health),
        address=registration.instance.address,
        path=registration.node.path,
        node=registration.node.node,
        payload=registration.payload.decode(),
        registered=registered(registration, report),
        contested=registration.node in report.contested,
        error=_error(registration, report),
        checks={name: _check_status(check, clock_offset) for name, check in health.checks.items()},
    )


def ready(status: Status | None) -> tuple[bool, dict[str, object]]:
    """Whether the first full cycle is done, the registry was seen once and every announced service has a verdict; with
    what is missing. A service whose definition is bad does not hold the others back: it stands in `problems`."""
    if status is None:
        return False, {"missing": ["the first turn of the loop"]}
    missing = [] if status.seen_registry else [f"the registry was not reached yet: {status.registry.detail}"]
    missing += [f"{one.service} has no verdict yet" for one in status.registrations if one.state is State.UNKNOWN]
    return not missing, {"missing": missing, "problems": status.problems}


def describe(status: Status | None) -> dict[str, Any]:
    """The snapshot as /status answers it."""
    if status is None:
        return {"daemon": "nerve", "services": {}, "registry_error": "the first turn of the loop is not done yet"}
    return {
        "daemon": "nerve",
        "version": status.version,
        "pid": status.pid,
        "started": status.started,
        "at": status.at,
        "uptime_seconds": round(status.at - status.started, 3),
        "host": status.host,
        "instance_id": status.instance_id,
        "registry_url": status.registry_url,
        "registry": status.registry,
        "registry_error": status.registry_error,
        "services": status.services,
        "problems": status.problems,
        "needs_restart": status.needs_restart,
    }


def registered(registration: Registration, report: Report) -> bool | None:
    """Whether the registry has the node, ours and as wanted; None while it does not answer."""
    if report.unavailable is not None:
        return None
    there = report.held.get(registration.node)
    return there is not None and there.mine and there.payload == registration.payload


def _error(registration: Registration, report: Report) -> str | None:
    """What an action on the service's node failed with, or the removal of an older node in the same directory."""
    for action, reason in report.failed.items():
        is_older = isinstance(action, Remove) and action.node.path == registration.node.path
        if action.node == registration.node or is_older:
            return reason
    return None


def _check_status(check: CheckHealth, clock_offset: float) -> CheckStatus:
    last = check.last
    return CheckStatus(
        state=check.state,
        since=round(check.since + clock_offset, 3),
        passes=check.passes,
        failures=check.failures,
        last=None if last is None else _last_result(last, clock_offset),
    )


def _last_result(last: Result, clock_offset: float) -> LastResult:
    return LastResult(
        passed=last.passed,
        reason=last.reason,
        duration_seconds=round(last.duration_seconds, 6),
        at=round(last.at + clock_offset, 3),
    )
