"""A simulated fleet: which host announces and follows what, and whether every host knows the truth."""

import asyncio
import random
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from smartstack.instance import Instance, encode, node_name
from tests.bench.scale_host import Announcer, Follower, SimulatedHost
from tests.bench.scale_session import Registry

ROOT: Final = "/smartstack"
PORT: Final = 8080
TICK_SECONDS: Final = 0.1
_POLL_SECONDS: Final = 0.02
_POLL_SHARE: Final = 0.05
"""To ask every host what it knows takes this share of the time at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A fleet: `instances` are of each service, and each host follows `uses` of the services."""

    hosts: int
    services: int
    instances: int
    uses: int


def address(host: int) -> str:
    """The loopback address of a host."""
    return f"127.{64 + host // 62_500}.{host // 250 % 250}.{host % 250 + 1}"


def service_path(service: int) -> str:
    """Where a service stands."""
    return f"{ROOT}/services/service-{service:04d}"


def instance_at(host: int, service: int) -> Instance:
    """What this host announces of a service."""
    return Instance(host=address(host), port=PORT + service, name=f"host-{host}")


class Fleet:
    """All hosts of a size, none of them running at first. Instance number n of all is announced by host n modulo the
    number of hosts."""

    def __init__(self, size: Size, registry: Registry, *, seed: int = 6) -> None:
        if size.instances > size.hosts:
            raise ValueError("a service has one instance on a host at most: more instances than hosts")
        self.size = size
        self.registry = registry
        self._random = random.Random(seed)
        self._instances: list[tuple[int, str, bytes]] = []
        for number in range(size.services * size.instances):
            host, service = number % size.hosts, number // size.instances
            instance = instance_at(host, service)
            self._instances.append((host, f"{service_path(service)}/{node_name(instance)}", encode(instance)))
        self._bits = {path: 1 << number for number, (_, path, _) in enumerate(self._instances)}
        self._announced: list[dict[str, bytes]] = [{} for _ in range(size.hosts)]
        for host, path, payload in self._instances:
            self._announced[host][path] = payload
        self._used = [sorted(self._random.sample(range(size.services), size.uses)) for _ in range(size.hosts)]
        readers = [0] * size.services
        for used in self._used:
            for service in used:
                readers[service] += 1
        self._readers = readers
        masks = [0] * size.services
        for number in range(len(self._instances)):
            masks[number // size.instances] |= 1 << number
        self._masks = [sum(masks[service] for service in used) for used in self._used]
        self._hosts: list[SimulatedHost | None] = [None] * size.hosts
        self._present = 0
        self._changes: dict[str, _Change] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._settle_seconds: list[float] = []

    async def begin(self) -> None:
        """Have the sessions that will be there ping and give up in time."""
        self._tasks.append(asyncio.create_task(self._tick()))

    async def end(self) -> None:
        """Stop what runs."""
        await self.stop(range(self.size.hosts))
        for task in self._tasks:
            task.cancel()

    def start(self, numbers: Iterable[int]) -> None:
        """Start these hosts, all at once."""
        for number in numbers:
            source = address(number)
            services = [service_path(service) for service in self._used[number]]
            host = self._hosts[number] = SimulatedHost(
                Announcer(self.registry, source, self._announced[number]),
                Follower(self.registry, source, services, self._bits, self._learn),
            )
            self._present |= sum(self._bits[path] for path in self._announced[number])
            host.start()

    async def stop(self, numbers: Iterable[int]) -> None:
        """Stop these hosts, all at once."""
        stopping = []
        for number in numbers:
            host = self._hosts[number]
            if host is not None:
                self._hosts[number] = None
                for path in host.announcer.wanted:
                    self._present &= ~self._bits[path]
                stopping.append(host.stop())
        await asyncio.gather(*stopping)

    def cut(self) -> None:
        """Cut every connection."""
        for host in self._running():
            for daemon in host.daemons:
                daemon.session.cut()

    async def settled(self, within_seconds: float) -> float | None:
        """Wait until every running host knows exactly what is announced; the seconds, None when it did not in time."""
        began = time.monotonic()
        while (asked_at := time.monotonic()) - began < within_seconds:
            if self.ignorant() == 0:
                return asked_at - began
            await asyncio.sleep(max(_POLL_SECONDS, (time.monotonic() - asked_at) / _POLL_SHARE))
        return None

    async def settled_again(self, began: float, within_seconds: float) -> float | None:
        """The same after a fault that happened at `began`, monotonic: first somebody has to notice it."""
        while self.ignorant() == 0 and time.monotonic() - began < within_seconds:
            await asyncio.sleep(_POLL_SECONDS)
        if await self.settled(within_seconds) is None:
            return None
        return time.monotonic() - began

    def take_settle_seconds(self) -> list[float]:
        """Of each change of one instance since the last time: until the last host knew."""
        taken, self._settle_seconds = self._settle_seconds, []
        self._changes.clear()
        return taken

    @property
    def running(self) -> int:
        """How many hosts run."""
        return sum(host is not None for host in self._hosts)

    def ignorant(self) -> int:
        """How many of the running hosts know something else than what is announced."""
        return sum(
            host is not None and host.follower.known != self._present & mask
            for host, mask in zip(self._hosts, self._masks, strict=True)
        )

    async def change(self, rate: float, seconds: float) -> int:
        """One instance after the other leaves, and the next time it joins again, so many a second; how many changes."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        changes = max(1, round(rate * seconds / 2)) * 2
        number = 0
        self._changes.clear()
        for made in range(changes):
            await asyncio.sleep(max(0.0, due - loop.time()))
            due += 1 / rate
            joins = made % 2 == 1
            if not joins:
                number = self._random.randrange(len(self._instances))
            self._change(number, joins=joins)
        return changes

    def _change(self, number: int, *, joins: bool) -> None:
        host_number, path, payload = self._instances[number]
        host = self._hosts[host_number]
        assert host is not None
        bit = self._bits[path]
        self._present = self._present | bit if joins else self._present & ~bit
        self._changes[path] = _Change(joins, self._readers[number // self.size.instances], time.monotonic())
        host.announcer.want(path, payload if joins else None)

    def _learn(self, path: str, there: bool) -> None:
        change = self._changes.get(path)
        if change is not None and change.joins == there:
            change.missing -= 1
            if change.missing == 0:
                self._settle_seconds.append(time.monotonic() - change.began)
                del self._changes[path]

    def _running(self) -> Iterator[SimulatedHost]:
        return (host for host in self._hosts if host is not None)

    async def _tick(self) -> None:
        """Tick all sessions, and stop their clock for as long as this comes late."""
        while True:
            due = time.monotonic() + TICK_SECONDS
            await asyncio.sleep(TICK_SECONDS)
            late = time.monotonic() - due
            if late > TICK_SECONDS:
                self.registry.clock.late_seconds += late
            for host in self._running():
                for daemon in host.daemons:
                    daemon.session.tick()


@dataclass(slots=True)
class _Change:
    """A change under way: how many hosts do not know of it yet."""

    joins: bool
    missing: int
    began: float
