"""The words of a service's `frontend` that read the live map: splits, rates, faults and what is told. Pure.

A template prints them; what they look up is `synapse.live_map`'s.
"""

import math
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from smartstack.shifting import Rate, Stick
from smartstack.traffic import Proxy
from synapse.live_map import CALLER_KEY
from synapse.shifts import STATUSES


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """What HAProxy reads beside its configuration: `path` is the live map's. `faults`: this host allows them; `delay`
    is the action that delays a request by `txn.fault_delay`, empty where this HAProxy has none, and `lua` the file that
    HAProxy needs for that, empty where it needs none."""

    path: str
    faults: bool = False
    delay: str = ""
    lua: str = ""

    def sample(self, key: str, default: int | None = None) -> str:
        """The value of a key as a word of the configuration; where it has none, the default, or nothing."""
        otherwise = "" if default is None else f",{default}"
        return shlex.quote(f"str({key}),map({_argument(self.path)}{otherwise})")

    @property
    def caller(self) -> str:
        """What callers from this host are called of whom HAProxy knows nothing better, as a word of the
        configuration."""
        return self.sample(CALLER_KEY)


IN_PLACE = Live(path="haproxy.map")
"""A map in the directory where HAProxy runs, and no faults."""

LUA = """-- Written by synapse, because this HAProxy cannot wait by itself: http-request pause is of 3.2.
core.register_action("smartstack_delay", {"http-req"}, function(txn)
    core.msleep(math.min(tonumber(txn:get_var("txn.fault_delay")) or 0, 60000))
end)
"""
PAUSE_SINCE = (3, 2)


def delays(version: tuple[int, int], lua: str) -> tuple[str, str]:
    """The action that delays a request and the Lua file that it needs. `lua` is where that would be, empty where
    HAProxy has no Lua."""
    if version >= PAUSE_SINCE:
        return "pause var(txn.fault_delay)", ""
    return ("lua.smartstack_delay", lua) if lua else ("", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One share: `bound` is the sample up to which the request's number is of it; `lacks` says why `to` cannot answer,
    and is empty where it can."""

    number: int
    to: str
    bound: str
    lacks: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RateWords:
    """How requests of one source are counted: `source` is the sample that says who that is, `otherwise` the one for
    those of whom it says nothing."""

    source: str
    otherwise: str
    bound: str
    period_ms: int
    retry_after: int
    period: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Switches:
    """What a template needs. `by` is the sample whose value decides which share a request is of, empty where chance
    does; `fault` is the sample of a fault, empty where there are none. `told` is the sample of which part of the
    requests the feed tells, which has no value where it tells all."""

    by: str
    parts: tuple[Part, ...]
    rate: RateWords | None
    fault: str
    delay: str
    statuses: tuple[int, ...]
    told: str


def switches(name: str, proxy: Proxy, absent: Mapping[str, str], live: Live) -> Switches:
    """The switches of a service. `absent` are the services that cannot answer, with why."""
    rate = proxy.limits.rate
    return Switches(
        by="" if proxy.split_by is None else _stick(proxy.split_by),
        parts=tuple(_parts(name, proxy, absent, live)),
        rate=None if rate is None else _rate(name, rate, live),
        fault=_fault(name, live) if live.faults and proxy.mode == "http" else "",
        delay=live.delay,
        statuses=STATUSES,
        told=live.sample(f"share/{name}"),
    )


def _parts(name: str, proxy: Proxy, absent: Mapping[str, str], live: Live) -> Iterator[Part]:
    for number, split in enumerate(proxy.split, 1):
        yield Part(
            number=number,
            to=split.to,
            bound=live.sample(f"split/{name}/{split.to}", 0),
            lacks=absent.get(split.to, "") or ("the service itself" if split.to == name else ""),
        )


def _stick(stick: Stick) -> str:
    match stick.by:
        case "header":
            return f"req.fhdr({stick.name})"
        case "cookie":
            return f"req.cook({stick.name})"
        case "query":
            return f"url_param({stick.name})"


def _rate(name: str, rate: Rate, live: Live) -> RateWords:
    source = {"source": "var(txn.source)", "client": "src", "header": f"req.fhdr({rate.name})"}[rate.by]
    return RateWords(
        source=source,
        otherwise="str(-)" if rate.by == "header" else "src",
        bound=live.sample(f"rate/{name}", rate.requests),
        period_ms=round(rate.per * 1000),
        retry_after=math.ceil(rate.per),
        period=f"{rate.per:g} s",
    )


def _fault(name: str, live: Live) -> str:
    # The beginning of a path is found by the key that it is the end of: `fault/web/x` for /x and what begins with it.
    return shlex.quote(f"str(fault/{name}),concat(,txn.path),map_beg({_argument(live.path)})")


def _argument(path: str) -> str:
    """A path as an argument of a sample, in which a comma or a parenthesis means nothing."""
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'
