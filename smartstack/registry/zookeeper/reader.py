"""RegistryReader on ZooKeeper: watches each wanted service, reads only what an event says has changed."""

import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from kazoo.exceptions import MarshallingError, NoNodeError, UnimplementedError

from smartstack.errors import RegistryError
from smartstack.forms import ZooKeeperUrl
from smartstack.instance import payload_in_name, sequence_in_name
from smartstack.registry.options import NOBODY, ZooKeeperOptions
from smartstack.registry.protocol import LinkStatus, Listing, Ring, Unknown
from smartstack.registry.zookeeper import paths as tree
from smartstack.registry.zookeeper import wire
from smartstack.registry.zookeeper.link import Link
from smartstack.registry.zookeeper.services import Change, Entry, Service, entry, unreadable
from smartstack.registry.zookeeper.wire import Event, EventKind, Request, describe

_ABSENT_ROUNDS = 3
"""How often a path that is made and removed while it is looked at is looked at again in one call."""

_TOGETHER = 50
"""So many questions go in one request, where the server can. Their answers stay well below a megabyte."""

_CHASE_ROUNDS = 20
"""How often one call follows nodes that go while they are read."""


class ZooKeeperReader:
    """Reads services and keeps them read.

    With *recursive* watches (ZooKeeper 3.6 and later) one watch for each service reports every change with the node's
    name: a new or changed node costs one read, none if its name holds the payload, and all removed ones together cost
    one short question.
    Otherwise, or when `recursive` is False, a service's list of names and each node's data are watched, once each: a
    change costs two requests at most.
    """

    def __init__(
        self,
        url: ZooKeeperUrl,
        *,
        session_timeout_seconds: float = 10.0,
        options: ZooKeeperOptions = NOBODY,
        recursive: bool = True,
    ) -> None:
        self._root = url.root
        self._wants_recursive = recursive
        self._recursive = recursive
        self._events: deque[tuple[int, Event]] = deque()
        self._link = Link(url.hosts, session_timeout_seconds, self._keep_event, options=options)
        self._generation = 0
        self._services: dict[str, Service] = {}
        self._watched: set[str] = set()
        self._unknown: dict[str, Unknown] = {}
        self._gone_meanwhile = False

    def start(self, ring: Ring) -> None:
        """Begin to connect, without waiting."""
        self._link.start(ring)

    def read(self, paths: Collection[str]) -> Mapping[str, Listing | Unknown]:
        """See `RegistryReader.read`."""
        wanted = {path: tree.absolute(self._root, path) for path in paths}
        reason = "it was read while the connection was lost and made again"
        try:
            self._generation_of_now()
            self._want(wanted.values())
            self._catch_up()
        except RegistryError as error:
            reason = str(error)
        current = self._link.usable and self._link.state.generation == self._generation
        answer: dict[str, Listing | Unknown] = {}
        for path, full in wanted.items():
            service = self._services.get(full)
            if current and service is not None and service.loaded:
                self._unknown.pop(full, None)
                answer[path] = service.listing()
            else:
                failure = service.failure if current and service is not None else None
                answer[path] = self._unknown_because(full, failure or reason)
        return answer

    def status(self) -> LinkStatus:
        """See `RegistryReader.status`."""
        return self._link.status()

    def stop(self) -> None:
        """See `RegistryReader.stop`; takes two seconds at most."""
        self._link.stop()

    def _keep_event(self, generation: int, event: Event) -> None:
        """On kazoo's thread: keep it for the loop."""
        self._events.append((generation, event))

    def _unknown_because(self, full: str, reason: str) -> Unknown:
        """The same object as long as the reason is the same, and the same `since` as long as nothing is known."""
        kept = self._unknown.get(full)
        if kept is None or kept.reason != reason:
            link = self._link.state
            since = kept.since if kept is not None else time.time() if link.connected else link.since
            kept = self._unknown[full] = Unknown(reason=reason, since=since)
        return kept

    def _generation_of_now(self) -> None:
        """After a (re)connect nothing that was read counts any more, and no watch is left."""
        state = self._link.require()
        if state.generation != self._generation:
            self._generation = state.generation
            self._recursive = self._wants_recursive
            self._watched.clear()
            for service in self._services.values():
                service.forget()

    def _want(self, paths: Iterable[str]) -> None:
        wanted = frozenset(paths)
        for path in self._services.keys() - wanted:
            del self._services[path]
            self._unknown.pop(path, None)
        for path in wanted - self._services.keys():
            self._services[path] = Service(path)
        surplus = self._watched - wanted
        if surplus and self._recursive:
            for _answer in self._link.ask(map(wire.remove_watches, sorted(surplus))):
                pass  # also an error tells that there is no watch
        self._watched -= surplus

    def _catch_up(self) -> None:
        """Read what has to be read, until no node was gone when its turn came.

        A node that is gone may have made room for another in the same transaction. The events that say so were sent
        before the answer and so are here already; without them the listing would show a moment that never was.
        """
        self._take_events()
        self._confirm_deletions()
        for _round in range(_CHASE_ROUNDS):
            self._gone_meanwhile = False
            self._load()
            self._refresh()
            if not self._gone_meanwhile:
                break
            self._take_events()

    def _take_events(self) -> None:
        note = self._note_recursive if self._recursive else self._note_once
        while self._events:
            generation, event = self._events.popleft()
            if generation == self._generation:
                note(event)

    def _confirm_deletions(self) -> None:
        """A deletion may be the first half of a replacement whose second half is still on its way. The server sends
        both before it answers anything that is asked now, so one question brings certainty for all deletions so far;
        those that come with its answer are for the next call, for which their ring has asked."""
        changed = [service for service in self._services.values() if service.changed and service.loaded]
        doubtful = [service for service in changed if service.confirm_deletions()]
        if doubtful:
            for _answer in self._link.ask([wire.exists(doubtful[0].path, watch=False)]):
                self._take_events()

    def _note_recursive(self, event: Event) -> None:
        parent, name = tree.split(event.path)
        if name and (service := self._services.get(parent)) is not None:
            service.changed[name] = Change.MAYBE_GONE if event.kind is EventKind.DELETED else Change.READ

    def _note_once(self, event: Event) -> None:
        """A deleted node is looked at again too: it may have been replaced in one step, which must show no gap."""
        parent, name = tree.split(event.path)
        if event.kind is not EventKind.CHANGED and (service := self._services.get(event.path)) is not None:
            service.relist = True
        if event.kind is not EventKind.CHILDREN and (service := self._services.get(parent)) is not None:
            service.changed[name] = Change.READ

    def _load(self) -> None:
        """Read whole services: watch first, so that nothing can change unseen."""
        services = [service for service in self._services.values() if not service.loaded]
        if not services:
            return
        try:
            listed = dict(self._list(services))
        except _NotRecursive:
            self._recursive = False
            self._watched.clear()
            for service in self._services.values():
                service.forget()
            services = list(self._services.values())
            listed = dict(self._list(services))
        fresh: dict[str, dict[str, Entry]] = {}
        missing: dict[str, int] = {}
        reads: list[tuple[Service, str]] = []
        for service in services:
            names = listed[service.path]
            if isinstance(names, Exception):
                service.fail(f"cannot read {service.path} in ZooKeeper: {describe(names)}")
                continue
            fresh[service.path] = {name: found for name in names if (found := _entry_in_name(name)) is not None}
            unread = [name for name in names if name not in fresh[service.path]]
            missing[service.path] = len(unread)
            reads += [(service, name) for name in unread]
            if not unread:
                service.load(fresh[service.path])
        for service, name, found in self._read_nodes(reads):
            if found is not None:
                fresh[service.path][name] = found
            missing[service.path] -= 1
            if not missing[service.path]:
                service.load(fresh[service.path])

    def _refresh(self) -> None:
        """Read single nodes of loaded services, and lists of names where one was said to have changed."""
        relist = [service for service in self._services.values() if service.relist and service.loaded]
        for path, names in self._list(relist) if relist else ():
            service = self._services[path]
            if isinstance(names, Exception):
                service.forget()
                service.fail(f"cannot read {path} in ZooKeeper: {describe(names)}")
                continue
            service.relist = False
            service.changed.update(dict.fromkeys(service.names - frozenset(names), Change.GONE))
            service.changed.update(dict.fromkeys(frozenset(names) - service.names, Change.READ))
        reads: list[tuple[Service, str]] = []
        for service in self._services.values():
            if not (service.changed and service.loaded):
                continue
            for name, change in list(service.changed.items()):
                if change is Change.MAYBE_GONE:
                    continue
                if change is Change.GONE:
                    service.apply(name, None)
                elif (found := _entry_in_name(name)) is not None:
                    service.apply(name, found)
                else:
                    reads.append((service, name))
        for service, name, found in self._read_nodes(reads):
            service.apply(name, found)

    def _list(self, services: Iterable[Service]) -> Iterator[tuple[str, list[str] | Exception]]:
        """Watch these services and yield the names in each."""
        paths = [service.path for service in services]
        return self._list_recursive(paths) if self._recursive else self._list_once(paths)

    def _list_recursive(self, paths: Sequence[str]) -> Iterator[tuple[str, list[str] | Exception]]:
        refused: dict[str, Exception] = {}
        for request, answer in self._link.ask(map(wire.add_watch, paths)):
            if isinstance(answer, UnimplementedError | MarshallingError):
                raise _NotRecursive
            if isinstance(answer, Exception):
                refused[request.path] = answer
            else:
                self._watched.add(request.path)
        for request, answer in self._ask_together([wire.children(path, watch=False) for path in paths]):
            if isinstance(answer, NoNodeError):
                yield request.path, refused.get(request.path, [])
            else:
                yield request.path, refused.get(request.path, answer)

    def _list_once(self, paths: Sequence[str]) -> Iterator[tuple[str, list[str] | Exception]]:
        """The list of names with a watch; of an absent path the watch is on its making."""
        for _round in range(_ABSENT_ROUNDS):
            absent: list[str] = []
            for request, answer in self._link.ask(wire.children(path, watch=True) for path in paths):
                if isinstance(answer, NoNodeError):
                    absent.append(request.path)
                else:
                    yield request.path, answer
            paths = []
            for request, answer in self._link.ask(wire.exists(path, watch=True) for path in absent):
                if answer is None:
                    yield request.path, []
                elif isinstance(answer, Exception):
                    yield request.path, answer
                else:
                    paths.append(request.path)
        for path in paths:
            yield path, NoNodeError("it comes and goes")

    def _read_nodes(self, reads: Iterable[tuple[Service, str]]) -> Iterator[tuple[Service, str, Entry | None]]:
        """Read these nodes and yield each with what it is, None if it is not there."""
        reads = list(reads)
        watch = not self._recursive
        requests = [wire.get(tree.join(service.path, name), watch=watch) for service, name in reads]
        answers = self._ask_together(requests) if self._recursive else self._link.ask(requests)
        for (service, name), (_request, answer) in zip(reads, answers, strict=True):
            if isinstance(answer, NoNodeError):
                self._gone_meanwhile = True
                yield service, name, None
            elif isinstance(answer, Exception):
                yield service, name, unreadable(name, answer)
            else:
                payload, stat = answer
                yield service, name, entry(name, payload, stat.czxid)

    def _ask_together(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Any]]:
        """Ask these, which set no watch, many at a time, and yield each with its answer, in order."""
        groups = [requests[start : start + _TOGETHER] for start in range(0, len(requests), _TOGETHER)]
        asked = (wire.read_together(group) if len(group) > 1 else group[0] for group in groups)
        for group, (request, answer) in zip(groups, self._link.ask(asked), strict=True):
            if request.type != wire.MULTI_READ:
                yield request, answer
            elif isinstance(answer, Exception):
                # What refuses a whole group (an answer beyond a limit of size) may have nothing against each.
                yield from self._link.ask(group)
            else:
                yield from zip(group, answer, strict=True)


class _NotRecursive(Exception):
    """The server has no recursive watches."""


def _entry_in_name(name: str) -> Entry | None:
    payload = payload_in_name(name)
    return None if payload is None else entry(name, payload, sequence_in_name(name))
