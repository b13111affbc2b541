"""What stands in a registry, whoever put it there: the facts, and the protocol, of those who tidy up."""

import enum
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol


class Holder(enum.Enum):
    """What keeps a node where it is."""

    ALIVE = "a session or a process that lives: the node goes with it"
    HAND = "the hand that wrote it and marked it as static"
    NOBODY = "nothing: it stays until somebody removes it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node as it was seen.

    `where` is its full place, for people and as its identity; it is raw, as the name is. `payload` is what a reader
    takes: that in the name where there is one, else the data. `session` names the session that holds it, None where it
    is no session's. `stamp` tells this very node from a later one of the same name.
    """

    where: str
    name: str
    payload: bytes
    holder: Holder
    session: str | None = None
    has_children: bool = False
    stamp: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """What could not be looked at, and why in a few words: a node, or a whole directory (`name` is None then)."""

    where: str
    name: str | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What was found, sorted by place. `looked_in` counts the directories.

    `saved_session` names the session that the last process here left on disk for the next one, None where it left none.
    """

    nodes: tuple[Node, ...] = ()
    unread: tuple[Unread, ...] = ()
    looked_in: int = 0
    saved_session: str | None = None


class Surveyor(Protocol):
    """What a command needs that tidies up. It changes nothing but what `remove` is called for."""

    def start(self) -> None:
        """Begin to connect, without waiting for it. Raises `RegistryRefused` for what cannot heal by itself."""

    def survey(self, directories: Collection[str], parents: Collection[str], worth: Callable[[str], bool]) -> Survey:
        """Every node in these directories, and in those that stand in one of `parents`.

        Paths are as in `smartstack.registry.protocol`. `worth` says by a node's name whether to look at it; each that
        it is costs one request at most. What is itself one of the directories, or above one, is no node. Waits a few
        seconds at most for a registry that is away. Raises `RegistryUnavailable`, `RegistryRefused`.
        """

    def remove(self, node: Node) -> bool:
        """Remove a node if it is still this very one and still nobody's. False: it is another by now, and stays.

        True also where it is gone already. Raises `RegistryUnavailable`, `RegistryRefused`.
        """

    def stop(self) -> None:
        """End the connection and every thread of it."""
