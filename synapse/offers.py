"""Selection for every service, incrementally: work is done only for services whose definition or listing changed."""

from collections.abc import Mapping
from dataclasses import dataclass

from smartstack.definition import ServiceDefinition
from smartstack.instance import Instance
from smartstack.registry.protocol import Listing, Unknown
from synapse.selection import Choice, FloorPolicy, Memory, choose


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What is known of one service, and what was chosen for that."""

    definition: ServiceDefinition
    known: Listing | Unknown
    choice: Choice


def registry_path(name: str, definition: ServiceDefinition) -> str:
    """Where a service stands in the registry."""
    return definition.registry_path or f"services/{name}"


class Offers:
    """The offers of all services, and what selection remembers of each."""

    def __init__(self, good: Mapping[str, tuple[Instance, ...]]) -> None:
        self._memories = {name: Memory(good=instances) for name, instances in good.items()}
        self.by_name: dict[str, Offer] = {}

    def remember(self, name: str, instances: tuple[Instance, ...]) -> None:
        """Take this as the last good set of a service of which nothing better is known."""
        if self._memories.get(name, Memory()).good is None:
            self._memories[name] = Memory(good=instances)

    def good(self) -> dict[str, tuple[Instance, ...]]:
        """Each service's last good instances, for the disk. Those of services that are gone are left out."""
        return {
            name: memory.good
            for name, memory in self._memories.items()
            if memory.good is not None and name in self.by_name
        }

    def update(
        self,
        definitions: Mapping[str, ServiceDefinition],
        known: Mapping[str, Listing | Unknown],
        now: float,
    ) -> set[str]:
        """Look at every service again where there is something new; answer which offers changed, came or went.

        `known` is by registry path. `now` is of a monotonic clock, in seconds.
        """
        changed = {name for name in self.by_name if name not in definitions}
        for name in changed:
            del self.by_name[name]
            self._memories.pop(name, None)
        for name, definition in definitions.items():
            content = known[registry_path(name, definition)]
            before = self.by_name.get(name)
            if before is not None and before.definition is definition and before.known is content:
                due = before.choice.due
                if due is None or now < due:
                    continue
            choice = choose(content, self._memories.get(name, Memory()), _policy(definition), now)
            self._memories[name] = choice.memory
            self.by_name[name] = Offer(definition=definition, known=content, choice=choice)
            if before is None or before.definition is not definition or _differ(before.choice, choice):
                changed.add(name)
        return changed

    def due(self) -> float | None:
        """When an offer changes by itself, in seconds of that clock; None when none will."""
        return min((offer.choice.due for offer in self.by_name.values() if offer.choice.due is not None), default=None)


def _policy(definition: ServiceDefinition) -> FloorPolicy:
    proxy = definition.proxy
    if proxy is None:
        return FloorPolicy()
    return FloorPolicy(floor=proxy.shrink_floor, confirm_seconds=proxy.shrink_confirm)


def _differ(before: Choice, after: Choice) -> bool:
    return before.instances != after.instances or before.origin is not after.origin or before.refused != after.refused
