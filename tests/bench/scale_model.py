"""What a fleet asks of ZooKeeper, computed from its size: the formulas of docs/scale.md, and its table. Pure.

Requests, events, watches and bytes follow from what the daemons ask, and `make bench-scale` counts the same. CPU and
memory are what that measured on one machine, in the constants below.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from smartstack.instance import Instance, encode, node_name
from smartstack.registry.zookeeper import wire as product
from smartstack.registry.zookeeper.reader import _TOGETHER
from tests.bench import scale_wire as wire

PING_JITTER_SECONDS: Final = 0.2
"""By so much, on average, kazoo pings before a third of the session time-out is over."""

LEAVE_REQUESTS: Final = 3
"""nerve deletes a node, and looks at the place again: getData, exists."""

JOIN_REQUESTS: Final = 4
"""nerve looks at the place (getData, exists), makes the node (multi), and looks at it again (getData)."""

START_REQUESTS: Final = 5
"""For each node at its first start: those of a join, and one that tries the right to write."""

PING_MICROSECONDS: Final = 87.0
CHANGE_MICROSECONDS: Final = 113.0
"""For each who is told of a change: the event, the question and its answer."""

REQUEST_MICROSECONDS: Final = 45.0
READ_MICROSECONDS: Final = 3.0
"""When all is read again: for each request, and for each node in it."""

BASE_MEGABYTES: Final = 8.0
SESSION_BYTES: Final = 3000.0
WATCH_BYTES: Final = 220.0
NODE_BYTES: Final = 700.0

RELOAD_SECONDS: Final = 5.0
"""In this time the servers should have answered everybody after a leader was lost, each with one core."""

STEADY_SHARE: Final = 0.3
"""Of one core of each server: what is left is for the storms."""

VOTERS: Final = 3
LEAST_HEAP_MEGABYTES: Final = 512
HEAP_FACTOR: Final = 4
"""Java's heap as a multiple of what is kept in it: room for answers that are being made, and for collections."""

_MEGABYTE: Final = 1_000_000
_STAT_BYTES: Final = 68
_FRAME_BYTES: Final = 4 + wire.ANSWER_HEAD_BYTES
_EVENT_BYTES: Final = _FRAME_BYTES + 12
_PART_BYTES: Final = 9
_SERVICE: Final = "/smartstack/services/service-0001"
_INSTANCE: Final = Instance(host="10.10.100.100", port=8080, name="host-1000")
_NODE: Final = f"{_SERVICE}/{node_name(_INSTANCE)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A fleet that is to be: `instances` are of each service, each host follows `uses` of the services, and so many
    instances of all leave or join in a second."""

    hosts: int
    services: int
    instances: int
    uses: int
    changes_per_second: float
    session_timeout_seconds: float = 10.0

    @property
    def nodes(self) -> int:
        """Instances of all services."""
        return self.services * self.instances

    @property
    def sessions(self) -> int:
        """One of nerve and one of synapse on each host."""
        return 2 * self.hosts

    @property
    def readers(self) -> float:
        """How many hosts follow a service, on average."""
        return self.hosts * self.uses / self.services

    @property
    def watches(self) -> int:
        """As ZooKeeper counts them: two for each service that a synapse follows, one for each node that a nerve has."""
        return 2 * self.uses * self.hosts + self.nodes

    @property
    def pings_per_second(self) -> float:
        """Each session sends one when it was silent for a while."""
        return self.sessions / (self.session_timeout_seconds / 3 - PING_JITTER_SECONDS)

    @property
    def requests_per_second(self) -> float:
        """Each change is asked about once by each who follows the service; without pings."""
        return self.changes_per_second * (self.readers + (LEAVE_REQUESTS + JOIN_REQUESTS) / 2)

    @property
    def events_per_second(self) -> float:
        """Each change is told to each who follows the service, and to the nerve whose node it is."""
        return self.changes_per_second * (self.readers + 1)

    @property
    def bytes_out_per_second(self) -> float:
        """What ZooKeeper sends of it: an event for each reader, and the node's data for each that joins, else less."""
        event = _EVENT_BYTES + 4 + len(_NODE)
        answer = _FRAME_BYTES + _STAT_BYTES + (4 + len(encode(_INSTANCE))) / 2
        pings = self.pings_per_second * _FRAME_BYTES
        return pings + self.changes_per_second * self.readers * (event + answer)

    @property
    def reload_requests(self) -> int:
        """What all hosts ask when every connection was lost, as when a leader is."""
        lists = math.ceil(self.uses / _TOGETHER) + math.ceil(self.uses * self.instances / _TOGETHER)
        return self.nodes + self.hosts * (self.uses + lists)

    @property
    def reload_bytes_in(self) -> int:
        """What ZooKeeper receives then."""
        watch = len(wire.request(1, product.add_watch(_SERVICE)))
        listed = _PART_BYTES + len(product.children(_SERVICE, watch=False).body)
        read = _PART_BYTES + len(product.get(_NODE, watch=False).body)
        own = len(wire.request(1, product.get(_NODE, watch=True)))
        return self.hosts * self.uses * (watch + listed + self.instances * read) + self.nodes * own

    @property
    def reload_bytes_out(self) -> int:
        """What ZooKeeper sends then."""
        data = 4 + len(encode(_INSTANCE)) + _STAT_BYTES
        name = 4 + len(node_name(_INSTANCE))
        of_service = _FRAME_BYTES + _PART_BYTES + 4 + self.instances * (name + _PART_BYTES + data)
        return self.hosts * self.uses * of_service + self.nodes * (_FRAME_BYTES + data)

    @property
    def start_requests_at_least(self) -> int:
        """What all hosts ask when they all start, without what each asks about nodes that come while it starts."""
        lists = math.ceil(self.uses / _TOGETHER)
        return START_REQUESTS * self.nodes + self.hosts * (self.uses + lists)

    @property
    def start_events_at_most(self) -> int:
        """What they are told then, when nothing was there before the first of them watched."""
        return self.hosts * self.uses * self.instances + self.nodes

    @property
    def steady_cores(self) -> float:
        """Of the servers together."""
        changes = self.changes_per_second * self.readers * CHANGE_MICROSECONDS
        return (self.pings_per_second * PING_MICROSECONDS + changes) / 1e6

    @property
    def reload_cpu_seconds(self) -> float:
        """Of the servers together."""
        reads = self.hosts * self.uses * self.instances
        return (self.reload_requests * REQUEST_MICROSECONDS + reads * READ_MICROSECONDS) / 1e6

    @property
    def heap_megabytes(self) -> float:
        """What a server has to keep if it has all sessions."""
        kept = self.sessions * SESSION_BYTES + self.watches * WATCH_BYTES + self.nodes * NODE_BYTES
        return BASE_MEGABYTES + kept / _MEGABYTE

    @property
    def largest_heap_megabytes(self) -> int:
        """What -Xmx should say."""
        return max(LEAST_HEAP_MEGABYTES, math.ceil(HEAP_FACTOR * self.heap_megabytes / 256) * 256)

    @property
    def servers(self) -> str:
        """Voters, and observers where those are not enough."""
        wanted = max(self.reload_cpu_seconds / RELOAD_SECONDS, self.steady_cores / STEADY_SHARE)
        observers = max(0, math.ceil(wanted) - VOTERS)
        return f"{VOTERS}" if observers == 0 else f"{VOTERS} + {observers} observers"


