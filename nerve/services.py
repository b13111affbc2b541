"""The services that this host announces: settings and definitions put together, and what does not fit. Pure."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

from nerve.checks.base import Check
from nerve.health import State
from nerve.maintenance import LABELS
from nerve.registrations import MAIN, Host, Registration, adjusted, registrations, rivals
from nerve.settings import Announcement, Settings
from smartstack.definition import Endpoint, ServiceDefinition, Tether
from smartstack.forms import TcpAddress
from smartstack.instance import decode
from smartstack.validation import hint


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What a service's check thread does: run these checks, by name, against this address."""

    address: TcpAddress
    checks: Mapping[str, Check] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One announced service: its places in registries, the main one first, and how it is checked.

    `port_of` names the service that it is a further port of, None for a service by itself; `follows` the one whose
    health it shares, because it is a port without checks.
    `warmup` is how many seconds its weight grows after it joined, None where it joins with its full weight.
    """

    places: tuple[Registration, ...]
    probe: Probe
    port_of: str | None = None
    follows: str | None = None
    tether: Tether = "conclusive"
    warmup: float | None = None

    @property
    def main(self) -> Registration:
        """Its place in the registry that nerve.yaml's `registry` is."""
        return self.places[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """All announced services that can be, and by service what is wrong with them or why they cannot be."""

    services: Mapping[str, Service] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)


def announced(
    settings: Settings,
    definitions: Mapping[str, ServiceDefinition],
    host: Host,
    *,
    registries: Collection[str] = (MAIN,),
    broken: Collection[str] = (),
) -> Announced:
    """What this host announces in these registries. `broken` are the services whose file is wrong: their name is not
    the mistake."""
    services: dict[str, Service] = {}
    problems: dict[str, str] = {}
    for name, (announcement, parent) in sorted(_all_ports(settings.announce, definitions)):
        definition = definitions.get(name)
        if definition is None:
            meant = "" if name in broken else hint(name, definitions)
            problems[name] = f"is announced, but {settings.services} holds no valid definition {name}.yaml{meant}"
            continue
        places = registrations(host, name, definition, announcement)
        # Also with what a maintenance adds: a drain must not become a hole.
        refusal = decode(adjusted(places[0], State.UNKNOWN, weight=0, labels=dict.fromkeys(LABELS, "")).payload)
        if isinstance(refusal, str):
            problems[name] = f"cannot be announced, because every reader would refuse it: {refusal}"
            continue
        missing = sorted({place.registry for place in places} - {*registries})
        if missing:
            restart = "; it needs a restart" if missing[0] in settings.registries else hint(missing[0], registries)
            problems[name] = f"is not registered in '{missing[0]}' too, which is none of nerve's registries{restart}"
        checks = named_checks(definition)
        services[name] = Service(
            places=tuple(place for place in places if place.registry not in missing),
            probe=Probe(address=TcpAddress(places[0].instance.host, places[0].instance.port), checks=checks),
            port_of=parent,
            follows=parent if not checks else None,
            tether=definition.tether,
            warmup=definition.warmup,
        )
    for loser, (holder, place) in rivals({name: service.places for name, service in services.items()}).items():
        problems[loser] = f"has the same place as {holder} ({place.instance.address} in {place.node.path})"
        del services[loser]
    for name in [name for name, one in services.items() if one.follows is not None and one.follows not in services]:
        problems[name] = f"is as well as {services.pop(name).follows}, which cannot be announced"
    return Announced(services=services, problems=problems)


def _all_ports(
    announce: Mapping[str, Announcement], definitions: Mapping[str, ServiceDefinition]
) -> Iterator[tuple[str, tuple[Announcement, str | None]]]:
    """Each announcement, and one for each further port of its service that has none of its own; with the service
    whose port it is."""
    parents = {
        f"{name}.{port}": name for name in announce for port in (definitions[name].ports if name in definitions else ())
    }
    for name, announcement in announce.items():
        yield name, (announcement, parents.get(name))
    for name, parent in parents.items():
        if name not in announce:
            yield name, (replace(announce[parent], port=None), parent)


def named_checks(definition: Endpoint) -> Mapping[str, Check]:
    """A definition's checks by name: the kind, and a number from the second of a kind on (`http`, `http-2`)."""
    checks: tuple[Check, ...] = (*([definition.check] if definition.check is not None else []), *definition.checks)
    named: dict[str, Check] = {}
    for check in checks:
        count = sum(type(other) is type(check) for other in named.values())
        named[check.kind if count == 0 else f"{check.kind}-{count + 1}"] = check
    return named
