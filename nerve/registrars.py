"""Every registry that this host's nerve writes to, the main one and those of a fleet that is being moved."""

from collections.abc import Callable, Collection, Mapping

from nerve.registrar import Registrar, Report
from nerve.registrations import MAIN, Registration
from smartstack.registry.protocol import HeldNode, LinkStatus, NodeId, RegistryWriter

Wanted = Mapping[str, tuple[Registration, ...]]
Seen = Mapping[str, Mapping[NodeId, HeldNode] | str]


class Registrars:
    """Used by the loop thread only. `writers` are by the registry's name; the main one is `MAIN` and comes first.

    A registry that hangs costs one time-out until it answers again, and the main one is asked before it.
    """

    def __init__(self, writers: Mapping[str, RegistryWriter], truce_seconds: float, clock: Callable[[], float]) -> None:
        self._writers = {MAIN: writers[MAIN], **writers}
        self._registrars = {name: Registrar(one, truce_seconds, clock) for name, one in self._writers.items()}

    @property
    def names(self) -> Collection[str]:
        """The registries by name."""
        return self._writers.keys()

    def start(self, ring: Callable[[], None]) -> None:
        """Begin to connect everywhere. Raises `RegistryRefused` for what cannot heal by itself."""
        for writer in self._writers.values():
            writer.start(ring)

    def look(self, wanted: Wanted) -> Seen:
        """What each registry has; in its place the reason where nothing is known."""
        return {name: one.look(wanted.get(name, ())) for name, one in self._registrars.items()}

    def act(self, wanted: Wanted, seen: Seen) -> Mapping[str, Report]:
        """Bring each registry closer to what is wanted."""
        return {name: one.act(wanted.get(name, ()), seen[name]) for name, one in self._registrars.items()}

    def links(self) -> Mapping[str, LinkStatus]:
        """The link to each registry; may be called from any thread."""
        return {name: writer.status() for name, writer in self._writers.items()}

    def stop(self, *, leave: bool) -> None:
        """Take back everything, or leave it to a successor, and end every session."""
        for writer in self._writers.values():
            writer.stop(leave=leave)
