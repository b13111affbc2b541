"""Orders to drain and to undrain: from the body of a request to what is meant, or why it is not understood. Pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from nerve.maintenance import EVERYTHING
from smartstack.instance import printable
from smartstack.maintenance import REASON_LIMIT, Maintenances, begin, end, one_line, read_terms
from smartstack.validation import hint


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainOrder:
    """Drain these scopes. `until` None: until somebody ends it. `owner` is empty where nobody said who."""

    scopes: tuple[str, ...]
    reason: str
    owner: str
    until: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UndrainOrder:
    """End the drains of exactly these scopes."""

    scopes: tuple[str, ...]


def parse_drain(body: Mapping[str, Any], services: Collection[str], now: float) -> DrainOrder | str:
    """The order in `{"services": ["web"], "reason": "deploy 123", "owner": "alice", "for_seconds": 1800}`, or a
    sentence that says what is wrong with it.

    `services` are those that can be drained; the body may say `"all": true` in place of them. `owner` and
    `for_seconds` may be left out or null: a drain without a time has no end. `now` is in seconds since the epoch.
    """
    scopes = _scopes(body, ("services", "all", "reason", "owner", "for_seconds"), services, "drain")
    if isinstance(scopes, str):
        return scopes
    reason = body.get("reason")
    if not isinstance(reason, str) or not one_line(reason, REASON_LIMIT):
        return "cannot drain: reason is missing; say why in a few words, for whoever finds it drained"
    terms = read_terms(body, now)
    if isinstance(terms, str):
        return f"cannot drain: {terms}"
    return DrainOrder(scopes=scopes, reason=terms.reason, owner=terms.owner, until=terms.until)


def parse_undrain(body: Mapping[str, Any], services: Collection[str], drains: Maintenances) -> UndrainOrder | str:
    """The order in `{"services": ["web"]}` or `{"all": true}`, or a sentence that says what is wrong with it.

    What is drained can be undrained although it is not announced any more. `all` ends the drain of everything and no
    other: services that are drained by themselves stay so.
    """
    scopes = _scopes(body, ("services", "all"), {*services, *drains}, "undrain")
    return scopes if isinstance(scopes, str) else UndrainOrder(scopes=scopes)


def drain(drains: Maintenances, order: DrainOrder, now: float) -> Maintenances:
    """The drains after this order."""
    for scope in order.scopes:
        drains = begin(drains, scope, reason=order.reason, owner=order.owner, now=now, until=order.until)
    return drains


def undrain(drains: Maintenances, order: UndrainOrder) -> Maintenances:
    """The drains after this order."""
    for scope in order.scopes:
        drains = end(drains, scope)
    return drains


def _scopes(body: Mapping[str, Any], keys: tuple[str, ...], known: Collection[str], verb: str) -> tuple[str, ...] | str:
    # A misspelt for_seconds that were ignored would be a drain without an end.
    for key in body:
        if key not in keys:
            meant = hint(key, keys) or f"; known are {', '.join(keys)}"
            return f"cannot {verb}: unknown key '{printable(key, 40)}'{meant}"
    everything, names = body.get("all", False), body.get("services")
    if not isinstance(everything, bool):
        return f"cannot {verb}: all must be true or false"
    if everything:
        return (EVERYTHING,) if names is None else f"cannot {verb}: give services or all, not both"
    if not isinstance(names, list | tuple) or not names or not all(isinstance(name, str) for name in names):
        return f'cannot {verb}: services must be a list of names; for all of them say "all": true'
    named = frozenset(known) - {EVERYTHING}
    for name in names:
        if name not in named:
            return f"cannot {verb} '{printable(name, 40)}': no such service is announced here{hint(name, named)}"
    return tuple(dict.fromkeys(names))
