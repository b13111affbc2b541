"""What /status tells: the loop's last snapshot, put into words only when somebody asks. Pure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from smartstack.errors import Problem
from smartstack.instance import Instance
from smartstack.maintenance import Maintenance, Maintenances
from smartstack.registry.protocol import LinkStatus, Listing
from synapse import holds
from synapse.balancing.pool import Standing
from synapse.drift import DriftRecord
from synapse.haproxy.commands import command
from synapse.live_map import shares
from synapse.offers import Offer
from synapse.placement import Placed
from synapse.plan import Plan
from synapse.proxy import Admin, Observed, Refusal, Slot
from synapse.shifts import NOTHING_SAID, Shifts
from synapse.staleness import Stale
from synapse.tls import TlsState

_SHOWN_ACTIONS = 50
"""How many commands of a plan /status shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything that the loop saw and decided in one turn. Nothing in it changes afterwards.

    `at`, `started`, `since` (when the offer of each service last changed) and `planned_at` (when `plan` was carried
    out, the last one that was not empty) are in seconds since the epoch; `clock` is the monotonic time at `at`, by
    which the offers go. `worker` is the process that came of synapse's own last start or reload. `listens` is where
    each service is offered. `error` is what keeps HAProxy from being as it should be. `problems` are by service, ""
    for the host's own file. `needs_restart` names edited settings that only a restart applies. `registry` is the link
    to the main registry, `registries` are those to others that are in use. `missing` are the services on which the
    registry has not said anything yet. `holds` is what is held on this host, `shifts` what was
    ordered of shares and faults, `told` which share of a service's requests the feed tells, where that is not all.
    """

    at: float
    clock: float
    started: float
    since: Mapping[str, float]
    registry: LinkStatus
    registries: Mapping[str, LinkStatus] = field(default_factory=dict)
    offers: Mapping[str, Offer]
    observed: Observed | None
    version: str = ""
    old_workers: int | None = None
    drift: DriftRecord = field(default_factory=DriftRecord)
    plan: Plan
    planned_at: float | None
    last_reload: Sequence[str]
    worker: int | None = None
    refusals: Mapping[str, Refusal]
    listens: Mapping[str, str]
    problems: Mapping[str, tuple[Problem, ...]]
    needs_restart: tuple[str, ...]
    error: str | None
    missing: tuple[str, ...]
    stale: Stale | None = None
    certificates: Sequence[TlsState] = ()
    holds: Maintenances = field(default_factory=dict)
    balance: Mapping[str, Mapping[str, Standing]] = field(default_factory=dict)
    shifts: Shifts = NOTHING_SAID
    told: Mapping[str, float] = field(default_factory=dict)


def missing(snapshot: Snapshot | None) -> list[str]:
    """What is missing for a synapse that was never ready: every service seen once, and a HAProxy that serves."""
    if snapshot is None:
        return ["the first turn of the loop"]
    names = [f"the registry's word on {name}" for name in snapshot.missing]
    return names if snapshot.observed is not None else [*names, "a running HAProxy"]


def degraded(snapshot: Snapshot) -> list[str]:
    """What is not as it should be, in words, though clients may not feel it."""
    links = {"": snapshot.registry, **snapshot.registries}
    away = [f"the registry {name}".rstrip() for name, link in sorted(links.items()) if not link.connected]
    said = [f"{name} is away" for name in away] + missing(snapshot)
    return said if snapshot.error is None else [*said, snapshot.error]


def describe(snapshot: Snapshot | None, names: Collection[str] | None = None) -> dict[str, Any]:
    """The snapshot as /status answers it, with all services or with these alone."""
    if snapshot is None:
        return {"daemon": "synapse", "services": {}, "error": "the first turn of the loop is not done yet"}
    observed = snapshot.observed
    return {
        "daemon": "synapse",
        "at": snapshot.at,
        "started": snapshot.started,
        "error": snapshot.error,
        "registry": snapshot.registry,
        "registries": snapshot.registries,
        "haproxy": {
            "running": observed is not None,
            "pid": observed.pid if observed else None,
            "structure": observed.description if observed else None,
            "last_reload": list(snapshot.last_reload),
            "version": snapshot.version,
            "old_workers": snapshot.old_workers,
            "drift": {"repairs": snapshot.drift.counts, "last": list(snapshot.drift.last), "at": snapshot.drift.at},
        },
        "plan": {
            "actions": [command(action) for action in snapshot.plan.actions[:_SHOWN_ACTIONS]],
            "more_actions": max(0, len(snapshot.plan.actions) - _SHOWN_ACTIONS),
            "reload": list(snapshot.plan.reload_reasons),
            "at": snapshot.planned_at,
        },
        "problems": {name: list(map(str, problems)) for name, problems in snapshot.problems.items()},
        "needs_restart": snapshot.needs_restart,
        "stale": snapshot.stale,
        "certificates": snapshot.certificates,
        "holds": [
            {"service": service, "address": address, **_hold(hold)}
            for service, each in holds.by_service(snapshot.holds).items()
            for address, hold in each.items()
        ],
        "splits": {
            name: splits
            for name, offer in sorted(snapshot.offers.items())
            if (splits := _splits(offer, snapshot.shifts.splits.get(name, {})))
        },
        "faults": [
            {**asdict(fault), "percent": fault.percent / 100, "words": fault.words}
            for _, fault in sorted(snapshot.shifts.faults.items())
        ],
        "services": {
            name: _service(name, offer, observed, snapshot)
            for name, offer in sorted(snapshot.offers.items())
            if names is None or name in names
        },
    }


def _splits(offer: Offer, said: Mapping[str, int]) -> list[dict[str, Any]]:
    """Where shares of a service's requests go, in percent: as it is, by the definition, and whether an operator says so
    on this host. What was said of a target that the definition has no more comes last, with none."""
    proxy = offer.definition.proxy
    if proxy is None:
        return []
    now = shares(proxy, said)
    defined = shares(proxy, {})
    gone = [to for to in sorted(said) if to not in now]
    return [
        {
            "to": to,
            "percent": now.get(to, 0) / 100,
            "defined": defined[to] / 100 if to in defined else None,
            "ordered": to in said,
        }
        for to in (*now, *gone)
    ]


def state_of(address: str, observed: Observed | None, service: str) -> str:
    """What HAProxy does with the instance of this service at this address."""
    return str(_seat(address, observed.backends.get(service, ()) if observed else ())["state"])


def _service(name: str, offer: Offer, observed: Observed | None, snapshot: Snapshot) -> dict[str, Any]:
    slots = observed.backends.get(name, ()) if observed else ()
    refusal = snapshot.refusals.get(name)
    held = holds.by_service(snapshot.holds).get(name, {})
    listed = {record.instance.address for record in offer.known.records} if isinstance(offer.known, Listing) else None
    members = {placed.instance.address: placed for placed in offer.placement.members}
    return {
        "listen": snapshot.listens.get(name),
        "origin": offer.choice.origin,
        "reason": offer.choice.reason,
        "since": snapshot.since.get(name),
        "known": isinstance(offer.known, Listing),
        "unknown_since": None if isinstance(offer.known, Listing) else offer.known.since,
        "held_back_until": None if offer.choice.due is None else snapshot.at + offer.choice.due - snapshot.clock,
        "refused_definition": refusal.reason if refusal else None,
        "definition_in_use": refusal is None and all(each.in_use for each in snapshot.problems.get(name, ())),
        "refused_nodes": offer.choice.refused,
        "discovery_only": offer.definition.proxy is None,
        "rings": offer.placement.rings,
        "placement": offer.placement.reason,
        "sampled": snapshot.told.get(name, 1.0),
        "slots": len(slots),
        "instances": [
            _instance(instance, members.get(instance.address), listed, held, slots)
            | _balance(snapshot, name, instance.address, slots)
            for instance in offer.choice.instances
        ],
        "strangers": _strangers(offer.choice.instances, slots),
        "held": {address: _hold(hold) for address, hold in held.items()},
    }


def _instance(
    instance: Instance,
    placed: Placed | None,
    listed: Collection[str] | None,
    held: Mapping[str, Maintenance],
    slots: Sequence[Slot],
) -> dict[str, Any]:
    """One instance. `listed` are the addresses that the sources name now, None while they do not answer."""
    address = instance.address
    return {
        "address": address,
        "name": instance.name,
        "weight": instance.weight,
        "labels": dict(instance.labels),
        "listed": None if listed is None else address in listed,
        "role": placed.role if placed else None,
        "ring": placed.ring if placed else None,
        "why": placed.reason if placed else "",
        "held": _hold(held[address]) if address in held else None,
        **_seat(address, slots),
    }


def _balance(snapshot: Snapshot, service: str, address: str, slots: Sequence[Slot]) -> dict[str, Any]:
    """How much of its weight an instance gets, and why it is not all; with its state where it gets nothing."""
    standing = snapshot.balance.get(service, {}).get(address)
    if standing is None:
        return {"balance": None}
    until = None if standing.until is None else snapshot.at + standing.until - snapshot.clock
    told = {
        "balance": {
            "share": standing.share,
            "breaker": standing.state,
            "why": standing.why,
            "until": until,
            "typical_ms": standing.typical_ms,
        }
    }
    out = standing.share == 0 and _seat(address, slots)["state"] == "draining"
    return {**told, "state": "out"} if out else told


def _hold(hold: Maintenance) -> dict[str, Any]:
    return {"reason": hold.reason, "owner": hold.owner, "since": hold.since, "until": hold.until}


def _strangers(instances: Sequence[Instance], slots: Sequence[Slot]) -> list[dict[str, Any]]:
    """Who is in HAProxy without being an instance of the service."""
    known = {instance.address for instance in instances}
    strangers = {slot.address for slot in slots if slot.admin is not Admin.MAINT} - known
    return [{"address": address, **_seat(address, slots)} for address in sorted(strangers)]


def _seat(address: str, slots: Sequence[Slot]) -> dict[str, Any]:
    for slot in slots:
        if slot.address == address and slot.admin is not Admin.MAINT:
            state = "down" if not slot.up and slot.weight else "serving" if slot.serves else "draining"
            return {"slot": slot.name, "state": state}
    return {"slot": None, "state": "not in HAProxy"}
