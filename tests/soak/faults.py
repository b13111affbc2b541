"""What the soak breaks: the table of faults, and the sequence that a seed draws from it. Pure."""

import enum
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from tests.soak.bounds import UNROUTED_SECONDS

HOSTS: Final = ("h1", "h2", "h3")

WITNESS: Final = "h3"
"""Its daemons are suspended and cut off as all others, and never ended: what grows in an hour is seen there."""

SERVICES: Final = ("web", "api", "db")

EXTRA: Final = "extra"
"""A service that is defined only now and then; its instances run all the time."""

EVERYWHERE: Final = "*"


class Place(enum.Enum):
    """What a fault happens to."""

    INSTANCE = "an instance"
    HOLD = "an instance, as one host uses it"
    SERVICE = "a service, on every host"
    HOST = "a host"
    FLEET = "the fleet"


class Effect(enum.Enum):
    """What it does to routes, for as long as it lasts."""

    NONE = "they stay"
    OUT = "the instance must leave them"
    HELD = "the instance must leave those of one host"
    UNSURE = "whether the instances of the host are registered is open"
    BLIND = "those of the host are not judged"
    ALL_UNSURE = "whether anybody is registered is open"
    PRESENT = "the service that is usually not there must have them"


@dataclass(frozen=True, slots=True, kw_only=True)
class Excuse:
    """Which failed requests a fault explains: those of its service (of its host, where it happens to one) that were
    under way at some time from its begin until so many seconds later, or until it was healed, whichever is first, and
    whose reason has one of these texts in it. `detected`: the seconds are what it takes to see the fault, so they begin
    again after a fault of those who must see it."""

    seconds: float
    texts: tuple[str, ...] = ("",)
    detected: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of fault. `weight` is its part of the draw, `seconds` how long it lasts, at the least and at the most.
    `tells`: the daemons that it touches have something to tell of meanwhile. `locks`: what no two faults have at a
    time, besides the service or the host that it happens to. `occupies_host`: no other fault of its host's daemons
    meanwhile. `ends`: it ends a daemon, which the witness is spared.
    """

    name: str
    weight: int
    place: Place
    effect: Effect = Effect.NONE
    seconds: tuple[float, float] = (0.0, 0.0)
    excuse: Excuse | None = None
    tells: bool = False
    locks: tuple[str, ...] = ()
    occupies_host: bool = False
    ends: bool = False
    needs_root: bool = False


MOMENT_SECONDS: Final = 0.5
"""How long after a kill a request may still be taken for one that was under way: clocks of several threads are read."""

_LIFE: Final = 3600.0


def _kinds() -> Iterator[Kind]:
    instance, host, out = Place.INSTANCE, Place.HOST, Effect.OUT
    moment = Excuse(seconds=MOMENT_SECONDS)
    nerve, registry, disk = ("nerve",), ("registry",), ("disk",)
    yield Kind(name="service-killed", weight=8, place=instance, effect=out, seconds=(0.2, 15), excuse=moment)
    silent = Excuse(
        seconds=UNROUTED_SECONDS, texts=("timed out", "502", "503", "504", "before the head"), detected=True
    )
    yield Kind(name="service-hung", weight=5, place=instance, effect=out, seconds=(3, 15), excuse=silent)
    yield Kind(name="service-slow", weight=4, place=instance, seconds=(2, 8))
    failing = Excuse(seconds=UNROUTED_SECONDS, texts=("500",), detected=True)
    yield Kind(name="service-failing", weight=5, place=instance, effect=out, seconds=(2, 15), excuse=failing)
    yield Kind(name="instance-leaves", weight=5, place=instance, effect=out, seconds=(1, 15))
    yield Kind(name="weight-changed", weight=3, place=instance, seconds=(1, 5))
    yield Kind(name="drained", weight=4, place=instance, effect=out, seconds=(1, 15), occupies_host=True)
    yield Kind(name="held", weight=4, place=Place.HOLD, effect=Effect.HELD, seconds=(1, 15))
    yield Kind(name="definition-edited", weight=4, place=Place.SERVICE, seconds=(1, 6))
    yield Kind(name="definition-broken", weight=3, place=Place.SERVICE, seconds=(1, 6), tells=True)
    yield Kind(name="definition-refused", weight=2, place=Place.SERVICE, seconds=(2, 6), tells=True)
    yield Kind(name="definition-touched", weight=2, place=Place.SERVICE)
    yield Kind(
        name="service-added", weight=3, place=Place.FLEET, effect=Effect.PRESENT, seconds=(4, 10), locks=(EXTRA, *disk)
    )
    unsure, blind = Effect.UNSURE, Effect.BLIND
    # What was registered is known again by the nerve after a kill within the session's 4 s, and anew after them.
    yield Kind(name="nerve-killed", weight=4, place=host, effect=unsure, seconds=(0.2, 8), locks=nerve, ends=True)
    yield Kind(name="nerve-restarted", weight=2, place=host, effect=unsure, seconds=(0.5, 1), locks=nerve, ends=True)
    yield Kind(name="nerve-hung", weight=4, place=host, effect=unsure, seconds=(1, 8), locks=nerve, tells=True)
    yield Kind(name="session-expired", weight=3, place=host, effect=unsure, locks=(*nerve, *registry), tells=True)
    yield Kind(name="synapse-killed", weight=4, place=host, effect=blind, seconds=(0.2, 6), ends=True)
    yield Kind(name="synapse-restarted", weight=2, place=host, effect=blind, seconds=(0.5, 1), ends=True)
    yield Kind(name="synapse-hung", weight=4, place=host, effect=blind, seconds=(1, 8), tells=True)
    always = Excuse(seconds=_LIFE)
    yield Kind(name="haproxy-killed", weight=3, place=host, effect=blind, excuse=always, tells=True)
    yield Kind(name="haproxy-hung", weight=3, place=host, effect=blind, seconds=(0.5, 4), excuse=always, tells=True)
    yield Kind(name="master-hung", weight=2, place=host, effect=blind, seconds=(0.5, 4), tells=True)
    yield Kind(name="disk-full", weight=3, place=host, seconds=(2, 8), tells=True, locks=disk, needs_root=True)
    everybody = Effect.ALL_UNSURE
    yield Kind(
        name="zookeeper-killed", weight=3, place=Place.FLEET, effect=everybody, seconds=(0.5, 8), tells=True,
        locks=registry,
    )  # fmt: skip
    yield Kind(
        name="zookeeper-hung", weight=3, place=Place.FLEET, effect=everybody, seconds=(1, 8), tells=True, locks=registry
    )
    yield Kind(name="zookeeper-restarted", weight=2, place=Place.FLEET, effect=everybody, tells=True, locks=registry)


KINDS: Final = {kind.name: kind for kind in _kinds()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault of a plan. `at` is in seconds since the soak began. `host` is where its instance or daemons are,
    `service` whose instance or definition it is, `by` the host that holds the instance; each EVERYWHERE where it is of
    all, or of none."""

    number: int
    at: float
    seconds: float
    kind: Kind
    service: str = EVERYWHERE
    host: str = EVERYWHERE
    by: str = EVERYWHERE

    @property
    def words(self) -> str:
        """`7 service-killed web h2 3.1 s`."""
        places = [each for each in (self.service, self.host) if each != EVERYWHERE]
        by = [] if self.by == EVERYWHERE else [f"by {self.by}"]
        return " ".join([str(self.number), self.kind.name, *places, *by, f"{self.seconds:.1f} s"])

    @property
    def locks(self) -> frozenset[str]:
        """What it has for itself: one fault under way for a service, for the daemons of a host, for the registry, and
        one at a time of those that may take all instances of a host away."""
        own = set(self.kind.locks)
        if self.service != EVERYWHERE:
            own.add(f"service {self.service}")
        if self.kind.place is Place.HOST or self.kind.occupies_host:
            own.add(f"host {self.host}")
        if self.by != EVERYWHERE:
            own.add(f"host {self.by}")
        return frozenset(own)

    def touches(self, host: str) -> bool:
        """Whether the daemons of that host may have something to tell of it."""
        return self.host in (host, EVERYWHERE) or self.by == host


