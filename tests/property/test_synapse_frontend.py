"""Routes, for any that a definition may have: HAProxy sends each request where the rules say, and nothing else gets in.

The reference is `pick`, which knows the rules and nothing of HAProxy. The answers are those of services without any
instance, which say whose they are.
"""

import re
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from smartstack.forms import TcpAddress, UnixSocket
from smartstack.traffic import Bind, Proxy, Raw, Route
from smartstack.traffic_forms import HEADER_VALUE, URL_PATH
from synapse.proxy import Service
from synapse.render import Renderer
from synapse.settings import HAProxySettings
from tests.support.eventually import eventually
from tests.support.shapes import WHO_CALLS

Headers = Sequence[tuple[str, str]]

RENDERER = Renderer(HAProxySettings(), "/run/haproxy.sock", (2, 6))
OTHERS = ("api", "api-2", "x.y")
ABSENT = {"gone": "which is not used on this host"}
TOLD = Raw(frontend=("http-after-response set-header X-Time-Out %[var(txn.timeout)]",))


def pick(routes: Sequence[Route], path: str, headers: Headers) -> Route | None:
    """The rule: of the routes that fit, the one with the longest path, then the most headers, then the first."""
    fitting = [route for route in routes if fits(route, path, headers)]
    best = None
    for route in fitting:
        if best is None or (len(route.path), len(route.headers)) > (len(best.path), len(best.headers)):
            best = route
    return best


def fits(route: Route, path: str, headers: Headers) -> bool:
    """The path begins with the route's, which ends where a segment ends; each header is there with just this value."""
    below = route.path if route.path.endswith("/") else f"{route.path}/"
    given_headers = {(name.lower(), value) for name, value in headers}
    return (path == route.path or path.startswith(below)) and all(
        (name.lower(), value) in given_headers for name, value in route.headers.items()
    )


# What a definition may say, and what a client may send

