"""Where instances are found: the registry, other registries, names in DNS, files, lists in the definition.

base       what a source is, for these kinds and for those of other packages
registries one reader for each registry
registry   type: registry
static     type: static
instances_file  type: file
dns        type: dns; `resolver` asks, `dns_answers` says what an answer means
listing    listings out of what is no registry
combine    what several sources say together, and who is the leader
service    the sources of one service
"""

from collections.abc import Callable, Mapping, Sequence

from smartstack.definition import ServiceDefinition
from smartstack.instance import Instance
from smartstack.registry.protocol import LinkStatus, Listing, Ring, Unknown
from synapse.settings import Settings
from synapse.sources.base import Place, Shared
from synapse.sources.registries import MAIN, Registries
from synapse.sources.service import ServiceSources

Good = Callable[[str], Sequence[Instance]]
"""What a service has now, or had when it was last known."""


def _nothing(_name: str) -> Sequence[Instance]:
    return ()


class Sources:
    """What every service's sources say, together. Used by the loop's thread only, but for `status` and `others`.

    A service that has no sources of its own, which is most of them, costs one path in the main registry's reader.
    """

    def __init__(self, settings: Settings) -> None:
        self._registries = Registries(settings)
        self._shared = Shared()
        self._ring: Ring = _silence
        self._definitions: Mapping[str, ServiceDefinition] = {}
        self._plain: dict[str, str] = {}
        self._services: dict[str, ServiceSources] = {}

    def start(self, ring: Ring) -> None:
        """Begin to connect, without waiting for it; ring whenever `read` may answer something new."""
        self._ring = ring
        self._registries.start(ring)

    def read(
        self, definitions: Mapping[str, ServiceDefinition], good: Good = _nothing
    ) -> Mapping[str, Listing | Unknown]:
        """What is known of each of these services, by name. The same object comes back where nothing changed."""
        if definitions != self._definitions:
            self._arrange(definitions, good)
        self._registries.refresh()
        known = self._registries.main()
        answer = {name: known[path] for name, path in self._plain.items()}
        for name, sources in self._services.items():
            answer[name] = sources.look()
        return answer

    def status(self) -> LinkStatus:
        """The link to the main registry."""
        return self._registries.status()

    def others(self) -> Mapping[str, LinkStatus]:
        """The links to the other registries in use, by their names in synapse.yaml."""
        return self._registries.others()

    def due_in(self) -> float | None:
        """In how many seconds `read` should be called if nobody rings, None when only a ring brings news."""
        dues = [self._registries.due_in(), *(sources.due_in() for sources in self._services.values())]
        return min((due for due in dues if due is not None), default=None)

    def stop(self) -> None:
        """End every session and every thread of them."""
        for sources in self._services.values():
            sources.stop()
        self._registries.stop()

    def _arrange(self, definitions: Mapping[str, ServiceDefinition], good: Good) -> None:
        """Open what the definitions have, then close what they had: what both have stays open."""
        plain = {
            name: registry_path(name, definition)
            for name, definition in definitions.items()
            if not definition.sources and not definition.leader_only
        }
        for path in plain.values():
            self._registries.want(MAIN, path)
        for path in self._plain.values():
            self._registries.unwant(MAIN, path)
        self._plain = plain
        for name, definition in definitions.items():
            if name not in plain:
                place = Place(
                    service=name,
                    port=definition.port,
                    path=registry_path(name, definition),
                    registries=self._registries,
                    shared=self._shared,
                )
                sources = self._services.setdefault(name, ServiceSources(self._ring))
                sources.arrange(definition, place, good(name))
        for name in [name for name in self._services if name not in definitions or name in plain]:
            self._services.pop(name).stop()
        self._definitions = dict(definitions)


def registry_path(name: str, definition: ServiceDefinition) -> str:
    """Where a service stands in the registry."""
    return definition.registry_path or f"services/{name}"


def _silence() -> None:
    """The bell before the start."""
