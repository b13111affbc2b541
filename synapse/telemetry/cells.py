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
_FAILURE: Final = _CLASS + len(CLASSES)
_ABORTED: Final = _FAILURE + 1
_RETRIES: Final = _FAILURE + 2
_SENT: Final = _FAILURE + 3
_RECEIVED: Final = _FAILURE + 4
_MILLISECONDS: Final = _FAILURE + 5
_UNTOLD: Final = _FAILURE + 6
"""Requests that others stand for, because not all are told of."""

WIDTH: Final = _UNTOLD + 1
"""Numbers in a cell. Most requests are good, first tries and told of: those change six of them."""

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
    sent, received, took = request.sent_bytes * times, request.received_bytes * times, milliseconds * times
    for cell in cells:
        cell[bucket] += times
        cell[kind] += times
        cell[_SENT] += sent
        cell[_RECEIVED] += received
        cell[_MILLISECONDS] += took
    outcome = request.outcome
    if outcome is not Outcome.SUCCESS:
        ending = _FAILURE if outcome is Outcome.FAILURE else _ABORTED
        for cell in cells:
            cell[ending] += times
    if request.retries or times != 1.0:
        for cell in cells:
            cell[_RETRIES] += request.retries * times
            cell[_UNTOLD] += times - 1.0


def counters(cell: Sequence[float]) -> dict[str, float]:
    """What was counted as it is, for who makes a history of his own of it; milliseconds are those of all requests."""
    return {
        "success": _success(cell),
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
    return sum(cell[_CLASS:_FAILURE])


def success_rate(cell: Sequence[float]) -> float | None:
    """The successes among what succeeded or failed; None where nothing did."""
    judged = requests(cell) - cell[_ABORTED]
    return round(_success(cell) / judged, 6) if judged else None


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
        "success": round(_success(cell)),
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
        "sampled": round((every - cell[_UNTOLD]) / every, 4) if every else 1.0,
    }


def of_figures(told: Mapping[str, Any]) -> Cell:
    """A cell whose figures these are, with its `buckets`; to add those of several synapses up. As `figures` gives
    them."""
    cell = empty()
    cell[:BUCKETS] = told["buckets"]
    for name, place in _CLASS_PLACES.items():
        cell[place] = told["classes"][name]
    cell[_FAILURE], cell[_ABORTED] = told["failures"], told["aborted"]
    cell[_RETRIES], cell[_SENT], cell[_RECEIVED] = told["retries"], told["sent_bytes"], told["received_bytes"]
    cell[_MILLISECONDS] = (told["mean_ms"] or 0.0) * told["requests"]
    cell[_UNTOLD] = (1.0 - told["sampled"]) * told["requests"]
    return cell


def _success(cell: Sequence[float]) -> float:
    return requests(cell) - cell[_FAILURE] - cell[_ABORTED]
