"""One bad instance of five: what clients see by each way of balancing, side by side.

    python -m tests.bench.balance [slow] [failing] [hanging] [degrading] [--rate 400] [--seconds 15]

A real synapse and its HAProxy, real servers, an open-loop client. `failing` answers 500 at once and passes its health
check; `hanging` and `degrading` are well at first. Retries are those of the definition (502, 503, 504 and no answer);
`with 500` tries a 500 elsewhere, too.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from smartstack.instance import Instance, encode, node_name
from smartstack.registry.protocol import NodeId
from tests.support.eventually import eventually
from tests.support.moody import Moody
from tests.support.pair import Host

LISTEN = 20_000
PORT = 8090
INSTANCES = 5
CLIENT_TIMEOUT = 2.0
WELL_SECONDS = 3.0
"""How long what hangs or degrades is well at first."""

_BALANCES = ("latency", "leastconn", "roundrobin")
_NO_RETRIES: Mapping[str, Any] = {"retry_on": [], "retries": 0, "health": {"observe": "off"}}
_ALL_RETRIES: Mapping[str, Any] = {"retry_on": ["connection", "empty", 500, 502, 503, 504]}

Change = Callable[[Moody, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What becomes of one of the five, at once and after it was well for a while; and which retries to try it with."""

    at_once: Change | None = None
    later: Change | None = None
    retries: Mapping[str, Mapping[str, Any]]


SCENARIOS = {
    "slow": Scenario(at_once=lambda servers, host: servers.answer(host, PORT, after=0.05), retries={"as defined": {}}),
    "failing": Scenario(
        at_once=lambda servers, host: servers.answer(host, PORT, after=0.0, status=500),
        retries={"with 500": _ALL_RETRIES, "off": _NO_RETRIES},
    ),
    "hanging": Scenario(later=lambda servers, host: servers.hang(host, PORT), retries={"as defined": {}}),
    "degrading": Scenario(
        later=lambda servers, host: servers.answer(host, PORT, after=0.2, within=10.0), retries={"as defined": {}}
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What the client saw: milliseconds, and the share of the answers that the bad instance gave."""

    requests: int
    failed: int
    p50: float
    p90: float
    p99: float
    bad: float


def main() -> None:
    """Run the scenarios that are asked for, or all."""
    parser = argparse.ArgumentParser(description="one bad instance of five, by each way of balancing")
    parser.add_argument("scenarios", nargs="*", choices=[*SCENARIOS, []], default=[])
    parser.add_argument("--rate", type=float, default=400.0)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--balances", default=",".join(_BALANCES))
    options = parser.parse_args()
    print(
        f"# {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}; {options.rate:g}/s, ",
        end="",
    )
    print(f"{options.seconds:g} s each, {INSTANCES} instances, one of them bad; latencies in ms")
    print(
        f"{'bad one':<10} {'retries':<11} {'balance':<11} {'success %':>9} {'failed':>6} {'p50':>6} {'p90':>6} ", end=""
    )
    print(f"{'p99':>7} {'its share %':>12}", flush=True)
    for name in options.scenarios or SCENARIOS:
        _compare(name, options.balances.split(","), options.rate, options.seconds)


def _compare(name: str, balances: Sequence[str], rate: float, seconds: float) -> None:
    scenario = SCENARIOS[name]
    for retries, proxy in scenario.retries.items():
        for balance in balances:
            # The others are shown as HAProxy does them alone: the breaker is ours.
            breaker = {} if balance == "latency" else {"breaker": "off"}
            _print(name, retries, balance, run(scenario, {**proxy, **breaker, "balance": balance}, rate, seconds))
    _print(name, "as defined", "without it", run(None, {"balance": balances[0]}, rate, seconds))


def run(scenario: Scenario | None, proxy: Mapping[str, Any], rate: float, seconds: float) -> Result:
    """One run on a host of its own; without a scenario there is no bad one, but the four others only."""
    host, servers = Host(), Moody()
    try:
        hosts = [f"{host.address.rpartition('.')[0]}.{number}" for number in range(1, INSTANCES + 1)]
        hosts = hosts if scenario else hosts[1:]
        host.define("web", LISTEN, **proxy)
        for address in hosts:
            servers.open(address, PORT)
            instance = Instance(host=address, port=PORT, name=address)
            host.writer.put(NodeId(path="services/web", node=node_name(instance)), encode(instance))
        host.start()
        eventually(lambda: len(host.members("web")) == len(hosts), within=10)
        if scenario and scenario.at_once:
            scenario.at_once(servers, hosts[0])
        if scenario and scenario.later:
            threading.Timer(WELL_SECONDS, scenario.later, (servers, hosts[0])).start()
        return _measure(host.address, rate, seconds, f"{hosts[0]}:{PORT}" if scenario else "")
    finally:
        host.close()
        servers.stop()


def _measure(address: str, rate: float, seconds: float, bad: str) -> Result:
    command = [sys.executable, "-m", "tests.bench.open_loop", address, str(LISTEN), str(rate), str(seconds)]
    told = subprocess.run([*command, str(CLIENT_TIMEOUT)], capture_output=True, text=True, check=True).stdout
    results = [json.loads(line) for line in told.splitlines()]
    took = sorted(1000 * each[1] for each in results)
    failed = sum(each[2] != 200 for each in results)
    return Result(
        requests=len(results),
        failed=failed,
        p50=took[len(took) // 2],
        p90=took[len(took) * 9 // 10],
        p99=took[len(took) * 99 // 100],
        bad=100 * sum(each[3] == bad for each in results) / len(results),
    )


def _print(name: str, retries: str, balance: str, result: Result) -> None:
    success = 100 * (1 - result.failed / result.requests)
    print(
        f"{name:<10} {retries:<11} {balance:<11} {success:>9.2f} {result.failed:>6} {result.p50:>6.2f} "
        f"{result.p90:>6.2f} {result.p99:>7.2f} {result.bad:>12.2f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
