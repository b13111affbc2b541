"""Intents: what a service's registration should say, from its health and from what is asked of it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from nerve import warmup
from nerve.admission import Admission
from nerve.health import State
from nerve.maintenance import labels
from nerve.registrations import Registration, adjusted, weight_of
from nerve.services import Service
from smartstack.maintenance import Maintenance


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """`state` UP: it should be registered, with this weight and these further labels; DOWN: it should not; UNKNOWN:
    what is there stays, with them. `weight` None is the weight that readers assume."""

    state: State
    weight: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


def intend(
    service: Service,
    health: State,
    admission: Admission,
    maintenance: Maintenance | None,
    joined_for_seconds: float | None,
) -> Intent:
    """What should be registered. `joined_for_seconds` is how long it has been in the registry, None if it is not.

    A service that is being drained stays visible, with weight 0 and the reason. One that has just joined begins with
    a part of its weight.
    """
    state = State.DOWN if health is State.UP and not admission.admitted else health
    weight = service.main.instance.weight
    if maintenance is not None:
        return Intent(state=state, weight=0, labels=labels(maintenance))
    if service.warmup is not None:
        full = weight_of(service.main.instance)
        now = warmup.weight_at(full, service.warmup, joined_for_seconds or 0.0)
        weight = weight if now == full else now
    return Intent(state=state, weight=weight)


def places(service: Service, intent: Intent) -> tuple[Registration, ...]:
    """The service's places with what should be there."""
    return tuple(adjusted(place, intent.state, weight=intent.weight, labels=intent.labels) for place in service.places)
