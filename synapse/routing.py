"""Whose routes lead to whom, kept service by service: one that comes or goes costs work for those only. Pure."""

from collections.abc import Mapping

from smartstack.definition import ServiceDefinition
from smartstack.traffic import Proxy
from synapse.frontend import NOT_USED, leads_to, obstacle


class Routing:
    """What each service's routes can lead to.

    `dead_ends` are the routes that lead nowhere: by the service whose they are, its `proxy`, and where they lead with
    why that cannot answer.
    """

    def __init__(self) -> None:
        self.dead_ends: dict[str, tuple[Proxy, Mapping[str, str]]] = {}
        self._obstacles: dict[str, str | None] = {}
        self._leads: dict[str, frozenset[str]] = {}
        self._routers: dict[str, set[str]] = {}

    def absent(self, name: str, proxy: Proxy) -> Mapping[str, str]:
        """The services that these routes lead to and that cannot answer, with why."""
        whys = ((to, self._obstacles.get(to, NOT_USED)) for to in sorted(leads_to(name, proxy)))
        return {to: why for to, why in whys if why is not None}

    def take(self, name: str, definition: ServiceDefinition | None, proxy: Proxy | None) -> list[str]:
        """This is the service now, and by what it is offered (None: it is not). Answers whose routes lead to it, if
        they must be looked at again."""
        self._lead(name, leads_to(name, proxy) if proxy is not None else frozenset())
        self.dead_ends.pop(name, None)
        if proxy is not None and (absent := self.absent(name, proxy)):
            self.dead_ends[name] = proxy, absent
        before, now = self._obstacles.get(name, NOT_USED), obstacle(definition, proxy)
        self._obstacles[name] = now
        if definition is None:
            del self._obstacles[name]
        return sorted(self._routers.get(name, ())) if now != before else []

    def _lead(self, name: str, leads: frozenset[str]) -> None:
        before = self._leads.pop(name, frozenset())
        if leads:
            self._leads[name] = leads
        for to in before - leads:
            self._routers[to].discard(name)
            if not self._routers[to]:
                del self._routers[to]
        for to in leads - before:
            self._routers.setdefault(to, set()).add(name)
