"""What of balancing is worth an event: who gets nothing, hardly anything, or all again. Pure."""

from collections.abc import Callable, Iterator, Mapping

from synapse.balancing.breaker import State
from synapse.balancing.pool import Standing
from synapse.events import Event, Kind, Level

LITTLE = 0.25
"""A share from which on it is told of."""

RELAPSE_SECONDS = 10.0
"""Who fails so soon after it came back fails again."""

Standings = Mapping[str, Mapping[str, Standing]]


class Tidings:
    """What people were told of so far: nobody hears of the end of something of which they did not hear the beginning.
    `standings` are those of the last look."""

    def __init__(self) -> None:
        self.standings: Standings = {}
        self._little: set[tuple[str, str]] = set()
        self._back: dict[tuple[str, str], float] = {}

    def look(self, now: Standings, has: Callable[[str, str], bool], at: float, clock: float) -> list[Event]:
        """The events since the last look. `has` says whether a service has an instance at an address: of one that left,
        other events tell. `at` is in seconds since the epoch, `clock` the monotonic time at that moment."""
        before, self.standings = self.standings, now
        self._back = {key: since for key, since in self._back.items() if clock - since <= RELAPSE_SECONDS}
        events = []
        for service in sorted(before.keys() | now.keys()):
            old, new = before.get(service, {}), now.get(service, {})
            for address in sorted(old.keys() | new.keys()):
                if not has(service, address):
                    self._little.discard((service, address))
                    continue
                for kind, what, why in self._news(service, address, old.get(address), new.get(address), clock):
                    level = Level.WARNING if kind is Kind.BREAKER and why else Level.INFO
                    events.append(Event(at=at, kind=kind, what=what, why=why, service=service, level=level))
        return events

    def _news(
        self, service: str, address: str, old: Standing | None, new: Standing | None, clock: float
    ) -> Iterator[tuple[Kind, str, str]]:
        if new is not None and new.until is not None:
            if old is None or old.until != new.until:
                again = "fails again and " if self._back.pop((service, address), None) is not None else ""
                seconds = max(0.0, new.until - clock)
                yield Kind.BREAKER, f"{address} {again}gets no requests for {seconds:.1f} s", new.why
            return
        closed = new is None or new.state is State.CLOSED
        if closed and old is not None and old.state is not State.CLOSED:
            self._little.discard((service, address))
            self._back[service, address] = clock
            early = old.until is not None and clock < old.until
            yield Kind.BREAKER, f"{address} gets requests again{', before its time' if early else ''}", ""
        elif new is not None and closed and new.share <= LITTLE and not _is_little(old):
            self._little.add((service, address))
            yield Kind.WEIGHTS, f"{address} gets {new.share:.0%} of its weight", new.why
        elif new is None and (service, address) in self._little:
            self._little.discard((service, address))
            yield Kind.WEIGHTS, f"{address} gets all of its weight again", ""


def _is_little(standing: Standing | None) -> bool:
    return standing is not None and standing.state is State.CLOSED and standing.share <= LITTLE
