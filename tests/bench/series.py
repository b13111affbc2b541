"""`make bench-series`: what an hour of requests costs synapse in memory, what counting one costs, and how soon a tap
shows it. Each load runs in a process of its own, over every frame of an hour; `growth` is what its RSS grew by."""

import argparse
import json
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import cycle, islice

from synapse.telemetry import query
from synapse.telemetry.frames import FRAME_SECONDS, By
from synapse.telemetry.query import Present, Scope
from synapse.telemetry.request import Request
from synapse.telemetry.series import FRAMES, KEPT_LIMIT, Series
from synapse.telemetry.tally import CELLS_LIMIT, SERVICES_LIMIT
from synapse.telemetry.taps import Filter, Taps
from synapse.telemetry.templates import Templates
from tests.bench.process import cost
from tests.support.told import PLAIN

LIMIT_MB = 64.0
"""What is kept, what is being counted, the samples of paths, and what packing takes for a moment."""

TEMPLATES = ("/users/{id}", "/users/{id}/orders/{order}", "/static/*", "/search")
PER_FRAME = 2000


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


def measure(name: str) -> dict[str, float]:
    """One load for an hour, in this process."""
    load = LOADS[name]()
    first = list(islice(load, PER_FRAME))
    before = cost(os.getpid()).rss
    series, seconds, closing = Series(0.0), 0.0, 0.0
    series.templates = dict.fromkeys(("web", *(f"service-{number}" for number in range(20))), Templates(TEMPLATES))
    for frame in range(FRAMES + 3):
        batch = list(islice(load, PER_FRAME)) if frame else first
        began = time.process_time()
        series.add(batch, frame * FRAME_SECONDS + 5.0)
        seconds += time.process_time() - began
        began = time.process_time()
        series.advance(frame * FRAME_SECONDS + 10.0)
        closing = max(closing, time.process_time() - began)
    limits = series.limits()
    grown = cost(os.getpid()).rss - before
    return {
        "growth_mb": grown,
        "kept_mb": limits.bytes / 2**20,
        "cells": limits.cells,
        "folded": limits.folded,
        "hours_of_details": series.window(3600, "instance").covered / 3600,
        "us_per_request": seconds / (FRAMES + 3) / PER_FRAME * 1e6,
        "ms_per_closing": closing * 1e3,
        "ms_per_minute_asked": _asked(series, 60, "service"),
        "ms_per_hour_asked": _asked(series, 3600, "instance"),
    }


def _asked(series: Series, seconds: float, by: By) -> float:
    began = time.process_time()
    query.rows(series.window(seconds, by), Scope(by=by), Present())
    return (time.process_time() - began) * 1e3


def tap_delays(count: int = 200) -> list[float]:
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


def main() -> None:
    """All loads, or one with `--load`, whose figures are then JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--load", choices=sorted(LOADS))
    chosen = parser.parse_args().load
    if chosen is not None:
        print(json.dumps(measure(chosen)))
        return
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(
        f"limits: {KEPT_LIMIT / 2**20:.0f} MB kept, {CELLS_LIMIT} cells and {SERVICES_LIMIT} services in 10 s; "
        f"an hour is {FRAMES} frames, {PER_FRAME} requests in each"
    )
    for name, load in LOADS.items():
        output = subprocess.run(
            [sys.executable, "-m", __spec__.name, "--load", name], check=True, capture_output=True, text=True
        )
        figures = json.loads(output.stdout)
        verdict = "under" if figures["growth_mb"] <= LIMIT_MB else "OVER"
        print(f"\n{name}: {load.__doc__}")
        print(
            f"  memory: {figures['growth_mb']:.1f} MB grown ({verdict} the limit of {LIMIT_MB:.0f} MB), "
            f"{figures['kept_mb']:.1f} MB kept; details of {figures['hours_of_details'] * 60:.0f} minutes; "
            f"{figures['cells']:.0f} cells now, {figures['folded']:.0f} requests folded"
        )
        print(
            f"  time: {figures['us_per_request']:.1f} µs a request, {figures['ms_per_closing']:.0f} ms at most to end "
            f"a frame; to ask for the last minute {figures['ms_per_minute_asked']:.0f} ms, for all instances of an "
            f"hour {figures['ms_per_hour_asked']:.0f} ms"
        )
    delays = tap_delays()
    print(f"\ntap: shown {delays[len(delays) // 2]:.2f} ms (p99 {delays[-3]:.2f} ms) after the feed told of it")


if __name__ == "__main__":
    main()
