"""What /status tells: the loop's last snapshot, put into words only when somebody asks. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from smartstack.errors import Problem
from smartstack.registry.protocol import LinkStatus, Listing
from synapse.haproxy.commands import command
from synapse.offers import Offer
from synapse.plan import Plan
from synapse.proxy import Admin, Observed, Refusal, Slot
from synapse.staleness import Stale

_SHOWN_ACTIONS = 50
"""How many commands of a plan /status shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything that the loop saw and decided in one turn. Nothing in it changes afterwards.

    `at`, `started`, `since` (when the offer of each service last changed) and `planned_at` (when `plan` was carried
    out, the last one that was not empty) are in seconds since the epoch; `clock` is the monotonic time at `at`, by
    which the offers go. `listens` is where each service is offered. `error` is what keeps HAProxy from being as it
    should be. `problems` are by service, "" for the host's own file. `needs_restart` names edited settings that only
    a restart applies. `registry` is the link to the main registry, `registries` are those to others that are in use.
    `missing` are the services on which the registry has not said anything yet.
    """

    at: float
    clock: float
    started: float
    since: Mapping[str, float]
    registry: LinkStatus
    registries: Mapping[str, LinkStatus] = field(default_factory=dict)
    offers: Mapping[str, Offer]
    observed: Observed | None
    plan: Plan
    planned_at: float | None
    last_reload: Sequence[str]
    refusals: Mapping[str, Refusal]
    listens: Mapping[str, str]
    problems: Mapping[str, tuple[Problem, ...]]
    needs_restart: tuple[str, ...]
    error: str | None
    missing: tuple[str, ...]
    stale: Stale | None = None


def ready(snapshot: Snapshot | None) -> tuple[bool, dict[str, object]]:
    """Whether every service was seen once and HAProxy serves, and what is missing."""
    if snapshot is None:
        return False, {"missing": ["the first turn of the loop"]}
    missing = [f"the registry's word on {name}" for name in snapshot.missing]
    if snapshot.observed is None:
        missing.append("a running HAProxy")
    return not missing, {"missing": missing}


def describe(snapshot: Snapshot | None) -> dict[str, Any]:
    """The snapshot as /status answers it."""
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
        "services": {
            name: _service(name, offer, observed, snapshot) for name, offer in sorted(snapshot.offers.items())
        },
    }


def _service(name: str, offer: Offer, observed: Observed | None, snapshot: Snapshot) -> dict[str, Any]:
    slots = observed.backends.get(name, ()) if observed else ()
    refusal = snapshot.refusals.get(name)
    return {
        "listen": snapshot.listens.get(name),
        "origin": offer.choice.origin,
        "reason": offer.choice.reason,
        "since": snapshot.since.get(name),
        "known": isinstance(offer.known, Listing),
        "held_back_until": None if offer.choice.due is None else snapshot.at + offer.choice.due - snapshot.clock,
        "refused_definition": refusal.reason if refusal else None,
        "refused_nodes": offer.choice.refused,
        "slots": len(slots),
        "instances": [
            {
                "address": instance.address,
                "name": instance.name,
                "weight": instance.weight,
                "labels": dict(instance.labels),
                **_seat(instance.host, instance.port, slots),
            }
            for instance in offer.choice.instances
        ],
    }


def _seat(host: str, port: int, slots: Sequence[Slot]) -> dict[str, Any]:
    for slot in slots:
        if (slot.host, slot.port) == (host, port) and slot.admin is not Admin.MAINT:
            state = "down" if not slot.up and slot.weight else "serving" if slot.serves else "draining"
            return {"slot": slot.name, "state": state}
    return {"slot": None, "state": "not in HAProxy"}
