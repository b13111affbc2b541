"""A host of a simulated fleet: what its nerve and its synapse ask of ZooKeeper, without the daemons.

`Announcer` does what `ZooKeeperWriter` does under nerve's loop, and `Follower` what `ZooKeeperReader` does under
synapse's, request by request; a test holds the two pairs together.
"""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final, TypeVar

from kazoo.exceptions import EXCEPTIONS, NodeExistsError, NoNodeError, RolledBackError, RuntimeInconsistency
from kazoo.security import OPEN_ACL_UNSAFE

from smartstack.registry.zookeeper import paths as tree
from smartstack.registry.zookeeper import wire
from smartstack.registry.zookeeper.reader import _TOGETHER
from smartstack.registry.zookeeper.rights import _NAME
from smartstack.registry.zookeeper.wire import Event, EventKind, Request
from tests.bench.scale_session import Answer, Registry, Session, Unavailable
from tests.bench.scale_wire import NO_NODE, errors_in_data, names, names_in_lists

T = TypeVar("T")

SYNAPSE_TURN_SECONDS: Final = 0.006
"""How long a synapse is busy with a change (`make bench-synapse`: CPU for one change among 100 x 10). What changes
meanwhile is read together."""

_ROUNDS: Final = 3
_CHASE_ROUNDS: Final = 20


class Daemon(ABC):
    """One session and the loop that a ring turns."""

    def __init__(self, registry: Registry, source: str) -> None:
        self._bell = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._busy = False
        self._generation = 0
        self._events: list[Event] = []
        self.session = Session(registry, source, on_up=self._up, on_event=self._hear)

    def start(self) -> None:
        """Begin, without waiting."""
        self.session.start()
        self._task = asyncio.get_running_loop().create_task(self._run(self._turn))

    async def stop(self) -> None:
        """End the session, and everything with it."""
        if self._task is not None:
            self._task.cancel()
        await self.session.stop()

    def idle(self) -> bool:
        """Whether nothing is left to do until something happens."""
        return self.session.connected and not self._busy and not self._bell.is_set()

    def _up(self) -> None:
        self._bell.set()

    def _hear(self, event: Event) -> None:
        self._events.append(event)
        self._bell.set()

    async def _run(self, turn: Callable[[], Awaitable[None]]) -> None:
        while True:
            await self._bell.wait()
            self._bell.clear()
            self._busy = True
            try:
                await turn()
            except Unavailable:
                if self.session.connected:
                    self._bell.set()
            self._busy = False

    @abstractmethod
    async def _turn(self) -> None:
        """What it does when it was rung for."""

    def _begin(self) -> bool:
        """Whether the connection is another than at the last turn, so that nothing counts any more."""
        if not self.session.connected:
            raise Unavailable
        if self.session.generation == self._generation:
            return False
        self._generation = self.session.generation
        self._events.clear()
        return True


