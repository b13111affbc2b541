"""Recorded traces: what a real HAProxy told of the requests to five real instances, one of them ill.

    python -m tests.support.traces [slow] [failing] [degrading]

records them anew, with requests spread evenly (balance roundrobin, no breaker, no retries). A line is one request: when
it was told of, in seconds, the instance's number (1 is the ill one), status, milliseconds in all, until the connection,
and until the answer (-1: none), and how it ended.
"""

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from smartstack.instance import Instance, encode, node_name
from smartstack.registry.protocol import NodeId
from synapse.telemetry.line import parse
from synapse.telemetry.request import Request
from synapse.telemetry.station import KEY_FILE
from tests.support.eventually import eventually
from tests.support.moody import Moody
from tests.support.pair import Host
from tests.support.virtual import request

DIRECTORY = Path(__file__).parents[1] / "data" / "traces"
INSTANCES = 5
PORT = 8090
RATE = 60
WELL_SECONDS = 3.0
SECONDS = 12.0

_LISTEN, _FEED_PORT = 20_000, 5140
_ILL: dict[str, Callable[[Moody, str], None]] = {
    "slow": lambda servers, host: servers.answer(host, PORT, after=0.05),
    "failing": lambda servers, host: servers.answer(host, PORT, after=0.0, status=500),
    "degrading": lambda servers, host: servers.answer(host, PORT, after=0.2, within=8.0),
}
TRACES = tuple(_ILL)


def address(number: int) -> str:
    """The instance of that number in a trace that was read."""
    return f"10.0.0.{number}:80"


def read(name: str) -> Iterator[tuple[float, Request]]:
    """The requests of a trace, with the time of each in seconds since its beginning."""
    for line in (DIRECTORY / f"{name}.txt").read_text().splitlines():
        at, number, status, total, connect, response, termination = line.split()
        fields = {"status": int(status), "total_ms": int(total), "termination": termination}
        fields |= {"connect_ms": _milliseconds(connect), "response_ms": _milliseconds(response)}
        yield float(at), request(address(int(number)), **fields)


def _milliseconds(word: str) -> int | None:
    return None if word == "-1" else int(word)


def _record(name: str) -> list[str]:
    host, servers = Host(), Moody()
    try:
        network = host.address.rpartition(".")[0]
        hosts = [f"{network}.{number}" for number in range(1, INSTANCES + 1)]
        listen = (host.address, _FEED_PORT)
        host.settings["telemetry"] = {"listen": f"{listen[0]}:{listen[1]}"}
        host.define(
            "web", _LISTEN, balance="roundrobin", breaker="off", retry_on=[], retries=0, health={"observe": "off"}
        )
        for each in hosts:
            servers.open(each, PORT)
            instance = Instance(host=each, port=PORT, name=each)
            host.writer.put(NodeId(path="services/web", node=node_name(instance)), encode(instance))
        host.start()
        eventually(lambda: len(host.members("web")) == len(hosts), within=10)
        host.synapse.kill()  # HAProxy goes on, and tells whoever listens there now
        key = (host.state / KEY_FILE).read_text().strip()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as feed:
            feed.bind(listen)
            feed.settimeout(1.0)
            command = ("-m", "tests.bench.open_loop", host.address, str(_LISTEN), str(RATE), str(SECONDS), "2")
            client = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL)
            lines = list(_lines(feed, key, hosts, lambda: _ILL[name](servers, hosts[0])))
            client.wait()
        return lines
    finally:
        host.close()
        servers.stop()


def _lines(feed: socket.socket, key: str, hosts: list[str], falls_ill: Callable[[], None]) -> Iterator[str]:
    began, ill = None, False
    while True:
        try:
            datagram = feed.recv(2048)
        except TimeoutError:
            if began is None:
                continue
            return
        now = time.monotonic()
        began = began or now
        told = parse(datagram, key)
        assert isinstance(told, Request), datagram
        took = [-1 if each is None else each for each in (told.connect_ms, told.response_ms)]
        yield " ".join(
            str(each)
            for each in (
                f"{now - began:.3f}",
                hosts.index(told.host) + 1,
                told.status,
                told.total_ms,
                *took,
                told.termination,
            )
        )
        if not ill and now - began >= WELL_SECONDS:
            falls_ill()
            ill = True


def main() -> None:
    """Record those that are asked for, or all."""
    for name in sys.argv[1:] or TRACES:
        lines = _record(name)
        (DIRECTORY / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))
        print(f"{name}: {len(lines)} requests")


if __name__ == "__main__":
    main()
