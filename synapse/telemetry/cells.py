"""A cell: what is counted of some requests, as a row of numbers that adds up with others; and a cell's figures. Pure.

A cell is a list while it is counted in, and 8 bytes a number once it is packed.
"""

from collections.abc import Mapping, Sequence
from operator import add
from typing import Any, Final

from synapse.telemetry.histogram import BUCKETS, bucket_of, quantile
from synapse.telemetry.request import Outcome, Request

CLASSES: Final = ("2xx", "3xx", "4xx", "5xx", "other")

_CLASS: Final = BUCKETS
_SUCCESS: Final = _CLASS + len(CLASSES)
_FAILURE: Final = _SUCCESS + 1
_ABORTED: Final = _SUCCESS + 2
_RETRIES: Final = _SUCCESS + 3
_SENT: Final = _SUCCESS + 4
_RECEIVED: Final = _SUCCESS + 5
_MILLISECONDS: Final = _SUCCESS + 6
_LINES: Final = _SUCCESS + 7

WIDTH: Final = _LINES + 1
"""Numbers in a cell."""

_CLASS_PLACES: Final = {name: _CLASS + place for place, name in enumerate(CLASSES)}

Cell = list[float]


def empty() -> Cell:
    """A cell that has counted nothing."""
    return [0.0] * WIDTH


def stands_for(request: Request) -> float:
    """How many requests it stands for: more than itself where not all are told of."""
    return 1 / request.share if 0 < request.share < 1 else 1.0


def count(request: Request, cells: Sequence[Cell]) -> None:
    """Count a request in each of these cells. One that stands for several, because not all are told of, counts so
    often; its latency is never below 0."""
    times = stands_for(request)
    milliseconds = request.total_ms if request.total_ms > 0 else 0
    bucket = bucket_of(milliseconds)
    status = request.status
    kind = _CLASS + status // 100 - 2 if 200 <= status < 600 else _CLASS_PLACES["other"]
    outcome = request.outcome
    ending = _SUCCESS if outcome is Outcome.SUCCESS else _FAILURE if outcome is Outcome.FAILURE else _ABORTED
    retries = request.retries * times
    sent, received, took = request.sent_bytes * times, request.received_bytes * times, milliseconds * times
    for cell in cells:
        cell[bucket] += times
        cell[kind] += times
        cell[ending] += times
        cell[_SENT] += sent
        cell[_RECEIVED] += received
        cell[_MILLISECONDS] += took
        cell[_LINES] += 1.0
        if retries:
            cell[_RETRIES] += retries


def counters(cell: Sequence[float]) -> dict[str, float]:
    """What was counted as it is, for who makes a history of his own of it; milliseconds are those of all requests."""
    return {
        "success": cell[_SUCCESS],
        "failure": cell[_FAILURE],
        "aborted": cell[_ABORTED],
        "retries": cell[_RETRIES],
        "sent_bytes": cell[_SENT],
        "received_bytes": cell[_RECEIVED],
        "milliseconds": cell[_MILLISECONDS],
    }


def added(one: Sequence[float], other: Sequence[float]) -> Cell:
    """Both together."""
    return list(map(add, one, other))


def requests(cell: Sequence[float]) -> float:
    """How many requests it counted."""
    return cell[_SUCCESS] + cell[_FAILURE] + cell[_ABORTED]


def success_rate(cell: Sequence[float]) -> float | None:
    """The successes among what succeeded or failed; None where nothing did."""
    judged = cell[_SUCCESS] + cell[_FAILURE]
    return round(cell[_SUCCESS] / judged, 6) if judged else None


def latency(cell: Sequence[float], q: float) -> float | None:
    """A quantile of the latencies, in milliseconds; None where there are none."""
    found = quantile(cell[:BUCKETS], q)
    return None if found is None else round(found, 3)


def buckets(cell: Sequence[float]) -> list[float]:
    """How many requests each bucket of the latencies has."""
    return [round(number, 3) for number in cell[:BUCKETS]]


def rate(cell: Sequence[float], seconds: float) -> float | None:
    """Requests a second; None where there was no second."""
    return round(requests(cell) / seconds, 3) if seconds > 0 else None


def figures(cell: Sequence[float], seconds: float) -> dict[str, Any]:
    """What the admin address says of a cell that was counted in for so many seconds."""
    every = requests(cell)
    return {
        "requests": round(every),
        "rate": rate(cell, seconds),
        "success": round(cell[_SUCCESS]),
        "failures": round(cell[_FAILURE]),
        "aborted": round(cell[_ABORTED]),
        "success_rate": success_rate(cell),
        "p50_ms": latency(cell, 0.5),
        "p95_ms": latency(cell, 0.95),
        "p99_ms": latency(cell, 0.99),
        "mean_ms": round(cell[_MILLISECONDS] / every, 3) if every else None,
        "retries": round(cell[_RETRIES]),
        "classes": {name: round(cell[place]) for name, place in _CLASS_PLACES.items()},
        "sent_bytes": round(cell[_SENT]),
        "received_bytes": round(cell[_RECEIVED]),
        "sampled": round(min(1.0, cell[_LINES] / every), 4) if every else 1.0,
    }


def of_figures(told: Mapping[str, Any]) -> Cell:
    """A cell whose figures these are, with its `buckets`; to add those of several synapses up. As `figures` gives
    them."""
    cell = empty()
    cell[:BUCKETS] = told["buckets"]
    for name, place in _CLASS_PLACES.items():
        cell[place] = told["classes"][name]
    cell[_SUCCESS], cell[_FAILURE], cell[_ABORTED] = told["success"], told["failures"], told["aborted"]
    cell[_RETRIES], cell[_SENT], cell[_RECEIVED] = told["retries"], told["sent_bytes"], told["received_bytes"]
    cell[_MILLISECONDS] = (told["mean_ms"] or 0.0) * told["requests"]
    cell[_LINES] = told["sampled"] * told["requests"]
    return cell
