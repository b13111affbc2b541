"""The registries that are read, one reader for each however many services are looked for in it."""

import time
from collections import Counter
from collections.abc import Mapping

from smartstack.errors import RegistryRefused
from smartstack.registry import open_reader
from smartstack.registry.protocol import LinkStatus, Listing, RegistryReader, Ring, Unknown
from synapse.settings import OtherRegistry, Settings

MAIN = ""
"""The name of the registry that synapse.yaml gives as `registry`."""

REOPEN_SECONDS = 30.0
"""How often a registry that could not be opened (a certificate that is not there) is tried again."""


class Registries:
    """The main registry, which is always read, and the others while somebody wants something of them."""

    def __init__(self, settings: Settings) -> None:
        self._session_timeout = settings.session_timeout
        self._settings = {
            MAIN: OtherRegistry(url=settings.registry, zookeeper=settings.zookeeper),
            **settings.registries,
        }
        self._wanted: Counter[tuple[str, str]] = Counter()
        self._paths: dict[str, list[str]] | None = None
        self._known: Mapping[str, Mapping[str, Listing | Unknown]] = {}
        self._readers: Mapping[str, RegistryReader] = {MAIN: self._open(MAIN)}
        self._closed: dict[str, Unknown] = {}
        self._reopen_at: dict[str, float] = {}
        self._ring: Ring = _silence

    def start(self, ring: Ring) -> None:
        """Begin to connect to the main registry. Raises `RegistryRefused` for what cannot heal by itself."""
        self._ring = ring
        self._readers[MAIN].start(ring)

    def want(self, registry: str, path: str) -> None:
        """Read this path from the next `refresh` on; said twice, it has to be taken back twice."""
        self._wanted[registry, path] += 1
        self._paths = None

    def unwant(self, registry: str, path: str) -> None:
        """Take one `want` back."""
        self._wanted[registry, path] -= 1
        self._paths = None
        if not self._wanted[registry, path]:
            del self._wanted[registry, path]

    def refresh(self) -> None:
        """Read everything that is wanted; open and close registries as that asks for."""
        if self._paths is None:
            self._paths = {MAIN: []}
            for registry, path in self._wanted:
                self._paths.setdefault(registry, []).append(path)
        paths = self._paths
        for name in self._readers.keys() - paths.keys():
            self._readers[name].stop()
            self._readers = {other: reader for other, reader in self._readers.items() if other != name}
        for name in self._closed.keys() - paths.keys():
            del self._closed[name]
        for name in paths.keys() - self._readers.keys():
            self._try_to_open(name)
        self._known = {name: reader.read(paths[name]) for name, reader in self._readers.items()}

    def known(self, registry: str, path: str) -> Listing | Unknown:
        """What is known of a path that is wanted."""
        closed = self._closed.get(registry)
        return closed if closed is not None else self._known[registry][path]

    def main(self) -> Mapping[str, Listing | Unknown]:
        """What is known of each wanted path in the main registry."""
        return self._known[MAIN]

    def status(self) -> LinkStatus:
        """The link to the main registry; may be called from any thread."""
        return self._readers[MAIN].status()

    def others(self) -> Mapping[str, LinkStatus]:
        """The links to the other registries that are in use, by name; may be called from any thread."""
        links = {name: reader.status() for name, reader in self._readers.items() if name != MAIN}
        for name, closed in list(self._closed.items()):
            links[name] = LinkStatus(
                connected=False, detail=closed.reason, since=closed.since, session=None, counters={}
            )
        return dict(sorted(links.items()))

    def due_in(self) -> float | None:
        """In how many seconds a registry is to be opened that could not be, None when there is none."""
        dues = [at for name, at in self._reopen_at.items() if name in self._closed]
        return max(0.0, min(dues) - time.monotonic()) if dues else None

    def stop(self) -> None:
        """End every session and every thread of them."""
        for reader in self._readers.values():
            reader.stop()

    def _try_to_open(self, name: str) -> None:
        if name not in self._settings:
            self._close(name, f"synapse.yaml names no registry '{name}' among its registries")
            return
        if name in self._closed and time.monotonic() < self._reopen_at[name]:
            return
        try:
            reader = self._open(name)
            reader.start(self._ring)
        except RegistryRefused as refusal:
            self._close(name, f"registry '{name}': {refusal}")
            self._reopen_at[name] = time.monotonic() + REOPEN_SECONDS
            return
        self._closed.pop(name, None)
        self._reopen_at.pop(name, None)
        self._readers = {**self._readers, name: reader}

    def _close(self, name: str, reason: str) -> None:
        before = self._closed.get(name)
        if before is None or before.reason != reason:
            self._closed[name] = Unknown(reason=reason, since=before.since if before else time.time())

    def _open(self, name: str) -> RegistryReader:
        settings = self._settings[name]
        return open_reader(settings.url, session_timeout_seconds=self._session_timeout, options=settings.zookeeper)


def _silence() -> None:
    """The bell before the start."""
