"""From what HAProxy is to what it should be: the exact runtime commands, and why it must be reloaded, if it must. Pure.

The order of actions is part of the specification:

- Any prefix is safe, and a new plan made from any prefix ends in the same state.
- No backend passes through fewer serving slots than the smaller of the plan's two ends: what arrives is put in before
  what leaves is taken out. The one slot that `slot_count` keeps free makes that possible for any change.
- A removal never waits for an addition that fails: the actions are independent, the executor goes on after a failure,
  and no removal waits for a reload.
- A slot is re-addressed only while it is in maintenance, and enabled only after its address shows.
"""

from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from synapse.proxy import SPARE_HOST, SPARE_PORT, Admin, Observed, Service, Slot, Target
from synapse.reasons import Cause, Reason, distrust


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAddress:
    """Point a slot that is in maintenance at an instance."""

    backend: str
    slot: str
    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SetWeight:
    """Give a slot a weight; 0 drains it. `host` and `port` are where it points, for whoever reads the plan."""

    backend: str
    slot: str
    host: str
    port: int
    weight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Enable:
    """Let traffic to a slot. `host` and `port` are where it must point before that."""

    backend: str
    slot: str
    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Disable:
    """Put a slot into maintenance: requests under way end in peace, new ones go elsewhere. `host` and `port` are where
    it points, for whoever reads the plan."""

    backend: str
    slot: str
    host: str
    port: int


