"""How nerve ends: what becomes of that which is registered."""

import signal
import time
from collections.abc import Callable
from types import FrameType

from nerve.connections import established_each
from nerve.desk import Desk
from nerve.draining import Draining, Verdict, judge, leftover
from nerve.loop import Nerve
from nerve.status import Status
from smartstack.errors import SmartStackError
from smartstack.logs import EventLog
from smartstack.process import Stopping
from smartstack.wake import Wake

POLL_SECONDS = 0.2
"""How often a nerve that drains before it stops counts the connections."""


class Leaving:
    """Whether this stop is a hand-over to the next nerve, whatever `on_stop` says: SIGUSR2 asked for one."""

    def __init__(self, wake: Wake, stopping: Stopping) -> None:
        """Installs the signal's handler; main thread only."""
        self.requested = False

        def leave(number: int, frame: FrameType | None) -> None:
            self.requested = stopping.requested = True
            wake.ring()

        signal.signal(signal.SIGUSR2, leave)


class LastTurns:
    """The turns of a nerve that drains everything before it stops. `stopping` is a new one: a second signal cuts it
    short, and when it is safe to stop, or `drain.timeout` is over, it is asked to stop by the turns themselves."""

    def __init__(
        self, nerve: Nerve, desk: Desk, stopping: Stopping, log: EventLog, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._nerve = nerve
        self._stopping = stopping
        self._log = log
        self._clock = clock
        self._began = clock()
        self._told_at: float | None = None
        desk.drain_for_stop()

    def cycle(self) -> float:
        """One turn of the loop, and a look whether it was the last one."""
        wait = self._nerve.cycle()
        assert self._nerve.status is not None
        moment = self._moment(self._nerve.status)
        verdict = judge(moment, self._nerve.settings.drain)
        if verdict is Verdict.SAFE:
            self._log.info("everything is drained", seconds=round(moment.waited_seconds, 1))
        elif verdict is Verdict.OVERDUE:
            self._log.warning("nerve stops without being drained", left=leftover(moment))
        self._stopping.requested |= verdict is not Verdict.WAIT
        return min(wait, POLL_SECONDS)

    def _moment(self, status: Status) -> Draining:
        now = self._clock()
        if not all(is_drained(status, name) for name in status.services):
            self._told_at = None
        elif self._told_at is None:
            self._told_at = now
        return Draining(
            waited_seconds=now - self._began,
            told_for_seconds=None if self._told_at is None else now - self._told_at,
            connections=self._connections(status),
        )

    def _connections(self, status: Status) -> dict[str, int] | None:
        addresses = {name: service.probe.address for name, service in status.services.items()}
        try:
            counts = established_each([(address.port, address.host) for address in addresses.values()])
        except SmartStackError as error:
            self._log.warning("connections cannot be counted", why=str(error))
            return None
        return dict(zip(addresses, counts, strict=True))


def is_drained(status: Status, name: str) -> bool:
    """Whether every registry says that nothing should be sent to this service."""
    for place in status.places()[name]:
        report = status.reports[place.registry]
        there = report.held.get(place.node)
        if report.unavailable is not None or (there is not None and there.payload != place.payload):
            return False
    return True
