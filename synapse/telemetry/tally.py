"""The ten seconds that are being counted: a cell for each service, and for its instances, routes and sources. Pure.

However many labels come, there are only so many cells: what has no room shares one that is called `(other)`.
"""

from collections.abc import Iterable, Mapping
from typing import Final, TypeVar, cast

from synapse.telemetry import cells
from synapse.telemetry.cells import Cell
from synapse.telemetry.frames import DETAILS, LABEL_LIMIT, By, Group, Key, Loose, loosen, pack
from synapse.telemetry.request import Request
from synapse.telemetry.templates import ALL, METHODS, OTHER, Templates

SERVICES_LIMIT: Final = 1000
INSTANCES_LIMIT: Final = 2000
ROUTES_LIMIT: Final = 200
SOURCES_LIMIT: Final = 200
"""Most labels of one service in ten seconds."""

CELLS_LIMIT: Final = 10_000
"""Most cells in ten seconds; one `(other)` of each kind may come on top for each service."""

NONE: Final = "(none)"
"""The instance of a request that reached none."""

_OTHERS: Final = (OTHER, OTHER)
_K = TypeVar("_K", bound=tuple[str, str | int])


class _Service:
    """What is counted of one service."""

    __slots__ = ("instances", "mode", "routes", "sources", "total")

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self.total = cells.empty()
        self.instances: dict[tuple[str, int], Cell] = {}
        self.routes: dict[tuple[str, str], Cell] = {}
        self.sources: dict[tuple[str, str], Cell] = {}

    def cells(self, by: By) -> Iterable[tuple[Key, Cell]]:
        """Those of one kind, with what follows the service's name in their keys."""
        match by:
            case "service":
                return [((self.mode,), self.total)]
            case "instance":
                return [((_address(*key),), cell) for key, cell in self.instances.items()]
            case "route":
                return self.routes.items()
            case "source":
                return self.sources.items()


class Tally:
    """Counts requests; `size` is how many cells there are, `folded` how many requests had no cell of their own."""

    def __init__(self) -> None:
        self.size = 0
        self.folded = 0
        self._services: dict[str, _Service] = {}

    def add(self, requests: Iterable[Request], templates: Mapping[str, Templates]) -> None:
        """Count these, with the routes that the services' templates give."""
        services = self._services
        for request in requests:
            service = services.get(request.service) or self._begin(request)
            told = [service.total]
            instance = (request.host, request.port)
            told.append(service.instances.get(instance) or self._room(service.instances, instance, INSTANCES_LIMIT))
            source = (request.source_kind, request.source)
            told.append(service.sources.get(source) or self._room(service.sources, source, SOURCES_LIMIT))
            if request.mode == "http":
                known = templates.get(request.service)
                name = ALL if known is None else known.name(request.path)
                route = (request.method if request.method in METHODS else OTHER, name)
                told.append(service.routes.get(route) or self._room(service.routes, route, ROUTES_LIMIT))
            cells.count(request, told)

    def groups(self) -> dict[By, Group]:
        """Everything, packed, each kind for itself."""
        return {"service": pack(self._pairs("service")), **{by: pack(self._pairs(by)) for by in DETAILS}}

    def loose(self, by: By) -> Loose:
        """A copy of the cells of one kind."""
        return loosen(self._pairs(by))

    def _begin(self, request: Request) -> _Service:
        name = request.service
        if len(self._services) >= SERVICES_LIMIT:
            self.folded += 1
            name = OTHER
        service = self._services.get(name)
        if service is None:
            self.size += 1
            service = self._services[name] = _Service(request.mode)
        return service

    def _room(self, kind: dict[_K, Cell], key: _K, limit: int) -> Cell:
        """A new cell for this key, or the one of all others."""
        if len(kind) < limit and self.size < CELLS_LIMIT:
            self.size += 1
            cell = kind[key] = cells.empty()
            return cell
        self.folded += 1
        return kind.setdefault(cast(_K, _OTHERS), cells.empty())

    def _pairs(self, by: By) -> dict[Key, Cell]:
        """The cells of one kind with their keys, cut to what a label may be."""
        pairs: dict[Key, Cell] = {}
        for name, service in self._services.items():
            for key, cell in service.cells(by):
                label = tuple(part[:LABEL_LIMIT] for part in (name, *key))
                pairs[label] = cells.added(pairs[label], cell) if label in pairs else cell
        return pairs


def _address(host: str, port: str | int) -> str:
    """As an instance's address is written."""
    if (host, port) == _OTHERS:
        return OTHER
    if not host:
        return NONE
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
