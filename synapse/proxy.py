"""What HAProxy should be and what it is, as values; and how many slots a service gets. Pure.

A *slot* is a `server` line that stands in HAProxy's configuration whether or not an instance is behind it. Instances
come and go by changing slots at run time, so that HAProxy is reloaded only when the structure changes.
"""

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from smartstack.traffic import Balance, Proxy
from synapse.placement import Placement, Role, Seen

DEFAULT_WEIGHT = 100
"""The weight of an instance that gave none: room to halve it and to double it within HAProxy's 256."""

SPARE_HOST, SPARE_PORT = "127.0.0.1", 9
"""Where a slot points that no instance was ever behind (port 9 is discard; the slot is in maintenance)."""

PRIMARY_SLOT, BACKUP_SLOT = "s", "b"
"""How the names of slots begin: `s1`, `s2`, and `b1` for one that HAProxy uses only when no other serves."""

SLOT_STEP = 4
"""Slot counts are multiples of this, so that small changes of size change nothing."""

SMALL_WEIGHT_BALANCES = frozenset({"random", "source", "hash"})
"""Algorithms that put every unit of weight on a hash ring (weight x 16 x 48 bytes for each server)."""

FEW_UNITS, MANY_UNITS = 4, 64
"""The largest weight where the balance is by latency, which has that ring, too: a few units while all instances get the
same, and enough to tell them apart while they do not. HAProxy takes the memory for that only when it is told so."""


NO_SHARES: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Target:
    """Where a slot should point, and the weight HAProxy should give it (0: draining). `backup`: only when no other
    serves. `live` is the weight for the moment, None where that is the same: it changes with what is measured, and no
    file says it."""

    host: str
    port: int
    weight: int
    backup: bool = False
    live: int | None = field(default=None, compare=False)

    @property
    def weight_now(self) -> int:
        """The weight that HAProxy should have at this moment."""
        return self.weight if self.live is None else self.live


class Admin(enum.Enum):
    """What the operator (here: synapse) told HAProxy to do with a server."""

    READY = "ready"
    DRAIN = "drain"
    MAINT = "maint"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A server of the running HAProxy. `up`: HAProxy's own health check has nothing against it."""

    name: str
    host: str
    port: int
    weight: int
    admin: Admin
    up: bool = True

    @property
    def address(self) -> str:
        """`10.0.0.5:8080`, as an instance's."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def backup(self) -> bool:
        """Whether it is one of the slots that HAProxy uses only when no other serves."""
        return self.name.startswith(BACKUP_SLOT)

    @property
    def serves(self) -> bool:
        """Whether new requests may go there."""
        return self.admin is Admin.READY and self.weight > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What HAProxy counts of a slot: requests under way, and since its start those that it tried elsewhere because this
    one gave no good answer. The log tells of such a request only who answered it in the end."""

    current: int
    retried: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotLine:
    """One `server` line: `s1 10.0.0.5:8080`, `disabled` when no instance is behind it, `backup` when it is used only
    where no other serves."""

    name: str
    address: str
    weight: int
    disabled: bool
    backup: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One service as HAProxy should offer it. `targets` are sorted by address; `slots` is how many there should be,
    and `backups` how many more that are used only when none of those serves. `absent` are the services that its routes
    lead to and that cannot answer, with why. `kept`: by the text that it had when it was good, because it cannot be
    rendered any more. `measured`: HAProxy tells how long its requests take."""

    name: str
    proxy: Proxy
    targets: tuple[Target, ...]
    slots: int
    backups: int = 0
    absent: Mapping[str, str] = field(default_factory=dict)
    kept: bool = False
    measured: bool = True

    @property
    def balance(self) -> Balance:
        """How HAProxy picks an instance."""
        return algorithm(self.proxy, measured=self.measured)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a service's definition is not in use, though it is valid: HAProxy refuses it, or its address is taken.

    `lasting`: asked again, HAProxy would say the same.
    """

    proxy: Proxy
    reason: str
    lasting: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """The running HAProxy as it answered. `description` names the structure it was started with.

    `backends` holds each backend's slots in the order of the configuration.
    """

    pid: int
    description: str
    backends: Mapping[str, Sequence[Slot]]

    def seen(self, backend: str, current: int = 0, queued: int = 0) -> Seen:
        """What HAProxy finds of the instances behind this backend's slots, with so much to do."""
        slots = [slot for slot in self.backends.get(backend, ()) if slot.admin is not Admin.MAINT]
        return Seen(
            up=frozenset(slot.address for slot in slots if slot.up),
            down=frozenset(slot.address for slot in slots if not slot.up),
            primaries=frozenset(slot.address for slot in slots if slot.serves and not slot.backup),
            current=current,
            queued=queued,
        )


