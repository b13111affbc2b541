"""haproxy.cfg read back by HAProxy's grammar: what stands there is what the definition and the registry say, word for
word, and no line that no key of the definition asks for."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from smartstack.forms import Listen, UnixSocket
from smartstack.instance import NAME, Instance
from smartstack.traffic import Health, Proxy, Route
from synapse.proxy import Service, Target, slot_count, targets
from synapse.render import Renderer, seat
from synapse.settings import HAProxySettings
from tests.property.test_synapse_frontend import ABSENT, routes
from tests.property.test_synapse_render import definitions, instances_of, names, payloads, proxy_of
from tests.support.definitions import placed
from tests.support.haproxy_grammar import Section, read_sections

RENDERER = Renderer(HAProxySettings(), "/run/haproxy.sock", (2, 6))

NOWHERE = "which is not here"
TWO_WORDS = ("http-request", "http-response", "http-after-response", "tcp-request", "option", "timeout", "acl")
"""Keywords of which the second word is one too."""

WHO_CALLS = {"set-var(txn.source)", "set-var(txn.source_kind)", "set-var(txn.caller)", "set-header", "del-header"}
"""What finds out who calls depends on the addresses alone; their arguments are all that they may have, elsewhere."""

Asked = Counter[tuple[str, ...]]


def asked_of_frontend(proxy: Proxy, name: str, absent: Mapping[str, str]) -> Asked:
    """How many lines of each keyword these keys ask for, those aside that find out who calls."""
    asked: Asked = Counter()
    asked["mode",] = asked["default_backend",] = asked["timeout", "client"] = asked["timeout", "client-fin"] = 1
    asked["bind",] = len(proxy.addresses)
    asked["maxconn",] = proxy.limits.clients is not None
    if proxy.mode == "tcp":
        return asked
    asked["timeout", "http-keep-alive"] = asked["option", "idle-close-on-response"] = 1
    if proxy.limits.rate is not None:
        asked["stick-table",] = asked["http-request", "set-var(txn.rate_bound)"] = 1
        asked["http-request", "set-var(txn.rate_source)"] = 2
        asked["http-request", "track-sc2"] = asked["http-request", "sc-inc-gpc0(2)"] = 1
        asked["http-request", "return"] += 1
    if proxy.split:
        asked["http-request", "set-var(txn.dice)"] = 1 if proxy.split_by is None else 2
        for variable in ("bound", "part"):
            asked["http-request", f"set-var(txn.{variable})"] = len(proxy.split)
        asked["use_backend",] += sum(split.to != name and split.to not in absent for split in proxy.split)
    asked["acl", "routed"] = bool(proxy.routes)
    for number, route in enumerate(in_order(proxy.routes), 1):
        asked["acl", f"route-{number}"] = 0 if route.path == "/" else 1 if route.path.endswith("/") else 2
        for index in range(1, len(route.headers) + 1):
            asked["acl", f"route-{number}-header-{index}"] = 1
        asked["http-request", "set-var(txn.route)"] += 1
        lacks = route.to in absent
        asked["http-request", "return"] += lacks
        asked["http-request", "set-var(txn.timeout)"] += route.timeout is not None and not lacks
        asked["use_backend",] += route.to not in (None, name) and not lacks
    return asked


def asked_of_backend(proxy: Proxy, name: str, slots: int) -> Asked:
    """The same for the other section."""
    asked: Asked = Counter()
    http = proxy.mode == "http"
    tries = http and proxy.retries != 0
    safe = tries and not proxy.retry_all_methods
    for keyword in ("mode", "balance", "retries", "default-server"):
        asked[keyword,] = 1
    for timeout in ("connect", "server", "queue", "tunnel", "server-fin", "check"):
        asked["timeout", timeout] = 1
    asked["hash-type",] = proxy.balancing in ("source", "hash")
    asked["hash-balance-factor",] = proxy.balancing == "hash" and proxy.hash.load_limit is not None
    asked["http-request", "return"] = http * (1 + (proxy.limits.queue is not None))
    asked["http-error",] = http * 3
    asked["http-request", "set-timeout"] = asked["http-reuse",] = http
    asked["option", "srvtcpka"] = asked["srvtcpka-idle",] = asked["srvtcpka-intvl",] = http
    asked["option", "http-server-close"] = http and not proxy.keep_alive
    asked["retry-on",] = asked["http-request", "wait-for-body"] = tries
    asked["http-request", "disable-l7-retry"] = safe
    if tries and proxy.retry_on and proxy.retry_budget is not None:
        of = name.replace("_", "__").replace("-", "_d")
        asked["http-request", "set-var(txn.now)"] = asked["http-request", "set-var(txn.most)"] = 1
        asked["http-request", f"set-var(proc.retries_at.{of})"] = 2
        asked["http-request", f"set-var(proc.retries_left.{of})"] = 3
        asked["http-request", "disable-l7-retry"] += 1
        asked["http-after-response", "set-var-fmt(txn.retries)"] = 1
        asked["http-after-response", f"set-var(proc.retries_left.{of})"] = 1
    asked["cookie",] = asked["dynamic-cookie-key",] = proxy.sticky is not None
    asked["option", "httpchk"] = asked["http-check",] = proxy.health.path is not None
    asked["server",] = slots
    return asked


def found_in(section: Section) -> Asked:
    """How many lines of each keyword there are, those aside that find out who calls."""
    found: Asked = Counter()
    for line in section.lines:
        if line[0] in ("http-request", "tcp-request") and WHO_CALLS & {*line[1:3]}:
            continue
        found[tuple(line[:2] if line[0] in TWO_WORDS else line[:1])] += 1
    return found


def in_order(found: tuple[Route, ...]) -> list[Route]:
    """As the reference says: the longest path wins, of these who has more headers, then the first."""
    return sorted(found, key=lambda route: (len(route.path), len(route.headers)), reverse=True)


def acls(found: tuple[Route, ...]) -> Iterator[list[str]]:
    """What follows `acl`, for these routes: each value is one word, whatever stands in it."""
    for number, route in enumerate(in_order(found), 1):
        below = route.path if route.path.endswith("/") else f"{route.path}/"
        if not route.path.endswith("/"):
            yield [f"route-{number}", "path", "-m", "str", "--", route.path]
        if route.path != "/":
            yield [f"route-{number}", "path", "-m", "beg", "--", below]
        for index, (header, value) in enumerate(sorted(route.headers.items()), 1):
            yield [f"route-{number}-header-{index}", f"req.fhdr({header})", "-m", "str", "--", value]


def place(listen: Listen) -> list[str]:
    """Where a `bind` line listens."""
    return [f"unix@{listen.path}", "mode", "666"] if isinstance(listen, UnixSocket) else [str(listen)]


def milliseconds(seconds: float) -> list[list[str]]:
    """What follows the one `timeout` line of its kind."""
    return [[f"{round(seconds * 1000)}ms"]]


def address(target: Target | Instance) -> str:
    """As it stands in a `server` line."""
    return f"[{target.host}]:{target.port}" if ":" in target.host else f"{target.host}:{target.port}"


@given(names, definitions, st.lists(routes, max_size=4), st.lists(payloads, max_size=6))
def test_the_file_holds_what_was_asked_for_and_nothing_else(
    name: str, fields: Mapping[str, object], more: list[Route], found: list[object]
) -> None:
    """Whatever the strings hold: two sections of the service's own name, of each keyword as many lines as the keys of
    the definition ask for, each value one whole word in its place, and the instances that passed the door."""
    name = name if NAME.fullmatch(name) else "web"
    proxy = proxy_of(fields)
    if proxy.mode == "http":
        proxy = replace(proxy, routes=tuple(more))
    absent = dict.fromkeys(ABSENT, NOWHERE)
    instances = instances_of(found)
    wanted = targets(placed(instances), proxy)
    service = Service(name=name, proxy=proxy, targets=wanted, slots=slot_count(None, len(wanted)), absent=absent)
    frontend, backend = read_sections(RENDERER.text(service, seat(service, {})))
    assert (frontend.words, backend.words) == (["frontend", name], ["backend", name])
    assert +found_in(frontend) == +asked_of_frontend(proxy, name, absent)
    assert +found_in(backend) == +asked_of_backend(proxy, name, service.slots)

    assert [line[: len(place(at))] for line, at in zip(frontend.of("bind"), proxy.addresses, strict=True)] == [
        place(at) for at in proxy.addresses
    ]
    assert [line for line in frontend.of("acl") if line[0] != "routed"] == list(acls(proxy.routes))
    assert frontend.of("default_backend") == [[name]]
    assert {line[0] for line in frontend.of("use_backend")} <= {
        *(route.to for route in proxy.routes),
        *(split.to for split in proxy.split),
    }
    assert frontend.of("mode") == backend.of("mode") == [[proxy.mode]]
    assert frontend.of("timeout", "client") == milliseconds(proxy.timeouts.client)
    for kind in ("connect", "server", "queue", "tunnel"):
        assert backend.of("timeout", kind) == milliseconds(getattr(proxy.timeouts, kind))
    assert backend.of("retries") == [[str(2 if proxy.retries is None else proxy.retries)]]
    if proxy.sticky is not None:
        assert backend.of("cookie")[0][0] == proxy.sticky.cookie
    if proxy.health != Health() and proxy.health.path is not None:
        uri, host = proxy.health.path, proxy.health.host or name
        assert backend.of("http-check") == [["send", "meth", "GET", "uri", uri, "ver", "HTTP/1.1", "hdr", "Host", host]]
    serving = [line for line in backend.of("server") if line[-1] != "disabled"]
    assert [line[1] for line in serving] == [address(each) for each in wanted]
    assert {line[1] for line in serving} <= {address(each) for each in instances}
    assert [line[2:5] for line in serving] == [["weight", str(each.weight), "check"] for each in wanted]
