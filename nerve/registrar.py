"""The registrar: ask the registry what is there, plan, act, and remember what went wrong."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from nerve.plan import Action, Put, Remove, plan
from nerve.registrations import Registration
from smartstack.errors import RegistryError
from smartstack.registry.protocol import HeldNode, LinkStatus, NodeId, RegistryWriter


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one reconciliation did.

    `unavailable` says why nothing is known of the registry; None when it answered. `held` is what is there after the
    actions that succeeded, `done` these actions, `failed` the others with the reason, and `contested` the places that
    are left to another nerve for now.
    """

    unavailable: str | None = None
    held: Mapping[NodeId, HeldNode] = field(default_factory=dict)
    done: tuple[Action, ...] = ()
    failed: Mapping[Action, str] = field(default_factory=dict)
    contested: tuple[NodeId, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether the registry is now as it should be, as far as this host can make it so."""
        return self.unavailable is None and not self.failed and not self.contested


class Registrar:
    """Applies plans to a registry. A place is not taken over twice within `truce_seconds` (the session time-out: a
    node that a dead nerve left behind is gone by then, so one that is back belongs to a nerve that lives)."""

    def __init__(self, writer: RegistryWriter, truce_seconds: float, clock: Callable[[], float]) -> None:
        self._writer = writer
        self._truce_seconds = truce_seconds
        self._clock = clock
        self._taken_over: dict[NodeId, float] = {}
        self._settled: tuple[Sequence[Registration], Report] | None = None

    def look(self, wanted: Collection[Registration]) -> Mapping[NodeId, HeldNode] | str:
        """What the registry has at these places and at every other of ours; why nothing is known, where it is."""
        try:
            return self._writer.held([registration.node for registration in wanted])
        except RegistryError as error:
            return str(error)

    def act(self, wanted: Sequence[Registration], seen: Mapping[NodeId, HeldNode] | str) -> Report:
        """Bring the registry, in which this was seen, closer to what is wanted. An action that fails does not stop
        the others.

        `wanted` is not changed afterwards by who gave it.
        """
        if isinstance(seen, str):
            return Report(unavailable=seen)
        if self._settled is not None and self._settled[0] is wanted and self._settled[1].held == seen:
            return self._settled[1]  # what is there and what is wanted are what they were when nothing was to be done
        held = dict(seen)
        now = self._clock()
        truces = {node: since for node, since in self._taken_over.items() if now - since < self._truce_seconds}
        self._taken_over = truces
        made = plan(held, wanted, contested=truces.keys())
        done: list[Action] = []
        failed: dict[Action, str] = {}
        lost: str | None = None
        for action in made.actions:
            if lost is not None:
                failed[action] = lost
                continue
            try:
                self._apply(action)
            except RegistryError as error:
                failed[action] = str(error)
                # With the link gone each further request would wait for its own time-out.
                lost = None if self._writer.status().connected else str(error)
            else:
                done.append(action)
                _enter(held, action, self._taken_over, now)
        report = Report(held=held, done=tuple(done), failed=failed, contested=made.left_to_others)
        self._settled = (wanted, report) if report.complete and not done else None
        return report

    def status(self) -> LinkStatus:
        """The link to the registry."""
        return self._writer.status()

    def _apply(self, action: Action) -> None:
        match action:
            case Remove(node=node):
                self._writer.remove(node)
            case Put(node=node, payload=payload, instead_of=instead_of):
                self._writer.put(node, payload, instead_of=instead_of)


def _enter(held: dict[NodeId, HeldNode], action: Action, taken_over: dict[NodeId, float], now: float) -> None:
    """Note what a successful action changed."""
    match action:
        case Remove(node=node):
            held.pop(node, None)
        case Put(node=node, payload=payload, instead_of=instead_of):
            there = held.get(node)
            if there is not None and not there.mine:
                taken_over[node] = now
            if instead_of is not None and instead_of != node:
                held.pop(instead_of, None)
            held[node] = HeldNode(payload=payload, mine=True)
