"""What the pair takes of a host's memory, threads and descriptors, by the number of services.

python -m tests.bench.footprint [--services 1,20,100,1000] [--instances 10]
"""

import time
from collections.abc import Iterator, Sequence

from tests.bench.figures import Figure, Part
from tests.bench.fleet import fleet, start
from tests.bench.process import cost
from tests.bench.run import main

HEADLINE_SERVICES = 20
SETTLE_SECONDS = 3.0
"""Long enough for a check of each service, and for what a start leaves behind."""


def footprint(*, services: Sequence[int] = (1, 20, 100, 1000), instances: int = 10) -> Iterator[Figure]:
    """One host: its nerve announces so many services, each with an HTTP check every 2 s; its synapse and HAProxy offer
    them, with the instances of other hosts beside. RSS counts memory that processes share in each of them, PSS a part
    in each. HAProxy is its master and its worker."""
    for count in services:
        size = f"{count} x {instances + 1}"
        with fleet(count, instances) as (host, _):
            nerve = host.nerve(instances + 1, {f"web{number}": {} for number in range(count)})
            nerve.start(until="/healthz")
            start(host, count * (instances + 1))
            time.sleep(SETTLE_SECONDS)
            master, worker = host.haproxy()
            pids = {"nerve": nerve.pid, "synapse": host.synapse.pid, "HAProxy's master": master, "its worker": worker}
            costs = {name: cost(pid) for name, pid in pids.items()}
        for name, each in costs.items():
            yield from each.figures(name, size, headline=count == HEADLINE_SERVICES)


PARTS = (
    Part(
        program="footprint",
        title="Memory, threads and descriptors",
        measure=footprint,
        quick={"services": (1,), "instances": 2},
    ),
)

if __name__ == "__main__":
    main(PARTS)
