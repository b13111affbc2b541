"""RegistryWriter on ZooKeeper: ephemeral nodes of known names, owned by this session or known not to be."""

import time
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from kazoo.exceptions import (
    KazooException,
    NoAuthError,
    NodeExistsError,
    NoNodeError,
    RolledBackError,
    RuntimeInconsistency,
)

from smartstack.errors import RegistryRefused, RegistryUnavailable
from smartstack.forms import ZooKeeperUrl
from smartstack.instance import PAYLOAD_LIMIT
from smartstack.registry.options import NOBODY, ZooKeeperOptions
from smartstack.registry.protocol import HeldNode, LinkStatus, NodeId, Ring
from smartstack.registry.zookeeper import paths as tree
from smartstack.registry.zookeeper import wire
from smartstack.registry.zookeeper.link import Link
from smartstack.registry.zookeeper.rights import Rights
from smartstack.registry.zookeeper.session_file import Saved, SessionFile
from smartstack.registry.zookeeper.wire import Event

_ROUNDS = 3
"""How often one call looks again when a node changed between the look and the step."""

_Place = HeldNode | None
"""What is at a path: None says that nothing is."""


class ZooKeeperWriter:
    """Puts and removes nodes, and knows which of them are its own.

    What was seen at a path is kept as long as a watch on it stands, so that asking again costs nothing. With a
    `session_file` the session outlives the process: the next writer with this file goes on with it, and with what it
    holds. Raises `RegistryRefused` when a file that the options name is wrong.
    """

    def __init__(
        self,
        url: ZooKeeperUrl,
        *,
        session_timeout_seconds: float = 10.0,
        options: ZooKeeperOptions = NOBODY,
        session_file: str | None = None,
    ) -> None:
        self._root = url.root
        self._events: deque[tuple[int, Event]] = deque()
        registry = f"{url} {options.auth} {options.user or ''}"
        self._file = None if session_file is None else SessionFile(session_file, registry)
        before = None if self._file is None else self._file.load()
        self._link = Link(
            url.hosts,
            session_timeout_seconds,
            self._keep_event,
            options=options,
            identity=None if before is None else before.identity,
        )
        self._rights = Rights(self._link)
        self._generation = 0
        self._session: int | None = None
        self._seen: dict[str, _Place] = {}
        self._put: dict[NodeId, float] = {}
        """Every place where a node was put, until it is seen to be empty: at once, or not before this moment where
        the outcome of a request is not known, as it may still come to pass."""
        if before is not None:
            self._put = dict.fromkeys(before.places, time.monotonic() + session_timeout_seconds)

    def start(self, ring: Ring) -> None:
        """Begin to connect, without waiting."""
        self._link.start(ring)

    def held(self, candidates: Collection[NodeId]) -> Mapping[NodeId, HeldNode]:
        """See `RegistryWriter.held`. Costs no request while nothing changed.

        Raises `RegistryRefused` too, when we may write nowhere and so have nothing to look after.
        """
        self._begin()
        self._save(exact=True)
        self._rights.check(self._session, self._directories(candidates))
        if self._rights.refused and not self._put:
            raise RegistryRefused(self._rights.refused)
        places = dict.fromkeys((*candidates, *self._put))
        paths = {place: self._path(place) for place in places}
        self._look(paths.values())
        self._unwatch(self._seen.keys() - set(paths.values()))
        wanted = frozenset(candidates)
        held: dict[NodeId, HeldNode] = {}
        for place, path in paths.items():
            there = self._seen[path]
            if there is None:
                self._forget(place)
            elif there.mine or place in wanted:
                held[place] = there
        return held

    def put(self, node: NodeId, payload: bytes, *, instead_of: NodeId | None = None) -> None:
        """See `RegistryWriter.put`: one transaction, so that every reader sees the old or the new."""
        if len(payload) > PAYLOAD_LIMIT:
            raise RegistryRefused(f"cannot put {node.path}/{node.node}: {len(payload)} bytes are over {PAYLOAD_LIMIT}")
        self._begin()
        path = self._path(node)
        old_path = self._path(instead_of) if instead_of is not None and instead_of != node else None
        for _round in range(_ROUNDS):
            self._look([path] if old_path is None else [path, old_path])
            there = self._seen[path]
            old = self._seen[old_path] if old_path is not None else None
            leaving = old_path if old is not None and old.mine else None
            if there is None or not there.mine or there.payload != payload:
                over = there is not None
                request = wire.put_ephemeral(path, payload, self._link.rights, over=over, instead_of=leaving)
            elif leaving is not None:
                request = wire.delete(leaving)
            else:
                return
            self._put[node] = 0.0
            self._save()
            touched = [node] if instead_of is None else [node, instead_of]
            cause = self._write(request, touched)
            if cause is None:
                return
            if isinstance(cause, NoNodeError) and there is None:
                self._make_parents(path)
            elif not isinstance(cause, NoNodeError | NodeExistsError):
                raise _refusal(f"put {path}", cause)
        raise RegistryUnavailable(f"cannot put {path} in ZooKeeper: it changes while it is looked at")

    def remove(self, node: NodeId) -> None:
        """See `RegistryWriter.remove`."""
        self._begin()
        path = self._path(node)
        self._look([path])
        there = self._seen[path]
        if there is None or not there.mine:
            return
        cause = self._write(wire.delete(path), [node])
        if cause is not None and not isinstance(cause, NoNodeError):
            raise _refusal(f"remove {path}", cause)

    def status(self) -> LinkStatus:
        """See `RegistryWriter.status`. Who may write nowhere is not connected to any use."""
        status = self._link.status()
        if status.connected and self._rights.refused:
            return replace(status, connected=False, detail=self._rights.refused)
        notes = (self._rights.note, self._link.note, self._file.problem if self._file is not None else "")
        return replace(status, detail="; ".join(filter(None, (status.detail, *notes))))

    def stop(self, *, leave: bool = False) -> None:
        """End the session, with which everything that is ours goes at once; takes two seconds at most.

        When the server cannot be reached the nodes stay until the session times out. With `leave` they stay so long in
        any case, or longer when another writer with the same session file takes the session up.
        """
        self._link.stop(leave=leave)
        if self._file is not None and not leave:
            self._file.remove()

    def _keep_event(self, generation: int, event: Event) -> None:
        """On kazoo's thread: keep it for the loop."""
        self._events.append((generation, event))

    def _path(self, node: NodeId) -> str:
        return tree.join(tree.absolute(self._root, node.path), node.node)

    def _begin(self) -> None:
        """Drop what is not known any more: everything after a reconnect, else what a watch reported."""
        state = self._link.require()
        if state.generation != self._generation:
            self._generation = state.generation
            self._session = state.session
            self._seen.clear()
        while self._events:
            generation, event = self._events.popleft()
            if generation == self._generation:
                self._seen.pop(event.path, None)

    def _directories(self, candidates: Collection[NodeId]) -> Iterable[str]:
        return (tree.absolute(self._root, place.path) for place in candidates) if candidates else (self._root or "/",)

    def _save(self, *, exact: bool = False) -> None:
        """Write down the session and every place where it may own a node, before it does.

        Raises `RegistryUnavailable` where a file would stay that names this session and not all places: the session is
        left for another then, which takes the nodes over.
        """
        identity = self._link.identity
        if self._file is None or identity is None:
            return
        saved = Saved(identity=identity, places=frozenset(self._put))
        if not self._file.save(saved, exact=exact):
            self._link.renew("the session was left, because its file could not be kept up to date")
            raise RegistryUnavailable("the session with ZooKeeper is given up for another")
        self._file.touch()

    def _forget(self, place: NodeId) -> None:
        if time.monotonic() >= self._put.get(place, float("inf")):
            del self._put[place]

    def _look(self, paths: Iterable[str]) -> None:
        """See what is at these paths, with a watch on each. Raises `RegistryUnavailable`."""
        unseen = [path for path in dict.fromkeys(paths) if path not in self._seen]
        for _round in range(_ROUNDS):
            if not unseen:
                break
            unseen = self._look_once(unseen)
        if unseen:
            raise RegistryUnavailable(f"cannot read {unseen[0]} in ZooKeeper: it comes and goes")
        if self._link.state.generation != self._generation:
            raise RegistryUnavailable("the connection to ZooKeeper was lost and made again meanwhile")

    def _look_once(self, paths: Sequence[str]) -> list[str]:
        """Look at these, return those that changed while being looked at.

        A node that may not be read is there and is not ours; a path that ZooKeeper cannot have holds nothing, and an
        attempt to put something there is what gets refused.
        """
        unread: dict[str, type[Exception]] = {}
        for request, answer in self._link.ask(wire.get(path, watch=True) for path in paths):
            if isinstance(answer, Exception):
                unread[request.path] = type(answer)
            else:
                payload, stat = answer
                mine = stat.ephemeralOwner == self._session
                self._seen[request.path] = HeldNode(payload=payload or b"", mine=mine)
        changed: list[str] = []
        for request, answer in self._link.ask(wire.exists(path, watch=True) for path in unread):
            if answer is None or isinstance(answer, Exception):
                self._seen[request.path] = None
            elif unread[request.path] is NoAuthError:
                self._seen[request.path] = HeldNode(payload=b"", mine=False)
            else:
                changed.append(request.path)
        return changed

    def _unwatch(self, paths: Collection[str]) -> None:
        """Forget what was seen there, and take the watches away: a server keeps each until it is triggered."""
        for request, _answer in self._link.ask(map(wire.remove_watches, sorted(paths))):
            self._seen.pop(request.path)  # also an error tells that there is no watch

    def _write(self, request: wire.Request, touched: Iterable[NodeId]) -> Exception | None:
        """Send a write, forget what was seen at the places that it touches, return the cause if it was refused."""
        places = list(touched)
        for place in places:
            self._seen.pop(self._path(place), None)
        try:
            [(_request, answer)] = self._link.ask([request])
        except RegistryUnavailable:
            believed_from = time.monotonic() + self._link.session_timeout_seconds
            for place in places:
                if place in self._put:
                    self._put[place] = believed_from
            raise
        return _cause(answer)

    def _make_parents(self, path: str) -> None:
        """Make the directories above a node; those that are there already answer so, or that we may not make them."""
        refused: Exception | None = None
        requests = [wire.create_persistent(above, self._link.rights) for above in tree.ancestors(path)]
        for _request, answer in self._link.ask(requests):
            if isinstance(answer, NodeExistsError):
                refused = None
            elif isinstance(answer, NoAuthError):
                refused = answer
            elif isinstance(answer, NoNodeError):
                raise _refusal(f"make the directory of {path}", refused or answer)
            elif isinstance(answer, Exception):
                raise _refusal(f"make the directory of {path}", answer)
        if refused is not None:
            raise _refusal(f"make the directory of {path}", refused)


def _cause(answer: Any) -> Exception | None:
    """Why a write was refused; of a transaction's answers the one that is the cause, not a consequence."""
    answers = answer if isinstance(answer, list) else [answer]
    errors = [each for each in answers if isinstance(each, Exception)]
    causes = [each for each in errors if not isinstance(each, RolledBackError | RuntimeInconsistency)]
    return next(iter(causes or errors), None)


def _refusal(attempt: str, cause: Exception) -> RegistryRefused:
    reason = wire.describe(cause)
    hint = "; give this user the right to write there" if isinstance(cause, NoAuthError) else ""
    refusal = RegistryRefused(f"cannot {attempt} in ZooKeeper: {reason}{hint}")
    refusal.__cause__ = cause if isinstance(cause, KazooException) else None
    return refusal
