"""What the admin address answers of the last hour: rows of figures, as they stand in its JSON. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from smartstack.traffic import Mode
from synapse.telemetry import cells
from synapse.telemetry.cells import Cell
from synapse.telemetry.frames import FRAME_SECONDS, By, Key, cells_of, condense
from synapse.telemetry.series import Window

LEAST_COVERED_SECONDS: Final = 1.0
"""A point of a curve is of so long at least: less says nothing of a rate."""

_LABELS: Final[Mapping[By, tuple[str, ...]]] = {
    "service": (),
    "instance": ("instance",),
    "route": ("method", "route"),
    "source": ("source_kind", "source"),
}
"""What the parts of a row's key after the service are called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A service that is offered, asked for or not: in which mode, and the addresses of its instances."""

    mode: Mode
    instances: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Of what rows are wanted. `source` takes only what that one asked for, where it is counted by source. `buckets`
    adds the histogram of the latencies to each row, so that rows of several hosts can be added up."""

    by: By = "service"
    service: str | None = None
    source: str | None = None
    buckets: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """What is known besides what was counted: the services, and how many connections each has open; None where that
    is not known."""

    known: Mapping[str, Known] = field(default_factory=dict)
    connections: Mapping[str, int] = field(default_factory=dict)


def counted_by(scope: Scope) -> By:
    """Which cells answer this."""
    return scope.by if scope.source is None else "source"


def rows(window: Window, scope: Scope, present: Present) -> list[dict[str, Any]]:
    """One for each service, instance, route or source, in the order of their names. Services that are offered, and
    their instances, have one though nobody asked for them."""
    merged, modes = _merged(window, scope)
    modes.update((name, known.mode) for name, known in present.known.items())
    if scope.source is None:
        for key in _expected(scope, present):
            merged.setdefault(key, cells.empty())
    whole = scope.by == "service" and scope.source is None
    return [
        {
            "service": key[0],
            **dict(zip(_LABELS[scope.by], key[1:], strict=True)),
            "mode": modes.get(key[0]),
            **cells.figures(cell, window.covered),
            "connections": present.connections.get(key[0]) if whole else None,
            **({"buckets": cells.buckets(cell)} if scope.buckets else {}),
        }
        for key, cell in sorted(merged.items())
    ]


def edges(window: Window, host: str, present: Present, *, buckets: bool = False) -> list[dict[str, Any]]:
    """Who calls whom: one for each source and service. `buckets` as in a scope."""
    return [{**row, "host": host} for row in rows(window, Scope(by="source", buckets=buckets), present)]


def points(window: Window, service: str) -> list[dict[str, Any]]:
    """A service's curve: one for each ten seconds that are over, and the last when some of it is. All is null where
    synapse was not there, which is not the same as nobody having called."""
    covered: dict[int, float] = {}
    counted: dict[int, Cell] = {}
    for part in window.parts:
        covered[part.number] = covered.get(part.number, 0.0) + part.covered
        for _, cell in cells_of(part.counted, service):
            counted[part.number] = cells.added(counted.get(part.number, cells.empty()), cell)
    told = []
    for number in range(window.first, window.last + 1):
        seconds = covered.get(number, 0.0)
        there = seconds >= LEAST_COVERED_SECONDS
        if not there and number == window.last:
            break
        cell = counted.get(number, cells.empty())
        told.append(
            {
                "at": float(number * FRAME_SECONDS),
                "rate": cells.rate(cell, seconds) if there else None,
                "success_rate": cells.success_rate(cell) if there else None,
                "p50_ms": cells.latency(cell, 0.5) if there else None,
                "p99_ms": cells.latency(cell, 0.99) if there else None,
            }
        )
    return told


def services(window: Window) -> set[str]:
    """Those of which anything was counted."""
    return {key[0] for part in window.parts for key in part.counted.keys}


def _merged(window: Window, scope: Scope) -> tuple[dict[Key, Cell], dict[str, str]]:
    """What the scope wants, over all of the window, and the modes of services, as far as the cells say them."""
    by = counted_by(scope)
    merged: dict[Key, Cell] = {}
    modes: dict[str, str] = {}
    for counted in condense(part.counted for part in window.parts):
        for key, cell in cells_of(counted, scope.service):
            if scope.source is not None and scope.source != key[-1]:
                continue
            if by == "service":
                modes[key[0]] = key[1]
            at = key[:1] if scope.by == "service" else key
            merged[at] = cells.added(merged[at], cell) if at in merged else list(cell)
    return merged, modes


def _expected(scope: Scope, present: Present) -> Iterable[Key]:
    for name, known in present.known.items():
        if scope.service in (None, name):
            if scope.by == "service":
                yield (name,)
            elif scope.by == "instance":
                yield from ((name, address) for address in known.instances)
