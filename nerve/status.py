"""What the loop saw and did in its last turn, put into words only when somebody asks. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nerve.admission import Admission
from nerve.health import CheckHealth, Result, ServiceHealth, State, why
from nerve.intent import Intent
from nerve.maintenance import covering
from nerve.plan import Remove
from nerve.registrar import Report
from nerve.registrations import MAIN, Registration
from nerve.services import Service
from smartstack.maintenance import Maintenance, Maintenances
from smartstack.registry.protocol import LinkStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultStatus:
    """One run of a check; `at` in seconds since the epoch."""

    passed: bool
    reason: str
    duration_seconds: float
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckStatus:
    """One check of a service; `since` in seconds since the epoch, `recent` with the newest result first."""

    state: State
    since: float
    passes: int
    failures: int
    last: ResultStatus | None
    recent: tuple[ResultStatus, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceStatus:
    """One node of a service in a registry.

    `present`: the registry has a node there; `registered`: ours and as wanted; both None while the registry does not
    answer. `contested`: another nerve has its place. `error` is what the last attempt to change it failed with.
    `session` owns it.
    """

    registry: str
    path: str
    node: str
    present: bool | None
    registered: bool | None
    contested: bool
    error: str | None
    session: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStatus:
    """One announced service: how it is, and its nodes in the registries, the main one first.

    `registered`, `contested` and `error` are of all its places: registered when all are. `held_back` says why a
    service that is well is not registered. `tether` says whether an idle connection to it is held, and why not.
    """

    state: State
    since: float
    reason: str
    follows: str | None
    address: str
    path: str
    node: str
    payload: str
    weight: int | None
    registered: bool | None
    contested: bool
    error: str | None
    held_back: str | None
    maintenance: Maintenance | None
    tether: str
    places: tuple[PlaceStatus, ...]
    checks: Mapping[str, CheckStatus]


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The loop's last snapshot: everything in it is frozen, or was copied for it.

    `at` and `started` are in seconds since the epoch; `clock_offset` makes that of a monotonic time. `seen_registry`:
    the main registry answered at least once. `links` and `reports` are by registry. `problems` of the configuration
    files are by service, under the empty name those of no service. `needs_restart` are the edited settings that only
    a restart applies. `actions_problem` says why no action can be asked for over the admin address.
    """

    version: str
    pid: int
    started: float
    at: float
    clock_offset: float
    host: str
    instance_id: str
    registry_url: str
    links: Mapping[str, LinkStatus]
    seen_registry: bool
    services: Mapping[str, Service]
    healths: Mapping[str, ServiceHealth]
    intents: Mapping[str, Intent]
    admissions: Mapping[str, Admission]
    wanted: Mapping[str, tuple[Registration, ...]]
    reports: Mapping[str, Report]
    maintenances: Maintenances
    tethers: Mapping[str, str]
    problems: Mapping[str, tuple[str, ...]]
    needs_restart: tuple[str, ...]
    actions_problem: str | None = None
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def registry(self) -> LinkStatus:
        """The link to the main registry."""
        return self.links[MAIN]

    @property
    def registry_error(self) -> str | None:
        """Why the last turn could not ask the main registry."""
        return self.reports[MAIN].unavailable

    def maintenance(self, service: str) -> Maintenance | None:
        """What holds for this service."""
        return covering(self.maintenances, service, self.services[service].port_of)

    def places(self) -> dict[str, list[Registration]]:
        """The places by service, the main one first."""
        found: dict[str, list[Registration]] = {name: [] for name in self.services}
        for registrations in self.wanted.values():
            for one in registrations:
                found[one.service].append(one)
        return found


def describe_services(status: Status) -> dict[str, ServiceStatus]:
    """Each announced service by name."""
    return {name: _service(status, name, places) for name, places in status.places().items()}


def ready(status: Status | None) -> tuple[bool, dict[str, object]]:
    """Whether the first full cycle is done, the registry was seen once and every announced service has a verdict; with
    what is missing. A service whose definition is bad does not hold the others back: it stands in `problems`."""
    if status is None:
        return False, {"missing": ["the first turn of the loop"]}
    missing = [] if status.seen_registry else [f"the registry was not reached yet: {status.registry.detail}"]
    missing += [f"{name} has no verdict yet" for name, one in status.healths.items() if one.state is State.UNKNOWN]
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
        "registries": {name: link for name, link in status.links.items() if name != MAIN},
        "services": describe_services(status),
        "maintenance": status.maintenances,
        "problems": status.problems,
        "notes": status.notes,
        "needs_restart": status.needs_restart,
        "actions_problem": status.actions_problem,
    }


def registered(registration: Registration, report: Report) -> bool | None:
    """Whether the registry has the node, ours and as wanted; None while it does not answer."""
    if report.unavailable is not None:
        return None
    there = report.held.get(registration.node)
    return there is not None and there.mine and there.payload == registration.payload


def _service(status: Status, name: str, places: list[Registration]) -> ServiceStatus:
    service, health, clock_offset = status.services[name], status.healths[name], status.clock_offset
    shown = tuple(_place(status, place) for place in places)
    everywhere = {place.registered for place in shown}
    admission = status.admissions.get(name)
    return ServiceStatus(
        state=health.state,
        since=round(health.since + clock_offset, 3),
        reason=why(health),
        follows=service.follows,
        address=places[0].instance.address,
        path=places[0].node.path,
        node=places[0].node.node,
        payload=places[0].payload.decode(),
        weight=places[0].instance.weight,
        registered=False if False in everywhere else None if None in everywhere else True,
        contested=any(place.contested for place in shown),
        error=next((place.error for place in shown if place.error), None),
        held_back=_held_back(health.state, admission),
        maintenance=status.maintenance(name),
        tether=status.tethers.get(name, "off"),
        places=shown,
        checks={check: _check(one, clock_offset) for check, one in health.checks.items()},
    )


def _place(status: Status, place: Registration) -> PlaceStatus:
    report, link = status.reports[place.registry], status.links[place.registry]
    there = report.held.get(place.node)
    return PlaceStatus(
        registry=place.registry,
        path=place.node.path,
        node=place.node.node,
        present=None if report.unavailable is not None else there is not None,
        registered=registered(place, report),
        contested=place.node in report.contested,
        error=_error(place, report),
        session=link.session if there is not None and there.mine else None,
    )


def _held_back(state: State, admission: Admission | None) -> str | None:
    if state is not State.UP or admission is None or admission.admitted or admission.held_back is None:
        return None
    return admission.held_back.value


def _error(place: Registration, report: Report) -> str | None:
    """What an action on the place failed with, or the removal of an older node in the same directory."""
    for action, reason in report.failed.items():
        is_older = isinstance(action, Remove) and action.node.path == place.node.path
        if action.node == place.node or is_older:
            return reason
    return None


def _check(check: CheckHealth, clock_offset: float) -> CheckStatus:
    recent = tuple(_result(one, clock_offset) for one in reversed(check.recent))
    return CheckStatus(
        state=check.state,
        since=round(check.since + clock_offset, 3),
        passes=check.passes,
        failures=check.failures,
        last=recent[0] if recent else None,
        recent=recent,
    )


def _result(result: Result, clock_offset: float) -> ResultStatus:
    return ResultStatus(
        passed=result.passed,
        reason=result.reason,
        duration_seconds=round(result.duration_seconds, 6),
        at=round(result.at + clock_offset, 3),
    )
