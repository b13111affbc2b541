"""One service's instances, weighed against each other. Time and chance come in as arguments. Pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from synapse.balancing.breaker import Results, State, ramp
from synapse.balancing.circuits import judge, release, try_one
from synapse.balancing.costs import costs
from synapse.balancing.ewma import FAILURE_MS, faded
from synapse.balancing.gauge import Gauge
from synapse.balancing.policy import Member, Policy
from synapse.balancing.weights import in_steps, reference, settle, share
from synapse.proxy import Load
from synapse.telemetry.request import Request

PROBE_RATE: Final = 2.0
"""Requests a second, of those that are told of, that try an instance in half-open."""

EXPECTED: Final = 8.0
"""Requests that should have ended at an instance before it is asked what is the matter; by chance none of 8 end once in
3,000 times."""

SILENT_SECONDS: Final = 0.2
LONGEST_SECONDS: Final = 60.0
"""For how long an answer that took long says that others may take as long."""

BASELINE_SECONDS: Final = 10.0
"""How old HAProxy's last counts may be, for the difference to say something of now."""

_DEFAULT_WINDOW: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How an instance stands: its share of its weight and, where that is not all of it, why. `until` is when an open
    circuit is tried, in seconds of a monotonic clock. `typical_ms` is what an answer takes, None where none came."""

    share: float
    state: State
    why: str = ""
    until: float | None = None
    typical_ms: float | None = None


class Pool:
    """`heard_at` is when a request of the service ended last.

    All failures are told of; where that is only a part of the good requests, failures count as that part too: what is
    seen then is as if fewer requests came. A row of failures would run over good ones of which nobody told otherwise.
    """

    def __init__(self, policy: Policy, members: Collection[Member], now: float) -> None:
        self.policy = policy
        self.heard_at = self.folded_at = now
        self.alarm = False
        self.retried = False
        self._weights = {member.address: member.weight for member in members}
        self._gauges: dict[str, Gauge] = {}
        self._good = self._failed = 0.0
        self._told = self._least_told = 1.0
        self._rate = self._calls = self._longest_ms = 0.0
        self._costs: dict[str, float] = {}
        self._nobody = False

    @property
    def called(self) -> bool:
        """Whether a request has ended since what was heard was taken in last."""
        return self._calls > 0

    @property
    def busy(self) -> bool:
        """Whether something may change though nothing is heard."""
        return any(
            each.share != 1.0 or each.circuit.state is not State.CLOSED or each.asked_at is not None
            for each in self._gauges.values()
        )

    @property
    def shares(self) -> Mapping[str, float]:
        """The share of each instance that does not get all of its weight."""
        return {address: gauge.share for address, gauge in self._gauges.items() if gauge.share != 1.0}

    def know(self, policy: Policy, members: Collection[Member], now: float) -> None:
        """These are the instances now; who left is forgotten."""
        self.policy = policy
        self._weights = {member.address: member.weight for member in members}
        for address in self._gauges.keys() - self._weights.keys():
            del self._gauges[address]
        if self._gauges:
            self._meet(now)
        self.alarm = True

    def take(self, request: Request, now: float) -> None:
        """A request of this service ended."""
        self.heard_at = now
        self._calls += 1 / request.share
        if not self._gauges:
            self._meet(now)
        if request.retries:
            self.retried = True
        gauge = self._gauges.get(request.instance)
        if gauge is None:
            # HAProxy had nobody to give it to.
            if not request.host and request.status == 503 and request.termination[1:2] != "Q":
                self._nobody = self.alarm = True
            return
        if request.share != 1.0:
            self._least_told = min(self._least_told, request.share)
            self._told = min(self._told, request.share)
        count = self._told / request.share
        self._count(gauge, gauge.take(request, now, count), count)

    def told(self, loads: Mapping[str, Load], now: float) -> None:
        """What HAProxy counts of the instances: requests that it tried again elsewhere, and those under way at an
        instance that ends none."""
        self.retried = False
        for address, load in loads.items():
            gauge = self._gauges.get(address)
            if gauge is not None:
                self._hidden(gauge, load, now)
                self._silent(gauge, load, now)

    def asks(self) -> bool:
        """Whether HAProxy is to be asked about these instances: some give retries, are tried, or are silent."""
        return self.retried or any(
            gauge.circuit.state is State.HALF_OPEN or self._is_silent(gauge) for gauge in self._gauges.values()
        )

    def fold(self, now: float) -> None:
        """Take in what was heard since the last time."""
        seconds, self.folded_at = now - self.folded_at, now
        self._told, self._least_told = self._least_told, 1.0
        window = self.policy.breaker.window if self.policy.breaker else _DEFAULT_WINDOW
        ended = {address: gauge.fold(seconds, window) for address, gauge in self._gauges.items()}
        total = sum(ended.values())
        calls, self._calls = self._calls, 0.0
        if seconds > 0:
            self._rate += (calls / seconds - self._rate) * min(1.0, seconds)
        self._longest_ms = faded(self._longest_ms, seconds, LONGEST_SECONDS)
        for gauge in self._gauges.values():
            self._longest_ms, gauge.longest_ms = max(self._longest_ms, gauge.longest_ms), 0
        fast = self._fast()
        for address, gauge in self._gauges.items():
            if not ended[address] and fast is not None:
                gauge.fade(fast, seconds)
        if total and self.policy.by_latency:
            self._expect(ended, total)

    def decide(self, now: float, chance: float) -> int:
        """Open, try and close circuits, and set the shares; answer how many were opened. `chance` is from 0 to 1."""
        self.alarm = False
        ever = Results(good=self._good, failed=self._failed)
        opened = judge(self._gauges.values(), ever, self.policy.breaker, now, chance)
        release(self._gauges.values(), self.policy, now, nobody=self._nobody)
        try_one(self._gauges.values(), now)
        self._nobody = False
        self._costs = costs(self._gauges) if self.policy.by_latency else {}
        fast = self._fast()
        for address, gauge in self._gauges.items():
            gauge.share = settle(gauge.share, self._wanted(gauge, self._costs.get(address), fast, now))
        return opened

    def standings(self, now: float) -> Mapping[str, Standing]:
        """How each instance stands that does not get all of its weight."""
        fast = self._fast()
        return {
            address: Standing(
                share=gauge.share,
                state=gauge.circuit.state,
                why=self._why(gauge, self._costs.get(address), fast, now),
                until=gauge.circuit.until if gauge.circuit.state is State.OPEN else None,
                typical_ms=gauge.typical_ms,
            )
            for address, gauge in self._gauges.items()
            if gauge.share != 1.0
        }

    def forget(self) -> None:
        """Nobody has called for long: what was known says nothing any more."""
        self._gauges.clear()
        self._rate = 0.0

    def _meet(self, now: float) -> None:
        for address in self._weights:
            if address not in self._gauges:
                self._gauges[address] = Gauge(now)

    def _count(self, gauge: Gauge, well: bool | None, count: float) -> None:
        if well:
            self._good += count
        elif well is False:
            self._failed += count
            if gauge.streak == count:
                gauge.others = Results(good=self._good - gauge.good_ever, failed=self._failed - gauge.failed_ever)
        breaker, state = self.policy.breaker, gauge.circuit.state
        if breaker and well is not None and state is not State.OPEN:
            self.alarm = self.alarm or state is State.HALF_OPEN or gauge.streak >= breaker.failures

    # What HAProxy counts

    def _hidden(self, gauge: Gauge, load: Load, now: float) -> None:
        """Requests that failed here and were answered elsewhere: the log does not say so."""
        before, gauge.retried = gauge.retried, (load.retried, now)
        if before is None or now - before[1] > BASELINE_SECONDS or load.retried <= before[0]:
            return
        failed = (load.retried - before[0]) * self._told
        gauge.ended_at, gauge.expected, gauge.asked_at = now, 0.0, None
        gauge.result(False, failed)
        self._count(gauge, False, failed)

    def _silent(self, gauge: Gauge, load: Load, now: float) -> None:
        """With requests under way the whole time, for longer than any answer took lately, it hangs."""
        if not self._is_silent(gauge):
            return
        if load.current == 0:
            gauge.expected, gauge.asked_at = 0.0, None
        elif gauge.asked_at is None:
            gauge.asked_at = now
        elif now - gauge.asked_at >= max(SILENT_SECONDS, 3 * (gauge.typical_ms or 0.0) / 1000, self._longest_ms / 500):
            gauge.hung_seconds = now - gauge.asked_at
            gauge.typical_ms = max(gauge.typical_ms or 0.0, gauge.hung_seconds * 1000)
            gauge.expected, gauge.asked_at = 0.0, None
            self.alarm = True

    def _is_silent(self, gauge: Gauge) -> bool:
        return gauge.expected >= EXPECTED and gauge.circuit.state is not State.OPEN

    def _expect(self, ended: Mapping[str, int], total: int) -> None:
        """Had each had its part of what ended at the others, by the weights that they have now: so much more."""
        weights = {address: self._weights[address] * gauge.share for address, gauge in self._gauges.items()}
        whole = sum(weights.values())
        for address, gauge in self._gauges.items():
            rest = whole - weights[address]
            if not ended[address] and rest > 0:
                gauge.expected += total * weights[address] / rest

    # Decisions

    def _wanted(self, gauge: Gauge, cost: float | None, fast: float | None, now: float) -> float:
        state = gauge.circuit.state
        if state is State.OPEN:
            return 0.0
        if state is State.HALF_OPEN:
            # Of a service that is hardly called, a tiny share would be a request a day.
            each, wanted = self._rate / max(1, len(self._gauges)), PROBE_RATE / self._told
            return in_steps(wanted / each) if each > wanted else 1.0
        by_cost = 1.0 if cost is None or fast is None else share(cost, fast)
        return in_steps(by_cost * ramp(gauge.circuit, now, self.policy.ramp_seconds))

    def _fast(self) -> float | None:
        """What a request costs at the fast instances; None while there is nothing to compare."""
        return reference(self._costs.values()) if len(self._costs) > 1 else None

    def _why(self, gauge: Gauge, cost: float | None, fast: float | None, now: float) -> str:
        circuit = gauge.circuit
        if circuit.state is not State.CLOSED:
            return circuit.why
        if ramp(circuit, now, self.policy.ramp_seconds) < 1.0:
            return f"it comes back after a pause: {circuit.why}"
        if cost is None or fast is None:
            return "it was slow"
        ended = gauge.good + gauge.failed
        if ended and FAILURE_MS * gauge.failed / ended > cost / 2:
            return f"{gauge.failed / ended:.0%} of its requests failed"
        return f"slow, {cost:.0f} ms against {fast:.0f} ms"
