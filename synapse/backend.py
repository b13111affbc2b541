"""The words of a service's `backend` section: what a definition asks for, as HAProxy says it. Pure.

The template prints these words and the plain values of the definition; it decides nothing. What stands in the
definition has passed the forms of `smartstack.traffic`, so that a name here is letters, digits, '-', '_' and '.'.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from smartstack.traffic import Balance, Hash, Proxy
from synapse.proxy import algorithm
from synapse.tls import server_words

IDEMPOTENT = ("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE")
"""Methods that mean the same sent twice (RFC 9110, 9.2.2), and that a proxy may therefore send twice."""

DRAWS = 5
"""Of so many instances, drawn by their weights, the one with the least to do for its weight gets a request where the
balance is by latency. With two, one request in n x n still goes to an instance that hangs; with more, the one that
answers fastest because it fails gets more of them."""

UNACKNOWLEDGED = "2s"
"""When the kernel has sent something to an instance and heard nothing of it for so long, its host is gone (an instance
that is slow or hangs still has a kernel that answers). The request is then sent again elsewhere, and need not wait for
the time-out of the service. In mode tcp a connection may be worth waiting for."""

_RETRY_WORDS = {
    "connection": "conn-failure",
    "empty": "empty-response",
    "timeout": "response-timeout",
    "junk": "junk-response",
}
_BUDGET_SECONDS = 10
"""For how long retries that were not used may be saved up, as Linkerd's."""

_OBSERVED = {"connections": "layer4", "answers": "layer7"}
_PROXY_PROTOCOL = {"v1": "send-proxy", "v2": "send-proxy-v2"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The retries that a service has left, in thousandths: `earned` for each request, `earned_per_ms` beside that, at
    most what comes of 10 s of either. `left` and `at` are variables of the process: how many, and when that was."""

    left: str
    at: str
    earned: int
    earned_per_ms: int
    seconds: int = _BUDGET_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """What a template needs beside the definition itself. Where a text is empty, there is no such line.

    `balance`, `hash_type` and `retries` are what follows these words; `load_limit` is the `hash-balance-factor`.
    `retry_on` is what a request is sent again for, and only if it has one of `retry_methods`, or any method where that
    is empty; and only while there is some of its `budget`, None: always.
    `cookie` is what follows the word, `cookie_key` the secret of its values: that of the service, on every host, so
    that a client keeps its instance when it comes by another host. `health_host` is the Host header of the health
    check. `no_place` is what a request is told that comes to no instance. `server` are the words of every server line,
    and `each` those which HAProxy must be told on each of them: its `default-server` does not pass them on.
    """

    balance: str
    hash_type: str
    load_limit: int | None
    retries: int
    retry_on: str
    retry_methods: str
    budget: Budget | None
    cookie: str
    cookie_key: str
    health_host: str
    no_place: str
    server: str
    each: str


def backend(
    name: str, proxy: Proxy, version: tuple[int, int], *, backups: bool = False, measured: bool = True
) -> Backend:
    """The backend of a service, for this version of HAProxy; with `backups`, others take over where the near ones end.
    `measured`: HAProxy tells how long requests take.

    A zone that is lost at a stroke refuses one request after the other: with one error an instance is out, and a
    request that met five of them comes to the next ring. Without others to take over, an instance gets more patience.
    """
    http = proxy.mode == "http"
    balance = algorithm(proxy, measured=measured)
    on_ring = balance in ("source", "hash")
    retries = proxy.retries if proxy.retries is not None else 5 if backups else 2
    errors = proxy.health.errors if proxy.health.errors is not None else 1 if backups else 3
    retry_on = _retry_on(proxy) if http and retries else ""
    return Backend(
        balance=_balance(balance, proxy.hash),
        hash_type="consistent" if on_ring else "",
        load_limit=proxy.hash.load_limit if balance == "hash" else None,
        retries=retries,
        retry_on=retry_on,
        retry_methods="" if proxy.retry_all_methods or not retry_on else " ".join(IDEMPOTENT),
        budget=_budget(name, proxy) if retry_on not in ("", "none") and version >= (2, 5) else None,
        cookie=_cookie(proxy),
        cookie_key=name if proxy.sticky else "",
        health_host=proxy.health.host or name,
        no_place=_no_place(name, proxy),
        server=" ".join(_server(proxy, errors, by_address=on_ring and version >= (3, 0))),
        each=f"tcp-ut {UNACKNOWLEDGED}" if proxy.mode == "http" else "",
    )


def _balance(balance: Balance, by: Hash) -> str:
    if balance == "hash":
        return _hash(by)
    return f"random({DRAWS})" if balance == "latency" else balance


def _hash(by: Hash) -> str:
    match by.by:
        case "path":
            return "uri path-only"
        case "uri":
            return "uri whole"
        case "header":
            return f"hdr({by.name})"
        case "cookie":
            return f"hash req.cook({by.name})"
        case "query":
            return f"url_param {by.name}"


def _retry_on(proxy: Proxy) -> str:
    # In the definition's order, each once; HAProxy wants a word, and `none` means none.
    return " ".join(dict.fromkeys(_RETRY_WORDS.get(each, each) for each in proxy.retry_on)) or "none"


def _budget(name: str, proxy: Proxy) -> Budget | None:
    if proxy.retry_budget is None:
        return None
    # Names of variables have no '-'.
    service = name.replace("_", "__").replace("-", "_d")
    return Budget(
        left=f"proc.retries_left.{service}",
        at=f"proc.retries_at.{service}",
        earned=round(proxy.retry_budget.ratio * 1000),
        earned_per_ms=proxy.retry_budget.floor,
    )


def _no_place(name: str, proxy: Proxy) -> str:
    if proxy.limits.instance is None:
        return f"no connection to an instance of {name}"
    return f"no free place at an instance of {name} within {milliseconds(proxy.timeouts.queue)}, or no connection"


def _cookie(proxy: Proxy) -> str:
    if proxy.sticky is None:
        return ""
    # Values by address (`dynamic`): a slot's own value would lead to whoever is in that slot today.
    words = f"{proxy.sticky.cookie} insert indirect nocache dynamic"
    return words if proxy.sticky.max_idle is None else f"{words} maxidle {round(proxy.sticky.max_idle)}s"


def _server(proxy: Proxy, errors: int, *, by_address: bool) -> Iterator[str]:
    health = proxy.health
    yield f"inter {milliseconds(health.interval)}"
    yield f"fastinter {milliseconds(health.fast_interval)} downinter {milliseconds(health.fast_interval)}"
    yield f"fall {health.fall} rise {health.rise}"
    if health.observe != "off":
        yield f"observe {_OBSERVED[health.observe]} error-limit {errors} on-error mark-down"
    if proxy.limits.instance is not None:
        yield f"maxconn {proxy.limits.instance}"
    if proxy.limits.instance_queue is not None:
        yield f"maxqueue {proxy.limits.instance_queue}"
    if proxy.slow_start is not None:
        yield f"slowstart {milliseconds(proxy.slow_start)}"
    if proxy.send_proxy != "off":
        yield f"{_PROXY_PROTOCOL[proxy.send_proxy]} check-send-proxy"
    if by_address:
        yield "hash-key addr-port"
    yield from server_words(proxy.tls, proxy.mode)
    yield "pool-purge-delay 1s"


def milliseconds(seconds: float) -> str:
    """A duration as HAProxy writes it."""
    return f"{round(seconds * 1000)}ms"
