"""How a service's requests travel: the models of a definition's `proxy`. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from smartstack.forms import (
    DURATION,
    HOST,
    INSTANCE_ID,
    LISTEN,
    LISTENS,
    PATH,
    PERCENT,
    Listen,
    between,
    duration,
)
from smartstack.model import OFF
from smartstack.shifting import DEFAULT_BUDGET, NO_LIMITS, Limits, RetryBudget, Split, Stick, split_problems
from smartstack.traffic_forms import (
    CALLER,
    HEADER_VALUE,
    PATH_TEMPLATE,
    RAW,
    RETRY_ON,
    SERVER_NAME,
    TOKEN,
    URL_PATH,
    URL_TARGET,
    path_shape,
)

Mode = Literal["http", "tcp"]
Balance = Literal["latency", "leastconn", "roundrobin", "random", "source", "hash"]
HashBy = Literal["path", "uri", "header", "cookie", "query"]
Reuse = Literal["safe", "always", "aggressive", "never"]
ProxyProtocol = Literal["off", "v1", "v2"]
Observe = Literal["connections", "answers", "off"]
ToNothing = Literal["while_alive", "confirm"]
Verify = Literal["required", "none"]

HEADERS_LIMIT = 20
"""Headers of one route."""

PATHS_LIMIT = 100
"""Path templates of one service."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long HAProxy waits, in seconds."""

    connect: Annotated[float, "for a connection to an instance", DURATION] = 1.0
    client: Annotated[float, "for a silent client", DURATION] = 60.0
    server: Annotated[float, "for a silent instance", DURATION] = 60.0
    queue: Annotated[float, "for a free place at an instance", DURATION] = 1.0
    tunnel: Annotated[float, "for a silent WebSocket, or a silent connection in mode tcp", DURATION] = 3600.0
    keep_alive: Annotated[float, "for the next request on a client's connection", DURATION] = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Hash:
    """What `balance: hash` goes by: requests with the same value go to the same instance."""

    by: Annotated[HashBy, "path without the query, the whole uri, a header, a cookie, a query parameter"] = "path"
    name: Annotated[str | None, "of the header, cookie or query parameter", TOKEN] = None
    load_limit: Annotated[
        int | None,
        "percent of the mean load beyond which the next instance takes over; absent: no limit",
        between(101, 1000),
    ] = None

    def problems(self) -> Iterable[tuple[str, str]]:
        """Rules over several keys: the dotted key, and what is wrong."""
        named = self.by in ("header", "cookie", "query")
        if named and self.name is None:
            yield "name", f"is missing: the name of the {self.by}"
        if not named and self.name is not None:
            yield "name", f"has no meaning for by: {self.by}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """HAProxy's own check of the instances: the second line, for the time until nerve's word arrives."""

    path: Annotated[str | None, "asked by HTTP; 2xx and 3xx pass; absent: only connected to", URL_TARGET] = None
    host: Annotated[str | None, "the Host header of that; absent: the service's name", HOST] = None
    timeout: Annotated[float, "for the answer", DURATION] = 1.0
    interval: Annotated[float, "while all is well", duration("100ms")] = 10.0
    fast_interval: Annotated[float, "after an error, and while it is down", duration("100ms")] = 1.0
    rise: Annotated[int, "passes in a row that bring it back", between(1, 100)] = 1
    fall: Annotated[int, "failures in a row that take it out", between(1, 100)] = 2
    observe: Annotated[Observe, "also watch the clients' connections, or the answers (5xx)"] = "connections"
    errors: Annotated[
        int | None, "so many observed errors in a row take it out; 3, or 1 where locality has others", between(1, 1000)
    ] = None

    def problems(self) -> Iterable[tuple[str, str]]:
        """Rules over several keys: the dotted key, and what is wrong."""
        if self.path is None and self.host is not None:
            yield "host", "has no meaning without path: nothing is asked by HTTP"


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """When an instance that fails, while others do not, gets nothing for a while: 1 s at first, doubling each time, and
    then a request or two that try it. In mode http a failure is a 5xx or no answer, in mode tcp no connection."""

    failures: Annotated[int, "so many in a row", between(1, 1000)] = 7
    success_rate: Annotated[float, "or less than this share of its requests went well", PERCENT] = 0.8
    window: Annotated[float, "over so long", duration("1s", "10m")] = 10.0
    min_requests: Annotated[int, "that share says nothing of fewer requests", between(1, 100_000)] = 5
    max_pause: Annotated[float, "the longest that it gets nothing", duration("1s", "1h")] = 60.0
    max_ejected: Annotated[float, "share of the instances that may be out at once; never the last one", PERCENT] = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Sticky:
    """A client comes back to the instance that it had, as long as that takes traffic."""

    cookie: Annotated[str, "the cookie that HAProxy sets", TOKEN] = "SMARTSTACK"
    max_idle: Annotated[float | None, "how long it holds without a request; absent: the session", duration("1s")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceTls:
    """TLS to the instances, for requests and for HAProxy's own check. Each instance must prove who it is, unless
    `verify: none` says otherwise."""

    ca: Annotated[str | None, "PEM file of the authorities that are believed", PATH] = None
    certificate: Annotated[
        str | None, "PEM file of what we show (mutual TLS), with the certificates that signed it", PATH
    ] = None
    key: Annotated[str | None, "PEM file of its key, if not in the same file; without a passphrase", PATH] = None
    server_name: Annotated[
        str | None,
        "the name that is asked for (SNI) and that the certificate must have; absent: none is asked for, and any "
        "certificate of these authorities will do",
        SERVER_NAME,
    ] = None
    verify: Annotated[Verify, "none believes everybody: only for a migration"] = "required"

    def problems(self) -> Iterable[tuple[str, str]]:
        """Rules over several keys: the dotted key, and what is wrong."""
        if self.verify == "required" and self.ca is None:
            yield "ca", "is missing: the authorities that are believed (or verify: none)"
        if self.verify == "none" and self.ca is not None:
            yield "ca", "is of no use with verify: none"
        if self.key is not None and self.certificate is None:
            yield "key", "needs a certificate beside it"


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenTls:
    """TLS from the clients."""

    certificate: Annotated[str, "PEM file of what we show, with the certificates that signed it", PATH]
    key: Annotated[str | None, "PEM file of its key, if not in the same file; without a passphrase", PATH] = None
    client_ca: Annotated[
        str | None, "PEM file of authorities: clients must show a certificate of one of these", PATH
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bind:
    """One more address that clients reach the service at, with options of its own."""

    address: Annotated[Listen, "as in listen", LISTEN]
    tls: Annotated[ListenTls | None, "absent: not encrypted"] = None
    accept_proxy: Annotated[bool, "clients speak the PROXY protocol: their address is the one that it gives"] = False
    client: Annotated[
        str | None, "who calls at this address, for the figures and the callee; absent: as telemetry finds out", CALLER
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Requests that another service answers, or that have a time-out of their own. The longest path wins; of equally
    long ones, the one with more headers, then the first. The routes of `to` are not asked again."""

    path: Annotated[
        str, "the beginning of the path: /api is /api and what is below, not /apix; /api/ is what is below", URL_PATH
    ] = "/"
    headers: Annotated[
        Mapping[Annotated[str, TOKEN], Annotated[str, HEADER_VALUE]], "each must have exactly this value"
    ] = field(default_factory=dict)
    to: Annotated[str | None, "the service that answers; absent: this one", INSTANCE_ID] = None
    timeout: Annotated[float | None, "for a silent instance; absent: timeouts.server of who answers", DURATION] = None

    def problems(self) -> Iterable[tuple[str, str]]:
        """Rules over several keys: the dotted key, and what is wrong."""
        if self.to is None and self.timeout is None:
            yield "", "changes nothing: give `to`, `timeout` or both"
        if len(self.headers) > HEADERS_LIMIT:
            yield "headers", f"must be at most {HEADERS_LIMIT}: HAProxy reads 64 words in a line"


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """Lines of HAProxy's configuration, for what these keys do not cover. Checked by HAProxy before they are used."""

    frontend: Annotated[tuple[str, ...], "in the service's frontend, before its routes' use_backend lines", RAW] = ()
    backend: Annotated[tuple[str, ...], "in the service's backend, before its servers", RAW] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """How synapse offers the service to local clients."""

    listen: Annotated[
        tuple[Listen, ...],
        "3210 is 127.0.0.1:3210; also '0.0.0.0:3210', the path of a unix socket, or a list of them; absent: only "
        "routes of other services lead here",
        LISTENS,
    ] = ()
    also_listen: Annotated[tuple[Bind, ...], "more addresses, with TLS or the PROXY protocol"] = ()
    mode: Annotated[Mode, "http sees requests and can retry them; tcp passes bytes"] = "http"
    balance: Annotated[
        Balance | None, "how an instance is picked; hash is as `hash` says; absent: latency, in mode tcp leastconn"
    ] = None
    hash: Annotated[Hash, "what balance: hash goes by"] = Hash()
    timeouts: Annotated[Timeouts, "how long to wait for whom"] = Timeouts()
    retries: Annotated[
        int | None, "how often a request that nobody has answered is tried again; 2, or 5 with locality", between(0, 10)
    ] = None
    retry_on: Annotated[tuple[Annotated[str, RETRY_ON], ...], "what is tried again, at another instance"] = (
        "connection",
        "empty",
        "502",
        "503",
        "504",
    )
    retry_all_methods: Annotated[bool, "POST and the like too, which may then take effect twice"] = False
    retry_budget: Annotated[RetryBudget | None, "how many requests are sent again; off: any number", OFF] = (
        DEFAULT_BUDGET
    )
    limits: Annotated[Limits, "how much at once"] = NO_LIMITS
    slow_start: Annotated[
        float | None, "an instance that joins or comes back gets its full share after this", duration("1s")
    ] = None
    keep_alive: Annotated[bool, "connections to instances are used again"] = True
    reuse: Annotated[Reuse, "whether a connection to an instance serves several clients"] = "safe"
    send_proxy: Annotated[ProxyProtocol, "tell instances the client's address by the PROXY protocol"] = "off"
    tls: Annotated[InstanceTls | None, "TLS to the instances; absent: not encrypted"] = None
    health: Annotated[Health, "HAProxy's own check of the instances"] = Health()
    breaker: Annotated[Breaker | None, "when an instance that fails gets nothing for a while; off: never", OFF] = (
        Breaker()
    )
    sticky: Annotated[Sticky | None, "a client comes back to the instance that it had"] = None
    routes: Annotated[tuple[Route, ...], "requests for other services, or with their own time-out"] = ()
    split: Annotated[tuple[Split, ...], "shares of the requests that other services answer"] = ()
    split_by: Annotated[Stick | None, "absent: chance decides for each request"] = None
    paths: Annotated[
        tuple[Annotated[str, PATH_TEMPLATE], ...],
        "the paths that are told apart in figures: /users/{id} is one, /static/* is all below; absent: none",
    ] = ()
    raw: Annotated[Raw, "lines of HAProxy's own configuration"] = Raw()
    shrink_floor: Annotated[float, "a listing that leaves less than this share of them is held back", PERCENT] = 0.5
    shrink_confirm: Annotated[float, "how long such a listing must last before it is believed", DURATION] = 30.0
    shrink_to_nothing: Annotated[
        ToNothing, "a listing without any: the instances stay while HAProxy finds them alive, or for shrink_confirm"
    ] = "while_alive"

    @property
    def balancing(self) -> Balance:
        """How an instance is picked, also where the definition does not say."""
        return self.balance or ("latency" if self.mode == "http" else "leastconn")

    @property
    def addresses(self) -> tuple[Listen, ...]:
        """Every address that clients reach the service at."""
        return (*self.listen, *(bind.address for bind in self.also_listen))

    def problems(self) -> Iterable[tuple[str, str]]:
        """Rules over several keys: the dotted key, and what is wrong."""
        if self.balance != "hash" and self.hash != Hash():
            yield "hash", f"has no meaning for balance: {self.balancing}"
        if self.mode == "tcp":
            yield from self._http_only()
        for index, bind in enumerate(self.also_listen):
            if bind.address in self.addresses[: len(self.listen) + index]:
                yield "also_listen", f"has {bind.address}, which is an address of the service already"
        yield from split_problems(self.split, self.split_by)
        yield from self._path_problems()
        if not self.addresses:
            for key, value in (
                ("routes", self.routes),
                ("split", self.split),
                ("limits.rate", self.limits.rate),
                ("raw.frontend", self.raw.frontend),
                ("limits.clients", self.limits.clients),
            ):
                if value:
                    yield key, "is about this service's own clients, and has no meaning without listen"

    def _path_problems(self) -> Iterable[tuple[str, str]]:
        if len(self.paths) > PATHS_LIMIT:
            yield "paths", f"must be at most {PATHS_LIMIT}"
        first: dict[str, str] = {}
        for path in self.paths:
            other = first.setdefault(path_shape(path), path)
            if other is not path:
                yield "paths", f"has {path}, which fits the same paths as {other}"

    def _http_only(self) -> Iterable[tuple[str, str]]:
        if not self.addresses:
            yield "listen", "is missing: routes of other services lead to mode http only, so nobody could reach this"
        if self.balance == "latency":
            yield "balance", "latency is of answers, which mode tcp does not see; leastconn is by what is under way"
        if self.balance == "hash":
            yield (
                "balance",
                "hash is by what stands in requests, which mode tcp does not see; source is by the client",
            )
        plain = Proxy()
        for key in (
            "routes",
            "split",
            "paths",
            "sticky",
            "retry_on",
            "retry_all_methods",
            "retry_budget",
            "keep_alive",
            "reuse",
        ):
            if getattr(self, key) != getattr(plain, key):
                yield key, "is about requests, which mode tcp does not see"
        for limit in ("queue", "rate"):
            if getattr(self.limits, limit) is not None:
                yield f"limits.{limit}", "is about requests, which mode tcp does not see"
        if self.health.observe == "answers":
            yield "health.observe", "answers are HTTP, which mode tcp does not see"
