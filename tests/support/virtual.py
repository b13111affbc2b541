"""A service in virtual time: instances that are as slow and as ill as a test says, HAProxy's pick among them by the
governor's shares, and the feed of what became of each request. No socket, no clock, and the same for the same seed."""

import heapq
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from smartstack.instance import Instance
from smartstack.registry.protocol import Listing
from synapse.backend import DRAWS
from synapse.balancing.governor import Governor
from synapse.offers import Offer
from synapse.proxy import Load
from synapse.selection import Choice, Memory, Origin
from synapse.telemetry.request import Request
from tests.support.definitions import definition, placed

TICK = 0.1
"""How often the feed's thread calls."""


@dataclass(slots=True, kw_only=True)
class Server:
    """One instance. `seconds` is how long an answer takes at a time, None: it gives none; `fails` whether it is a 500,
    `hides` that it fails in a way that HAProxy tries elsewhere, so that the feed does not name it."""

    address: str
    seconds: Callable[[float], float | None] = lambda now: 0.002
    fails: Callable[[float], bool] = lambda now: False
    hides: bool = False
    served: int = 0
    retried: int = 0
    taken: list[float] = field(default_factory=list)


class Service:
    """`rate` requests a second from time 0 on, to `servers`. `statuses` is what clients got, and when. With
    `serves_nobody`, HAProxy has nobody to give them to. Of what did not fail, the feed tells the part `told`."""

    def __init__(
        self, servers: Sequence[Server], rate: float, *, seed: int = 1, asks: bool = True, **proxy: Any
    ) -> None:
        self.now = 0.0
        self.servers = {server.address: server for server in servers}
        self.statuses: list[tuple[float, int]] = []
        self.rings = 0
        self.serves_nobody = False
        self.told = 1.0
        self._rate = rate
        self._asks = asks
        self._random = random.Random(seed)
        self._sampling = random.Random(seed)
        self.governor = Governor(self._ring, self._random.random)
        self.offer = offer_of(self.servers, **proxy)
        self.governor.know("web", self.offer, 0.0)
        self._ending: list[tuple[float, int, Request, Server]] = []
        self._number = 0
        self._ticked = 0.0
        self._due = 0.0

    def share(self, address: str) -> float:
        """How much of its weight an instance gets now."""
        return self.governor.shares.get("web", {}).get(address, 1.0)

    def part(self, address: str, since: float, until: float) -> float:
        """The part of the requests between two times that this instance got."""
        counts = Counter({each: sum(since <= at < until for at in one.taken) for each, one in self.servers.items()})
        return counts[address] / max(1, counts.total())

    def failed(self, since: float = 0.0) -> int:
        """How many clients got no good answer since that time."""
        return sum(status >= 500 for at, status in self.statuses if at >= since)

    def only(self, *addresses: str) -> None:
        """These are the instances from now on."""
        self.servers = {address: self.servers[address] for address in addresses}
        self.offer = replace(self.offer, placement=offer_of(self.servers).placement)
        self.governor.know("web", self.offer, self.now)

    def run(self, until: float) -> None:
        """Let the time go by until then."""
        while self.now < until:
            ends = self._ending[0][0] if self._ending else until
            self.now = min(until, ends, self._due if self._rate else until, self._ticked + TICK)
            while self._ending and self._ending[0][0] <= self.now:
                self._end()
            if self._rate and self._due <= self.now:
                self._due += 1 / self._rate
                self._send()
            if self.now >= self._ticked + TICK - 1e-9:
                self._ticked = self.now
                self.governor.tick(self.now)
                self._answer_questions()

    def at_rate(self, rate: float) -> None:
        """So many requests a second from now on."""
        self._rate, self._due = rate, self.now

    def _ring(self) -> None:
        self.rings += 1

    def _pick(self, without: Server | None = None) -> Server | None:
        able = [one for one in self.servers.values() if self.share(one.address) > 0 and one is not without]
        if not able or self.serves_nobody:
            return None
        weights = [max(1, round(64 * self.share(one.address))) for one in able]
        best = None
        for drawn in self._random.choices(range(len(able)), weights, k=DRAWS):
            if best is None or able[drawn].served * weights[best] <= able[best].served * weights[drawn]:
                best = drawn
        return able[best or 0]

    def _send(self) -> None:
        server, retries = self._pick(), 0
        if server is not None and server.hides and server.fails(self.now):
            server.retried += 1
            server, retries = self._pick(without=server), 1
        if server is None:
            self._push(self.now, request("", status=503, termination="LR", response_ms=None), None)
            return
        server.served += 1
        server.taken.append(self.now)
        seconds = server.seconds(self.now)
        if seconds is None:
            hung = request(server.address, status=504, termination="sH", response_ms=None, total_ms=60_000)
            self._push(self.now + 60.0, hung, server)
            return
        ms = round(1000 * seconds)
        status = 500 if server.fails(self.now) else 200
        self._push(
            self.now + seconds,
            request(server.address, status=status, response_ms=ms, total_ms=ms, retries=retries),
            server,
        )

    def _push(self, at: float, ended: Request, server: Server | None) -> None:
        self._number += 1
        heapq.heappush(self._ending, (at, self._number, ended, server or Server(address="")))

    def _end(self) -> None:
        _, _, ended, server = heapq.heappop(self._ending)
        server.served -= 1
        self.statuses.append((self.now, ended.status))
        if self.told < 1.0 and ended.status < 500:
            if self._sampling.random() >= self.told:
                return
            ended = replace(ended, share=self.told)
        self.governor.take([ended], self.now)

    def _answer_questions(self) -> None:
        if self._asks and self.governor.asks():
            loads = {one.address: Load(current=one.served, retried=one.retried) for one in self.servers.values()}
            self.governor.told("web", loads, self.now)


def request(address: str, **fields: Any) -> Request:
    """A request that this instance answered well, in 2 ms, with these fields different."""
    host, _, port = address.rpartition(":")
    values: dict[str, Any] = {
        "mode": "http",
        "service": "web",
        "frontend": "web",
        "slot": "s1" if host else "",
        "host": host,
        "port": int(port or 0),
        "status": 200,
        "total_ms": 2,
        "response_ms": 2,
        "queue_ms": 0,
        "connect_ms": 0,
        "termination": "--",
        "retries": 0,
        "redispatched": False,
        "sent_bytes": 100,
        "received_bytes": 100,
        "client_host": "127.0.0.1",
        "client_port": 40_000,
        "source": "test",
        "source_kind": "host",
        "share": 1.0,
        "method": "GET",
        "path": "/",
    }
    return Request(**{**values, **fields})


def offer_of(addresses: Any, **proxy: Any) -> Offer:
    """What is offered of a service with instances at these addresses."""
    instances = tuple(Instance(host=each.rpartition(":")[0], port=int(each.rpartition(":")[2])) for each in addresses)
    return Offer(
        definition=definition(**proxy),
        known=Listing(records=()),
        choice=Choice(instances=instances, origin=Origin.LISTING, reason="", memory=Memory(good=instances)),
        placement=placed(instances),
    )
