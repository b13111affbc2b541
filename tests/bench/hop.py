"""What a proxy adds to a request, ours and others side by side in one run.

python -m tests.bench.hop [--rate 1000] [--seconds 3] [--rounds 5] [--rivals haproxy,nginx,envoy]
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from tests.bench.figures import Figure, Part
from tests.bench.open_loop import load
from tests.bench.rivals import RIVALS, Setup, answering, installed, running
from tests.bench.run import main
from tests.support.eventually import eventually
from tests.support.pair import BACKEND_PORT, Host

LISTEN = 3210
DIRECT = "directly"
OURS = "through our HAProxy, feed on"


@contextmanager
def light_host(**settings: Any) -> Iterator[Host]:
    """A host whose service `web` has one instance, which costs next to nothing; synapse runs, with these settings."""
    host = Host()
    try:
        host.settings |= settings
        place = host.instance(1)
        host.backends.close(place.host, BACKEND_PORT)
        with answering(place.host, BACKEND_PORT):
            host.serve("web", LISTEN, instances=1)
            host.start()
            eventually(lambda: host.members("web"))
            yield host
    finally:
        host.close()


def hop(
    *, rate: int = 1000, seconds: float = 3.0, rounds: int = 5, rivals: Sequence[str] = tuple(RIVALS)
) -> Iterator[Figure]:
    """The same requests at the same rate, with connections that are kept, to one instance that answers at once: without
    a proxy, through the pair's HAProxy with the feed of requests and without it, and through others that know nothing
    of us. They take turns, so that a busy moment of the machine meets all; a sample is one round's percentile."""
    with ExitStack() as stack:
        on = stack.enter_context(light_host())
        off = stack.enter_context(light_host(telemetry={"listen": None}))
        instance = on.instance(1).host
        ways = {DIRECT: (instance, BACKEND_PORT), OURS: (on.address, LISTEN)}
        ways["through our HAProxy, feed off"] = (off.address, LISTEN)
        for number, name in enumerate(installed(rivals), start=1):
            setup = Setup(host=on.address, port=LISTEN + number, instances=(f"{instance}:{BACKEND_PORT}",))
            stack.enter_context(running(name, setup))
            ways[f"through {RIVALS[name].title} alone"] = (setup.host, setup.port)
        p50: dict[str, list[float]] = {way: [] for way in ways}
        p99: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(rounds):
            for way, (host, port) in ways.items():
                took = sorted(1e6 * each.took for each in load(host, port, rate, seconds))
                p50[way].append(took[len(took) // 2])
                p99[way].append(took[len(took) * 99 // 100])
    size = f"{rate}/s, {rounds} rounds of {seconds:g} s"
    for way in ways:
        headline = way == OURS
        yield Figure(name=f"{way}: p50", size=size, unit="µs", samples=p50[way], headline=headline)
        yield Figure(name=f"{way}: p99", size=size, unit="µs", samples=p99[way], headline=headline)
        if way != DIRECT:
            added = [through - direct for through, direct in zip(p50[way], p50[DIRECT], strict=True)]
            yield Figure(name=f"{way}: added to the p50", size=size, unit="µs", samples=added, headline=headline)


PARTS = (
    Part(
        program="hop",
        title="What a proxy adds to a request",
        measure=hop,
        quick={"rate": 200, "seconds": 0.5, "rounds": 1},
    ),
)

if __name__ == "__main__":
    main(PARTS)