PAUSE_SECONDS: Final = (0.3, 2.0)
"""From one draw to the next."""

REST_SECONDS: Final = 3.0
"""From a fault's end to the next one that needs what it had."""

STORM_SECONDS, QUIET_SECONDS = 40.0, 20.0
"""So long are faults drawn, and then none, so that what is slow to heal is seen."""


def draw(seed: int, seconds: float, kinds: Sequence[Kind]) -> list[Fault]:
    """The plan of a soak of so many seconds: the same for the same arguments. All faults have ended by then."""
    chance = random.Random(seed)
    plan: list[Fault] = []
    free: dict[str, float] = {}
    at = 0.0
    while at < seconds:
        at += chance.uniform(*PAUSE_SECONDS)
        fault = _drawn(chance, len(plan) + 1, at, kinds)
        ends = at + fault.seconds
        is_quiet = at % (STORM_SECONDS + QUIET_SECONDS) > STORM_SECONDS
        if is_quiet or ends > seconds or any(free.get(lock, 0.0) > at for lock in fault.locks):
            continue
        free.update(dict.fromkeys(fault.locks, ends + REST_SECONDS))
        plan.append(fault)
    return plan


def _drawn(chance: random.Random, number: int, at: float, kinds: Sequence[Kind]) -> Fault:
    kind = chance.choices(kinds, [each.weight for each in kinds])[0]
    has_service = kind.place in (Place.INSTANCE, Place.HOLD, Place.SERVICE)
    has_host = kind.place in (Place.INSTANCE, Place.HOLD, Place.HOST)
    hosts = [host for host in HOSTS if not (kind.ends and host == WITNESS)]
    return Fault(
        number=number,
        at=round(at, 2),
        seconds=round(chance.uniform(*kind.seconds), 2),
        kind=kind,
        service=chance.choice(SERVICES) if has_service else EVERYWHERE,
        host=chance.choice(hosts) if has_host else EVERYWHERE,
        by=chance.choice(HOSTS) if kind.place is Place.HOLD else EVERYWHERE,
    )
