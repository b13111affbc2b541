"""Where instances are found: the registry, other registries, names in DNS, lists in the definition."""

from collections.abc import Mapping

from smartstack.definition import ServiceDefinition
from smartstack.registry import open_reader
from smartstack.registry.protocol import LinkStatus, Listing, Ring, Unknown
from synapse.settings import Settings


class Sources:
    """What every service's sources say, together. Used by the loop's thread only, but for `status`."""

    def __init__(self, settings: Settings) -> None:
        self._registry = open_reader(
            settings.registry, session_timeout_seconds=settings.session_timeout, options=settings.zookeeper
        )

    def start(self, ring: Ring) -> None:
        """Begin to connect, without waiting for it; ring whenever `read` may answer something new."""
        self._registry.start(ring)

    def read(self, definitions: Mapping[str, ServiceDefinition]) -> Mapping[str, Listing | Unknown]:
        """What is known of each of these services, by name. The same object comes back where nothing changed."""
        paths = {name: registry_path(name, definition) for name, definition in definitions.items()}
        known = self._registry.read(list(paths.values()))
        return {name: known[path] for name, path in paths.items()}

    def status(self) -> LinkStatus:
        """The link to the main registry."""
        return self._registry.status()

    def others(self) -> Mapping[str, LinkStatus]:
        """The links to the other registries, by their names in synapse.yaml."""
        return {}

    def due_in(self) -> float | None:
        """In how many seconds `read` should be called if nobody rings, None when only a ring brings news."""
        return None

    def stop(self) -> None:
        """End every session and every thread of them."""
        self._registry.stop()


def registry_path(name: str, definition: ServiceDefinition) -> str:
    """Where a service stands in the registry."""
    return definition.registry_path or f"services/{name}"
