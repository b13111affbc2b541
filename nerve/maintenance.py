"""Maintenance: what is drained on this host, by whom, why and until when. Pure; times are seconds since the epoch.

A drain has a scope: everything on this host, or a service. A service's name covers the service and its further ports
(`web` covers `web.admin`). Drains of different scopes do not know of each other: to end one leaves the others.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

from smartstack.instance import MAINTENANCE_LABEL, NAME, printable

EVERYTHING: Final = "*"
"""The scope of a drain of all services of this host."""

REASON_LIMIT: Final = 200
OWNER_LIMIT: Final = 80
"""Longest reason and longest name of an owner that are shown and registered, in characters."""

LABELS: Final = (MAINTENANCE_LABEL, *(f"{MAINTENANCE_LABEL}_{word}" for word in ("owner", "since", "until")))
"""The labels that a drained instance carries."""

_FORMAT: Final = 1
_LAST_TIME: Final = datetime(9999, 12, 31, tzinfo=UTC).timestamp()


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintenance:
    """One drain. `until` None: it lasts until somebody ends it. `owner` is empty where nobody said who."""

    scope: str
    reason: str
    owner: str
    since: float
    until: float | None


Maintenances: TypeAlias = Mapping[str, Maintenance]
"""Every drain that is in force, by its scope. Never changed in place: each change makes another one."""


def begin(
    drains: Maintenances, scope: str, *, reason: str, owner: str, now: float, until: float | None
) -> Maintenances:
    """The drains with this one. What is drained already keeps its `since` and takes the rest, so that a drainer may
    repeat itself, and push the end further away for as long as it lives."""
    since = drains[scope].since if scope in drains else now
    return {**drains, scope: Maintenance(scope=scope, reason=reason, owner=owner, since=since, until=until)}


def end(drains: Maintenances, scope: str) -> Maintenances:
    """The drains without the one of exactly this scope; one of another scope may hold for the same services."""
    return {name: one for name, one in drains.items() if name != scope} if scope in drains else drains


def expire(drains: Maintenances, now: float) -> Maintenances:
    """The drains whose time is not over; the same object when that is all of them."""
    left = {name: one for name, one in drains.items() if one.until is None or now < one.until}
    return left if len(left) < len(drains) else drains


def next_expiry(drains: Maintenances) -> float | None:
    """When the first of them is over, None when none will be by itself."""
    return min((one.until for one in drains.values() if one.until is not None), default=None)


def covers(scope: str, service: str, port_of: str | None = None) -> bool:
    """Whether a drain of this scope holds for a service, which may be a further port of another one (`port_of`)."""
    return scope in (service, port_of, EVERYTHING)


def covering(drains: Maintenances, service: str, port_of: str | None = None) -> Maintenance | None:
    """The drain that holds for a service, None when it is not drained: its own, else that of the service whose port it
    is, else that of everything."""
    scopes = [service, *([] if port_of is None else [port_of]), EVERYTHING]
    return next((drains[scope] for scope in scopes if scope in drains), None)


def text(maintenance: Maintenance, now: float) -> str:
    """One sentence for people."""
    what = "everything on this host" if maintenance.scope == EVERYTHING else maintenance.scope
    owner = one_line(maintenance.owner, OWNER_LIMIT)
    by = f" by {owner}" if owner else ""
    if maintenance.until is None:
        end_text = "until it is ended"
    else:
        end_text = f"until {_time(maintenance.until)} ({_span(maintenance.until - now)} to go)"
    since = f"since {_time(maintenance.since)} ({_span(now - maintenance.since)})"
    return f"{what} is drained{by} {since}, {end_text}: {_reason(maintenance)}"


def labels(maintenance: Maintenance) -> dict[str, str]:
    """What the registration of a drained instance says of it, in a form that every reader takes, whatever was typed."""
    owner = one_line(maintenance.owner, OWNER_LIMIT)
    said = (
        _reason(maintenance),
        owner or None,
        _time(maintenance.since),
        None if maintenance.until is None else _time(maintenance.until),
    )
    return {label: value for label, value in zip(LABELS, said, strict=True) if value is not None}


def one_line(text: str, limit: int) -> str:
    """A text as one line of printable characters, at most so many."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def dump(drains: Maintenances) -> bytes:
    """The drains as JSON, the same bytes for the same drains."""
    content = {
        scope: {"reason": one.reason, "owner": one.owner, "since": one.since, "until": one.until}
        for scope, one in sorted(drains.items())
    }
    return json.dumps({"format": _FORMAT, "maintenances": content}, indent=1).encode() + b"\n"


def load(data: bytes) -> Maintenances | str:
    """The drains that `dump` wrote, or in a few words why these are none. Never raises; ignores keys that it does not
    know.

    One bad entry refuses all: to drop it would put an instance back to work that somebody took out, and nobody would
    be told. Who reads a refusal tells it.
    """
    try:
        read = json.loads(data)
    except (ValueError, RecursionError):
        return "it is not JSON"
    if not isinstance(read, dict) or not isinstance(read.get("maintenances"), dict):
        return "it holds no maintenances"
    if read.get("format") != _FORMAT or isinstance(read["format"], bool):
        return f"it is of format {printable(str(read.get('format')), 20)}, and this nerve reads format {_FORMAT}"
    drains: dict[str, Maintenance] = {}
    for scope, entry in read["maintenances"].items():
        one = _entry(scope, entry)
        if isinstance(one, str):
            return f"in the drain of {printable(scope, 40)} {one}"
        drains[scope] = one
    return drains


def _entry(scope: str, entry: Any) -> Maintenance | str:
    if scope != EVERYTHING and not NAME.fullmatch(scope):
        return "the name is no service's"
    if not isinstance(entry, dict):
        return "nothing is said"
    reason, owner, since, until = (entry.get(key) for key in ("reason", "owner", "since", "until"))
    if not isinstance(reason, str) or not one_line(reason, REASON_LIMIT):
        return "the reason is missing"
    if not isinstance(owner, str):
        return "the owner is no text"
    began, ends = _moment(since), _moment(until)
    if began is None:
        return "since is no time"
    if ends is None and until is not None:
        return "until is no time"
    return Maintenance(scope=scope, reason=reason, owner=owner, since=began, until=ends)


def _moment(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= _LAST_TIME else None


def _reason(maintenance: Maintenance) -> str:
    return one_line(maintenance.reason, REASON_LIMIT) or "no reason given"


def _time(at: float) -> str:
    """`2026-03-01T12:30:00Z`."""
    when = datetime.fromtimestamp(min(max(at, 0.0), _LAST_TIME), UTC)
    return when.replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def _span(seconds: float) -> str:
    """`35 s`, `12 min`, `3 h 5 min`, `2 d 4 h`."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"
