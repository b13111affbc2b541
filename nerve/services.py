"""The services that this host announces: settings and definitions put together, and what does not fit. Pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from nerve.checks.base import Check
from nerve.health import State
from nerve.registrations import Host, Registration, registration, rivals
from nerve.settings import Settings
from smartstack.definition import ServiceDefinition
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
    """One announced service: its place in the registry (its state not yet known), and how it is checked."""

    registration: Registration
    probe: Probe


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """All announced services that can be, and by service why the others cannot."""

    services: Mapping[str, Service] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)


def announced(
    settings: Settings, definitions: Mapping[str, ServiceDefinition], host: Host, *, broken: Collection[str] = ()
) -> Announced:
    """What this host announces. `broken` are the services whose file is wrong: their name is not the mistake."""
    services: dict[str, Service] = {}
    problems: dict[str, str] = {}
    for name, announcement in sorted(settings.announce.items()):
        definition = definitions.get(name)
        if definition is None:
            meant = "" if name in broken else hint(name, definitions)
            problems[name] = f"is announced, but {settings.services} holds no valid definition {name}.yaml{meant}"
            continue
        place = registration(host, name, definition, announcement, State.UNKNOWN)
        refusal = decode(place.payload)
        if isinstance(refusal, str):
            problems[name] = f"cannot be announced, because every reader would refuse it: {refusal}"
            continue
        address = TcpAddress(place.instance.host, place.instance.port)
        services[name] = Service(registration=place, probe=Probe(address=address, checks=named_checks(definition)))
    for loser, holder in rivals({name: service.registration for name, service in services.items()}).items():
        place = services.pop(loser).registration
        problems[loser] = f"has the same place as {holder} ({place.instance.address} in {place.node.path})"
    return Announced(services=services, problems=problems)


def named_checks(definition: ServiceDefinition) -> Mapping[str, Check]:
    """A definition's checks by name: the kind, and a number from the second of a kind on (`http`, `http-2`)."""
    checks: tuple[Check, ...] = (*([definition.check] if definition.check is not None else []), *definition.checks)
    named: dict[str, Check] = {}
    for check in checks:
        count = sum(type(other) is type(check) for other in named.values())
        named[check.kind if count == 0 else f"{check.kind}-{count + 1}"] = check
    return named
