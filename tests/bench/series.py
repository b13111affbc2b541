"""What an hour of requests costs synapse in memory, what counting one costs, and how soon a tap shows it.

python -m tests.bench.series [--loads ordinary,wide,many,hostile]
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import cycle, islice

from synapse.telemetry import query
from synapse.telemetry.frames import FRAME_SECONDS, By
from synapse.telemetry.query import Present, Scope
from synapse.telemetry.request import Request
from synapse.telemetry.series import FRAMES, Series
from synapse.telemetry.taps import Filter, Taps
from synapse.telemetry.templates import Templates
from tests.bench.figures import Figure, Part
from tests.bench.process import cost
from tests.bench.run import main
from tests.support.told import PLAIN

TEMPLATES = ("/users/{id}", "/users/{id}/orders/{order}", "/static/*", "/search")
_CHILD = "child"
_UNITS = {
    "growth": "MB",
    "kept": "MB",
    "cells": "",
    "requests folded": "",
    "details of the last": "min",
    "to count a request": "µs",
    "to end a frame, at most": "ms",
    "to ask for a minute": "ms",
    "to ask for all instances of an hour": "ms",
}


def ordinary() -> Iterator[Request]:
    """20 services, each with 10 instances, 4 routes and 5 callers."""
    paths = ("/users/17", "/users/17/orders/4", "/static/a/b.js", "/search")
    for number in cycle(range(20 * 10 * 4 * 5)):
        service, rest = f"service-{number % 20}", number // 20
        yield _request(number, service=service, host=f"10.0.0.{rest % 10}", path=paths[rest % 4], source=f"s{rest % 5}")


def wide() -> Iterator[Request]:
    """One service with 10,000 distinct paths, 1,000 instances and 100 callers."""
    for number in cycle(range(10_000)):
        host = f"10.0.{number % 1000 // 250}.{number % 250}"
        yield _request(number, host=host, path=f"/users/{number}/orders/{number}", source=f"caller-{number % 100}")


def many() -> Iterator[Request]:
    """1,000 services, each with 10 instances."""
    for number in cycle(range(10_000)):
        yield _request(number, service=f"service-{number % 1000}", host=f"10.0.0.{number // 1000}")


def hostile() -> Iterator[Request]:
    """1,500 services, and every path, instance, method and caller is a new one."""
    for number in cycle(range(2**31)):
        yield _request(
            number,
            service=f"service-{number % 1500}",
            host=f"{number % 223 + 1}.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}",
            method=f"M{number}",
            path=f"/{number:0180d}",
            source=f"{number:0100d}",
        )


LOADS: dict[str, Callable[[], Iterator[Request]]] = {
    "ordinary": ordinary,
    "wide": wide,
    "many": many,
    "hostile": hostile,
}


def _request(number: int, **changes: str) -> Request:
    return replace(PLAIN, total_ms=(1, 2, 3, 8, 40)[number % 5], **changes)  # type: ignore[arg-type]


def measure(name: str, per_frame: int) -> list[float]:
    """One load for an hour, in this process; in the order of `_UNITS`."""
    load = LOADS[name]()
    first = list(islice(load, per_frame))
    before = cost(os.getpid()).rss
    hour, seconds, closing = Series(0.0), 0.0, 0.0
    hour.templates = dict.fromkeys(("web", *(f"service-{number}" for number in range(20))), Templates(TEMPLATES))
    for frame in range(FRAMES + 3):
        batch = list(islice(load, per_frame)) if frame else first
        began = time.process_time()
        hour.add(batch, frame * FRAME_SECONDS + 5.0)
        seconds += time.process_time() - began
        began = time.process_time()
        hour.advance(frame * FRAME_SECONDS + 10.0)
        closing = max(closing, time.process_time() - began)
    limits = hour.limits()
    return [
        cost(os.getpid()).rss - before,
        limits.bytes / 2**20,
        limits.cells,
        limits.folded,
        hour.window(3600, "instance").covered / 60,
        seconds / (FRAMES + 3) / per_frame * 1e6,
        closing * 1e3,
        _asked(hour, 60, "service"),
        _asked(hour, 3600, "instance"),
    ]


def _asked(hour: Series, seconds: float, by: By) -> float:
    began = time.process_time()
    query.rows(hour.window(seconds, by), Scope(by=by), Present())
    return (time.process_time() - began) * 1e3


def tap_delays(count: int) -> list[float]:
    """From the feed's thread to who waits for a tap, in milliseconds, sorted."""
    taps, delays = Taps(), []
    name = taps.open(Filter(service="web"), 1000)
    for _ in range(count):
        began: list[float] = []

        def feed(began: list[float] = began) -> None:
            time.sleep(0.002)
            began.append(time.perf_counter())
            taps.take([PLAIN], time.monotonic())

        thread = threading.Thread(target=feed)
        thread.start()
        while not (catch := taps.ask(name, 5)) or not catch.heard:
            pass
        delays.append((time.perf_counter() - began[0]) * 1e3)
        thread.join()
    return sorted(delays)


def series(
    *, loads: Sequence[str] = ("ordinary", "wide", "many", "hostile"), per_frame: int = 2000, taps: int = 200
) -> Iterator[Figure]:
    """An hour of requests in synapse's memory, in frames of 10 s, each load in a process of its own: `ordinary` is 20
    services with 10 instances, 4 routes and 5 callers each; `wide` one service with 10,000 paths, 1,000 instances and
    100 callers; `many` 1,000 services; `hostile` new names in each request. Growth is that of RSS. A tap is a question
    for requests as they end."""
    size = f"{per_frame} requests in each of {FRAMES} frames"
    for name in loads:
        command = [sys.executable, "-m", __spec__.name, _CHILD, name, str(per_frame)]
        output = subprocess.run(command, check=True, capture_output=True, text=True)
        for (what, unit), figure in zip(_UNITS.items(), json.loads(output.stdout), strict=True):
            yield Figure(name=f"{name}: {what}", size=size, unit=unit, samples=[figure])
    yield Figure(name="a tap shows a request", size=f"{taps} requests", unit="ms", samples=tap_delays(taps))


PARTS = (
    Part(
        program="series",
        title="An hour of requests in memory",
        measure=series,
        quick={"loads": ("ordinary",), "per_frame": 20, "taps": 5},
    ),
)

if __name__ == "__main__":
    if sys.argv[1:2] == [_CHILD]:
        print(json.dumps(measure(sys.argv[2], int(sys.argv[3]))))
    else:
        main(PARTS)
