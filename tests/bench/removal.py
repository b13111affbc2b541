"""An instance dies, or hangs: until no request is routed there any more, by the pair and by others, side by side.

python -m tests.bench.removal [--faults kill,hang] [--rate 200] [--rounds 2] [--rivals haproxy,nginx,envoy]
"""

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from tests.bench.figures import Figure, Part
from tests.bench.fleet import LISTEN, define, fleet, until
from tests.bench.open_loop import TIMEOUT_SECONDS, Answer, begin, read
from tests.bench.rivals import RIVALS, Setup, installed, running
from tests.bench.run import main
from tests.support.moody import Moody
from tests.support.pair import BACKEND_PORT, Host

INSTANCES = 3
WELL_SECONDS = 2.0
"""How long all are well at first, once the clients send."""

AFTER_SECONDS = 12.0
"""How long it is looked on afterwards: those who try again by themselves do so after 10 s."""

PAIR = "nerve and synapse"
_NO_RETRIES = {"retries": 0, "retry_on": []}
_FAULTS: dict[str, tuple[str, Callable[[Moody, str], None]]] = {
    "kill": ("kill -9", lambda servers, host: servers.stop()),
    "hang": ("hangs", lambda servers, host: servers.hang(host, BACKEND_PORT)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to the instances: where clients ask, and the instance that is hit."""

    host: str
    port: int
    victim: Moody
    address: str


def removal(
    *,
    faults: Sequence[str] = ("kill", "hang"),
    rate: int = 200,
    rounds: int = 2,
    after: float = AFTER_SECONDS,
    rivals: Sequence[str] = tuple(RIVALS),
) -> Iterator[Figure]:
    """One of three instances is killed with kill -9, or takes requests and answers no more, while clients send through
    each proxy at the same time; they give up after 2 s. Without retries each request that is routed there fails, so the
    last that fails says when routing ended, as far as was looked on (0: none failed). With retries as they come, what
    fails is what a client notices. The pair's checks are as they come, and HAProxy alone asks as often by itself (each
    2 s, three failures). nginx notices by requests; so does Envoy's outlier detection, which by its defaults ejects at
    most a tenth of the instances: none of three."""
    others = installed(rivals)
    for name in faults:
        title, hit = _FAULTS[name]
        for retries in (False, True):
            ended: dict[str, list[float]] = {}
            failed: dict[str, list[float]] = {}
            for _ in range(rounds):
                for way, (at, answers) in _round(others, retries, hit, rate, after).items():
                    lost = [each.due for each in answers if each.status != 200 and each.due + TIMEOUT_SECONDS > at]
                    failed.setdefault(way, []).append(len(lost))
                    ended.setdefault(way, []).append(max([0.0, *(1000 * (due - at) for due in lost)]))
            size = f"{title}, {rate}/s, {after:g} s, {rounds} times"
            for way, sent in ended.items():
                if not retries:
                    what = f"{way}: routed there, no retries"
                    yield Figure(name=what, size=size, unit="ms", samples=sent, headline=way == PAIR)
                what = f"{way}: failed, {'retries as they come' if retries else 'no retries'}"
                yield Figure(name=what, size=size, unit="", samples=failed[way], headline=way == PAIR and retries)


def _round(
    others: Sequence[str], retries: bool, hit: Callable[[Moody, str], None], rate: int, after: float
) -> dict[str, tuple[float, list[Answer]]]:
    """For each way when its instance was hit, and what its client saw."""
    with ExitStack() as stack:
        ways = {PAIR: stack.enter_context(_pair(retries))}
        for name in others:
            title = f"{RIVALS[name].title} alone"
            ways[title] = stack.enter_context(_rival(name, retries))
        clients: dict[str, subprocess.Popen[bytes]] = {}
        for name, way in ways.items():
            clients[name] = begin(way.host, way.port, rate, WELL_SECONDS + after)
        time.sleep(WELL_SECONDS)
        at = {}
        for name, way in ways.items():
            at[name] = time.monotonic()
            hit(way.victim, way.address)
        return {name: (at[name], read(client)) for name, client in clients.items()}


@contextmanager
def _pair(retries: bool) -> Iterator[Way]:
    """The pair on ZooKeeper, with a nerve beside each instance."""
    with fleet(0, 0) as (host, _), _servers(host) as servers:
        define(host, "web", LISTEN, **({} if retries else _NO_RETRIES))
        for number in range(1, INSTANCES + 1):
            host.nerve(number, {"web": {}}).start()
        host.start()
        until(lambda: len(host.members("web")) == INSTANCES, "every instance is served")
        yield Way(host=host.address, port=LISTEN, victim=servers[0], address=host.instance(1).host)


@contextmanager
def _rival(name: str, retries: bool) -> Iterator[Way]:
    host = Host()
    try:
        with _servers(host) as servers:
            instances = [host.instance(number).address for number in range(1, INSTANCES + 1)]
            setup = Setup(host=host.address, port=LISTEN, instances=instances, retries=retries)
            with running(name, setup):
                yield Way(host=host.address, port=LISTEN, victim=servers[0], address=host.instance(1).host)
    finally:
        host.close()


@contextmanager
def _servers(host: Host) -> Iterator[list[Moody]]:
    """The instances, each a process of its own, at the addresses of the host's network."""
    servers = [Moody() for _ in range(INSTANCES)]
    try:
        for number, each in enumerate(servers, start=1):
            place = host.instance(number)
            host.backends.close(place.host, BACKEND_PORT)
            each.open(place.host, BACKEND_PORT)
        yield servers
    finally:
        for each in servers:
            with suppress(OSError):
                each.stop()


PARTS = (
    Part(
        program="removal",
        title="An instance dies, or hangs",
        measure=removal,
        quick={"faults": ("kill",), "rounds": 1, "after": 2.0, "rivals": ("haproxy",)},
    ),
)

if __name__ == "__main__":
    main(PARTS)
