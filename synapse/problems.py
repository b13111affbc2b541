"""What is wrong with the configuration, from everybody who found something."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace

from smartstack.errors import Problem
from smartstack.live import LiveConfiguration
from smartstack.traffic import Proxy
from smartstack.validation import hint
from synapse.provenance import Provenance
from synapse.routing import Routing
from synapse.settings import Settings
from synapse.using import offered, unknown_names
from synapse.wanted import Wanting


class Problems:
    """Asks them all. What takes a look into files is remembered until those services are looked at again."""

    def __init__(self, configuration: LiveConfiguration[Settings], wanting: Wanting, provenance: Provenance) -> None:
        self._configuration = configuration
        self._wanting = wanting
        self._provenance = provenance
        self._dead_ends: dict[str, tuple[Proxy, Mapping[str, str]]] = {}
        self._of_routes: dict[str, tuple[Problem, ...]] = {}

    def gather(self, more: Iterable[Problem]) -> Mapping[str, tuple[Problem, ...]]:
        """By service; "" for the host's own file, of which `more` are."""
        problems = dict(self._configuration.view.problems)
        for name, found in self._routes().items():
            problems[name] = (*problems.get(name, ()), *found)
        besides = (replace(each, in_use=True) for each in (*unknown_names(self._configuration), *more))
        host = (*self._configuration.problems, *besides)
        if self._wanting.template_problem is not None:
            message = f"{self._wanting.template_problem}; its last good text is used"
            host = (
                *host,
                Problem(path=self._configuration.path, key="haproxy.templates", message=message, in_use=True),
            )
        if host:
            problems[""] = (*problems.get("", ()), *host)
        return problems

    def _routes(self) -> Mapping[str, tuple[Problem, ...]]:
        """The routes that lead nowhere."""
        now = self._wanting.routing.dead_ends
        if now.keys() != self._dead_ends.keys() or any(now[name] is not self._dead_ends[name] for name in now):
            self._dead_ends = dict(now)
            self._of_routes = {name: self._of(name, *now[name]) for name in sorted(now)}
        return self._of_routes

    def _of(self, name: str, proxy: Proxy, absent: Mapping[str, str]) -> tuple[Problem, ...]:
        known = self._configuration.view.definitions
        return tuple(
            self._provenance.dead_end(name, proxy, to, _words(proxy, to, why, known)) for to, why in absent.items()
        )


def dead_ends(configuration: LiveConfiguration[Settings]) -> Iterator[Problem]:
    """The routes that lead nowhere by the definitions alone, before anybody has tried them."""
    known = configuration.view.definitions
    used = offered(known, configuration.settings.use)
    routing, provenance = Routing(), Provenance(configuration.settings.services)
    for name, definition in used.items():
        routing.take(name, definition, definition.proxy)
    for name, definition in sorted(used.items()):
        if definition.proxy is not None:
            for to, why in routing.absent(name, definition.proxy).items():
                yield provenance.dead_end(name, definition.proxy, to, _words(definition.proxy, to, why, known))


def _words(proxy: Proxy, to: str, why: str, known: Collection[str]) -> str:
    meant = "" if to in known else hint(to, known)
    routed = any(route.to == to for route in proxy.routes)
    done = "requests for it are answered 503" if routed else "its share of the requests stays here"
    return f"leads to {to}, {why}; {done}{meant}"
