"""The feed's lines: what HAProxy 2.6 really wrote, read; what is not from HAProxy, told apart; and who calls."""

import pytest

from smartstack.forms import TcpAddress, UnixSocket
from smartstack.traffic import Bind, Proxy
from synapse.settings import Settings
from synapse.telemetry.line import LINE_LIMIT, Bad, Feed, parse
from synapse.telemetry.request import Outcome, Request
from synapse.telemetry.source import OUTSIDE, Caller, default, identity, of_cgroup, safe
from tests.golden.test_render import model

KEY = "0123456789abcdef"
FEED = Feed(address=TcpAddress("127.0.0.1", 3200), key=KEY)
HERE = TcpAddress("127.0.0.1", 3210)
EVERYWHERE = TcpAddress("0.0.0.0", 3211)


def line(**changed: str) -> bytes:
    """A line as HAProxy writes it, with these fields changed."""
    fields = {
        "magic": "S1",
        "key": KEY,
        "mode": "http",
        "frontend": "web",
        "service": "api",
        "slot": "s2",
        "host": "10.0.0.5",
        "port": "8080",
        "status": "200",
        "total": "12",
        "response": "11",
        "queue": "1",
        "connect": "0",
        "termination": "--",
        "retries": "0",
        "sent": "1200",
        "received": "89",
        "client": "127.0.0.1",
        "client_port": "50270",
        "listener": "127.0.0.1",
        "listener_port": "3210",
        "source": "-",
        "kind": "-",
        "share": "-",
        "method": "GET",
        "path": "/users/1",
        **changed,
    }
    return "\t".join(fields.values()).encode() + b"\n"


def told(**changed: str) -> Request:
    """What such a line says."""
    found = parse(line(**changed), KEY)
    assert isinstance(found, Request), found
    return found


def test_every_field_of_a_line_arrives() -> None:
    """A request's line gives each of its facts, and who calls as the caller says where HAProxy does not."""
    asked: list[tuple[str, int, str, int]] = []

    def unnamed(*connection: str | int) -> Caller:
        asked.append(connection)  # type: ignore[arg-type]
        return Caller(name="cron", kind="process")

    assert parse(line(), KEY, unnamed) == Request(
        mode="http",
        service="api",
        frontend="web",
        slot="s2",
        host="10.0.0.5",
        port=8080,
        status=200,
        total_ms=12,
        response_ms=11,
        queue_ms=1,
        connect_ms=0,
        termination="--",
        retries=0,
        redispatched=False,
        sent_bytes=1200,
        received_bytes=89,
        client_host="127.0.0.1",
        client_port=50270,
        source="cron",
        source_kind="process",
        share=1.0,
        method="GET",
        path="/users/1",
    )
    assert asked == [("127.0.0.1", 50270, "127.0.0.1", 3210)]


WRITTEN = {
    "nobody-answered": (
        {"slot": "<NOSRV>", "host": "-", "port": "-", "status": "503", "response": "-1", "termination": "LR"},
        {"slot": "", "host": "", "port": 0, "instance": "", "response_ms": None, "outcome": Outcome.FAILURE},
    ),
    "no-connection": (
        {"queue": "-1", "connect": "-1", "response": "-1", "status": "503", "termination": "SC", "retries": "+2"},
        {"queue_ms": None, "connect_ms": None, "retries": 2, "redispatched": True, "outcome": Outcome.FAILURE},
    ),
    "hung-up": (
        {"status": "-1", "total": "40", "response": "-1", "termination": "CD"},
        {"status": 0, "total_ms": 40, "outcome": Outcome.ABORTED, "status_class": "other"},
    ),
    "bad-request": (
        {"slot": "<NOSRV>", "status": "400", "termination": "PR", "method": "<BADREQ>", "path": "<BADREQ>"},
        {"method": "", "path": "", "outcome": Outcome.SUCCESS, "status_class": "4xx"},
    ),
    "logged-before-its-end": ({"total": "+12", "sent": "+0"}, {"total_ms": 12, "sent_bytes": 0}),
    "v6": ({"host": "2001:db8::5", "client": "::1"}, {"instance": "[2001:db8::5]:8080", "client_host": "::1"}),
    "unix-client": ({"client": "unix", "client_port": "3"}, {"client_host": "unix", "client_port": 3}),
    "named-by-listener": ({"source": "cron@x", "kind": "listener"}, {"source": "cron@x", "source_kind": "listener"}),
    "named-by-header": ({"source": "api", "kind": "header"}, {"source": "api", "source_kind": "header"}),
    "a-part-is-told": ({"share": "250000"}, {"share": 0.25}),
    "star": ({"method": "OPTIONS", "path": ""}, {"method": "OPTIONS", "path": ""}),
    "tcp": (
        {"mode": "tcp", "status": "0", "response": "-1", "method": "", "path": ""},
        {"mode": "tcp", "status": 0, "response_ms": None, "outcome": Outcome.SUCCESS},
    ),
    "a-tab-in-the-path-is-the-path's": ({"path": "/a\tb"}, {"path": "/a\tb"}),
}