def algorithm(proxy: Proxy, *, measured: bool) -> Balance:
    """How HAProxy picks an instance: where nothing is measured, the latency is not known."""
    return proxy.balancing if measured or proxy.balancing != "latency" else "leastconn"


def targets(
    placement: Placement, proxy: Proxy, shares: Mapping[str, float] = NO_SHARES, *, measured: bool = True
) -> tuple[Target, ...]:
    """The instances as HAProxy servers, with weights in the range that the balance algorithm can afford. `shares` is
    how much of its weight an instance gets at this moment, by address; all of it where nothing is said.

    One that is held has weight 0, or no slot where clients would come back to it by their cookies all the same.
    """
    used = [one for one in placement.used if not (one.role is Role.HELD and proxy.sticky is not None)]
    given = [0 if one.role is Role.HELD else _given(one.instance.weight) for one in used]
    parts = [shares.get(one.instance.address, 1.0) for one in used]
    balance = algorithm(proxy, measured=measured)
    now = [weight * part for weight, part in zip(given, parts, strict=True)]
    in_file, live = _units(given, given, balance), _units(now, given, balance)
    return tuple(
        Target(
            host=one.instance.host,
            port=one.instance.port,
            weight=weight,
            backup=one.role is Role.BACKUP,
            live=weight_now if weight_now != weight else None,
        )
        for one, weight, weight_now in zip(used, in_file, live, strict=True)
    )


def slot_count(current: int | None, needed: int, *, may_shrink: bool = False) -> int:
    """How many slots a service with `needed` instances gets, given how many it has in the running HAProxy.

    One slot always stays free, to put a new instance in before an old one goes out. Growing takes a reload, so it
    goes in steps with a quarter to spare; shrinking waits for a reload that happens anyway (`may_shrink`), and until
    three quarters of the slots are of no use.
    """
    fitting = _round_up(needed + max(2, -(-needed // 4)))
    if current is None or needed > current - 1:
        return fitting
    return fitting if may_shrink and fitting * 4 <= current else current


def spare_weight(balance: Balance) -> int:
    """The weight of a slot that nobody is behind."""
    return 1 if balance == "latency" else _units([DEFAULT_WEIGHT], [DEFAULT_WEIGHT], balance)[0]


def _given(weight: int | None) -> int:
    return DEFAULT_WEIGHT if weight is None else weight


def _units(wanted: Sequence[float], given: Sequence[int], balance: Balance) -> list[int]:
    """HAProxy's weights for these parts of the `given` ones, rounded up: 0 only where there is nothing to give."""
    if balance == "latency":
        some = {weight for weight in wanted if weight > 0}
        unit = FEW_UNITS / min(some) if len(some) == 1 else MANY_UNITS / max(given, default=1) if some else 0.0
    else:
        unit = 1 / 8 if balance in SMALL_WEIGHT_BALANCES else 1.0
    return [_whole(weight * unit) if weight else 0 for weight in wanted]


def _whole(units: float) -> int:
    return max(1, math.ceil(units - 1e-6))


def _round_up(count: int) -> int:
    return -(-count // SLOT_STEP) * SLOT_STEP
