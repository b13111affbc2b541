"""The desk: what people ask of a running synapse, carried out on the loop's thread, and answered when it is done."""

import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Protocol

from smartstack.errors import SmartStackError
from smartstack.inbox import Envelope, Inbox
from smartstack.logs import EventLog
from smartstack.maintenance import Maintenances, begin, end, expire, next_expiry
from smartstack.maintenance_store import MaintenanceStore
from smartstack.validation import hint
from synapse import holds
from synapse.haproxy.errors import HAProxyError
from synapse.offers import Offer
from synapse.orders import Accept, ClearFault, ClearSplit, FaultOrder, HoldOrder, LetGo, LookAt, Order, SplitOrder
from synapse.placement import NOTHING_SEEN, Seen
from synapse.proxy import Observed
from synapse.selection import Origin
from synapse.shift_desk import ShiftDesk
from synapse.status import Snapshot, state_of

HOLDS_FILE = "holds.json"


class Eyes(Protocol):
    """Who can look at HAProxy."""

    def observe(self, names: Collection[str] | None = None) -> Observed | None: ...


class Desk:
    """Used by the loop's thread only, but for the inbox. `wall` is seconds since the epoch.

    `accepted` are the services whose shrunken listing somebody takes at its word in this turn, `asked` those of which
    somebody wants to know how they are now, `held` the addresses that are held on this host, by service; `holds` says
    who holds them and why; `shifts` takes what is ordered of shares and faults.
    """

    def __init__(
        self,
        inbox: Inbox[Order],
        store: MaintenanceStore,
        shifts: ShiftDesk,
        log: EventLog,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.inbox = inbox
        self.shifts = shifts
        self.accepted: set[str] = set()
        self.asked: set[str] = set()
        self._store = store
        self._log = log
        self._wall = wall
        self._before: dict[str, int] = {}
        self._open: list[tuple[Envelope[Order], Order]] = []
        self._take(store.load())
        if store.problem is not None:
            log.error("what was held is lost", why=store.problem)

    @property
    def problems(self) -> tuple[str, ...]:
        """Why it is not known what was held or ordered before this start."""
        return tuple(problem for problem in (self._store.problem, self.shifts.problem) if problem is not None)

    def work(self, offers: Mapping[str, Offer], eyes: Eyes) -> None:
        """Carry out what was asked, and end what has run out."""
        self._expire()
        self.shifts.expire()
        self.accepted.clear()
        self.asked.clear()
        self._before.clear()
        for envelope in self.inbox.take():
            try:
                self._open.append((envelope, self._do(envelope.order, offers, eyes)))
            except SmartStackError as error:
                envelope.refuse(error)

    def due_in(self) -> float | None:
        """In how many seconds a hold or a fault runs out, None when none will."""
        until = next_expiry(self.holds)
        dues = [None if until is None else max(0.0, until - self._wall()), self.shifts.due_in()]
        return min((due for due in dues if due is not None), default=None)

    def answer(self, snapshot: Snapshot) -> None:
        """The turn is done: answer whoever asked in it."""
        for envelope, done in self._open:
            envelope.answer(self._outcome(done, snapshot))
        self._open.clear()

    def _do(self, order: Order, offers: Mapping[str, Offer], eyes: Eyes) -> Order:
        """The order as it was carried out, with the address that was meant."""
        if isinstance(order, LookAt):
            self.asked |= {order.service} & offers.keys()
            return order
        if order.service not in offers and not self._ends_something(order):
            raise SmartStackError(f"{order.service!a} is no service of this host{hint(order.service, offers)}")
        self.asked |= {order.service} & offers.keys()
        match order:
            case Accept(service=service):
                if offers[service].choice.origin is Origin.HELD_BACK:
                    self.accepted.add(service)
                    self._before[service] = len(offers[service].choice.instances)
                    self._log.info("the listing of the service was accepted by an operator", service=service)
            case HoldOrder():
                return self._hold(order, offers[order.service], eyes)
            case LetGo():
                return self._let_go(order)
            case _:
                return self.shifts.do(order, offers)
        return order

    def _ends_something(self, order: Order) -> bool:
        """Whether it ends what was ordered while its service was one of this host."""
        match order:
            case LetGo(service=service):
                return service in self.held
            case ClearSplit(service=service):
                return service in self.shifts.said.splits
            case ClearFault(service=service):
                return service in self.shifts.said.faults
            case _:
                return False

    def _hold(self, order: HoldOrder, offer: Offer, eyes: Eyes) -> HoldOrder:
        held = self.held.get(order.service, frozenset())
        known = {instance.address: instance.name for instance in offer.choice.instances}
        address = holds.find(order.service, order.address, {**dict.fromkeys(sorted(held)), **known})
        if not order.force and holds.is_last(offer.placement, address, _seen(eyes, order.service)):
            raise SmartStackError(
                f"{address} is the only instance of {order.service} that serves on this host: without it every "
                "request fails; hold it all the same with --force"
            )
        scope = holds.scope_of(order.service, address)
        now, reason = self._wall(), order.reason or holds.NO_REASON
        self._change(begin(self.holds, scope, reason=reason, owner=order.owner, now=now, until=order.until))
        self._log.info(holds.text(self.holds[scope], now), service=order.service)
        return HoldOrder(service=order.service, address=address, until=order.until, reason=reason, owner=order.owner)

    def _let_go(self, order: LetGo) -> LetGo:
        known = dict.fromkeys(sorted(self.held.get(order.service, ())))
        address = holds.find(order.service, order.address, known, "held instance")
        scope = holds.scope_of(order.service, address)
        self._change(end(self.holds, scope))
        self._log.info(f"the hold of {scope} was ended", service=order.service)
        return LetGo(service=order.service, address=address)

    def _outcome(self, done: Order, snapshot: Snapshot) -> Any:
        offer = snapshot.offers.get(done.service)
        match done:
            case LookAt():
                return snapshot
            case Accept(service=service):
                return {
                    "service": service,
                    "accepted": service in self._before,
                    "before": self._before.get(service),
                    "instances": len(offer.choice.instances) if offer else 0,
                    "reason": offer.choice.reason if offer else "it is no service of this host any more",
                    "error": snapshot.error,
                }
            case HoldOrder(service=service, address=address) | LetGo(service=service, address=address):
                return {
                    "service": service,
                    "address": address,
                    "held": self.holds.get(holds.scope_of(service, address)),
                    "offered": service in snapshot.listens,
                    "state": state_of(address, snapshot.observed, service),
                    "error": snapshot.error,
                }
            case FaultOrder(fault=fault):
                return {"service": fault.service, "until": fault.until, "words": fault.words, "error": snapshot.error}
            case SplitOrder() | ClearSplit() | ClearFault():
                return {"service": done.service, "error": snapshot.error}

    def _change(self, changed: Maintenances) -> None:
        """Raises SmartStackError, and changes nothing, when they cannot be kept for the next start."""
        self._store.save(changed)
        self._take(changed)

    def _take(self, now: Maintenances) -> None:
        self.holds = now
        self.held = {service: frozenset(each) for service, each in holds.by_service(now).items()}

    def _expire(self) -> None:
        left = expire(self.holds, self._wall())
        if left is self.holds:
            return
        for scope in sorted(self.holds.keys() - left.keys()):
            self._log.info(f"the hold of {scope} has run out", service=scope.partition(" ")[0])
        # What cannot be saved has run out all the same, and runs out again after a restart.
        self._take(left)
        try:
            self._store.save(left)
        except SmartStackError as error:
            self._log.warning("the end of a hold cannot be kept", why=str(error))


def holds_store(state_directory: str, *, writes: bool) -> MaintenanceStore:
    """Where the holds are kept."""
    return MaintenanceStore(Path(state_directory) / HOLDS_FILE, holds.WORDING, writes=writes)


def _seen(eyes: Eyes, service: str) -> Seen:
    """What HAProxy finds of the service's instances now; nothing where it cannot be asked."""
    try:
        observed = eyes.observe({service})
    except HAProxyError:
        return NOTHING_SEEN
    return NOTHING_SEEN if observed is None else observed.seen(service)