class Announcer(Daemon):
    """nerve's session. `wanted` are the nodes that are to be there, with their payloads; `want` changes them."""

    def __init__(self, registry: Registry, source: str, wanted: Mapping[str, bytes]) -> None:
        super().__init__(registry, source)
        self.wanted = dict(wanted)
        self._put: set[str] = set()
        self._seen: dict[str, int | None] = {}
        self._tried_in = 0

    def want(self, path: str, payload: bytes | None) -> None:
        """Have this node there, or not."""
        if payload is None:
            self.wanted.pop(path, None)
        else:
            self.wanted[path] = payload
        self._bell.set()

    def holds(self, path: str) -> bool:
        """Whether this node is there and this session's, as far as is known."""
        return self._seen.get(path) == self.session.id

    async def _turn(self) -> None:
        if self._begin():
            self._seen.clear()
        for event in self._events:
            self._seen.pop(event.path, None)
        self._events.clear()
        if self._tried_in != self.session.id:
            await self._try_rights()
            self._tried_in = self.session.id
        places = [*dict.fromkeys((*self.wanted, *self._put))]
        await self._look(places)
        self._seen = {place: self._seen[place] for place in places}
        self._put = {place for place in self._put if self._seen[place] is not None}
        mine = {place for place, owner in self._seen.items() if owner == self.session.id}
        for place in mine - self.wanted.keys():
            self._seen.pop(place)
            await self._ask([wire.delete(place)])
            self._bell.set()
        for place in self.wanted.keys() - mine:
            await self._register(place, self.wanted[place])
            self._bell.set()

    async def _look(self, places: Iterable[str]) -> None:
        unseen = [place for place in places if place not in self._seen]
        for _round in range(_ROUNDS):
            if not unseen:
                return
            absent = []
            requests = [wire.get(place, watch=True) for place in unseen]
            for place, request, (error, body) in zip(unseen, requests, await self._ask(requests), strict=True):
                if error:
                    absent.append(place)
                else:
                    self._seen[place] = request.deserialize(body, 0)[1].ephemeralOwner
            unseen = []
            for place, (error, _) in zip(
                absent, await self._ask([wire.exists(place, watch=True) for place in absent]), strict=True
            ):
                if error:
                    self._seen[place] = None
                else:
                    unseen.append(place)
        if unseen:
            raise Unavailable

    async def _register(self, place: str, payload: bytes) -> None:
        for _round in range(_ROUNDS):
            await self._look([place])
            over = self._seen[place] is not None
            request = wire.put_ephemeral(place, payload, OPEN_ACL_UNSAFE, over=over, instead_of=None)
            self._put.add(place)
            self._seen.pop(place)
            [answer] = await self._ask([request])
            cause = _cause(request, answer)
            if cause is None:
                return
            if isinstance(cause, NoNodeError) and not over:
                await self._ask([wire.create_persistent(above, OPEN_ACL_UNSAFE) for above in tree.ancestors(place)])
            elif not isinstance(cause, NoNodeError | NodeExistsError):
                raise cause

    async def _try_rights(self) -> None:
        lowest = {tree.split(place)[0] for place in self.wanted} or {"/"}
        while lowest:
            asked = sorted(lowest)
            requests = [wire.try_create(tree.join(place, _NAME), OPEN_ACL_UNSAFE) for place in asked]
            lowest = set()
            for place, request, answer in zip(asked, requests, await self._ask(requests), strict=True):
                first = request.deserialize(answer[1], 0)[0]
                if isinstance(first, NoNodeError) and place != "/":
                    lowest.add(tree.split(place)[0])

    async def _ask(self, requests: Sequence[Request]) -> list[Answer]:
        answers: list[Answer] = []
        await self.session.ask(requests, answers.append)
        return answers


