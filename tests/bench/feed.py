"""What the feed costs: synapse's CPU and memory, HAProxy's CPU, and what clients notice, with the feed and without it,
side by side in one run.

    python -m tests.bench.feed [--rate 2000] [--seconds 5] [--rounds 2]

Three hosts are the same but for `telemetry`, and are loaded in turn: one has no feed, one is told of every request, one
is as it comes, which is told of a part from 2000 requests a second on. The instance is a HAProxy that answers by
itself, the client a process of its own that sends when the time has come, on 32 connections.
"""

import argparse
import json
import os
import platform
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from synapse.haproxy import program
from tests.bench.process import Cost, cost
from tests.support.eventually import eventually
from tests.support.pair import BACKEND_PORT, Host

LISTEN = 3210
_CONNECTIONS = 32
_REQUEST = b"GET /users/1 HTTP/1.1\r\nHost: web\r\n\r\n"
_INSTANCE = """
defaults
    mode http
    timeout client 1m
    timeout server 1m
    timeout connect 1s
frontend instance
    bind {host}:{port}
    http-request return status 200 content-type text/plain string "hello"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One load on one host: its requests, and what it cost."""

    requests: int
    latencies: tuple[float, ...]
    synapse_seconds: float
    haproxy_seconds: float

    def line(self, name: str) -> str:
        """For people."""
        p50, p99 = (1000 * self.latencies[int(len(self.latencies) * share)] for share in (0.5, 0.99))
        synapse, haproxy = (1e4 * each / self.requests for each in (self.synapse_seconds, self.haproxy_seconds))
        return (
            f"{name:<9} {self.requests:>6} requests, p50 {p50:.2f} ms, p99 {p99:.2f} ms; "
            f"CPU for 10,000: synapse {synapse:.3f} s, HAProxy {haproxy:.3f} s"
        )


def main() -> None:
    """Load the hosts in turn and print what was seen."""
    parser = argparse.ArgumentParser(description="what the feed costs")
    parser.add_argument("--rate", type=int, default=2000)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    print(
        f"# {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, {options.rate} requests/s"
    )
    with ExitStack() as open_until_end:
        without = open_until_end.enter_context(_host(telemetry={"listen": None}))
        with_feed = open_until_end.enter_context(_host(telemetry={"sample_above": 1_000_000}))
        sampled = open_until_end.enter_context(_host())
        print(f"idle      synapse {_idle(without):.2%} of a core without the feed, {_idle(with_feed):.2%} with it")
        for _ in range(options.rounds):
            print(_load(without, options.rate, options.seconds).line("without"))
            print(_load(with_feed, options.rate, options.seconds).line("with"))
            print(_load(sampled, options.rate, options.seconds).line("sampled"))
        lines, dropped = with_feed.synapse.metric("synapse_feed_lines_total"), _dropped(with_feed)
        print(f"lines     {lines:.0f} counted; lost: {json.dumps(dropped)}")
        memory = [f"{_synapse(host).rss:.1f} MB" for host in (without, with_feed)]
        print(f"RSS       synapse {memory[0]} without the feed, {memory[1]} with it")


@contextmanager
def _host(**settings: Any) -> Iterator[Host]:
    host = Host()
    instance = None
    try:
        host.settings |= settings
        place = host.instance(1)
        host.backends.close(place.host, BACKEND_PORT)
        path = host.write("instance.cfg", _INSTANCE.format(host=place.host, port=BACKEND_PORT))
        instance = subprocess.Popen([program.find("haproxy"), "-db", "-f", str(path)])
        host.serve("web", LISTEN, instances=1)
        host.start()
        eventually(lambda: host.members("web"))
        yield host
    finally:
        host.close()
        if instance is not None:
            instance.kill()
            instance.wait()


def _synapse(host: Host) -> Cost:
    return cost(host.synapse.pid)


def _idle(host: Host, seconds: float = 3.0) -> float:
    before = _synapse(host).cpu_seconds
    time.sleep(seconds)
    return (_synapse(host).cpu_seconds - before) / seconds


def _load(host: Host, rate: int, seconds: int) -> Round:
    worker = host.haproxy()[1]
    before = _synapse(host).cpu_seconds, cost(worker).cpu_seconds
    arguments = (host.address, str(LISTEN), str(rate), str(seconds))
    client = subprocess.run(
        [sys.executable, "-m", __spec__.name, "client", *arguments], stdout=subprocess.PIPE, check=True
    )
    time.sleep(0.3)
    after = _synapse(host).cpu_seconds, cost(worker).cpu_seconds
    latencies = json.loads(client.stdout)
    return Round(
        requests=len(latencies),
        latencies=tuple(sorted(latencies)),
        synapse_seconds=after[0] - before[0],
        haproxy_seconds=after[1] - before[1],
    )


def _dropped(host: Host) -> dict[str, float]:
    counts = {
        why: host.synapse.metric("synapse_feed_dropped_total", why=why) for why in ("dropped", "unparsed", "forged")
    }
    return {**counts, "haproxy": host.runtime.info().dropped_logs}


def client(host: str, port: int, rate: float, seconds: float) -> list[float]:
    """Send so many requests a second, and answer how long each took from the moment that it was due."""
    connections = {}
    for _ in range(_CONNECTIONS):
        opened = socket.create_connection((host, port))
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connections[opened.fileno()] = opened
    poll = select.epoll()
    for number in connections:
        poll.register(number, select.EPOLLIN)
    idle, waiting, due = list(connections), dict[int, float](), list[float]()
    latencies: list[float] = []
    began, sent, total = time.perf_counter(), 0, int(rate * seconds)
    while len(latencies) < total:
        now = time.perf_counter()
        while sent < total and began + sent / rate <= now:
            due.append(began + sent / rate)
            sent += 1
        while due and idle:
            number = idle.pop()
            waiting[number] = due.pop(0)
            connections[number].send(_REQUEST)
        for number, _ in poll.poll(0.0005):
            if not connections[number].recv(4096):
                raise ConnectionError("the server hung up")
            latencies.append(time.perf_counter() - waiting.pop(number))
            idle.append(number)
    return latencies


if __name__ == "__main__":
    if sys.argv[1:2] == ["client"]:
        place, *numbers = sys.argv[2:]
        print(json.dumps(client(place, int(numbers[0]), float(numbers[1]), float(numbers[2]))))
    else:
        main()
