"""What a fleet asks of ZooKeeper, computed from its size: the formulas of docs/scale.md, and its table. Pure.

Requests, events, watches and bytes follow from what the daemons ask, and `make bench-scale` counts the same. CPU and
memory are what that measured on one machine, in the constants below.
"""

import math
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

PING_MICROSECONDS: Final = 60.0
CHANGE_MICROSECONDS: Final = 110.0
RELOAD_MICROSECONDS: Final = 1600.0
BASE_MEGABYTES: Final = 8.0
SESSION_KILOBYTES: Final = 2.0
WATCH_BYTES: Final = 220.0
NODE_BYTES: Final = 600.0

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
        return self.hosts * RELOAD_MICROSECONDS * self.uses * self.instances / 1000 / 1e6

    @property
    def heap_megabytes(self) -> float:
        """What a server has to keep if it has all sessions."""
        kept = self.sessions * SESSION_KILOBYTES * 1000 + self.watches * WATCH_BYTES + self.nodes * NODE_BYTES
        return BASE_MEGABYTES + kept / _MEGABYTE
