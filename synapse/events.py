"""Events: what is otherwise after a turn of the loop than before it, and why, in words. Pure.

There is one timeline for "why did this change?", whatever changed: the registry, a definition, an instance, HAProxy.
"""

import enum
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from smartstack.registry.protocol import LinkStatus
from synapse import holds
from synapse.members import Change, member_changes
from synapse.offers import Offer
from synapse.selection import Origin
from synapse.shifts import percent_text
from synapse.status import Snapshot

_NAMED = 5
"""How many services one event or line of the log names before it only counts them."""

_MEMBERS = 20
"""How many instances of one service change in one turn before they are only counted."""


class Kind(enum.Enum):
    """What an event is about."""

    SYNAPSE = "synapse"
    REGISTRY = "registry"
    DEFINITION = "definition"
    SELECTION = "selection"
    PLACEMENT = "placement"
    RUNTIME = "runtime"
    """An instance came, left, or has another weight: HAProxy learns that without a reload."""
    DRAIN = "drain"
    HOLD = "hold"
    WEIGHTS = "weights"
    BREAKER = "breaker"
    SPLIT = "split"
    FAULT = "fault"
    HAPROXY = "haproxy"
    RELOAD = "reload"


class Level(enum.Enum):
    """How much it matters, as in the log."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One change: `what` became otherwise and `why`, which is empty where nobody knows more. `service` is None for what
    concerns this host as a whole. `at` is in seconds since the epoch."""

    at: float
    kind: Kind
    what: str
    why: str = ""
    service: str | None = None
    level: Level = Level.INFO


@dataclass(frozen=True, slots=True, kw_only=True)
class _Turn:
    """Two snapshots that follow each other; `before` is None at the start. Makes the events of the later one."""

    before: Snapshot | None
    after: Snapshot
    offers: Mapping[str, Offer] = field(default_factory=dict)

    def event(
        self, kind: Kind, what: str, why: str = "", service: str | None = None, level: Level = Level.INFO
    ) -> Event:
        return Event(at=self.after.at, kind=kind, what=what, why=why, service=service, level=level)


def news(before: Snapshot | None, after: Snapshot, changed: Collection[str]) -> list[Event]:
    """The events of one turn, causes before what came of them. `changed` are the services whose offers changed: others
    are not looked at."""
    turn = _Turn(before=before, after=after, offers=before.offers if before else {})
    found = [*_start(turn), *_links(turn), *_configuration(turn), *_definitions(turn)]
    for name in sorted(changed):
        old, new = turn.offers.get(name), after.offers.get(name)
        if new is None:
            if old is not None:
                found.append(turn.event(Kind.DEFINITION, "the service is gone", "nobody defines or uses it here", name))
        else:
            found += _service(turn, name, old, new)
    return [*found, *_holds(turn), *_shifts(turn), *_haproxy(turn), *_age(turn)]


def grouped(events: Iterable[Event]) -> list[tuple[Event, tuple[str, ...]]]:
    """The events that say the same of several services as one, with the names of these; others with their own."""
    groups: dict[tuple[Kind, Level, str, str, bool], tuple[Event, list[str]]] = {}
    for event in events:
        key = (event.kind, event.level, event.what, event.why, event.service is None)
        names = groups.setdefault(key, (event, []))[1]
        if event.service is not None:
            names.append(event.service)
    return [(event, tuple(names)) for event, names in groups.values()]


def merged(events: Iterable[Event]) -> Iterator[Event]:
    """The events, but one that many services have in common is one of this host, so that a registry that goes does not
    drive out everything else."""
    for event, names in grouped(events):
        if len(names) > _NAMED:
            what = f"{event.what} ({len(names)} services: {named(names)})"
            yield Event(at=event.at, kind=event.kind, what=what, why=event.why, level=event.level)
        elif event.service is None:
            yield event
        else:
            for name in names:
                yield Event(
                    at=event.at, kind=event.kind, what=event.what, why=event.why, service=name, level=event.level
                )


