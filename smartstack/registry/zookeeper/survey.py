"""Surveyor on ZooKeeper: reads once, without watches, in a session of its own that owns nothing."""

import time
from collections.abc import Callable, Collection, Iterable
from typing import Any

from kazoo.exceptions import (
    BadVersionError,
    NoChildrenForEphemeralsError,
    NoNodeError,
    NotEmptyError,
    RolledBackError,
    RuntimeInconsistency,
)
from kazoo.protocol.serialization import Create, Delete, Transaction

from smartstack.errors import RegistryRefused, RegistryUnavailable
from smartstack.forms import ZooKeeperUrl
from smartstack.instance import payload_in_name, printable
from smartstack.registry.options import NOBODY, ZooKeeperOptions
from smartstack.registry.survey import Holder, Node, Survey, Unread
from smartstack.registry.zookeeper import paths as tree
from smartstack.registry.zookeeper import wire
from smartstack.registry.zookeeper.link import Link
from smartstack.registry.zookeeper.session_file import SessionFile
from smartstack.wake import Wake

CONNECT_SECONDS = 4.0
"""How long after the start a connection is waited for."""

SESSION_SECONDS = 10.0
"""The time-out of our own session, with which nothing goes."""

_POLL_SECONDS = 0.1
_GUARD = "smartstack-clean"


class ZooKeeperSurveyor:
    """See `Surveyor`. `session_file` is where nerve keeps its session; it is only read.

    Raises `RegistryRefused` when a file that the options name is wrong.
    """

    def __init__(
        self, url: ZooKeeperUrl, *, options: ZooKeeperOptions = NOBODY, session_file: str | None = None
    ) -> None:
        self._url = url
        self._bell = Wake()
        self._link = Link(url.hosts, SESSION_SECONDS, _no_watch, options=options)
        self._deadline = 0.0
        self._saved: str | None = None
        if session_file is not None:
            # The registry's name as `ZooKeeperWriter` gives it; a test holds that both are the same.
            registry = f"{url} {options.auth} {options.user or ''}"
            saved = SessionFile(session_file, registry).load()
            self._saved = None if saved is None else _session(saved.identity.session)

    def start(self) -> None:
        """See `Surveyor.start`."""
        self._deadline = time.monotonic() + CONNECT_SECONDS
        self._link.start(self._bell.ring)

    def survey(self, directories: Collection[str], parents: Collection[str], worth: Callable[[str], bool]) -> Survey:
        """See `Surveyor.survey`."""
        self._connect()
        unread: list[Unread] = []
        above = [tree.absolute(self._url.root, path) for path in parents]
        places = {tree.absolute(self._url.root, path) for path in directories}
        places.update(tree.join(parent, name) for parent, name in self._children(above, unread))
        passages = {*places, *above, *(path for place in places for path in tree.ancestors(place))}
        names = [
            (place, name)
            for place, name in self._children(sorted(places), unread)
            if worth(name) and tree.join(place, name) not in passages
        ]
        requests = (wire.get(tree.join(place, name), watch=False) for place, name in names)
        nodes: list[Node] = []
        for (_place, name), (request, answer) in zip(names, self._link.ask(requests), strict=True):
            if isinstance(answer, NoNodeError):
                continue
            if isinstance(answer, Exception):
                unread.append(Unread(where=request.path, name=name, reason=wire.describe(answer)))
            else:
                nodes.append(_node(request.path, name, *answer))
        return Survey(
            nodes=tuple(sorted(nodes, key=lambda node: node.where)),
            unread=tuple(sorted(unread, key=lambda one: one.where)),
            looked_in=len(places),
            saved_session=self._saved,
        )

    def remove(self, node: Node) -> bool:
        """See `Surveyor.remove`. Looked at once more, and then removed in one step with the proof that it is nobody's.

        What comes in its place between the two, a millisecond, is removed only if it is nobody's either.
        """
        [(_request, stat)] = self._link.ask([wire.exists(node.where, watch=False)])
        if stat is None:
            return True
        if isinstance(stat, Exception):
            raise _refusal(node, stat)
        if (stat.czxid, stat.version) != node.stamp or stat.ephemeralOwner != 0 or stat.numChildren:
            return False
        [(_request, answer)] = self._link.ask([self._delete_of_nobody(node)])
        answers = answer if isinstance(answer, list) else [answer]
        errors = [each for each in answers if isinstance(each, Exception)]
        causes = [each for each in errors if not isinstance(each, RolledBackError | RuntimeInconsistency)]
        cause = next(iter(causes or errors), None)
        if cause is None or isinstance(cause, NoNodeError):
            return True
        if isinstance(cause, BadVersionError | NoChildrenForEphemeralsError | NotEmptyError):
            return False
        raise _refusal(node, cause)

    def stop(self) -> None:
        """See `Surveyor.stop`; takes two seconds at most."""
        self._link.stop()

    def _connect(self) -> None:
        """Wait for the connection that `start` began. Raises `RegistryUnavailable`, and `RegistryRefused` at once when
        our login is refused."""
        while not self._link.usable:
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise RegistryUnavailable(
                    f"cannot see what is registered, ZooKeeper did not answer within {CONNECT_SECONDS:g} s: "
                    f"{self._link.status().detail}"
                )
            self._bell.wait(min(left, _POLL_SECONDS))
            try:
                self._link.require()
            except RegistryUnavailable:
                continue

    def _children(self, paths: Iterable[str], unread: list[Unread]) -> list[tuple[str, str]]:
        """Each child's directory and name. A directory that is not there has none; `unread` gets what may not be
        listed."""
        found = []
        for request, answer in self._link.ask(wire.children(path, watch=False) for path in paths):
            if isinstance(answer, list):
                found += [(request.path, name) for name in answer]
            elif not isinstance(answer, NoNodeError):
                unread.append(Unread(where=request.path, name=None, reason=wire.describe(answer)))
        return found

    def _delete_of_nobody(self, node: Node) -> wire.Request:
        """The node goes if nobody's session owns it and its data are those that were seen: all in one step.

        A request can name a node's version and not its owner, and the version of an ephemeral node that came in its
        place begins at 0 like any. But an ephemeral node can have no children, so a child is made and removed first,
        which nobody ever sees.
        """
        guard = tree.join(node.where, _GUARD)
        _created, version = node.stamp
        steps = [Create(guard, b"", self._link.rights, 0), Delete(guard, -1), Delete(node.where, version)]
        body = bytes(Transaction(steps).serialize())
        return wire.Request(Transaction.type, node.where, body, Transaction.deserialize)


def _node(path: str, name: str, data: bytes | None, stat: Any) -> Node:
    in_name = payload_in_name(name)
    owner = stat.ephemeralOwner
    return Node(
        where=path,
        name=name,
        payload=(data or b"") if in_name is None else in_name,
        holder=Holder.ALIVE if owner else Holder.NOBODY,
        session=_session(owner) if owner else None,
        has_children=stat.numChildren > 0,
        stamp=(stat.czxid, stat.version),
    )


def _session(number: int) -> str:
    """A session's name, as `LinkStatus` gives it."""
    return f"{number & 0xFFFF_FFFF_FFFF_FFFF:#x}"


def _refusal(node: Node, cause: Exception) -> RegistryRefused:
    return RegistryRefused(
        f"cannot remove {printable(node.where, 300)} in ZooKeeper: {wire.describe(cause)}; run this with the user that "
        "the node belongs to"
    )


def _no_watch(_generation: int, _event: wire.Event) -> None:
    """Nothing is watched."""