@pytest.mark.parametrize(("written", "means"), WRITTEN.values(), ids=WRITTEN)
def test_what_haproxy_writes_means_this(written: dict[str, str], means: dict[str, object]) -> None:
    """HAProxy's own words for what there is not, for retries, and for those who hung up."""
    found = told(**written)
    assert {name: getattr(found, name) for name in means} == means


BAD = {
    "nothing": (b"", Bad.UNPARSED),
    "another-program": (b"<134>Nov 26 04:00:00 haproxy[1]: 127.0.0.1:1 [26/Nov]", Bad.UNPARSED),
    "a-proxy-of-an-old-process": (b"Proxy api stopped (cumulated conns: FE: 0, BE: 0).\n", Bad.NOTICE),
    "binary": (bytes(range(256)) * 4, Bad.UNPARSED),
    "another-version": (line(magic="S2"), Bad.UNPARSED),
    "another-key": (line(key="0" * 16), Bad.FORGED),
    "no-key": (line(key=""), Bad.FORGED),
    "a-key-and-more": (line(key=KEY + "0"), Bad.FORGED),
    "another-mode": (line(mode="udp"), Bad.UNPARSED),
    "no-number": (line(total="soon"), Bad.UNPARSED),
    "a-number-without-end": (line(sent="9" * 500), Bad.UNPARSED),
    "a-field-too-few": (line()[: line().rfind(b"\t")], Bad.UNPARSED),
    "a-kind-that-haproxy-does-not-know": (line(source="api", kind="process"), Bad.UNPARSED),
    "a-source-with-a-space": (line(source="a b", kind="header"), Bad.UNPARSED),
    "a-source-too-long": (line(source="a" * 101, kind="header"), Bad.UNPARSED),
    "a-share-of-nothing": (line(share="0"), Bad.UNPARSED),
    "a-share-beyond-all": (line(share="1000001"), Bad.UNPARSED),
    "a-share-beyond-all-numbers": (line(share="9" * 800), Bad.UNPARSED),
    "a-share-that-is-no-number": (line(share="nan"), Bad.UNPARSED),
}


@pytest.mark.parametrize(("datagram", "why"), BAD.values(), ids=BAD)
def test_what_is_no_line_is_told_apart(datagram: bytes, why: Bad) -> None:
    """Who does not know the key is a forger; the rest was not understood."""
    assert parse(datagram, KEY) is why


def test_a_line_that_was_cut_off_loses_of_its_path_only() -> None:
    """HAProxy ends a line at its limit, without its end of line."""
    found = parse(line(path="/" + "x" * 2000)[:LINE_LIMIT], KEY)
    assert isinstance(found, Request)
    assert found.path == "/" + "x" * (len(found.path) - 1)
    assert len(found.path) > LINE_LIMIT / 2


def test_both_formats_have_the_same_fields() -> None:
    """One way to read both: what mode tcp does not have stands there as a constant, and no fetch of HTTP's."""
    http, tcp = FEED.log_format("http"), FEED.log_format("tcp")
    assert http.count("\\t") == tcp.count("\\t") == line().count(b"\t")
    assert not any(field in tcp for field in ("%ST", "%Ta", "%Tr", "%HM", "%HP"))
    assert KEY in http
    assert FEED.log == "127.0.0.1:3200 len 1024 format raw local0 info"


# Where

ADDRESSES = {
    "nothing-said": ({}, "127.0.0.1:3200"),
    "as-admin": ({"admin": "127.7.7.7:4000"}, "127.7.7.7:4000"),
    "as-admin-v6": ({"admin": "[::1]:4000"}, "[::1]:4000"),
    "admin-for-others": ({"admin": "0.0.0.0:4000"}, "127.0.0.1:4000"),
    "admin-by-name": ({"admin": "localhost:4000"}, "127.0.0.1:4000"),
    "no-admin": ({"admin": None}, "127.0.0.1:3200"),
    "given": ({"admin": "127.7.7.7:4000", "telemetry": {"listen": "127.0.0.1:3200"}}, "127.0.0.1:3200"),
    "off": ({"telemetry": {"listen": None}}, "None"),
}


@pytest.mark.parametrize(("settings", "address"), ADDRESSES.values(), ids=ADDRESSES)
def test_where_haproxy_tells(settings: dict[str, object], address: str) -> None:
    """At the admin's number, so that several synapses on a host do not meet, and always on this machine."""
    found: Settings = model(Settings, {"registry": "file:/r", **settings})
    assert str(found.feed) == address


# Who calls

