"""Sources of type `registry`: where nerve registers, in the main registry or in another one."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated

from smartstack.definition import ServiceDefinition
from smartstack.errors import Problem
from smartstack.forms import INSTANCE_ID, PORT, REGISTRY_PATH
from smartstack.registry.protocol import Listing, Ring, Unknown
from smartstack.validation import hint
from synapse.sources.base import Place, Source
from synapse.sources.combine import with_port
from synapse.sources.registries import MAIN, Registries


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrySource:
    """What nerve registers. Without keys: the main registry, where a definition without sources is found too."""

    registry: Annotated[str | None, "one of synapse.yaml's registries; absent: the main one", INSTANCE_ID] = None
    path: Annotated[str | None, "its place there; absent: where the definition says", REGISTRY_PATH] = None
    port: Annotated[int | None, "the port of every instance, instead of the one that it registered", PORT] = None

    def open(self, place: Place) -> Source:
        """Read with everybody else's, by one reader for each registry."""
        return _Registered(place.registries, self.registry or MAIN, self.path or place.path, self.port)


class _Registered:
    """One path in one registry."""

    def __init__(self, registries: Registries, registry: str, path: str, port: int | None) -> None:
        self._registries = registries
        self._place = registry, path
        self._port = port
        self._known: Listing | Unknown | None = None
        self._answer: Listing | Unknown | None = None

    def start(self, ring: Ring) -> None:
        """The reader rings by itself."""
        self._registries.want(*self._place)

    def read(self) -> Listing | Unknown:
        known = self._registries.known(*self._place)
        if self._answer is None or known is not self._known:
            self._known = known
            self._answer = known if self._port is None else with_port(known, self._port)
        return self._answer

    def due_in(self) -> float | None:
        return None

    def stop(self) -> None:
        self._registries.unwant(*self._place)


def unknown_registries(
    definitions: Mapping[str, ServiceDefinition], registries: Iterable[str], path: str
) -> tuple[Problem, ...]:
    """A problem for each service with a source in a registry that is not among these; `path` is synapse.yaml's."""
    names = tuple(registries)
    wanted = {
        (service, source.registry)
        for service, definition in definitions.items()
        for source in definition.sources
        if isinstance(source, RegistrySource) and source.registry is not None and source.registry not in names
    }
    message = "has no '{}', which is a source of {}{}"
    return tuple(
        Problem(path=path, key="registries", message=message.format(registry, service, hint(registry, names)))
        for service, registry in sorted(wanted)
    )