def named(names: Collection[str]) -> str:
    """The first few names, and how many more there are."""
    shown = ",".join(list(names)[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown},+{len(names) - _NAMED}"


def _start(turn: _Turn) -> Iterator[Event]:
    if turn.before is None:
        observed = turn.after.observed
        runs = "HAProxy does not run yet" if observed is None else f"HAProxy runs already, pid {observed.pid}"
        yield turn.event(Kind.SYNAPSE, "synapse started", runs)
    restart = turn.after.needs_restart
    if restart and (turn.before is None or restart != turn.before.needs_restart):
        what = "edited settings that only a restart applies"
        yield turn.event(Kind.SYNAPSE, what, ",".join(restart), level=Level.WARNING)


def _links(turn: _Turn) -> Iterator[Event]:
    now, before = _named_links(turn.after), _named_links(turn.before) if turn.before else {}
    for name, link in now.items():
        if name in before and before[name].connected is link.connected:
            continue
        what, level = ("answers", Level.INFO) if link.connected else ("is away", Level.WARNING)
        why = f"{link.detail}, session {link.session}" if link.session else link.detail
        yield turn.event(Kind.REGISTRY, f"{name} {what}", why, level=level)


def _named_links(snapshot: Snapshot) -> dict[str, LinkStatus]:
    others = {f"the registry {name}": link for name, link in sorted(snapshot.registries.items())}
    return {"the registry": snapshot.registry, **others}


def _configuration(turn: _Turn) -> Iterator[Event]:
    """Files that are wrong, and that are right again."""
    now, before = _problems(turn.after), _problems(turn.before) if turn.before else set()
    for name, text, in_use in sorted(now - before):
        what = "configuration problem" + ("" if in_use else ", what was in use stays in use")
        yield turn.event(Kind.DEFINITION, what, text, name or None, Level.ERROR)
    if before and not now:
        yield turn.event(Kind.DEFINITION, "the configuration has no problem any more")


def _problems(snapshot: Snapshot) -> set[tuple[str, str, bool]]:
    return {
        (name, str(problem), problem.in_use) for name, problems in snapshot.problems.items() for problem in problems
    }


def _definitions(turn: _Turn) -> Iterator[Event]:
    """Definitions that are valid and not taken all the same."""
    before = turn.before.refusals if turn.before else {}
    for name, refusal in sorted(turn.after.refusals.items()):
        if name not in before or before[name].reason != refusal.reason:
            what = "the definition is not taken, the service stays as it was"
            yield turn.event(Kind.DEFINITION, what, refusal.reason, name, Level.ERROR)
    for name in sorted(before.keys() - turn.after.refusals.keys()):
        yield turn.event(Kind.DEFINITION, "no definition of the service is refused any more", service=name)


def _service(turn: _Turn, name: str, old: Offer | None, new: Offer) -> Iterator[Event]:
    """What is new of one service: its definition, whose word is taken, its rings, its instances."""
    if old is None and turn.before is not None:
        yield turn.event(Kind.DEFINITION, "the service is new", new.choice.reason, name)
    elif old is not None and old.definition != new.definition:
        yield turn.event(Kind.DEFINITION, "the definition was edited", service=name)
    refused = new.choice.refused
    if len(refused) > (len(old.choice.refused) if old else 0):
        why = f"{refused[0].node}: {refused[0].reason}"
        yield turn.event(Kind.REGISTRY, f"refused registry nodes: {len(refused)}", why, name, Level.WARNING)
    yield from _origin(turn, name, old.choice.origin if old else Origin.LISTING, new)
    yield from _rings(turn, name, old, new)
    if old is None:
        return
    if old.choice.origin is Origin.NOTHING:
        if new.choice.instances:
            count = len(new.choice.instances)
            yield turn.event(Kind.RUNTIME, f"instances: {count}", new.choice.reason, name)
        return
    changes = list(member_changes(old, new))
    if len(changes) > _MEMBERS:
        yield turn.event(Kind.RUNTIME, f"{len(changes)} instances changed", _counted(changes), name)
        return
    for change in changes:
        kind = Kind.DRAIN if change.drains else Kind.RUNTIME
        yield turn.event(kind, change.what, change.why, name)


def _counted(changes: Collection[Change]) -> str:
    counts: dict[str, int] = {}
    for change in changes:
        counts[change.word] = counts.get(change.word, 0) + 1
    return ", ".join(f"{count} {word}" for word, count in counts.items())


def _origin(turn: _Turn, name: str, before: Origin, offer: Offer) -> Iterator[Event]:
    now, choice = offer.choice.origin, offer.choice
    if now is before:
        return
    if now is Origin.LISTING:
        why = choice.reason if choice.confirmed else ""
        yield turn.event(Kind.SELECTION, "the registry's word is in use again", why, name)
    else:
        yield turn.event(Kind.SELECTION, f"in use: {now.value}", choice.reason, name, Level.WARNING)


def _rings(turn: _Turn, name: str, old: Offer | None, new: Offer) -> Iterator[Event]:
    if new.placement.standing is None:
        return  # nobody was registered yet, or there is no locality
    now, before = new.placement.rings_used, old.placement.rings_used if old and old.placement.standing else ()
    if now != before and max(len(now), len(before)) > 1:
        what = f"other rings of instances serve: {','.join(now)}"
        yield turn.event(Kind.PLACEMENT, what, new.placement.reason, name)


def _holds(turn: _Turn) -> Iterator[Event]:
    if turn.before is None or turn.before.holds is turn.after.holds:
        return
    now, before = holds.by_service(turn.after.holds), holds.by_service(turn.before.holds)
    for service in sorted(now.keys() | before.keys()):
        held, was = now.get(service, {}), before.get(service, {})
        for address in sorted(held.keys() | was.keys()):
            if address not in held:
                yield turn.event(Kind.HOLD, f"{address} is not held any more", service=service)
            elif held[address] != was.get(address):
                by = f" ({held[address].owner})" if held[address].owner else ""
                yield turn.event(Kind.HOLD, f"{address} is held on this host", f"{held[address].reason}{by}", service)


def _shifts(turn: _Turn) -> Iterator[Event]:
    if turn.before is None or turn.before.shifts is turn.after.shifts:
        return
    now, before = turn.after.shifts, turn.before.shifts
    for service in sorted(now.splits.keys() | before.splits.keys()):
        said = now.splits.get(service)
        if said is None:
            yield turn.event(Kind.SPLIT, "shares go by the definition again", service=service)
        elif said != before.splits.get(service):
            told = ", ".join(f"{to} {percent_text(share)}" for to, share in sorted(said.items()))
            yield turn.event(Kind.SPLIT, f"shares of the requests: {told}", "an operator says so", service)
    for service in sorted(now.faults.keys() | before.faults.keys()):
        fault = now.faults.get(service)
        if fault is None:
            yield turn.event(Kind.FAULT, "no requests fail on purpose any more", service=service)
        elif fault != before.faults.get(service):
            what = f"requests fail on purpose: {fault.words}"
            yield turn.event(Kind.FAULT, what, fault.owner, service, Level.WARNING)


def _haproxy(turn: _Turn) -> Iterator[Event]:
    before, after = turn.before, turn.after
    if after.drift.at != (before.drift.at if before else None):
        what = "somebody else changed HAProxy: it is put right"
        yield turn.event(Kind.HAPROXY, what, named(after.drift.last), level=Level.WARNING)
    if before is not None and before.observed is not None and after.observed is None:
        yield turn.event(Kind.HAPROXY, "HAProxy does not run, or does not answer", level=Level.ERROR)
    if after.worker is not None and after.worker != (before.worker if before else None):
        done = "started" if after.observed is None else "reloaded"
        yield turn.event(Kind.RELOAD, f"{done} HAProxy, pid {after.worker}", "; ".join(after.last_reload))
    elif before is not None and after.observed is not None and after.observed.pid != after.worker:
        pid = after.observed.pid
        if before.observed is None:
            yield turn.event(Kind.HAPROXY, f"HAProxy answers again, pid {pid}")  # it hung, or somebody started it
        elif before.observed.pid != pid:
            yield turn.event(Kind.HAPROXY, f"HAProxy answers, pid {pid}, not by synapse's doing")
    if after.error != (before.error if before else None):
        if after.error:
            yield turn.event(Kind.HAPROXY, "HAProxy is not as it should be", after.error, level=Level.ERROR)
        else:
            yield turn.event(Kind.HAPROXY, "HAProxy is as it should be")


def _age(turn: _Turn) -> Iterator[Event]:
    old = turn.after.stale
    if old is not None and (turn.before is None or turn.before.stale is None):
        minutes = round((turn.after.at - old.since) / 60)
        what = "nobody has confirmed the instances in use for long"
        why = f"{named(old.services)}: {minutes} minutes, {old.reason}"
        yield turn.event(Kind.SELECTION, what, why, level=Level.WARNING)
