"""How long from a node in ZooKeeper to HAProxy routing to it, and back; at how many requests.

python -m tests.bench.propagation [--changes 200] [--instances 10]
"""

import time
from collections.abc import Callable, Iterator
from functools import partial

from smartstack.instance import Instance, encode, encoded_node_name, node_name
from smartstack.registry.protocol import NodeId
from tests.bench.figures import Figure, Part
from tests.bench.fleet import fleet, reloads, start, until, watcher_requests
from tests.bench.run import main
from tests.support.pair import BACKEND_PORT, Host

SERVICE = "web0"
_LIMIT_SECONDS = 10.0
_POLL_SECONDS = 0.0005


def propagation(*, changes: int = 200, instances: int = 10) -> Iterator[Figure]:
    """From the write or the removal of a node in ZooKeeper until HAProxy's own answer shows it, which is asked all the
    time. nerve's registrations have their payload in the node's data or, if told so, in its name."""
    size = f"{changes} times beside {instances}"
    with fleet(services=1, instances=instances) as (host, _):
        start(host, instances)
        before = reloads(host)
        for kind, name_of in (("data", node_name), ("name", encoded_node_name)):
            added, removed, asked = _change(host, changes, name_of)
            yield Figure(
                name=f"added, payload in the {kind}", size=size, unit="ms", samples=added, headline=kind == "data"
            )
            yield Figure(
                name=f"removed, payload in the {kind}", size=size, unit="ms", samples=removed, headline=kind == "data"
            )
            name = f"requests to ZooKeeper, payload in the {kind}"
            yield Figure(name=name, size=size, unit="", samples=[asked])
        yield Figure(
            name="reloads of HAProxy", size=f"{4 * changes} changes", unit="", samples=[reloads(host) - before]
        )


def _change(
    host: Host, changes: int, name_of: Callable[[Instance], str | None]
) -> tuple[list[float], list[float], float]:
    """Additions and removals in ms, and the watcher's requests for one of them."""
    added, removed = [], []
    before = watcher_requests(host)
    for number in range(changes):
        instance = Instance(host=f"127.0.0.{number % 200 + 1}", port=BACKEND_PORT + 1 + number, name="bench")
        node = NodeId(path=f"services/{SERVICE}", node=str(name_of(instance)))
        added.append(_ms_until(host, instance, True, partial(host.writer.put, node, encode(instance))))
        removed.append(_ms_until(host, instance, False, partial(host.writer.remove, node)))
    return added, removed, (watcher_requests(host) - before) / (2 * changes)


def _ms_until(host: Host, instance: Instance, present: bool, change: Callable[[], None]) -> float:
    began = time.perf_counter()
    change()
    what = f"{instance.address} {'comes' if present else 'goes'}"
    until(lambda: (instance.address in host.members(SERVICE)) is present, what, _LIMIT_SECONDS, _POLL_SECONDS)
    return 1000 * (time.perf_counter() - began)


PARTS = (
    Part(
        program="propagation",
        title="From ZooKeeper to HAProxy",
        measure=propagation,
        quick={"changes": 3, "instances": 2},
    ),
)

if __name__ == "__main__":
    main(PARTS)