Action: TypeAlias = SetAddress | SetWeight | Enable | Disable


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do: `actions` in this order at run time, and then a reload when there are reasons for one."""

    actions: tuple[Action, ...] = ()
    reload_reasons: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return not self.actions and not self.reload_reasons

    def without(self, backends: Collection[str]) -> "Plan":
        """The same, but for what is done to these backends."""
        return replace(self, actions=tuple(each for each in self.actions if each.backend not in backends))


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """What only a reload can change: one digest for the global part ("") and one for each service."""

    description: str
    digests: Mapping[str, str]


def plan(
    observed: Observed,
    wanted: Mapping[str, Service],
    structure: Structure,
    running: Structure | None,
    distrusted: Mapping[str, str],
) -> Plan:
    """The plan from `observed` to `wanted`.

    `structure` is the wanted one; `running` is the one that the running process was started with, as far as it is
    remembered (it only makes the reasons more exact). `distrusted` gives backends whose answers did not fit, with
    why: only a reload makes them good. A backend that is not wanted any more is left to the reload.
    """
    actions: list[Action] = []
    for name in sorted(wanted):
        if name in observed.backends:
            actions.extend(change_members(name, observed.backends[name], wanted[name].targets))
    reasons: list[str] = distrust(distrusted)
    if observed.description != structure.description:
        more_slots: list[str] = [
            Reason(
                f"{name} has {len(observed.backends[name])} slots and gets {service.slots + service.backups}",
                Cause.SLOTS,
            )
            for name, service in sorted(wanted.items())
            if name in observed.backends and len(observed.backends[name]) != service.slots + service.backups
        ]
        changes = structure_changes(running, structure)
        differs = Reason("the structure differs from the running one", Cause.STRUCTURE)
        reasons.extend(changes + more_slots or [differs])
    return Plan(actions=tuple(actions), reload_reasons=tuple(reasons))


def structure_changes(running: Structure | None, wanted: Structure) -> list[str]:
    """In words, what differs between two structures; empty when nothing is known about the running one."""
    if running is None:
        return []
    changes: list[str] = []
    for name in sorted(running.digests.keys() | wanted.digests.keys()):
        before, after = running.digests.get(name), wanted.digests.get(name)
        if before != after:
            cause = Cause.ADDED if before is None else Cause.REMOVED if after is None else Cause.CHANGED
            service = Reason(f"{cause.value} {name}", cause)
            changes.append(service if name else Reason("changed global settings", Cause.GLOBAL))
    return changes


def change_members(backend: str, slots: Sequence[Slot], wanted: Sequence[Target]) -> list[Action]:
    """The runtime commands that bring one backend's slots to these targets, as far as its slots reach.

    All slots but one are filled; targets beyond that wait for the reload that gives the backend more slots.
    """
    actions: list[Action] = []
    for backup in (False, True):
        # An instance that changes sides is put in on one before it is taken out on the other, or is missing for the
        # time of a command; the side that it leaves keeps its own promise either way.
        members = _Members(
            backend,
            [slot for slot in slots if slot.backup is backup],
            [target for target in wanted if target.backup is backup],
        )
        actions += [*members.raise_in_place(), *members.exchange(), *members.reweigh(), *members.lower_in_place()]
    return actions


class _Members:
    """The slots of one backend while its plan is being made: `slots` is what they will be after the actions so far."""

    def __init__(self, backend: str, slots: Sequence[Slot], wanted: Sequence[Target]) -> None:
        self._backend = backend
        self._slots = {slot.name: slot for slot in slots}
        self._target_of = _seats(slots, wanted)
        seated = set(self._target_of.values())
        self._arriving = deque(target for target in wanted if target not in seated)
        room = max(0, len(slots) - 1 - len(self._target_of))
        end = sum(target.weight_now > 0 for target in [*seated, *list(self._arriving)[:room]])
        self._room = room
        self._floor = min(self._serving(), end)

    def raise_in_place(self) -> Iterator[Action]:
        """Slots that have the right address already but get no traffic and should."""
        for name, target in self._target_of.items():
            slot = self._slots[name]
            if target.weight_now > 0 and not slot.serves:
                yield from self._occupy(name, target)

    def exchange(self) -> Iterator[Action]:
        """New instances in, old ones out, in turns: in while there is a free slot, out while enough are serving."""
        leaving = deque(self._leaving())
        while self._arriving or leaving:
            progress = False
            for name in self._free():
                if not self._arriving or self._room == 0:
                    break
                target = self._arriving.popleft()
                self._room -= 1
                self._target_of[name] = target
                yield from self._occupy(name, target)
                progress = True
            while leaving and (not self._slots[leaving[0]].serves or self._serving() > self._floor):
                yield self._disable(leaving.popleft())
                progress = True
            if not progress:
                return

    def reweigh(self) -> Iterator[Action]:
        """Weights that change but not to or from nothing; slots in drain get their place back."""
        for name, target in self._target_of.items():
            slot = self._slots[name]
            if target.weight_now > 0 and slot.weight != target.weight_now:
                yield self._set_weight(name, target.weight_now)

    def lower_in_place(self) -> Iterator[Action]:
        """Instances that are draining: the slot stays, with weight 0."""
        for name, target in self._target_of.items():
            slot = self._slots[name]
            if target.weight_now == 0:
                if slot.weight != 0:
                    yield self._set_weight(name, 0)
                if slot.admin is not Admin.READY:
                    yield self._enable(name)

    def _occupy(self, name: str, target: Target) -> Iterator[Action]:
        slot = self._slots[name]
        if (slot.host, slot.port) != (target.host, target.port):
            self._slots[name] = replace(slot, host=target.host, port=target.port)
            yield SetAddress(backend=self._backend, slot=name, host=target.host, port=target.port)
        if slot.weight != target.weight_now:
            yield self._set_weight(name, target.weight_now)
        if slot.admin is not Admin.READY:
            yield self._enable(name)

    def _free(self) -> list[str]:
        """Slots that nobody is or will be behind; those that never had an instance first."""
        free = [slot for slot in self._slots.values() if slot.admin is Admin.MAINT and slot.name not in self._target_of]
        return [slot.name for slot in sorted(free, key=lambda slot: (slot.host, slot.port) != (SPARE_HOST, SPARE_PORT))]

    def _leaving(self) -> list[str]:
        """Slots whose instance is not wanted any more; those that do the least good first."""
        leaving = [s for s in self._slots.values() if s.admin is not Admin.MAINT and s.name not in self._target_of]
        return [slot.name for slot in sorted(leaving, key=lambda slot: (slot.serves, slot.up))]

    def _serving(self) -> int:
        return sum(slot.serves for slot in self._slots.values())

    def _set_weight(self, name: str, weight: int) -> SetWeight:
        slot = self._slots[name] = replace(self._slots[name], weight=weight)
        return SetWeight(backend=self._backend, slot=name, host=slot.host, port=slot.port, weight=weight)

    def _enable(self, name: str) -> Enable:
        slot = self._slots[name] = replace(self._slots[name], admin=Admin.READY)
        return Enable(backend=self._backend, slot=name, host=slot.host, port=slot.port)

    def _disable(self, name: str) -> Disable:
        slot = self._slots[name] = replace(self._slots[name], admin=Admin.MAINT)
        return Disable(backend=self._backend, slot=name, host=slot.host, port=slot.port)


def _seats(slots: Sequence[Slot], wanted: Sequence[Target]) -> dict[str, Target]:
    """The slots that already point at a wanted instance; of two for one address, the one that serves."""
    by_address = {(target.host, target.port): target for target in wanted}
    seats: dict[str, Target] = {}
    for slot in sorted(slots, key=lambda slot: (not slot.serves, slot.admin is Admin.MAINT)):
        target = by_address.pop((slot.host, slot.port), None)
        if target is not None:
            seats[slot.name] = target
    return {slot.name: seats[slot.name] for slot in slots if slot.name in seats}
