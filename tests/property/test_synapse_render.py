"""haproxy.cfg, for anything that a registry and the definitions may say: every line is one of the template's."""

import json
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from smartstack.definition import ServiceDefinition
from smartstack.errors import ConfigError
from smartstack.forms import TcpAddress
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
from tests.support.shapes import SWITCHES, WHO_CALLS

ADDRESS = r"(\d{1,3}(\.\d{1,3}){3}|\[[0-9a-f:.]+\]):\d{1,5}"
WORD = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}"
TOKEN = r"[A-Za-z0-9_.-]{1,100}"
TARGET = r"""(/[A-Za-z0-9._~@%+=:,/-]*|'/(?:[^'\n]|'"'"')*')"""
REASON = r"(conn-failure|empty-response|response-timeout|junk-response|[45]\d\d)"
SHAPES = [
    r"",
    rf"(frontend|backend) {WORD}",
    r"    mode (http|tcp)",
    rf"    bind ({ADDRESS}|unix@/[A-Za-z0-9_./-]+ mode 666)( accept-proxy)?( id \d+)?",
    *WHO_CALLS,
    *SWITCHES,
    r"    timeout (client|client-fin|server|server-fin|connect|queue|tunnel|check|http-keep-alive) \d+ms",
    rf"    default_backend {WORD}",
    rf"    balance (leastconn|roundrobin|random(\(5\))?|source|uri (path-only|whole)|hdr\({TOKEN}\)"
    rf"|hash req\.cook\({TOKEN}\)|url_param {TOKEN})",
    r"    http-request set-timeout server var\(txn\.timeout\) if { var\(txn\.timeout\) -m found }",
    r"    hash-type consistent",
    r"    hash-balance-factor \d{3,4}",
    r"    retries \d{1,2}",
    r"    # [A-Za-z0-9 :;,.()]+",
    rf"    retry-on (none|{REASON}( {REASON})*)",
    r"    http-request disable-l7-retry unless { method GET HEAD OPTIONS TRACE PUT DELETE }",
    r"    http-request wait-for-body time \d+ms if { req\.hdr_val\(content-length\) 1:16384 }"
    r"( { method GET HEAD OPTIONS TRACE PUT DELETE })?",
    r"    http-reuse (safe|always|aggressive|never)",
    r"    srvtcpka-(idle|intvl) 1s",
    r"    option (srvtcpka|http-server-close|httpchk|idle-close-on-response)",
    rf"    dynamic-cookie-key {WORD}",
    rf"    cookie {TOKEN} insert indirect nocache dynamic( maxidle \d+s)?",
    rf"    http-check send meth GET uri {TARGET} ver HTTP/1\.1 hdr Host [A-Za-z0-9_.:-]+",
    r"    default-server inter \d+ms fastinter \d+ms downinter \d+ms fall \d+ rise \d+"
    r"( observe layer[47] error-limit \d+ on-error mark-down)?( maxconn \d+)?( maxqueue \d+)?( slowstart \d+ms)?"
    r"( send-proxy(-v2)? check-send-proxy)? pool-purge-delay 1s",
    rf"    server s\d+ {ADDRESS} weight \d{{1,3}} check( tcp-ut 2s)?( disabled)?",
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
words = spoilt(st.sampled_from(["X-User", "sid", "a.b_c", "v2)", "a`b", "a$b", "a'b"]))
paths = spoilt(st.sampled_from(["/", "/health", "/a?b=c&d", "/it's", "/$HOME", "/a;b", "/%20", "/(x)", "/*"]))
counts = st.integers(-1, 2000) | scalars
percents = spoilt(st.sampled_from(["0 %", "5 %", "0.5 %", "33.333 %", "100 %"])) | scalars


def some(**keys: st.SearchStrategy[object]) -> st.SearchStrategy[dict[str, object]]:
    """A mapping with some of these keys."""
    return st.fixed_dictionaries({}, optional=keys)


hashes = some(
    by=st.sampled_from(["path", "uri", "header", "cookie", "query"]) | texts,
    name=st.none() | words,
    load_limit=counts,
)
definitions = st.fixed_dictionaries(
    {
        "listen": spoilt(st.sampled_from(["127.0.0.1:80", "[::1]:80", "0.0.0.0:1", "/run/a-b_c.sock", "/r/../x"]))
        | scalars
    },
    optional={
        "also_listen": st.lists(
            some(
                address=st.sampled_from(["127.0.0.1:81", "0.0.0.0:82", "/run/also.sock"]),
                client=spoilt(st.sampled_from(["billing", "cron@nightly", "a.b_c-d"])),
                accept_proxy=st.booleans(),
            ),
            max_size=2,
        ),
        "mode": spoilt(st.sampled_from(["http", "tcp"])),
        "balance": spoilt(st.sampled_from(["latency", "leastconn", "roundrobin", "random", "source", "hash"])),
        "hash": hashes,
        "timeouts": some(
            client=durations,
            server=durations,
            connect=durations,
            queue=durations,
            tunnel=durations,
            keep_alive=durations,
        ),
        "retries": st.integers(-1, 11) | scalars,
        "retry_on": st.lists(st.sampled_from(["connection", "empty", "timeout", "junk", 401, 500, 504, 429]) | scalars),
        "retry_all_methods": st.booleans() | texts,
        "retry_budget": some(ratio=percents, floor=counts) | st.just("off"),
        "split": st.lists(some(to=names, percent=percents), max_size=3),
        "split_by": some(by=spoilt(st.sampled_from(["header", "cookie", "query"])), name=words),
        "limits": some(
            instance=counts,
            instance_queue=counts,
            queue=counts,
            rate=some(
                requests=counts,
                per=durations,
                by=spoilt(st.sampled_from(["source", "client", "header"])),
                name=words,
            ),
        ),
        "slow_start": durations,
        "keep_alive": st.booleans() | texts,
        "reuse": spoilt(st.sampled_from(["safe", "always", "aggressive", "never"])),
        "send_proxy": spoilt(st.sampled_from(["off", "v1", "v2"])),
        "health": some(
            path=paths,
            host=st.sampled_from(["web.example.com", "10.0.0.1", "::1"]) | texts,
            timeout=durations,
            interval=durations,
            fast_interval=durations,
            rise=counts,
            fall=counts,
            observe=spoilt(st.sampled_from(["connections", "answers", "off"])),
            errors=counts,
        ),
        "sticky": some(cookie=words, max_idle=durations),
    },
)
RENDERER = Renderer(HAProxySettings(), "/run/haproxy.sock", (2, 6))


def proxy_of(fields: Mapping[str, object]) -> Proxy:
    """A definition's `proxy` with those of these fields that pass."""
    taken: dict[str, object] = {"listen": 3210}
    made = None
    for fields_now in ({}, *pieces(fields)):
        trial = merged(taken, fields_now)
        try:
            made = validate(ServiceDefinition, load(json.dumps({"port": 80, "proxy": trial}), "f", {}), path="f").proxy
        except ConfigError:
            continue
        taken = trial
    assert made is not None
    return made


def pieces(fields: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    """Each key with the whole of its value, and then with each part of it: much of what is spoilt in one part would
    otherwise hide the rest."""
    for key, value in fields.items():
        yield {key: value}
        if isinstance(value, dict):
            yield from ({key: {part: value[part]}} for part in value)


def merged(taken: Mapping[str, object], more: Mapping[str, object]) -> dict[str, object]:
    """With these keys too; the parts of a mapping beside those that are there."""
    result = dict(taken)
    for key, value in more.items():
        before = result.get(key)
        result[key] = {**before, **value} if isinstance(before, dict) and isinstance(value, dict) else value
    return result


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
    assert sum(line.startswith("    bind ") for line in lines) == len(proxy.addresses)
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


@settings(max_examples=40)
@given(st.lists(definitions, min_size=4, max_size=12))
def test_haproxy_takes_whatever_is_valid(found: list[Mapping[str, object]]) -> None:
    """Every definition that passes the door is one that the real HAProxy reads without a word."""
    services = {
        f"web{number}": Service(name=f"web{number}", proxy=proxy, targets=(), slots=1, absent=nowhere(proxy))
        for number, proxy in enumerate(offered(fields, number) for number, fields in enumerate(found))
    }
    structure = RENDERER.structure({name: RENDERER.digest(one) for name, one in services.items()})
    text = RENDERER.file(structure, {name: RENDERER.text(one, {}) for name, one in services.items()}).text
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "haproxy.cfg"
        path.write_text(text, encoding="utf-8")
        (Path(directory) / "haproxy.map").touch()
        checked = subprocess.run(
            ["haproxy", "-c", "-f", path], capture_output=True, text=True, check=False, cwd=directory
        )
    assert (checked.returncode, alerts_and_warnings(checked.stderr)) == (0, [])


def alerts_and_warnings(words: str) -> list[str]:
    return [line for line in words.splitlines() if "[ALERT]" in line or "[WARNING]" in line]


def nowhere(proxy: Proxy) -> Mapping[str, str]:
    """Where its splits lead, which is no service here."""
    return {split.to: "which is not used on this host" for split in proxy.split}


def offered(fields: Mapping[str, object], number: int) -> Proxy:
    """That definition at a port of its own."""
    return replace(proxy_of(fields), listen=(TcpAddress("127.0.0.1", 3000 + number),))
