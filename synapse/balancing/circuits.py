"""The circuits of one service's instances, decided together: who is out, who is let back, who is tried. Pure."""

from collections.abc import Collection

from smartstack.traffic import Breaker
from synapse.balancing.breaker import (
    CLOSED,
    Record,
    Results,
    State,
    close_circuit,
    fault,
    open_circuit,
    room,
    try_again,
)
from synapse.balancing.gauge import Gauge
from synapse.balancing.policy import Policy


def judge(gauges: Collection[Gauge], ever: Results, breaker: Breaker | None, now: float, chance: float) -> int:
    """Close the circuits of those that were tried and answered, or open them again, and open those of others that fail
    while the rest does not; answer how many were opened. `ever` is what the service had since it is known."""
    before = [gauge.circuit for gauge in gauges]
    if breaker is None:
        for gauge in gauges:
            gauge.circuit, gauge.first, gauge.hung_seconds = CLOSED, None, None
        return 0
    for gauge in gauges:
        if gauge.circuit.state is State.HALF_OPEN:
            _judge_tried(gauge, breaker, now, chance)
    if any(old.state is not State.CLOSED and not _is_out(gauge) for gauge, old in zip(gauges, before, strict=True)):
        _compare_anew(gauges)
    good, failed = sum(gauge.good for gauge in gauges), sum(gauge.failed for gauge in gauges)
    for gauge in gauges:
        hung, gauge.first, gauge.hung_seconds = gauge.hung_seconds, None, None
        if gauge.circuit.state is State.CLOSED and (gauge.failed or hung is not None):
            record = Record(
                streak=gauge.streak,
                others_since=Results(
                    good=ever.good - gauge.good_ever - gauge.others.good,
                    failed=ever.failed - gauge.failed_ever - gauge.others.failed,
                ),
                window=gauge.window,
                others=Results(good=good - gauge.good, failed=failed - gauge.failed),
                hung_seconds=hung,
            )
            why = fault(record, breaker)
            if why is not None and _out(gauges) < room(len(gauges), breaker):
                gauge.circuit = open_circuit(gauge.circuit, why, breaker, now, chance)
                gauge.clear()
            elif gauge.streak >= breaker.failures:
                gauge.streak = 0.0  # the next ones are compared with what the others have by then
    return sum(
        gauge.circuit.state is State.OPEN and gauge.circuit is not old
        for gauge, old in zip(gauges, before, strict=True)
    )


def _judge_tried(gauge: Gauge, breaker: Breaker, now: float, chance: float) -> None:
    """The first request that ends decides, or that none does."""
    well = gauge.first if gauge.hung_seconds is None else False
    if well is None:
        return
    circuit = gauge.circuit
    gauge.circuit = close_circuit(circuit, now) if well else open_circuit(circuit, circuit.why, breaker, now, chance)
    gauge.clear()


def release(gauges: Collection[Gauge], policy: Policy, now: float, *, nobody: bool) -> None:
    """Let back those that may not be out any more, because others left, or (`nobody`) because none of the others can
    answer: one that fails is better than none. Those whose turn comes first go first."""
    allowed = room(len(gauges), policy.breaker) if policy.breaker and not nobody else 0
    out = sorted((gauge for gauge in gauges if _is_out(gauge)), key=lambda gauge: gauge.circuit.until)
    free = out[: max(0, len(out) - allowed)]
    for gauge in free:
        gauge.clear()
        gauge.circuit = close_circuit(gauge.circuit, now - policy.ramp_seconds)
    if free:
        _compare_anew(gauges)


def try_one(gauges: Collection[Gauge], now: float) -> None:
    """One instance at a time is tried: the one whose turn came first."""
    if any(gauge.circuit.state is State.HALF_OPEN for gauge in gauges):
        return
    ready = [gauge for gauge in gauges if gauge.circuit.state is State.OPEN and gauge.circuit.until <= now]
    if ready:
        chosen = min(ready, key=lambda gauge: gauge.circuit.until)
        chosen.clear()
        chosen.circuit = try_again(chosen.circuit, now)


def _compare_anew(gauges: Collection[Gauge]) -> None:
    """Instances are compared by what they did at the same time. One that is back has done nothing yet: what failed at
    the others while it was out, may have failed everywhere."""
    for gauge in gauges:
        gauge.clear_window()


def _out(gauges: Collection[Gauge]) -> int:
    return sum(_is_out(gauge) for gauge in gauges)


def _is_out(gauge: Gauge) -> bool:
    return gauge.circuit.state is not State.CLOSED