segments = st.text(st.sampled_from("ab/.~$'(;%-"), max_size=4)
paths = st.builds("/{}".format, segments) | st.sampled_from(["/", "/a", "/a/", "/a/b", "/a/b/", "//"])
HOSTILE = [
    *("}", "{", "a b", "a  b", "#", "a # b", "'", '"', "\\", "\\n", "$HOME", "${HOME}", '"${HOME}"', "%[src]", "%%"),
    *(
        "-f",
        "-i",
        "--",
        "-m",
        "!",
        "||",
        "or",
        "if",
        "unless",
        "it's",
        "''",
        "'; bind :1",
        "a,b",
        ";",
        "`id`",
        "~",
        "*",
    ),
    "{ path / }",
    "' }\\",
]
values = st.sampled_from(HOSTILE) | st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=8)
names = st.sampled_from(["X-A", "x-a", "X-B", "X_C.d"])
routes = st.builds(
    Route,
    path=paths.map(URL_PATH.parse),
    headers=st.dictionaries(names, values.map(HEADER_VALUE.parse), max_size=3),
    to=st.sampled_from([None, "web", *OTHERS, *ABSENT]),
    timeout=st.none() | st.integers(1, 10**6).map(lambda number: number / 1000),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request."""

    path: str
    headers: Headers


@st.composite
def situations(draw: st.DrawFn) -> tuple[list[Route], list[Asked]]:
    """Routes, and requests that come near to them."""
    found = draw(st.lists(routes, min_size=1, max_size=6))
    near_paths = paths | st.builds(lambda route, more: route.path + more, st.sampled_from(found), segments)
    known = [pair for route in found for pair in route.headers.items()]
    near = st.sampled_from(known).flatmap(
        lambda pair: st.sampled_from([pair, (pair[0], f"{pair[1]}x"), (pair[0], "x")])
    )
    pairs = st.tuples(names, values) | (near if known else st.nothing())
    of_one = st.sampled_from(found).map(lambda route: list(route.headers.items()))
    asked = st.builds(
        lambda path, fitting, more: Asked(path=path, headers=[*fitting, *more]),
        near_paths,
        of_one | st.just([]),
        st.lists(pairs, max_size=3),
    )
    return found, draw(st.lists(asked, min_size=6, max_size=10))


def offered(directory: str, number: int, found: Sequence[Route]) -> Service:
    """A service with these routes, at a socket in this directory."""
    proxy = Proxy(listen=(UnixSocket(f"{directory}/{number}"),), routes=tuple(found), raw=TOLD)
    return Service(name=f"web{number}", proxy=proxy, targets=(), slots=1, absent=ABSENT)


def file_of(services: Sequence[Service]) -> str:
    """haproxy.cfg for these."""
    structure = RENDERER.structure({each.name: RENDERER.digest(each) for each in services})
    return RENDERER.file(structure, {each.name: RENDERER.text(each, {}) for each in services}).text


@contextmanager
def haproxy(text: str, directory: str) -> Iterator[None]:
    """The real HAProxy with this file."""
    path = Path(directory) / "haproxy.cfg"
    path.write_text(text.replace("/run/haproxy.sock", f"{directory}/admin"), encoding="ascii")
    (Path(directory) / "haproxy.map").touch()
    process = subprocess.Popen(
        ["haproxy", "-f", path], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=directory
    )
    try:
        eventually(lambda: process.poll() is not None or Path(f"{directory}/0").exists())
        yield
    finally:
        process.kill()
        _, words = process.communicate()
        assert "[ALERT]" not in words.replace("has no server available!", ""), words


def ask(path: str, asked: Asked) -> tuple[str, str]:
    """Who answers at this socket, and the time-out that the request was given."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        eventually(lambda: connection.connect_ex(path) == 0)
        lines = [f"GET {asked.path}?q=/b HTTP/1.1", "Host: x", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in asked.headers]
        connection.sendall("\r\n".join([*lines, "", ""]).encode("ascii"))
        with connection.makefile("rb") as stream:
            answer = stream.read().decode("ascii")
    who = re.search(r"(?:no live instance of|this request is for) ([A-Za-z0-9.-]+)", answer)
    timeout = re.search(r"(?i)^x-time-out: *(\d*)\r$", answer, re.MULTILINE)
    assert who, answer
    return who[1], timeout[1] if timeout else ""


# A failure is shown as it was found: to make it smaller would start a HAProxy hundreds of times.
@settings(max_examples=25, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(st.lists(situations(), min_size=4, max_size=8))
def test_haproxy_picks_what_the_rules_pick(found: Sequence[tuple[list[Route], list[Asked]]]) -> None:
    """Whatever stands in routes and in requests: who answers, and how long he may take, is what the reference says."""
    with tempfile.TemporaryDirectory(prefix="ss-") as directory:
        services = [offered(directory, number, found_routes) for number, (found_routes, _) in enumerate(found)]
        others = [Service(name=name, proxy=Proxy(listen=()), targets=(), slots=1) for name in ("web", *OTHERS)]
        with haproxy(file_of([*services, *others]), directory):
            for number, (found_routes, requests) in enumerate(found):
                for asked in requests:
                    route = pick(found_routes, asked.path, asked.headers)
                    who = (route.to if route else None) or f"web{number}"
                    timeout = route.timeout if route and route.to not in ABSENT else None
                    told = "" if timeout is None else str(round(timeout * 1000))
                    assert ask(f"{directory}/{number}", asked) == (who, told), (route, asked)


# Nothing else than these lines

QUOTED = r"'(?:[^'\n]|'\\'')*'"
BY_ROUTE = r"if { var\(txn\.route\) -m int \d+ }"
ADDRESS = r"(\d{1,3}(\.\d{1,3}){3}:\d{1,5}|unix@/[A-Za-z0-9_./-]+ mode 666)"
SHAPE = re.compile(
    "|".join(
        [
            r"",
            r"frontend web",
            r"    mode http",
            rf"    bind {ADDRESS}( accept-proxy)?( id \d+)?",
            *WHO_CALLS,
            r"    maxconn \d+",
            r"    timeout (client|client-fin|http-keep-alive) \d+ms",
            r"    # [A-Za-z0-9 :,.]+",
            r"    option idle-close-on-response",
            r"    acl routed var\(txn\.route\) -m found",
            rf"    acl route-\d+ path -m (str|beg) -- {QUOTED}",
            rf"    acl route-\d+-header-\d+ req\.fhdr\([A-Za-z0-9_.-]+\) -m str -- {QUOTED}",
            r"    http-request set-var\(txn\.route\) int\(\d+\) if !routed( route-\d+(-header-\d+)?)*",
            rf'    http-request return status 503 content-type text/plain string "this request is for gone, '
            rf'which is not used on this host\\n" {BY_ROUTE}',
            rf"    http-request set-var\(txn\.timeout\) int\(\d+\) {BY_ROUTE}",
            r"    default_backend web",
            rf"    use_backend ({'|'.join(map(re.escape, OTHERS))}) {BY_ROUTE}",
        ]
    )
)
listens = st.integers(1, 65_535).map(lambda port: TcpAddress("127.0.0.1", port)) | st.sampled_from(
    [UnixSocket("/run/web.sock"), UnixSocket("/run/a-b_c.sock")]
)


@given(
    st.lists(routes, max_size=8),
    st.lists(listens, min_size=1, max_size=3),
    st.lists(st.builds(Bind, address=listens, accept_proxy=st.booleans()), max_size=2),
)
def test_no_line_is_of_another_shape(found: list[Route], listen: list[TcpAddress], more: list[Bind]) -> None:
    """Whatever the routes hold, they make only the template's own lines, and as many as there are routes."""
    proxy = Proxy(listen=tuple(listen), also_listen=tuple(more), routes=tuple(found))
    text = RENDERER.text(Service(name="web", proxy=proxy, targets=(), slots=1, absent=ABSENT), {})
    lines = text[: text.index("\nbackend web\n")].split("\n")
    assert [line for line in lines if not SHAPE.fullmatch(line)] == []
    assert sum(" int(" in line and "txn.route" in line and "set-var(txn.route)" in line for line in lines) == len(found)
    assert sum(line.startswith("    bind ") for line in lines) == len(proxy.addresses)
    assert sum(line.startswith("    use_backend ") for line in lines) == sum(each.to in OTHERS for each in found)
    assert text.isascii()
