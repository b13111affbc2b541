"""The words of a service's `frontend` section: where clients reach it, and where its routes lead. Pure.

Every route is a number in a variable of the request, `txn.route`: the first that fits sets it, in the order in which
they are told, which is the order in which they win. What else depends on the route goes by that number. Its time-out
goes on to the backend that answers, whichever that is, in `txn.timeout`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from smartstack.definition import ServiceDefinition
from smartstack.forms import Listen, UnixSocket
from smartstack.traffic import Bind, Mode, Proxy, Route
from synapse.switches import IN_PLACE, Live
from synapse.telemetry.source import identity
from synapse.tls import bind_words

NOT_USED = "which is not used on this host"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One route, as HAProxy is told it.

    `acls` is what follows the word `acl`, `condition` what follows `if`. `service` is who answers; `lacks` says why
    nobody does, in which case the request is told so, and is empty where somebody does. `timeout` is in milliseconds,
    None where the answering service's own holds.
    """

    number: int
    acls: tuple[str, ...]
    condition: str
    service: str
    lacks: str
    timeout: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontend:
    """What a template needs beside the definition itself: `binds` is what follows the word `bind`, `rules` are the
    routes in the order in which they win, and `identity` are the lines that find out who calls."""

    binds: tuple[str, ...]
    rules: tuple[Rule, ...]
    identity: tuple[str, ...]


def frontend(name: str, proxy: Proxy, absent: Mapping[str, str], live: Live = IN_PLACE) -> Frontend:
    """The frontend of a service. `absent` are the services that its routes lead to and that cannot answer, with why;
    `live` is where it is found what instances are told of who calls, where HAProxy knows nothing better."""
    rules = tuple(_rule(number, route, name, absent) for number, route in enumerate(ordered(proxy.routes), 1))
    binds = (*map(bind, proxy.listen), *(_bind(more, proxy.mode) for more in proxy.also_listen))
    found = identity(proxy, live.caller)
    if found.ids:
        binds = tuple(f"{words} id {number}" for words, number in zip(binds, found.ids, strict=True))
    return Frontend(binds=binds, rules=rules, identity=found.rules)


def ordered(routes: Sequence[Route]) -> list[Route]:
    """The routes in the order in which they win: the longest path, then the most headers, then the definition's."""
    return sorted(routes, key=lambda route: (-len(route.path), -len(route.headers)))


def leads_to(name: str, proxy: Proxy) -> frozenset[str]:
    """The other services that the routes and splits of this one lead to."""
    routed = {route.to for route in proxy.routes if route.to is not None}
    return frozenset({*routed, *(split.to for split in proxy.split)} - {name})


def obstacle(definition: ServiceDefinition | None, proxy: Proxy | None) -> str | None:
    """Why no route can lead to a service, as a relative clause; None when it can.

    `definition` is None where this host has none or does not use it. `proxy` is by what the service is offered; it is
    None where the service is not offered, although its definition says that it should be.
    """
    if definition is None:
        return NOT_USED
    if definition.proxy is None:
        return "which has no proxy"
    if proxy is None:
        return "whose definition is refused"
    return "which is mode tcp" if proxy.mode == "tcp" else None


def bind(listen: Listen) -> str:
    """The words of a `bind` line. A unix socket is for everybody who may enter its directory, as a port is for
    everybody on the host: without a mode, nobody but HAProxy's own user could connect."""
    return f"unix@{listen.path} mode 666" if isinstance(listen, UnixSocket) else str(listen)


def _bind(more: Bind, mode: Mode) -> str:
    return " ".join(
        (bind(more.address), *(("accept-proxy",) if more.accept_proxy else ()), *bind_words(more.tls, mode))
    )


def _rule(number: int, route: Route, name: str, absent: Mapping[str, str]) -> Rule:
    service = name if route.to is None else route.to
    acls = (*_path_acls(number, route.path), *_header_acls(number, route.headers))
    names = dict.fromkeys(acl.partition(" ")[0] for acl in acls)
    return Rule(
        number=number,
        acls=acls,
        condition=" ".join(["!routed", *names]),
        service=service,
        lacks=absent.get(service, ""),
        timeout=None if route.timeout is None else round(route.timeout * 1000),
    )


def _path_acls(number: int, path: str) -> Iterator[str]:
    """The path itself and what is below it, so that /api is not /apix; of one that ends with a '/', what is below."""
    if path == "/":
        return
    if not path.endswith("/"):
        yield f"route-{number} path -m str -- {quoted(path)}"
        path += "/"
    yield f"route-{number} path -m beg -- {quoted(path)}"


def _header_acls(number: int, headers: Mapping[str, str]) -> Iterator[str]:
    """Acls with names, because in one without a name a value `}` would be its end."""
    for index, (header, value) in enumerate(sorted(headers.items()), 1):
        yield f"route-{number}-header-{index} req.fhdr({header}) -m str -- {quoted(value)}"


def quoted(text: str) -> str:
    """A text as one word of HAProxy's configuration, in which no character means anything."""
    return "'" + text.replace("'", "'\\''") + "'"
