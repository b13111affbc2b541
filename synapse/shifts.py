"""What operators say beside the definitions, on this host: shares of splits, and faults. Pure; times are seconds since
the epoch.

A share that was said holds until it is cleared; a fault has an end, which HAProxy knows as well, so that none outlives
a synapse that died.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from smartstack.instance import NAME, printable
from smartstack.maintenance import OWNER_LIMIT, moment_text, one_line

STATUSES: Final = (429, 500, 502, 503, 504)
"""What a fault may answer: HAProxy has a rule for each."""

MOST_SECONDS: Final = 86_400
"""How long a fault may last."""

MOST_DELAY_MS: Final = 60_000

SOURCE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,99}")
PATH: Final = re.compile(r"/[A-Za-z0-9._~%@:/-]{0,500}")
"""The beginning of a path. Less than a URL may have: nothing that HAProxy's socket reads as something else."""

_PARTS: Final = 10_000
_FORMAT: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What goes wrong on purpose: `percent` is in parts of 10,000, of the requests whose path begins with `path` and
    which come from `source` (None: from anybody). They are answered with `status` (None: not at once) after `delay_ms`.
    """

    service: str
    percent: int
    status: int | None
    delay_ms: int
    source: str | None
    path: str
    owner: str
    since: float
    until: float

    @property
    def entry(self) -> str:
        """Its value in the live map: `until|percent|status|delay|source`."""
        return f"{int(self.until)}|{self.percent}|{self.status or 0}|{self.delay_ms}|{self.source or '*'}"

    @property
    def words(self) -> str:
        """`10 % of /x from api: 503 after 200 ms`."""
        what = f"{self.status}" if self.status else ""
        delay = f"{self.delay_ms} ms late" if not what else f" after {self.delay_ms} ms"
        did = what + (delay if self.delay_ms else "")
        where = "" if self.path == "/" else f" of {self.path}"
        whose = f" from {self.source}" if self.source else ""
        return f"{percent_text(self.percent)}{where}{whose}: {did}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shifts:
    """All that is said: `splits` are shares in parts of 10,000, by service and target, `faults` by service."""

    splits: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    faults: Mapping[str, Fault] = field(default_factory=dict)

    def with_shares(self, service: str, said: Mapping[str, int]) -> "Shifts":
        """With these shares of a service too."""
        return replace(self, splits={**self.splits, service: {**self.splits.get(service, {}), **said}})

    def without_shares(self, service: str) -> "Shifts":
        """Without what was said of a service: its definition holds again."""
        return replace(self, splits={name: each for name, each in self.splits.items() if name != service})

    def with_fault(self, fault: Fault) -> "Shifts":
        """With this fault, instead of the one that its service had."""
        return replace(self, faults={**self.faults, fault.service: fault})

    def without_fault(self, service: str) -> "Shifts":
        """Without the fault of a service."""
        return replace(self, faults={name: each for name, each in self.faults.items() if name != service})

    def expired(self, now: float) -> "Shifts":
        """Without the faults whose time is over; the same object when that is none."""
        left = {name: fault for name, fault in self.faults.items() if now < fault.until}
        return replace(self, faults=left) if len(left) < len(self.faults) else self

    @property
    def due(self) -> float | None:
        """When the first of the faults is over."""
        return min((fault.until for fault in self.faults.values()), default=None)


NOTHING_SAID = Shifts()


def percent_text(parts: int) -> str:
    """`5 %`, of parts of 10,000."""
    return f"{parts / 100:g} %"


def fault_text(fault: Fault) -> str:
    """One sentence for people."""
    by = f" by {fault.owner}" if fault.owner else ""
    return f"{fault.service} has a fault{by} until {moment_text(fault.until)}: {fault.words}"


def dump(shifts: Shifts) -> bytes:
    """As JSON, the same bytes for the same shifts."""
    faults = {
        name: {
            "percent": fault.percent,
            "status": fault.status,
            "delay_ms": fault.delay_ms,
            "source": fault.source,
            "path": fault.path,
            "owner": fault.owner,
            "since": fault.since,
            "until": fault.until,
        }
        for name, fault in sorted(shifts.faults.items())
    }
    splits = {name: dict(sorted(each.items())) for name, each in sorted(shifts.splits.items())}
    return json.dumps({"format": _FORMAT, "splits": splits, "faults": faults}, indent=1).encode() + b"\n"


def load(data: bytes) -> Shifts | str:
    """What `dump` wrote, or in a few words why it is not that. Never raises. One bad entry refuses all."""
    try:
        read = json.loads(data)
    except (ValueError, RecursionError):
        return "it is not JSON"
    if not isinstance(read, dict) or read.get("format") != _FORMAT:
        return f"it is not of format {_FORMAT}"
    splits, faults = read.get("splits"), read.get("faults")
    if not isinstance(splits, dict) or not isinstance(faults, dict):
        return "it holds no splits and faults"
    for name, each in splits.items():
        if not NAME.fullmatch(name) or not isinstance(each, dict) or not all(map(_is_share, each.items())):
            return f"the split of {printable(name, 40)} is none"
    found: dict[str, Fault] = {}
    for name, each in faults.items():
        fault = read_fault(name, each) if isinstance(each, dict) else "is nothing"
        if isinstance(fault, str):
            return f"the fault of {printable(name, 40)} {fault}"
        found[name] = fault
    return Shifts(splits=splits, faults=found)


def read_fault(service: str, fields: Mapping[str, Any]) -> Fault | str:
    """A fault in plain values, or what is wrong with them."""
    status, source = fields.get("status"), fields.get("source")
    percent, delay, path = fields.get("percent"), fields.get("delay_ms"), fields.get("path")
    since, until, owner = fields.get("since"), fields.get("until"), fields.get("owner")
    if not NAME.fullmatch(service):
        return "is of no service"
    if not isinstance(percent, int) or isinstance(percent, bool) or not 1 <= percent <= _PARTS:
        return "must be of more than 0 and at most 100 % of the requests"
    if status is not None and status not in STATUSES:
        return f"must answer one of {', '.join(map(str, STATUSES))}"
    if not isinstance(delay, int) or isinstance(delay, bool) or not 0 <= delay <= MOST_DELAY_MS:
        return f"must delay by at most {MOST_DELAY_MS // 1000} s"
    if status is None and delay == 0:
        return "does nothing: it needs an abort, a delay or both"
    if source is not None and not (isinstance(source, str) and SOURCE.fullmatch(source)):
        return "must be from somebody: letters, digits, '_', '.', '@' and '-'"
    if not isinstance(path, str) or not PATH.fullmatch(path):
        return "must be of a path: '/', and letters, digits and any of ._~%@:/-"
    began, ends = _time(since), _time(until)
    if began is None or ends is None or not began < ends <= began + MOST_SECONDS:
        return f"must last at most {MOST_SECONDS // 3600} hours"
    if not isinstance(owner, str):
        return "has no owner"
    return Fault(
        service=service,
        percent=percent,
        status=status,
        delay_ms=delay,
        source=source,
        path=path,
        owner=one_line(owner, OWNER_LIMIT),
        since=began,
        until=ends,
    )


def _is_share(item: tuple[str, Any]) -> bool:
    to, share = item
    fits = isinstance(share, int) and not isinstance(share, bool) and 0 <= share <= _PARTS
    return fits and NAME.fullmatch(to) is not None


def _time(value: Any) -> float | None:
    fits = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e11
    return float(value) if fits else None