PLANS: Final = tuple(
    Plan(
        hosts=hosts,
        services=services,
        instances=instances,
        uses=uses,
        changes_per_second=changes,
        session_timeout_seconds=seconds,
    )
    for hosts, services, instances, uses, changes, seconds in (
        (100, 20, 10, 10, 1, 10),
        (500, 100, 10, 20, 1, 10),
        (500, 100, 10, 20, 5, 10),
        (1000, 100, 10, 20, 5, 10),
        (1000, 100, 10, 100, 5, 10),
        (2000, 200, 10, 20, 5, 10),
        (2000, 200, 10, 20, 20, 10),
        (5000, 500, 10, 20, 1, 30),
        (5000, 500, 10, 20, 5, 30),
        (5000, 500, 10, 20, 20, 30),
        (5000, 100, 50, 20, 5, 30),
        (10_000, 500, 20, 20, 20, 30),
    )
)
"""The rows of the table."""

_COLUMNS: Final[Mapping[str, Callable[[Plan], str]]] = {
    "hosts": lambda plan: f"{plan.hosts:,}",
    "services x instances": lambda plan: f"{plan.services} x {plan.instances}",
    "followed by each host": lambda plan: f"{plan.uses}",
    "changes/s": lambda plan: f"{plan.changes_per_second:g}",
    "time-out": lambda plan: f"{plan.session_timeout_seconds:g} s",
    "watches": lambda plan: f"{plan.watches:,}",
    "pings/s": lambda plan: f"{plan.pings_per_second:,.0f}",
    "requests/s": lambda plan: f"{plan.requests_per_second:,.0f}",
    "events/s": lambda plan: f"{plan.events_per_second:,.0f}",
    "MB/s out": lambda plan: f"{plan.bytes_out_per_second / _MEGABYTE:.2f}",
    "cores": lambda plan: f"{plan.steady_cores:.2f}",
    "all reconnect: requests": lambda plan: f"{plan.reload_requests:,}",
    "MB out": lambda plan: f"{plan.reload_bytes_out / _MEGABYTE:,.0f}",
    "CPU s": lambda plan: f"{plan.reload_cpu_seconds:.1f}",
    "heap kept": lambda plan: f"{plan.heap_megabytes:.0f} MB",
    "-Xmx": lambda plan: f"{plan.largest_heap_megabytes} MB",
    "servers": lambda plan: plan.servers,
}


def table() -> str:
    """The sizing table, as Markdown."""
    rows = [[column(plan) for column in _COLUMNS.values()] for plan in PLANS]
    lines = [list(_COLUMNS), ["---"] * len(_COLUMNS), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
