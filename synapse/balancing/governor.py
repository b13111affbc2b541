"""The governor: hears of every request, and says how much of its weight each instance gets."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from synapse.balancing.policy import members_of, policy_of
from synapse.balancing.pool import Pool, Standing
from synapse.offers import Offer
from synapse.proxy import Load
from synapse.telemetry.request import Request

TICK_SECONDS: Final = 0.25
"""How often a service that is called is weighed; a circuit that opens or closes does not wait for it."""

POOLS_A_TICK: Final = 200
"""Services that one tick weighs; the others have their turn in the next."""

QUIET_SECONDS: Final = 60.0
"""After so long without a request, what was known of a service's instances is forgotten."""

ASKED_AT_ONCE: Final = 20
"""Services of which HAProxy is asked in one turn of the loop."""

Shares = Mapping[str, Mapping[str, float]]
"""By service, the share of each instance that does not get all of its weight: above 0 and below 1, or 0."""


class Governor:
    """A sink of the feed. Everything but `shares`, which is replaced as a whole, is for who holds the feed's lock.

    `ring` is called when shares changed, or HAProxy is to be asked about a service. `chance` answers numbers from 0
    to 1. Only services that are called cost anything.
    """

    def __init__(self, ring: Callable[[], None], chance: Callable[[], float]) -> None:
        self.shares: Shares = MappingProxyType({})
        self._ring = ring
        self._chance = chance
        self._offers: dict[str, Offer] = {}
        self._pools: dict[str, Pool] = {}
        self._openings: Counter[str] = Counter()

    def take(self, requests: Sequence[Request], now: float) -> None:
        """These requests have ended."""
        alarmed: dict[str, Pool] = {}
        for request in requests:
            pool = self._pools.get(request.service)
            if pool is None:
                pool = self._meet(request.service, now)
                if pool is None:
                    continue
            pool.take(request, now)
            if pool.alarm:
                alarmed[request.service] = pool
        for name, pool in alarmed.items():
            self._decide(name, pool, now)

    def tick(self, now: float) -> None:
        """Some time has passed."""
        due = (name for name, pool in self._pools.items() if _is_due(pool, now))
        names = [name for name, _ in zip(due, range(POOLS_A_TICK), strict=False)]
        asks = False
        for name in names:
            pool = self._pools.pop(name)
            if _is_quiet(pool, now):
                continue
            self._pools[name] = pool  # the last in the next tick
            pool.fold(now)
            self._decide(name, pool, now)
            asks = asks or pool.asks()
        if asks:
            self._ring()

    def know(self, name: str, offer: Offer | None, now: float) -> None:
        """This is what is offered of a service now; None: nothing."""
        if offer is None or offer.definition.proxy is None:
            self._offers.pop(name, None)
            if self._pools.pop(name, None) is not None:
                self._publish(name, {})
            return
        self._offers[name] = offer
        pool = self._pools.get(name)
        if pool is not None:
            pool.know(policy_of(offer.definition.proxy), members_of(offer.placement), now)
            self._decide(name, pool, now)

    def asks(self) -> list[str]:
        """The services of which HAProxy is to be asked, because the feed alone does not tell."""
        return [name for name, pool in self._pools.items() if pool.asks()][:ASKED_AT_ONCE]

    def told(self, name: str, loads: Mapping[str, Load], now: float) -> None:
        """What HAProxy counts of a service's instances, by address."""
        pool = self._pools.get(name)
        if pool is None:
            return
        pool.told(loads, now)
        if pool.alarm:
            self._decide(name, pool, now)

    def standings(self, now: float) -> dict[str, Mapping[str, Standing]]:
        """How the instances stand that do not get all of their weight, by service."""
        return {name: self._pools[name].standings(now) for name in self.shares if name in self._pools}

    def openings(self) -> Counter[str]:
        """How often circuits were opened since the last time somebody asked, by service."""
        openings, self._openings = self._openings, Counter()
        return openings

    def _meet(self, name: str, now: float) -> Pool | None:
        offer = self._offers.get(name)
        if offer is None or offer.definition.proxy is None:
            return None
        policy = policy_of(offer.definition.proxy)
        if policy.by_latency or policy.breaker is not None:
            pool = self._pools[name] = Pool(policy, members_of(offer.placement), now)
            return pool
        return None

    def _decide(self, name: str, pool: Pool, now: float) -> None:
        opened = pool.decide(now, self._chance())
        if opened:
            self._openings[name] += opened
        self._publish(name, pool.shares)

    def _publish(self, name: str, shares: Mapping[str, float]) -> None:
        if shares == self.shares.get(name, {}):
            return
        others = {each: known for each, known in self.shares.items() if each != name}
        self.shares = MappingProxyType({**others, name: MappingProxyType(dict(shares))} if shares else others)
        self._ring()


def _is_due(pool: Pool, now: float) -> bool:
    """Whether there is something to weigh: a service that nobody calls costs nothing while all is as it should be."""
    return now - pool.folded_at >= TICK_SECONDS and (pool.called or pool.busy or _is_quiet(pool, now))


def _is_quiet(pool: Pool, now: float) -> bool:
    return now - pool.heard_at > QUIET_SECONDS and not pool.called and not pool.busy