GROUPS = {
    "unit": ("/system.slice/web.service", "web"),
    "unit-of-a-template": ("/system.slice/system-web.slice/web@2.service", "web@2"),
    "unit-with-escapes": (r"/system.slice/my\x2dweb.service", "my-web"),
    "unit-of-a-user": ("/user.slice/user-1000.slice/user@1000.service/app.slice/notes.service", "notes"),
    "below-a-unit": ("/system.slice/web.service/worker", "web"),
    "docker": (f"/system.slice/docker-{'3f2a91c07b5d' + '0' * 52}.scope", "3f2a91c07b5d"),
    "docker-by-directories": (f"/docker/{'3f2a91c07b5d' + '0' * 52}", "3f2a91c07b5d"),
    "podman": (f"/machine.slice/libpod-{'3f2a91c07b5d' + '0' * 52}.scope/container", "3f2a91c07b5d"),
    "kubernetes": (
        f"/kubepods.slice/kubepods-pod1.slice/cri-containerd-{'3f2a91c07b5d' + '0' * 52}.scope",
        "3f2a91c07b5d",
    ),
    "unit-in-a-container": (f"/docker/{'3f2a91c07b5d' + '0' * 52}/system.slice/web.service", "web"),
    "shell": ("/user.slice/user-1000.slice/session-3.scope", None),
    "session-manager": ("/user.slice/user-1000.slice/user@1000.service/init.scope", None),
    "root": ("/", None),
}


@pytest.mark.parametrize(("path", "name"), GROUPS.values(), ids=GROUPS)
def test_whose_a_control_group_is(path: str, name: str | None) -> None:
    """The innermost unit or container; nobody's for a user's shell."""
    assert of_cgroup(path) == name


def test_who_calls_where_nobody_says_it() -> None:
    """As the settings say, else the one service that is announced from here, else the host."""
    assert default("batch", ["web"], "host7") == Caller(name="batch", kind="host")
    assert default(None, ["web"], "host7") == Caller(name="web", kind="announced")
    assert default(None, ["web", "api"], "host7") == Caller(name="host7", kind="host")
    assert default(None, [], "host7") == Caller(name="host7", kind="host")
    assert default(None, ["w" * 100 + ".admin"], "host7").name == "w" * 100
    assert OUTSIDE.kind == "host"


@pytest.mark.parametrize(("text", "name"), [("a b", "a_b"), ("-x", "x"), ("", "unknown"), ("é" * 5, "unknown")])
def test_any_name_is_made_safe(text: str, name: str) -> None:
    """What may not stand in a caller's name is replaced."""
    assert safe(text) == name


TRUST = {
    "here": (Proxy(listen=(HERE,)), (), True),
    "a-socket": (Proxy(listen=(UnixSocket("/run/web.sock"),)), (), True),
    "outside": (Proxy(listen=(EVERYWHERE,)), (), False),
    "outside-with-client": (Proxy(also_listen=(Bind(address=EVERYWHERE, client="edge"),)), (1,), False),
    "proxy-protocol": (Proxy(also_listen=(Bind(address=HERE, accept_proxy=True),)), (), False),
    "both": (Proxy(listen=(HERE, EVERYWHERE)), (1, 2), True),
    "tcp": (Proxy(mode="tcp", listen=(HERE, EVERYWHERE)), (), False),
    "tcp-with-client": (Proxy(mode="tcp", also_listen=(Bind(address=HERE, client="edge"),)), (1,), False),
}


@pytest.mark.parametrize(("proxy", "ids", "believed"), TRUST.values(), ids=TRUST)
def test_the_header_is_believed_from_this_host_alone(proxy: Proxy, ids: tuple[int, ...], believed: bool) -> None:
    """Listeners have numbers only where something depends on them; in mode http a header from outside never passes."""
    found = identity(proxy, "str(web)")
    assert found.ids == ids
    assert any("req.hdr(" in rule for rule in found.rules) is believed
    assert any("del-header" in rule for rule in found.rules) is (proxy.mode == "http")
    assert not any("http-request" in rule for rule in found.rules if proxy.mode == "tcp")


def test_nobody_outside_is_called_as_this_host() -> None:
    """What callers from this host are called by default is told where only those come, nowhere else; and synapse is not
    told it, because the process behind the port says more."""
    named = "{ var(txn.source) -m found }"
    for listens, here in (((HERE,), ""), ((HERE, EVERYWHERE), " { so_id 1 }")):
        rules = identity(Proxy(listen=listens), "str(web)").rules
        assert rules[-2:] == (
            f"http-request set-var(txn.caller) str(web) if !{named}{here}",
            "http-request set-header X-Smartstack-Source %[var(txn.caller)] if { var(txn.caller) -m found }",
        )
        assert not any("set-var(txn.source" in rule and "str(web)" in rule for rule in rules)
    outside = identity(Proxy(listen=(EVERYWHERE,)), "str(web)").rules
    assert outside == ("http-request del-header X-Smartstack-Source",)
