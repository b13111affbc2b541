"""What HAProxy should be and what it is, as values; and how many slots a service gets. Pure.

A *slot* is a `server` line that stands in HAProxy's configuration whether or not an instance is behind it. Instances
come and go by changing slots at run time, so that HAProxy is reloaded only when the structure changes.
"""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from smartstack.traffic import Proxy
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


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Target:
    """Where a slot should point, and the weight HAProxy should give it (0: draining). `backup`: only when no other
    serves."""

    host: str
    port: int
    weight: int
    backup: bool = False


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
    rendered any more."""

    name: str
    proxy: Proxy
    targets: tuple[Target, ...]
    slots: int
    backups: int = 0
    absent: Mapping[str, str] = field(default_factory=dict)
    kept: bool = False


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


def targets(placement: Placement, proxy: Proxy) -> tuple[Target, ...]:
    """The instances as HAProxy servers, with weights in the range that the balance algorithm can afford.

    One that is held has weight 0, or no slot where clients would come back to it by their cookies all the same.
    """
    return tuple(
        Target(
            host=placed.instance.host,
            port=placed.instance.port,
            weight=0 if placed.role is Role.HELD else server_weight(placed.instance.weight, proxy.balance),
            backup=placed.role is Role.BACKUP,
        )
        for placed in placement.used
        if not (placed.role is Role.HELD and proxy.sticky is not None)
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


def server_weight(weight: int | None, balance: str) -> int:
    """The weight of a HAProxy server for the weight that an instance gave, None if it gave none."""
    given = DEFAULT_WEIGHT if weight is None else weight
    return -(-given // 8) if balance in SMALL_WEIGHT_BALANCES else given


def _round_up(count: int) -> int:
    return -(-count // SLOT_STEP) * SLOT_STEP
