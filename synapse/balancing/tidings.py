"""What of balancing is worth an event: who gets nothing, hardly anything, or all again. Pure."""

from collections.abc import Iterator, Mapping

from synapse.balancing.breaker import State
from synapse.balancing.pool import Standing
from synapse.events import Event, Kind, Level

LITTLE = 0.25
"""A share from which on it is told of."""

Standings = Mapping[str, Mapping[str, Standing]]


def tidings(before: Standings, after: Standings, at: float, clock: float) -> Iterator[Event]:
    """The events between two looks. `at` is in seconds since the epoch, `clock` the monotonic time at that moment."""
    for service in sorted(before.keys() | after.keys()):
        old, new = before.get(service, {}), after.get(service, {})
        for address in sorted(old.keys() | new.keys()):
            event = _event(old.get(address), new.get(address), address, clock)
            if event is not None:
                kind, what, why = event
                level = Level.WARNING if kind is Kind.BREAKER and why else Level.INFO
                yield Event(at=at, kind=kind, what=what, why=why, service=service, level=level)


def _event(old: Standing | None, new: Standing | None, address: str, clock: float) -> tuple[Kind, str, str] | None:
    if new is not None and new.until is not None:
        if old is not None and old.until == new.until:
            return None
        return Kind.BREAKER, f"{address} gets no requests for {max(0.0, new.until - clock):.1f} s", new.why
    was_out = old is not None and old.state is not State.CLOSED
    if was_out and (new is None or new.state is State.CLOSED):
        return Kind.BREAKER, f"{address} gets requests again", ""
    little, was_little = _is_little(new), _is_little(old)
    if new is not None and little and not was_little and not was_out:
        return Kind.WEIGHTS, f"{address} gets {new.share:.0%} of its weight", new.why
    if old is not None and old.state is State.CLOSED and new is None:
        return Kind.WEIGHTS, f"{address} gets all of its weight again", ""
    return None


def _is_little(standing: Standing | None) -> bool:
    return standing is not None and standing.state is State.CLOSED and standing.share <= LITTLE
