"""The live map: what HAProxy looks up at each request, so that it can be changed without a reload. Pure.

One file of lines `key value`, which HAProxy reads when it starts and in which it finds shares, rates and faults by
their keys. At run time its copy is brought in step with what is wanted: `changes` is from what it shows to that.

`split/<service>/<to>`  up to which number of 10,000 this share and those before it reach
`rate/<service>`        how many requests of one source in the time that the definition says
`fault/<service><path>` a fault, see `synapse.shifts.Fault.entry`: requests whose path begins so
`share/<service>`       how many of a million requests are told of, where that is not every one
`caller/host`           what callers from this host are called of whom HAProxy knows nothing better
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from smartstack.traffic import Proxy
from synapse.shifts import NOTHING_SAID, Shifts
from synapse.telemetry.line import SHARE_PARTS

Entries: TypeAlias = Mapping[str, str]

MAP_FILE: Final = "haproxy.map"
"""Its name, in the state directory."""

CALLER_KEY: Final = "caller/host"

PARTS = 10_000
"""Into how many parts all requests are divided: a share has two digits after the point of a percent."""

KEY = re.compile(r"[a-z]+/[A-Za-z0-9._~%@:/-]{1,800}")
VALUE = re.compile(r"[A-Za-z0-9._@*|-]{1,400}")
"""Nothing in them means anything to HAProxy, in the file or on its socket."""


_SHARE = re.compile(r"share/([A-Za-z0-9._-]{1,200}) ([1-9][0-9]{0,6})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What is to hold beside the definitions: `shifts` by operators; `told` by the feed, which is the share of a
    service's requests that is told of, where that is not every one; `caller` is what callers from this host are called
    of whom HAProxy knows nothing better, empty for nothing."""

    shifts: Shifts = NOTHING_SAID
    told: Mapping[str, float] = field(default_factory=dict)
    caller: str = ""


NOTHING: Final = Said()


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """Give a key this value; `new` where it has none yet."""

    key: str
    value: str
    new: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """Take a key out, however often it is there."""

    key: str


Change: TypeAlias = Put | Drop


def entries(proxies: Mapping[str, Proxy], said: Said) -> Entries:
    """What the map is to hold for these services, by the definitions and by what is said beside them. Faults stand in
    it also while no rule reads them."""
    found = {f"fault/{fault.service}{fault.path}": fault.entry for fault in said.shifts.faults.values()}
    if said.caller:
        found[CALLER_KEY] = said.caller
    for name, proxy in proxies.items():
        if proxy.split:
            bound = 0
            for to, share in shares(proxy, said.shifts.splits.get(name, {})).items():
                bound = min(PARTS, bound + share)
                found[f"split/{name}/{to}"] = str(bound)
        if proxy.limits.rate is not None:
            found[f"rate/{name}"] = str(proxy.limits.rate.requests)
        if name in said.told:
            found[f"share/{name}"] = str(round(said.told[name] * SHARE_PARTS))
    return found


def shares(proxy: Proxy, said: Mapping[str, int]) -> dict[str, int]:
    """The shares of a service's requests in parts of 10,000, in the definition's order: what was `said` on this host
    comes before what the definition says."""
    return {split.to: said.get(split.to, round(split.percent * PARTS)) for split in proxy.split}


def told(text: str) -> dict[str, float]:
    """The shares that are told of, out of a file like this; what does not fit is left out."""
    found = (_SHARE.fullmatch(line) for line in text.splitlines())
    parts = {each[1]: int(each[2]) for each in found if each is not None}
    return {name: part / SHARE_PARTS for name, part in parts.items() if part < SHARE_PARTS}


def text(wanted: Entries) -> str:
    """The file. Raises `ValueError` for an entry outside of its alphabet, which is a defect: all was checked at the
    door."""
    for key, value in wanted.items():
        if not KEY.fullmatch(key) or not VALUE.fullmatch(value):
            raise ValueError(f"{key!r} {value!r} may not stand in the live map")
    lines = [f"{key} {value}" for key, value in sorted(wanted.items())]
    return "".join(f"{line}\n" for line in ("# Written by synapse: shares, rates and faults, by service.", *lines))


def changes(shown: Sequence[tuple[str, str]], wanted: Entries) -> Iterator[Change]:
    """From what HAProxy shows to what is wanted: first what goes, then the rest in the order of keys. A key that could
    not be told to HAProxy stays: it is somebody else's, and no rule looks it up."""
    values: dict[str, list[str]] = {}
    for key, value in shown:
        values.setdefault(key, []).append(value)
    for key in sorted(values):
        if (key not in wanted or len(values[key]) > 1) and KEY.fullmatch(key):
            yield Drop(key=key)
    for key, value in sorted(wanted.items()):
        found = values.get(key, [])
        if len(found) != 1:
            yield Put(key=key, value=value, new=True)
        elif found[0] != value:
            yield Put(key=key, value=value, new=False)
