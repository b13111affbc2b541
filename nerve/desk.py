"""The desk: what people ask of a running nerve, carried out on the loop's thread, and answered when it is done."""

import time
from collections.abc import Callable

from nerve.checks.base import Heartbeat
from nerve.maintenance import EVERYTHING, covers, text
from nerve.maintenance_orders import DrainOrder, UndrainOrder, drain, undrain
from nerve.maintenance_store import MaintenanceStore
from nerve.orders import CheckNow, Order, Report
from nerve.roster import Roster
from nerve.runner import Prompt, Runner
from nerve.status import Status, describe_services
from smartstack.errors import SmartStackError
from smartstack.inbox import Envelope, Inbox
from smartstack.logs import EventLog
from smartstack.maintenance import Maintenances, begin, expire, next_expiry


class Desk:
    """Used by the loop thread only. `clock` is monotonic, `wall` is seconds since the epoch."""

    def __init__(
        self,
        inbox: Inbox[Order],
        store: MaintenanceStore,
        log: EventLog,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._inbox = inbox
        self._store = store
        self._log = log
        self._clock = clock
        self._wall = wall
        self._open: list[tuple[Envelope[Order], float]] = []
        self._for_stop: Maintenances = {}
        self._drains = store.load()
        if store.problem is not None:
            log.error("maintenance is lost", why=store.problem)

    @property
    def problem(self) -> str | None:
        """Why it is not known what was in maintenance before this start."""
        return self._store.problem

    def work(self, roster: Roster, runner: Runner) -> None:
        """Carry out what was asked, and end what has run out."""
        self._expire()
        for envelope in self._inbox.take():
            at = self._wall()
            try:
                self._do(envelope.order, roster, runner)
            except SmartStackError as error:
                envelope.refuse(error)
            else:
                self._open.append((envelope, at))
        roster.maintain({**self._for_stop, **self._drains})

    def drain_for_stop(self) -> None:
        """From now on everything is drained, because nerve stops; the next nerve does not know of it."""
        scope, now = EVERYTHING, self._wall()
        self._for_stop = begin({}, scope, reason="nerve stops", owner="nerve", now=now, until=None)

    def due_in(self) -> float:
        """Seconds until a maintenance runs out."""
        until = next_expiry(self._drains)
        return float("inf") if until is None else max(0.0, until - self._wall())

    def answer(self, status: Status) -> None:
        """The turn is done: what it came to, for each order of it, and when it was begun with: a check that began then
        or later is one that was asked for."""
        if not self._open:
            return
        services = describe_services(status)
        for envelope, at in self._open:
            names = [name for name in services if _concerns(envelope.order, name, status.services[name].port_of)]
            envelope.answer({"services": {name: services[name] for name in names}, "at": at})
        self._open.clear()

    def _do(self, order: Order, roster: Roster, runner: Runner) -> None:
        match order:
            case DrainOrder():
                self._change(drain(self._drains, order, self._wall()))
                for scope in order.scopes:
                    self._log.info(text(self._drains[scope], self._wall()), scope=scope)
            case UndrainOrder(scopes=scopes):
                self._change(undrain(self._drains, order))
                for scope in scopes:
                    self._log.info(f"maintenance of {_named(scope)} was ended", scope=scope)
            case CheckNow(service=service):
                runner.prompt(self._checked(service, roster), Prompt.READY)
            case Report(service=service, passed=passed, note=note):
                heartbeat = Heartbeat(passed=passed, note=note, at=self._clock())
                runner.report(self._checked(service, roster), heartbeat)

    def _change(self, drains: Maintenances) -> None:
        """Raises SmartStackError, and changes nothing, when they cannot be kept for the next start."""
        self._store.save(drains)
        self._drains = drains

    def _expire(self) -> None:
        left = expire(self._drains, self._wall())
        if left is self._drains:
            return
        for scope in sorted(self._drains.keys() - left.keys()):
            self._log.info(f"maintenance of {_named(scope)} has run out", scope=scope)
        # What cannot be saved has run out all the same, and runs out again after a restart.
        self._drains = left
        try:
            self._store.save(left)
        except SmartStackError as error:
            self._log.warning("the end of a maintenance cannot be kept", why=str(error))

    def _checked(self, service: str, roster: Roster) -> str:
        """The service whose checks are meant: its own, or those of the one that it follows."""
        if service not in roster.services:
            raise SmartStackError(f"{service} is not announced on this host: `nerve status` lists what is")
        return roster.services[service].follows or service


def _concerns(order: Order, name: str, port_of: str | None) -> bool:
    match order:
        case DrainOrder(scopes=scopes) | UndrainOrder(scopes=scopes):
            return any(covers(scope, name, port_of) for scope in scopes)
        case CheckNow(service=service) | Report(service=service):
            return service == name


def _named(scope: str) -> str:
    return "everything" if scope == EVERYTHING else scope
