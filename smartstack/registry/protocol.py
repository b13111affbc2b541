"""What a registry is to its two users: `RegistryWriter` for nerve, `RegistryReader` for synapse.

A *path* names a service's directory in the registry: `services/web` is below the registry's root, `/nerve/web`
(with a leading slash) is absolute, as a definition's `registry_path` gives it. A *node* is one instance in it.

Threads: `start`, `read`, `held`, `put`, `remove`, `stop` are called by the daemon's loop thread only. Whatever the
registry's own threads learn, they keep and then ring; they never call into the daemon.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from smartstack.instance import Instance, encode

Ring: TypeAlias = Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One node that could be read.

    `version` orders two nodes of the same address: the larger is the newer (ZooKeeper: czxid or the sequence in the
    name; `file:`: the file's modification time in ns). 0 when the registry cannot say.
    """

    node: str
    instance: Instance
    version: int = 0

    @property
    def age(self) -> tuple[int, str, bytes]:
        """Of two nodes of the same address, the one where this is larger counts: the newer one, and where nobody can
        say which that is, the same one on every host."""
        return self.version, self.node, encode(self.instance)


def newest(records: Iterable[Record]) -> dict[str, Record]:
    """The record that counts for each address.

    Two nodes for one address are what a restart within the session time-out leaves behind.
    """
    found: dict[str, Record] = {}
    for record in records:
        other = found.get(record.instance.address)
        if other is None or record.age > other.age:
            found[record.instance.address] = record
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """One node that could not be taken: its name made printable and short, and why in a few words."""

    node: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Knowledge: these are the nodes of a service, sorted by name. An empty listing says that there are none.

    `partial` is for a service that is looked for in several places: why some of them are away, in which case what was
    known of those stands here in their place. Empty where everything was heard.
    """

    records: tuple[Record, ...] = ()
    refused: tuple[Refused, ...] = ()
    partial: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """No knowledge: the registry is away, or was not read yet. Never to be taken for an empty listing.

    `since` is in seconds since the epoch.
    """

    reason: str
    since: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeId:
    """A node's place: the service's path and the node's name in it."""

    path: str
    node: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldNode:
    """A node as the registry has it. `mine`: it lives and dies with this writer (its session, its lock)."""

    payload: bytes
    mine: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkStatus:
    """The link to the registry, for people: `detail` is a sentence, `since` in seconds since the epoch.

    `session` names the session (ZooKeeper: hexadecimal id), None where there is none. `counters` are totals since
    the start: `requests`, `events`, `reconnects`, `sessions`.
    """

    connected: bool
    detail: str
    since: float
    session: str | None
    counters: Mapping[str, int]


class RegistryReader(Protocol):
    """What synapse needs."""

    def start(self, ring: Ring) -> None:
        """Begin to connect, without waiting for it; ring whenever `read` may answer something new.

        Raises `RegistryRefused` for what cannot heal by itself (a directory that may not be read).
        """

    def read(self, paths: Collection[str]) -> Mapping[str, Listing | Unknown]:
        """The present content of each of these paths, and watch exactly them from now on.

        Never raises for what the network or the data do. The same object comes back for a path in which nothing
        changed, so that a caller can compare by identity. A path that does not exist is an empty listing; it is
        watched all the same. Costs at most one request for a changed node, none for an unchanged one.
        """

    def status(self) -> LinkStatus:
        """The link as it is now; may be called from any thread."""

    def stop(self) -> None:
        """End the session and every thread of it."""


class RegistryWriter(Protocol):
    """What nerve needs. A node that was put lives until it is removed or this writer is gone."""

    def start(self, ring: Ring) -> None:
        """Begin to connect, without waiting for it; ring when the link or an owned node changed under us.

        Raises `RegistryRefused` for what cannot heal by itself (a directory that may not be written).
        """

    def held(self, candidates: Collection[NodeId]) -> Mapping[NodeId, HeldNode]:
        """What the registry has now at these places, and at every other place this writer ever put something.

        Places where nothing is are left out. A foreign node is reported with `mine=False` where it is one of the
        candidates, and left out where it is not. Raises `RegistryUnavailable`, `RegistryRefused`.
        """

    def put(self, node: NodeId, payload: bytes, *, instead_of: NodeId | None = None) -> None:
        """Make this node be there, mine, with this payload, replacing what is there in one step without a gap.

        Readers that watch only the list of nodes see a new node. `instead_of` names a node of ours that goes in the
        same step (make before break). Safe to repeat. Raises `RegistryUnavailable`, `RegistryRefused`.
        """

    def remove(self, node: NodeId) -> None:
        """Make this node not be there if it is ours. Safe to repeat. Raises as `put`."""

    def status(self) -> LinkStatus:
        """The link as it is now; may be called from any thread."""

    def stop(self, *, leave: bool = False) -> None:
        """Remove everything that is ours and end the session and every thread of it.

        With `leave` the nodes stay as long as this registry keeps those of a writer that died: ZooKeeper for the
        session time-out, a `file:` registry not at all, because its locks die with the process.
        """