class Follower(Daemon):
    """synapse's session. `known` holds which nodes it knows to be there, as a bit for each in `bits`, the same for
    every host; None until all of its services are read. `on_known` hears of each change of one node."""

    def __init__(
        self,
        registry: Registry,
        source: str,
        services: Sequence[str],
        bits: Mapping[str, int],
        on_known: Callable[[str, bool], None] | None = None,
    ) -> None:
        super().__init__(registry, source)
        self._services = services
        self._bits = bits
        self._on_known = on_known
        self._unloaded = set(services)
        self._changed: dict[str, bool | None] = {}
        """True: to be read; None: it may be gone; False: it is gone."""
        self._known = 0

    @property
    def known(self) -> int | None:
        """See above."""
        return None if self._unloaded or not self.session.connected else self._known

    async def _turn(self) -> None:
        if self._begin():
            self._unloaded = set(self._services)
            self._changed.clear()
            self._known = 0
        self._take_events()
        await self._confirm_deletions()
        acted = bool(self._unloaded or self._changed)
        for _round in range(_CHASE_ROUNDS):
            await self._load()
            if not await self._refresh():
                break
            self._take_events()
        if acted:
            await asyncio.sleep(SYNAPSE_TURN_SECONDS)

    def _take_events(self) -> None:
        for event in self._events:
            if event.path in self._bits:
                self._changed[event.path] = None if event.kind is EventKind.DELETED else True
        self._events.clear()

    async def _confirm_deletions(self) -> None:
        loaded = [place for place in self._changed if tree.split(place)[0] not in self._unloaded]
        doubtful = [place for place in loaded if self._changed[place] is None]
        if doubtful:
            self._changed.update(dict.fromkeys(doubtful, False))
            await self.session.ask([wire.exists(tree.split(doubtful[0])[0], watch=False)], _ignore)
            self._take_events()

    async def _load(self) -> None:
        services = [service for service in self._services if service in self._unloaded]
        if not services:
            return
        await self.session.ask([wire.add_watch(service) for service in services], _ignore)
        listed: list[list[bytes]] = []
        lists = [wire.children(service, watch=False) for service in services]
        await self._ask_together(lists, lambda error, body: [] if error else names(body), names_in_lists, listed.extend)
        reads: list[str] = []
        ends: list[tuple[int, str]] = []
        for service, found in zip(services, listed, strict=True):
            reads.extend(f"{service}/{name.decode()}" for name in found)
            ends.append((len(reads), service))
        self._loaded(ends, 0)
        if await self._read(reads, lambda count: self._loaded(ends, count)):
            self._bell.set()

    def _loaded(self, ends: list[tuple[int, str]], count: int) -> None:
        """So many nodes were read; services whose last one is among them are loaded."""
        while ends and ends[0][0] <= count:
            self._unloaded.discard(ends.pop(0)[1])

    async def _refresh(self) -> bool:
        """Read what has changed; whether a node was gone when its turn came."""
        reads: list[str] = []
        for place, change in list(self._changed.items()):
            if change is None or tree.split(place)[0] in self._unloaded:
                continue
            del self._changed[place]
            if change:
                reads.append(place)
            else:
                self._note(place, there=False)
        return await self._read(reads, _ignore_count)

    async def _read(self, places: Sequence[str], progress: Callable[[int], None]) -> bool:
        """Read these nodes; whether one was gone. What was not read when the link failed stays to be read."""
        count = 0
        gone = False

        def take(errors: Sequence[int]) -> None:
            nonlocal count, gone
            for error in errors:
                self._note(places[count], there=error != NO_NODE)
                gone |= error == NO_NODE
                count += 1
            progress(count)

        requests = [wire.get(place, watch=False) for place in places]
        try:
            await self._ask_together(requests, lambda error, _body: error, errors_in_data, take)
        except Unavailable:
            unread = (place for place in places[count:] if tree.split(place)[0] not in self._unloaded)
            self._changed = {**dict.fromkeys(unread, True), **self._changed}
            raise
        return gone

    async def _ask_together(
        self,
        requests: Sequence[Request],
        read_one: Callable[[int, bytes], T],
        read_many: Callable[[bytes], Sequence[T]],
        take: Callable[[Sequence[T]], None],
    ) -> None:
        """Ask these many at a time, as synapse does; one that is alone goes as it is."""
        groups = [requests[start : start + _TOGETHER] for start in range(0, len(requests), _TOGETHER)]
        waiting = deque(map(len, groups))

        def answered(answer: Answer) -> None:
            error, body = answer
            take([read_one(error, body)] if waiting.popleft() == 1 else read_many(body))

        await self.session.ask(
            [wire.read_together(group) if len(group) > 1 else group[0] for group in groups], answered
        )

    def _note(self, place: str, *, there: bool) -> None:
        bit = self._bits[place]
        known = self._known | bit if there else self._known & ~bit
        if known != self._known:
            self._known = known
            if self._on_known is not None:
                self._on_known(place, there)


class SimulatedHost:
    """A nerve that announces some nodes, and a synapse that follows some services."""

    def __init__(self, announcer: Announcer, follower: Follower) -> None:
        self.announcer = announcer
        self.follower = follower
        self.running = False

    @property
    def daemons(self) -> tuple[Daemon, Daemon]:
        """Both."""
        return self.announcer, self.follower

    def start(self) -> None:
        """Start both daemons."""
        self.running = True
        for daemon in self.daemons:
            daemon.start()

    async def stop(self) -> None:
        """Stop both, as for a shutdown."""
        self.running = False
        await asyncio.gather(*(daemon.stop() for daemon in self.daemons))


def _cause(request: Request, answer: Answer) -> Exception | None:
    """Why a transaction was refused: its first error that is no consequence of another."""
    error, body = answer
    if error:
        found: Exception = EXCEPTIONS[error]()
        return found
    errors = [each for each in request.deserialize(body, 0) if isinstance(each, Exception)]
    causes = [each for each in errors if not isinstance(each, RolledBackError | RuntimeInconsistency)]
    return next(iter(causes or errors), None)


def _ignore(_answer: Answer) -> None:
    """The answer tells nothing that has to be known."""


def _ignore_count(_count: int) -> None:
    """Nothing depends on how many were read."""
