"""The answers of several synapses as one: counts add up, and quantiles come out of added buckets. Pure.

What a peer answers is data from outside: what is not as it should be is told of that peer, and none of it is counted.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from synapse.telemetry.cells import CLASSES, Cell, added, figures, of_figures
from synapse.telemetry.histogram import BUCKETS

ROWS_LIMIT: Final = 20_000
"""Most rows that are told of; what has no place any more is counted as left out."""

_NAMES: Final = ("service", "instance", "source", "source_kind", "host", "method", "route")
_COUNTS: Final = ("requests", "success", "failures", "aborted", "retries", "sent_bytes", "received_bytes")
_LONGEST_NAME: Final = 2000
_LARGEST: Final = 1e18

Key = tuple[tuple[str, str], ...]


class Merged:
    """Rows of synapses, added up as they come. `kind` is the key under which an answer holds them: rows or edges.
    `left_out` counts the rows that had no place."""

    def __init__(self, kind: str) -> None:
        self.left_out = 0
        self._kind = kind
        self._cells: dict[Key, Cell] = {}
        self._rates: dict[Key, float] = {}
        self._open: dict[Key, int | None] = {}
        self._modes: dict[Key, str | None] = {}

    def take(self, host: str, body: bytes) -> float | str:
        """Add a synapse's answer: the seconds that it covers; in its place, in a few words, why it cannot be used.
        `host` is where the callers of its edges are."""
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            return "its answer is not JSON"
        try:
            raw = _of(answer, self._kind, list)
            seconds = _number(_of(answer, "covered_seconds", int | float))
            rows = [self._read(host, row) for row in raw]
        except _Unfit as unfit:
            return f"its answer cannot be used: {unfit}"
        for row in rows:
            self._add(row)
        return seconds

    def rows(self) -> list[dict[str, Any]]:
        """What was added, as one synapse would tell of it, in the order of names."""
        return [
            {
                **dict(key),
                "mode": self._modes[key],
                **figures(self._cells[key], 0.0),
                "rate": round(self._rates[key], 3),
                **({} if self._kind == "edges" else {"connections": self._open[key]}),
            }
            for key in sorted(self._cells)
        ]

    def _read(self, host: str, row: object) -> "_Row":
        if not isinstance(row, Mapping):
            raise _Unfit("a row is no object")
        names = {name: _name(name, row[name]) for name in _NAMES if name in row}
        if self._kind == "edges":
            names["host"] = host
        told: dict[str, Any] = {name: _number(_of(row, name, int | float)) for name in _COUNTS}
        classes = _of(row, "classes", dict)
        told["classes"] = {name: _number(_of(classes, name, int | float)) for name in CLASSES}
        told["buckets"] = [_number(each) for each in _of(row, "buckets", list)]
        if len(told["buckets"]) != BUCKETS:
            raise _Unfit(f"it has {len(told['buckets'])} buckets, not {BUCKETS}: it is another version of synapse")
        told["mean_ms"] = 0.0 if row.get("mean_ms") is None else _number(row["mean_ms"])
        told["sampled"] = _number(_of(row, "sampled", int | float))
        rate = 0.0 if row.get("rate") is None else _number(row["rate"])
        connections = None if row.get("connections") is None else round(_number(row["connections"]))
        return _Row(
            key=tuple(names.items()),
            mode=None if row.get("mode") is None else _name("mode", row["mode"]),
            cell=of_figures(told),
            rate=rate,
            connections=connections,
        )

    def _add(self, row: "_Row") -> None:
        key = row.key
        before = self._cells.get(key)
        if before is None and len(self._cells) >= ROWS_LIMIT:
            self.left_out += 1
            return
        self._cells[key] = row.cell if before is None else added(before, row.cell)
        self._rates[key] = self._rates.get(key, 0.0) + row.rate
        self._modes[key] = self._modes.get(key) or row.mode
        known = [each for each in (self._open.get(key), row.connections) if each is not None]
        self._open[key] = sum(known) if known else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """A row of one synapse. `mode` and `connections` are None where it does not know them."""

    key: Key
    mode: str | None
    cell: Cell
    rate: float
    connections: int | None


class _Unfit(Exception):
    """A value that does not pass; the text says why."""


def _of(holder: object, name: str, kind: Any) -> Any:
    value = holder.get(name) if isinstance(holder, Mapping) else None
    if not isinstance(value, kind):
        raise _Unfit(f"{name} is missing, or is of another kind")
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _Unfit("what should be a number is none")
    if not 0 <= value <= _LARGEST:  # nor is NaN
        raise _Unfit("a number is out of range")
    return float(value)


def _name(name: str, value: object) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST_NAME:
        raise _Unfit(f"{name} is no text, or is too long")
    return value
