"""One bad instance of five: what clients see by each way of balancing, ours and others, side by side.

    python -m tests.bench.balance [slow] [failing] [hanging] [degrading] [--seconds 8] [--others nginx,envoy]

A real synapse and its HAProxy, real servers, an open-loop client that gives up after 2 s. leastconn and roundrobin are
shown as HAProxy does them alone: without our breaker.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from smartstack.instance import Instance, encode, node_name
from smartstack.registry.protocol import NodeId
from tests.bench.figures import Figure, Part
from tests.bench.open_loop import load
from tests.bench.rivals import RIVALS, Setup, installed, running
from tests.bench.run import main
from tests.support.eventually import eventually
from tests.support.moody import Moody
from tests.support.pair import Host

LISTEN = 20_000
PORT = 8090
INSTANCES = 5
WELL_SECONDS = 3.0
"""How long what hangs or degrades is well at first."""

OTHERS = ("nginx", "envoy")
BALANCES = ("latency", "leastconn", "roundrobin")
_NO_RETRIES: Mapping[str, Any] = {"retry_on": [], "retries": 0, "health": {"observe": "off"}}
_ALL_RETRIES: Mapping[str, Any] = {"retry_on": ["connection", "empty", 500, 502, 503, 504]}
_OURS = "latency"

Change = Callable[[Moody, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What becomes of one of the five, after so many seconds; and which settings to try it with, by name."""

    change: Change
    after: float = 0.0
    settings: Mapping[str, Mapping[str, Any]]


def slow(
    *, rate: float = 400.0, seconds: float = 8.0, balances: Sequence[str] = BALANCES, others: Sequence[str] = OTHERS
) -> Iterator[Figure]:
    """One of five instances takes 50 ms more for each answer."""
    scenario = Scenario(change=lambda servers, host: servers.answer(host, PORT, after=0.05), settings={"": {}})
    yield from _compare(scenario, rate, seconds, balances, others)


def failing(
    *, rate: float = 400.0, seconds: float = 8.0, balances: Sequence[str] = BALANCES, others: Sequence[str] = OTHERS
) -> Iterator[Figure]:
    """One of five instances answers 500 at once, and passes its health check. A 500 is not tried again by default: this
    shows it with such retries and with none at all, and other proxies as they come. Envoy's outlier detection has its
    defaults, by which it ejects at most a tenth of the instances: none of five."""
    scenario = Scenario(
        change=lambda servers, host: servers.answer(host, PORT, after=0.0, status=500),
        settings={", 500 is retried": _ALL_RETRIES, ", no retries": _NO_RETRIES},
    )
    yield from _compare(scenario, rate, seconds, balances, others)


def hanging(*, rate: float = 400.0, seconds: float = 8.0, balances: Sequence[str] = BALANCES[:2]) -> Iterator[Figure]:
    """One of five instances is well for 3 s, then takes requests and answers no more."""
    scenario = Scenario(change=lambda servers, host: servers.hang(host, PORT), after=WELL_SECONDS, settings={"": {}})
    yield from _compare(scenario, rate, seconds, balances)


def degrading(
    *, rate: float = 400.0, seconds: float = 13.0, balances: Sequence[str] = BALANCES[:2]
) -> Iterator[Figure]:
    """One of five instances is well for 3 s, and then gets slower within 10 s, by 200 ms."""
    scenario = Scenario(
        change=lambda servers, host: servers.answer(host, PORT, after=0.2, within=10.0),
        after=WELL_SECONDS,
        settings={"": {}},
    )
    yield from _compare(scenario, rate, seconds, balances)


def _compare(
    scenario: Scenario, rate: float, seconds: float, balances: Sequence[str], others: Sequence[str] = ()
) -> Iterator[Figure]:
    for name, proxy in scenario.settings.items():
        for balance in balances:
            breaker = {} if balance == _OURS else {"breaker": "off"}
            with _ours({**proxy, **breaker, "balance": balance}) as place:
                yield from _measure(f"{balance}{name}", place, scenario, rate=rate, seconds=seconds)
    for other in installed(others):
        with _rival(other) as place:
            yield from _measure(RIVALS[other].title, place, scenario, rate=rate, seconds=seconds)
    with _ours({"balance": balances[0]}, INSTANCES - 1) as place:
        yield from _measure(f"{balances[0]}, without the bad one", place, None, rate=rate, seconds=seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where clients ask, and the instances, the first of which goes bad."""

    host: str
    servers: Moody
    instances: Sequence[str]


@contextmanager
def _ours(proxy: Mapping[str, Any], count: int = INSTANCES) -> Iterator[_Place]:
    with _place(count) as (host, place):
        host.define("web", LISTEN, **proxy)
        for address in place.instances:
            instance = Instance(host=address, port=PORT, name=address)
            host.writer.put(NodeId(path="services/web", node=node_name(instance)), encode(instance))
        host.start()
        eventually(lambda: len(host.members("web")) == count, within=10)
        yield place


@contextmanager
def _rival(name: str) -> Iterator[_Place]:
    with _place(INSTANCES) as (host, place):
        instances = [f"{each}:{PORT}" for each in place.instances]
        with running(name, Setup(host=host.address, port=LISTEN, instances=instances)):
            yield place


@contextmanager
def _place(count: int) -> Iterator[tuple[Host, _Place]]:
    host, servers = Host(), Moody()
    try:
        addresses = [f"{host.address.rpartition('.')[0]}.{number}" for number in range(1, count + 1)]
        for address in addresses:
            servers.open(address, PORT)
        yield host, _Place(host=host.address, servers=servers, instances=addresses)
    finally:
        host.close()
        servers.stop()


def _measure(name: str, place: _Place, scenario: Scenario | None, *, rate: float, seconds: float) -> Iterator[Figure]:
    """What the client sees, and the share of the answers that the bad instance gave."""
    size = f"{rate:g}/s for {seconds:g} s"
    bad, timer = place.instances[0], None
    if scenario is not None and scenario.after:
        timer = threading.Timer(scenario.after, scenario.change, (place.servers, bad))
        timer.start()
    elif scenario is not None:
        scenario.change(place.servers, bad)
    answers = load(place.host, LISTEN, rate, seconds)
    if timer is not None:
        timer.join()
    took = sorted(1000 * each.took for each in answers)
    good = 100 * sum(each.status == 200 for each in answers) / len(answers)
    yield Figure(name=f"{name}: success", size=size, unit="%", samples=[good])
    yield Figure(name=f"{name}: p50", size=size, unit="ms", samples=[took[len(took) // 2]])
    yield Figure(name=f"{name}: p99", size=size, unit="ms", samples=[took[len(took) * 99 // 100]])
    if scenario is not None:
        share = 100 * sum(each.by == f"{bad}:{PORT}" for each in answers) / len(answers)
        yield Figure(name=f"{name}: share of the bad one", size=size, unit="%", samples=[share])


def _part(title: str, measure: Callable[..., Iterator[Figure]], **quick: object) -> Part:
    return Part(program="balance", title=title, measure=measure, quick={"balances": (_OURS,), "rate": 100.0, **quick})


PARTS = (
    _part("One of five is slow", slow, seconds=1.0, others=()),
    _part("One of five fails", failing, seconds=1.0, others=()),
    _part("One of five hangs", hanging, seconds=4.0),
    _part("One of five gets slower", degrading, seconds=4.0),
)

if __name__ == "__main__":
    main(PARTS)
