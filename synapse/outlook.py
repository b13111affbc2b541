"""What would be done now, and why, service by service: `synapse plan`. Pure."""

from collections.abc import Mapping
from typing import Any

from synapse.haproxy.commands import command
from synapse.offers import Offer
from synapse.placement import Placed, Role, ring_lines
from synapse.plan import Action, Disable, Enable, Plan, SetAddress, SetWeight
from synapse.proxy import Observed
from synapse.selection import Origin


def outlook(
    plan: Plan, observed: Observed | None, offers: Mapping[str, Offer], refusals: Mapping[str, str]
) -> dict[str, Any]:
    """A plan as JSON. `observed` None: HAProxy is not running. `refusals` are the definitions that the synapse which
    runs does not use, with why."""
    services = {
        name: {
            "discovery_only": offer.definition.proxy is None,
            "origin": offer.choice.origin.value,
            "reason": offer.choice.reason,
            "instances": len(offer.choice.instances),
            "rings": ring_lines(offer.placement),
            "refused_definition": refusals.get(name),
            "commands": [
                {"command": command(action), "address": _address(action), "why": why(action, offer)}
                for action in plan.actions
                if action.backend == name
            ],
        }
        for name, offer in sorted(offers.items())
    }
    return {
        "haproxy": {
            "running": observed is not None,
            "pid": observed.pid if observed else None,
            "structure": observed.description if observed else None,
        },
        "services": services,
        "reload": list(plan.reload_reasons) if observed else [],
        "start": observed is None,
        "nothing_to_do": plan.empty,
    }


def outlook_lines(told: Mapping[str, Any]) -> list[str]:
    """The same for people."""
    haproxy = told["haproxy"]
    lines = ["HAProxy is not running: it would be started"]
    if haproxy["running"]:
        lines = [f"HAProxy runs, pid {haproxy['pid']}, structure {haproxy['structure']}"]
    for name, one in told["services"].items():
        lines.append(f"{name}: {one['origin']}, {one['reason']}")
        lines += [f"  {line}" for line in one["rings"]]
        if one["origin"] == Origin.HELD_BACK.value:
            lines.append(f"  `synapse accept {name}` believes the listing now")
        if one["refused_definition"]:
            lines.append(f"  definition not in use: {one['refused_definition']}")
        lines += [f"  runtime: {each['command']}  # {each['address']}, {each['why']}" for each in one["commands"]]
    lines += [f"reload: {reason}" for reason in told["reload"]]
    if told["nothing_to_do"]:
        lines.append("nothing to do")
    return lines


def why(action: Action, offer: Offer) -> str:
    """In a few words, why this command: what became of the instance."""
    placed = next((one for one in offer.placement.members if one.instance.address == _address(action)), None)
    match action:
        case Disable():
            if placed is None:
                return "it is no instance any more"
            return placed.reason if placed.role is Role.OUT else _moved(placed)
        case SetWeight(weight=0):
            if offer.shares.get(_address(action)) == 0:
                return "its breaker is open"
            held = placed is not None and placed.role is Role.HELD
            return placed.reason if held and placed else "it is registered with weight 0"
        case SetWeight(weight=weight):
            share = offer.shares.get(_address(action))
            return f"its weight here is {weight}{'' if share is None else f', {share:.0%} of its own for now'}"
        case SetAddress() | Enable():
            backup = placed is not None and placed.role is Role.BACKUP
            return f"it is a backup, {placed.reason}" if backup and placed else "it is to serve"


def _moved(placed: Placed) -> str:
    return f"it is in another slot now{f', {placed.reason}' if placed.reason else ''}"


def _address(action: Action) -> str:
    return f"[{action.host}]:{action.port}" if ":" in action.host else f"{action.host}:{action.port}"
