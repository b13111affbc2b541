"""What each verb of a scenario may be about, and what `until` may wait for: checked before anything is broken. Pure.

Each check raises ValueError with what is wrong.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

HOSTS: Final = ("h1", "h2", "h3")
SERVERS: Final = ("zk1", "zk2", "zk3")
ROLES: Final = ("leader", "follower")
DAEMONS: Final = ("nerve", "synapse")
SERVICES: Final[Mapping[str, tuple[int, int]]] = {"web": (8080, 3210), "api": (8081, 3211)}
"""Where each service's instances listen, and where its clients call."""

PROGRAMS: Final = (*DAEMONS, "haproxy", *SERVICES)

_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_CUT: Final = re.compile(r"(\w+)(?: (from|to) (\w+))?")
_CLOCK: Final = re.compile(r"start|[+-][0-9]+")


def seconds(text: Any) -> float:
    """A duration with its unit: `500ms`, `2s`, `5m`."""
    match = _DURATION.fullmatch(str(text))
    if match is None:
        raise ValueError(f"{text!r} is no duration, such as 500ms, 2s or 5m")
    return float(match[1]) * _UNITS[match[2]]


def places(about: Any) -> list[tuple[str, str]]:
    """`h1/nerve`, `h1`, `*/synapse`, `zk2`, `zookeeper`, `leader`, several with commas or as a list: pairs of a host, a
    server or a role, and the program there ("" is everything)."""
    found = []
    for word in about if isinstance(about, list) else str(about).split(","):
        where, slash, program = str(word).strip().partition("/")
        if slash or where in HOSTS or where == "*":
            if slash and program not in PROGRAMS:
                raise ValueError(f"{program!r} is none of {', '.join(PROGRAMS)}")
            found += [(host, program) for host in hosts(where)]
        elif where in (*SERVERS, *ROLES):
            found.append((where, ""))
        elif where == "zookeeper":
            found += [(server, "") for server in SERVERS]
        else:
            raise ValueError(f"{where!r} is none of {', '.join((*HOSTS, *SERVERS, *ROLES))}, zookeeper, *")
    return found


def hosts(name: str) -> tuple[str, ...]:
    """The host of this name; `*` is all of them."""
    if name == "*":
        return HOSTS
    _one_of(name, HOSTS)
    return (name,)


def split_cut(about: Any) -> tuple[str, str, tuple[str, ...]]:
    """`h1`; `h1 from zookeeper`, `h1 from others`; one way: `h1 to h2`: the host, how ("" is its cable), from whom."""
    match = _CUT.fullmatch(str(about))
    if match is None:
        raise ValueError(f"{about!r} is not like h1, `h1 from zookeeper`, `h1 from others` or `h1 to h2`")
    host, how, target = match[1], match[2] or "", match[3]
    _one_of(host, HOSTS)
    if not how:
        return host, how, ()
    if target == "zookeeper":
        return host, how, SERVERS
    others = tuple(each for each in HOSTS if each != host)
    if target == "others":
        return host, how, others
    _one_of(target, (*others, *SERVERS))
    return host, how, (target,)


def check_fact(about: Any) -> None:
    """One fact, and maybe `within`."""
    facts = {key: value for key, value in _mapping(about).items() if key != "within"}
    if len(facts) != 1:
        raise ValueError("is one fact, and maybe within")
    seconds(about.get("within", "1s"))
    [(what, fact)] = facts.items()
    if what == "zookeeper":
        _one_of(fact, ("leads", "serves"))
    elif what in ("ready", "gone"):
        places(fact)
    elif what == "problem":
        for host in _mapping(fact):
            _one_of(host, HOSTS)
    else:
        for name in () if what in ("all", "registered") else str(what).split():
            _one_of(name, HOSTS)
        _counts(fact)


def _one_of(word: Any, words: tuple[str, ...]) -> None:
    if word not in words:
        raise ValueError(f"{word!r} is none of {', '.join(words)}")


def _mapping(about: Any) -> dict[str, Any]:
    if not isinstance(about, dict) or not about:
        raise ValueError(f"{about!r} is not like {{name: value}}")
    return about


def _keys(about: Any, **kinds: type | tuple[type, ...]) -> None:
    for key, value in _mapping(about).items():
        _one_of(key, tuple(kinds))
        if isinstance(value, bool) or not isinstance(value, kinds[key]):
            raise ValueError(f"{key} cannot be {value!r}")


def _counts(about: Any) -> None:
    _keys(about, **dict.fromkeys(SERVICES, int))


def _host(about: Any) -> None:
    _one_of(about, HOSTS)


def _startable(about: Any) -> None:
    if any(program == "haproxy" or where in ROLES for where, program in places(about)):
        raise ValueError("HAProxy is started by synapse, and a server of ZooKeeper by its name")


def _resumable(about: Any) -> None:
    if any(where in ROLES for where, _ in places(about)):
        raise ValueError("a server that hung leads no more: name it, or zookeeper for all")


def _limits(about: Any) -> None:
    for place, limits in _mapping(about).items():
        places(place)
        _keys(limits, descriptors=int, memory=int)


def _answers(about: Any) -> None:
    for place, mood in _mapping(about).items():
        places(place)
        if mood is not None:
            _keys(mood, status=int, after=(int, float), name=str)


def _edits(about: Any) -> None:
    for place, change in _mapping(about).items():
        host, slash, _ = place.partition("/")
        hosts(host)
        if not slash or not isinstance(change, dict | str | None):
            raise ValueError(f"{place}: is like h1/synapse.yaml: text, {{key: value}}, or null")


def _clocks(about: Any) -> None:
    for place, offset in _mapping(about).items():
        if any(program not in DAEMONS for _, program in places(place)) or not _CLOCK.fullmatch(str(offset)):
            raise ValueError(f"{place}: {offset} is not `start`, or seconds such as +3600, of a daemon")


def _links(about: Any) -> None:
    for host, link in _mapping(about).items():
        _one_of(host, HOSTS)
        if link is not None:
            _keys(link, delay=str, lost=(int, float), rate=int)
            if "rate" in link and len(link) > 1:
                raise ValueError(f"{host}: a rate stands alone")
            seconds(link.get("delay", "1s"))


def _storm(about: Any) -> None:
    _keys(about, of=str, times=int, every=str)
    _startable(about["of"])
    seconds(about["every"])


def _flap(about: Any) -> None:
    _keys(about, cut=str, times=int, every=str)
    split_cut(about["cut"])
    seconds(about["every"])


def _wipe(about: Any) -> None:
    if about not in ("tree", "zookeeper"):
        host, slash, what = str(about).partition("/")
        if not slash or what != "state":
            raise ValueError(f"{about!r} is none of tree, zookeeper, h1/state")
        _one_of(host, HOSTS)


VERBS: Final[Mapping[str, Callable[[Any], object]]] = {
    "start": _startable,
    "stop": places,
    "kill": places,
    "restart": _startable,
    "storm": _storm,
    "hang": places,
    "resume": _resumable,
    "answer": _answers,
    "cut": split_cut,
    "join": split_cut,
    "flap": _flap,
    "link": _links,
    "edit": _edits,
    "wipe": _wipe,
    "fill": _host,
    "free": _host,
    "read-only": _host,
    "writable": _host,
    "limit": _limits,
    "unlimit": places,
    "clock": _clocks,
    "crowd": _counts,
    "thin": _counts,
    "wait": seconds,
    "until": check_fact,
    "still": check_fact,
}
