"""The part of the desk where shares and faults are ordered: who may, what is meant, and the file that keeps them."""

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from smartstack.errors import SmartStackError
from smartstack.logs import EventLog
from smartstack.process import write_atomically
from smartstack.validation import hint
from synapse.live_map import PARTS, shares
from synapse.offers import Offer
from synapse.orders import ClearFault, ClearSplit, FaultOrder, ShiftOrder, SplitOrder
from synapse.shifts import NOTHING_SAID, Shifts, dump, fault_text, load, percent_text
from synapse.switches import Live

SHIFTS_FILE = "shifts.json"
_SIZE_LIMIT = 4_194_304


class ShiftStore:
    """One file in the state directory. Unless it `writes`, it only looks. `problem` is a sentence about a file that
    could not be read, None where there is nothing to tell."""

    def __init__(self, state_directory: str, *, writes: bool) -> None:
        self.problem: str | None = None
        self._path = Path(state_directory) / SHIFTS_FILE
        self._writes = writes

    def load(self) -> Shifts:
        """What was kept. A file that cannot be used is put aside, and the definitions hold: a share that is lost is
        less than a fault that nobody ordered."""
        try:
            with open(self._path, "rb") as file:
                data = file.read(_SIZE_LIMIT)
        except FileNotFoundError:
            return NOTHING_SAID
        except OSError as error:
            return self._refuse(error.strerror or str(error))
        found = load(data)
        return self._refuse(found) if isinstance(found, str) else found

    def save(self, shifts: Shifts) -> None:
        """Keep these; to be called before they take effect. Raises `SmartStackError`, and then nothing may change."""
        if self._writes:
            write_atomically(self._path, dump(shifts), 0o600)

    def _refuse(self, why: str) -> Shifts:
        aside = self._path.with_name(f"{self._path.name}.corrupt")
        if self._writes:
            with contextlib.suppress(OSError):
                os.replace(self._path, aside)
        self.problem = f"cannot tell which shares and faults were ordered before this start: {self._path}: {why}"
        return NOTHING_SAID


class ShiftDesk:
    """Used by the loop's thread only. `said` is what holds now; `wall` is seconds since the epoch."""

    def __init__(self, store: ShiftStore, live: Live, log: EventLog, wall: Callable[[], float] = time.time) -> None:
        self._store = store
        self._live = live
        self._log = log
        self._wall = wall
        self.said = store.load()
        if store.problem is not None:
            log.error("what was ordered of shares and faults is lost", why=store.problem)

    @property
    def problem(self) -> str | None:
        """Why it is not known what was ordered before this start."""
        return self._store.problem

    def due_in(self) -> float | None:
        """In how many seconds a fault is over, None when none is there."""
        return None if self.said.due is None else max(0.0, self.said.due - self._wall())

    def expire(self) -> None:
        """End the faults whose time is over. HAProxy has ended them already."""
        left = self.said.expired(self._wall())
        if left is self.said:
            return
        for name in sorted(self.said.faults.keys() - left.faults.keys()):
            self._log.info("the fault on purpose is over", service=name)
        self.said = left
        self._keep("the end of a fault cannot be kept")  # it is over all the same, and over again after a restart

    def do(self, order: ShiftOrder, offers: Mapping[str, Offer]) -> ShiftOrder:
        """The order as it was carried out, with the targets that were meant. Raises `SmartStackError`."""
        match order:
            case SplitOrder():
                order = self._meant(order, offers[order.service])
                self._take(self.said.with_shares(order.service, order.shares))
                told = ", ".join(f"{to} {percent_text(share)}" for to, share in sorted(order.shares.items()))
                self._log.info("shares of the service are as an operator says", service=order.service, shares=told)
            case ClearSplit(service=service):
                self._take(self.said.without_shares(service))
                self._log.info("shares of the service are as its definition says", service=service)
            case FaultOrder(fault=fault):
                self._may_fail(order, offers[fault.service])
                self._take(self.said.with_fault(fault))
                self._log.warning(fault_text(fault), service=fault.service)
            case ClearFault(service=service):
                self.said = self.said.without_fault(service)
                self._log.info("the fault on purpose was ended", service=service)
                self._keep("the end of the fault cannot be kept: it is back after a restart, until its time is over")
        return order

    def _keep(self, otherwise: str) -> None:
        try:
            self._store.save(self.said)
        except SmartStackError as error:
            self._log.warning(otherwise, why=str(error))

    def _take(self, shifts: Shifts) -> None:
        self._store.save(shifts)
        self.said = shifts

    def _meant(self, order: SplitOrder, offer: Offer) -> SplitOrder:
        name, proxy = order.service, offer.definition.proxy
        if proxy is None or not proxy.split:
            raise SmartStackError(f"{name} has no split in its definition: say there where a share may go")
        known = {split.to for split in proxy.split}
        own = {to.removeprefix(f"{name}.") for to in known}
        meant: dict[str, int] = {}
        for typed, share in order.shares.items():
            to = typed if typed in known else f"{name}.{typed}"
            if to not in known:
                there = ", ".join(sorted(known))
                raise SmartStackError(f"{name} has no split to {typed!a}{hint(typed, own | known)}: there is {there}")
            meant[to] = share
        total = sum(shares(proxy, {**self.said.splits.get(name, {}), **meant}).values())
        if total > PARTS:
            raise SmartStackError(f"{name} would give away {percent_text(total)}, and has 100 %; nothing was changed")
        return SplitOrder(service=name, shares=meant)

    def _may_fail(self, order: FaultOrder, offer: Offer) -> None:
        proxy = offer.definition.proxy
        if not self._live.faults:
            raise SmartStackError(
                "this host allows no faults: that takes `faults: allowed` in synapse.yaml and a restart"
            )
        if proxy is None or proxy.mode == "tcp" or not proxy.addresses:
            raise SmartStackError(
                f"{order.service} has no local clients whose requests could fail: no listen, or mode tcp"
            )
        if order.fault.delay_ms and not self._live.delay:
            raise SmartStackError("this HAProxy cannot delay requests: that needs one with Lua, or 3.2")
