"""What a reader knows of each service: its nodes, what has to be read again, and the listing made of it."""

import enum

from smartstack.instance import decode, printable
from smartstack.registry.protocol import Listing, Record, Refused
from smartstack.registry.zookeeper.wire import describe

Entry = Record | Refused


class Change(enum.Enum):
    """What is known of a node since it was last read."""

    READ = "it was made or changed and has to be read"
    MAYBE_GONE = "it was deleted; what was made in its place in the same step may still be on its way"
    GONE = "it was deleted and nothing came in its place"


class Service:
    """The nodes of one service, under one path.

    `loaded` says that the nodes are what the registry has, but for those in `changed` and, where `relist` is set, for
    the list of names.
    """

    __slots__ = ("_listing", "_nodes", "_stale", "changed", "failure", "loaded", "path", "relist")

    def __init__(self, path: str) -> None:
        self.path = path
        self.loaded = False
        self.relist = False
        self.changed: dict[str, Change] = {}
        self.failure: str | None = None
        self._nodes: dict[str, Entry] = {}
        self._listing = Listing()
        self._stale = False

    def confirm_deletions(self) -> bool:
        """What may be gone is gone unless an event that comes now says otherwise; whether there is any such."""
        doubtful = [name for name, change in self.changed.items() if change is Change.MAYBE_GONE]
        self.changed.update(dict.fromkeys(doubtful, Change.GONE))
        return bool(doubtful)

    @property
    def names(self) -> frozenset[str]:
        """The nodes that are known."""
        return frozenset(self._nodes)

    def forget(self) -> None:
        """Everything has to be read again; the nodes are kept to be recognised if they come back the same."""
        self.loaded = False
        self.relist = False
        self.changed.clear()

    def load(self, nodes: dict[str, Entry]) -> None:
        """These are all the nodes there are."""
        self.loaded = True
        self.failure = None
        self._stale = self._stale or nodes != self._nodes
        self._nodes = nodes

    def fail(self, reason: str) -> None:
        """The service cannot be read, and why."""
        self.loaded = False
        self.failure = reason

    def apply(self, name: str, entry: Entry | None) -> None:
        """A node is this now, or is gone."""
        self.changed.pop(name, None)
        if entry == self._nodes.get(name):
            return
        self._stale = True
        if entry is None:
            del self._nodes[name]
        else:
            self._nodes[name] = entry

    def listing(self) -> Listing:
        """The nodes as a listing: the same object as long as they are the same."""
        if self._stale:
            entries = [self._nodes[name] for name in sorted(self._nodes)]
            self._listing = Listing(
                records=tuple(entry for entry in entries if isinstance(entry, Record)),
                refused=tuple(entry for entry in entries if isinstance(entry, Refused)),
            )
            self._stale = False
        return self._listing


def entry(name: str, payload: bytes | None, version: int) -> Entry:
    """What a node's payload makes of it; a node without data has None."""
    instance = decode(payload or b"")
    if isinstance(instance, str):
        return Refused(node=printable(name), reason=instance)
    return Record(node=name, instance=instance, version=version)


def unreadable(name: str, error: Exception) -> Refused:
    """A node that is there and cannot be read."""
    return Refused(node=printable(name), reason=f"cannot be read: {describe(error)}")
