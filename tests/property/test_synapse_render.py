"""haproxy.cfg, for anything that a registry and the definitions may say: every line is one of the template's."""

import json
import re
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from smartstack.definition import ServiceDefinition
from smartstack.errors import ConfigError
from smartstack.instance import NAME, Instance, decode
from smartstack.registry.protocol import Record
from smartstack.traffic import Proxy
from smartstack.validation import validate
from smartstack.yaml_file import load
from synapse.proxy import Service, slot_count, targets
from synapse.render import Renderer, seat
from synapse.selection import one_per_address
from synapse.settings import HAProxySettings
from tests.support.definitions import placed

ADDRESS = r"(\d{1,3}(\.\d{1,3}){3}|\[[0-9a-f:.]+\]):\d{1,5}"
WORD = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}"
SHAPES = [
    r"",
    rf"(frontend|backend) {WORD}",
    r"    mode (http|tcp)",
    rf"    bind ({ADDRESS}|unix@/[A-Za-z0-9_./-]+)",
    r"    timeout (client|server|connect|queue) \d+ms",
    rf'    http-request return status 503 content-type text/plain string "no live instance of {WORD}\\n" '
    rf"if {{ nbsrv\({WORD}\) eq 0 }} !{{ stopping }}",
    rf"    default_backend {WORD}",
    r"    balance (leastconn|roundrobin|random|source|uri)",
    r"    hash-type consistent",
    r"    retries \d{1,2}",
    r"    # [A-Za-z0-9 ;,.]+",
    r"    retry-on conn-failure empty-response 502 503 504",
    r"    http-request disable-l7-retry unless METH_GET or { method HEAD OPTIONS }",
    r"    default-server inter 10s fastinter 1s downinter 1s fall 2 rise 1 observe layer4 error-limit 3 "
    r"on-error mark-down pool-purge-delay 1s",
    rf"    server s\d+ {ADDRESS} weight \d{{1,3}} check( disabled)?",
]
SHAPE = re.compile("|".join(f"(?:{shape})" for shape in SHAPES))

NASTY = [
    "\n",
    "\r",
    " ",
    "#",
    ";",
    '"',
    "'",
    "\\",
    "${HOME}",
    "%",
    "\0",
    "\u2028",
    "é",
    "{{ name }}",
    "{% raw %}",
    "<<",
]
HOSTS = ["10.0.0.5", "::1", "2001:db8::5", "::ffff:10.0.0.5", "fe80::1%eth0", "127.0.0.1", "0.0.0.0", "web", "/run/x"]


def spoilt(good: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """A good text, often with something in it that would be another word, line or command to HAProxy."""
    return good | st.builds(lambda a, nasty, b: a + nasty + b, good, st.sampled_from(NASTY), good | st.just(""))


texts = spoilt(st.sampled_from(["", "a", "web-1", "backup", *HOSTS])) | st.text(max_size=8)
scalars = st.none() | st.booleans() | st.integers(-1, 70_000) | st.floats() | texts
payloads = st.fixed_dictionaries(
    {"host": spoilt(st.sampled_from(HOSTS)), "port": st.integers(0, 65_536) | texts},
    optional={
        "name": texts,
        "weight": st.integers(-1, 257) | scalars,
        "haproxy_server_options": texts,
        "labels": st.dictionaries(texts, scalars, max_size=2) | scalars,
    },
)
names = spoilt(st.sampled_from(["web", "api", "GLOBAL", "x.y-z_1", "9"]))
durations = spoilt(st.sampled_from(["1ms", "1.5s", "1m", "480h", "0s"])) | scalars
definitions = st.fixed_dictionaries(
    {
        "listen": spoilt(st.sampled_from(["127.0.0.1:80", "[::1]:80", "0.0.0.0:1", "/run/a-b_c.sock", "/r/../x"]))
        | scalars
    },
    optional={
        "mode": spoilt(st.sampled_from(["http", "tcp"])),
        "balance": spoilt(st.sampled_from(["leastconn", "roundrobin", "random", "source", "hash"])),
        "retries": st.integers(-1, 11) | scalars,
        "timeouts": st.fixed_dictionaries({}, optional={"client": durations, "queue": durations}),
    },
)
RENDERER = Renderer(HAProxySettings(), "/run/haproxy.sock", (2, 6))


def proxy_of(fields: Mapping[str, object]) -> Proxy:
    """A definition's `proxy` with those of these fields that pass."""
    taken: dict[str, object] = {"listen": 3210}
    made = None
    for fields_now in ({}, *({key: value} for key, value in fields.items())):
        text = json.dumps({"port": 80, "proxy": {**taken, **fields_now}})
        try:
            made = validate(ServiceDefinition, load(text, "f", {}), path="f").proxy
        except ConfigError:
            continue
        taken.update(fields_now)
    assert made is not None
    return made


def instances_of(found: list[object]) -> tuple[Instance, ...]:
    decoded = [decode(json.dumps(payload).encode()) for payload in found]
    return one_per_address(
        Record(node=str(n), instance=one) for n, one in enumerate(decoded) if not isinstance(one, str)
    )


@given(names, definitions, st.lists(payloads, max_size=6))
def test_no_line_is_of_another_shape(name: str, fields: Mapping[str, object], found: list[object]) -> None:
    """What passes the doors makes only the template's own lines: no word, line or section more, whatever it holds."""
    name = name if NAME.fullmatch(name) else "web"
    proxy = proxy_of(fields)
    wanted = targets(placed(instances_of(found)), proxy)
    service = Service(name=name, proxy=proxy, targets=wanted, slots=slot_count(None, len(wanted)))
    text = RENDERER.text(service, seat(service, {}))
    lines = text.removesuffix("\n").split("\n")
    assert [line for line in lines if not SHAPE.fullmatch(line)] == []
    assert text.isascii()
    assert [line for line in lines if line.startswith(("frontend", "backend"))] == [
        f"frontend {name}",
        f"backend {name}",
    ]
    assert sum(line.startswith("    bind ") for line in lines) == 1
    assert sum(line.startswith("    server ") for line in lines) == service.slots
    assert len(lines) == len(RENDERER.text(service, {}).removesuffix("\n").split("\n"))


@given(definitions, st.lists(payloads, max_size=12))
def test_the_file_says_who_is_where(fields: Mapping[str, object], found: list[object]) -> None:
    """Read back, the server lines are the instances that passed, each once, with its weight; the rest is disabled."""
    proxy = proxy_of(fields)
    wanted = targets(placed(instances_of(found)), proxy)
    service = Service(name="web", proxy=proxy, targets=wanted, slots=slot_count(None, len(wanted)))
    lines = RENDERER.text(service, seat(service, {})).splitlines()
    servers = [line.split() for line in lines if line.startswith("    server ")]
    live = [(words[2], int(words[4])) for words in servers if words[-1] != "disabled"]
    assert live == [
        (f"[{each.host}]:{each.port}" if ":" in each.host else f"{each.host}:{each.port}", each.weight)
        for each in wanted
    ]
    assert [words[1] for words in servers] == [f"s{number}" for number in range(1, service.slots + 1)]
    assert all(words[2] == "127.0.0.1:9" for words in servers if words[-1] == "disabled")
