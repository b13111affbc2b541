"""Where shares of a service's requests go, how many there may be, and how often they are sent again: models. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal

from smartstack.forms import INSTANCE_ID, PERCENT, between, duration
from smartstack.locality import WHERE, Where
from smartstack.traffic_forms import TOKEN

SplitBy = Literal["header", "cookie", "query"]
RateBy = Literal["source", "client", "header"]

SPLITS_LIMIT = 20
"""Shares of one service."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subset:
    """Those instances of a service that have some labels: a service of its own, `<service>.<name>`, without an address
    of its own, to which routes and splits may lead."""

    where: Annotated[Where, "labels that an instance of it must have", WHERE]
    exclusive: Annotated[bool, "the service itself does without these instances"] = False

    def problems(self) -> Iterable[tuple[str, str]]:
        """Rules over several keys: the dotted key, and what is wrong."""
        if not self.where:
            yield "where", "is empty: a subset of all instances is the service itself"
        if self.exclusive and len(self.where) > 1:
            yield "exclusive", "needs a `where` of one label, of which the other instances are the opposite"


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A share of the requests that another service answers, as long as an instance of that is there."""

    to: Annotated[str, "the service, or a subset of this one: web.canary", INSTANCE_ID]
    percent: Annotated[float, "of the requests; it may change at any time, without a reload", PERCENT]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stick:
    """What decides which share a request is of: the same value always goes the same way, while the shares stand."""

    by: Annotated[SplitBy, "a header, a cookie, a query parameter"]
    name: Annotated[str, "of the header, cookie or query parameter", TOKEN]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """So many requests of one source in a time; what is beyond is answered 429."""

    requests: Annotated[int, "of one source in that time", between(1, 1_000_000)]
    per: Annotated[float, "the time, and so how long a burst may be", duration("1s", "1h")] = 1.0
    by: Annotated[RateBy, "who a source is: who calls, the client's address, what stands in a header"] = "source"
    name: Annotated[str | None, "of the header; all who send none are one source", TOKEN] = None

    def problems(self) -> Iterable[tuple[str, str]]:
        """Rules over several keys: the dotted key, and what is wrong."""
        if self.by == "header" and self.name is None:
            yield "name", "is missing: the name of the header"
        if self.by != "header" and self.name is not None:
            yield "name", f"has no meaning for by: {self.by}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much at once; what is beyond waits in a queue, for timeouts.queue at most."""

    instance: Annotated[int | None, "requests (tcp: connections) at one instance", between(1, 1_000_000)] = None
    instance_queue: Annotated[
        int | None,
        "that wait for an instance which a cookie or hash picked; beyond: another instance, or 503 for a hash",
        between(1, 1_000_000),
    ] = None
    queue: Annotated[
        int | None, "requests that wait for any of them, on this host; beyond: 503 at once", between(1, 1_000_000)
    ] = None
    clients: Annotated[int | None, "client connections of the service", between(1, 1_000_000)] = None
    rate: Annotated[Rate | None, "requests of one source; beyond: 429"] = None

    def problems(self) -> Iterable[tuple[str, str]]:
        """Rules over several keys: the dotted key, and what is wrong."""
        for key in ("instance_queue", "queue"):
            if self.instance is None and getattr(self, key) is not None:
                yield key, "has no meaning without instance: nothing waits where there is no limit"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryBudget:
    """How many requests may be sent again, so that retries do not bury instances that are busy enough."""

    ratio: Annotated[float, "of the requests", PERCENT] = 0.2
    floor: Annotated[int, "and so many a second beside that", between(0, 100_000)] = 10


NO_LIMITS = Limits()
DEFAULT_BUDGET = RetryBudget()
"""As Linkerd's."""


def split_problems(splits: tuple[Split, ...], stick: Stick | None) -> Iterable[tuple[str, str]]:
    """What is wrong with shares together: the key, and what."""
    names = [split.to for split in splits]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        yield "split", f"names {twice} twice"
    if round(sum(split.percent for split in splits), 6) > 1:
        yield "split", "gives away more than 100 %"
    if len(splits) > SPLITS_LIMIT:
        yield "split", f"must be at most {SPLITS_LIMIT}"
    if stick is not None and not splits:
        yield "split_by", "has no meaning without split"
