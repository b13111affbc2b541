"""Maintenance: what somebody took out of use on this host, who, why and until when. Pure; times are seconds since the
epoch.

Each has a scope, which says what it holds for: to nerve a service, or everything; to synapse an instance of a service.
Those of different scopes do not know of each other: to end one leaves the others.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

from smartstack.instance import printable

REASON_LIMIT: Final = 200
OWNER_LIMIT: Final = 80
"""Longest reason and longest name of an owner that are shown and registered, in characters."""

LEAST_SECONDS: Final = 1
MOST_SECONDS: Final = 30 * 86_400
"""How long one may be ordered for, if it has an end."""

_FORMAT: Final = 1
_LAST_TIME: Final = datetime(9999, 12, 31, tzinfo=UTC).timestamp()


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintenance:
    """One maintenance. `until` None: it lasts until somebody ends it. `owner` is empty where nobody said who."""

    scope: str
    reason: str
    owner: str
    since: float
    until: float | None


Maintenances: TypeAlias = Mapping[str, Maintenance]
"""All that is in force, by scope. Never changed in place: each change makes another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Why, who and until when, as one line each. `reason` and `owner` are empty where nobody said so."""

    reason: str
    owner: str
    until: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """What one daemon calls its maintenance: `nerve`, a `drain` of what is `drained`, and which scopes it has."""

    daemon: str
    noun: str
    done: str
    is_scope: Callable[[str], bool]


def read_terms(body: Mapping[str, Any], now: float, default_seconds: float | None = None) -> Terms | str:
    """The terms in `{"reason": "new disk", "owner": "alice", "for_seconds": 1800}`, or a sentence that says what is
    wrong with them.

    Each may be left out; without `for_seconds` it lasts `default_seconds`, with null it has no end.
    """
    reason, owner, seconds = body.get("reason"), body.get("owner"), body.get("for_seconds", default_seconds)
    if not isinstance(reason, str | None):
        return "reason must be a text"
    if not isinstance(owner, str | None):
        return "owner must be a text"
    if isinstance(seconds, bool) or not isinstance(seconds, int | float | None):
        return "for_seconds must be a number"
    if seconds is not None and not LEAST_SECONDS <= seconds <= MOST_SECONDS:
        return f"for_seconds must be from {LEAST_SECONDS} to {MOST_SECONDS}, which is 30 days"
    return Terms(
        reason=one_line(reason or "", REASON_LIMIT),
        owner=one_line(owner or "", OWNER_LIMIT),
        until=None if seconds is None else now + seconds,
    )


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


def text(maintenance: Maintenance, what: str, now: float) -> str:
    """One sentence for people. `what` is it that is out of use: `web is drained`."""
    owner = one_line(maintenance.owner, OWNER_LIMIT)
    by = f" by {owner}" if owner else ""
    since = f"since {moment_text(maintenance.since)} ({span_text(now - maintenance.since)})"
    return f"{what}{by} {since}, {_end_text(maintenance.until, now)}: {reason_text(maintenance)}"


def one_line(typed: str, limit: int) -> str:
    """A text as one line of printable characters, at most so many."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in typed).split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def reason_text(maintenance: Maintenance) -> str:
    """Why, in one line."""
    return one_line(maintenance.reason, REASON_LIMIT) or "no reason given"


def moment_text(at: float) -> str:
    """`2026-03-01T12:30:00Z`."""
    when = datetime.fromtimestamp(min(max(at, 0.0), _LAST_TIME), UTC)
    return when.replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def span_text(seconds: float) -> str:
    """`35 s`, `12 min`, `3 h 5 min`, `2 d 4 h`."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def dump(drains: Maintenances) -> bytes:
    """The drains as JSON, the same bytes for the same drains."""
    content = {
        scope: {"reason": one.reason, "owner": one.owner, "since": one.since, "until": one.until}
        for scope, one in sorted(drains.items())
    }
    return json.dumps({"format": _FORMAT, "maintenances": content}, indent=1).encode() + b"\n"


def load(data: bytes, wording: Wording) -> Maintenances | str:
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
        found = printable(str(read.get("format")), 20)
        return f"it is of format {found}, and this {wording.daemon} reads format {_FORMAT}"
    drains: dict[str, Maintenance] = {}
    for scope, entry in read["maintenances"].items():
        one = _entry(scope, entry, wording)
        if isinstance(one, str):
            return f"in the {wording.noun} of {printable(scope, 40)} {one}"
        drains[scope] = one
    return drains


def _end_text(until: float | None, now: float) -> str:
    if until is None:
        return "until it is ended"
    return f"until {moment_text(until)} ({span_text(until - now)} to go)"


def _entry(scope: str, entry: Any, wording: Wording) -> Maintenance | str:
    if not wording.is_scope(scope):
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
