"""The forms of values: what each takes, what each refuses, and that what is written can be read again."""

from typing import Any

import pytest

from smartstack.forms import (
    ADMIN,
    DURATION,
    HOST,
    INSTANCE_ID,
    LABELS,
    LISTEN,
    PATH,
    PERCENT,
    PORT,
    PROGRAM,
    REGISTRY,
    REGISTRY_PATH,
    USE,
    DirectoryUrl,
    TcpAddress,
    UnixSocket,
    ZooKeeperUrl,
    between,
    duration,
    write_duration,
)
from smartstack.model import Form, FormError

FORMS: dict[str, Form] = {
    "ADMIN": ADMIN,
    "DURATION": DURATION,
    "HOST": HOST,
    "INSTANCE_ID": INSTANCE_ID,
    "LABELS": LABELS,
    "LISTEN": LISTEN,
    "PATH": PATH,
    "PERCENT": PERCENT,
    "PORT": PORT,
    "PROGRAM": PROGRAM,
    "REGISTRY": REGISTRY,
    "REGISTRY_PATH": REGISTRY_PATH,
    "USE": USE,
}

TAKEN: list[tuple[str, Any, Any]] = [
    ("PORT", 1, 1),
    ("PORT", 65535, 65535),
    ("DURATION", "500ms", 0.5),
    ("DURATION", "2s", 2.0),
    ("DURATION", "2 s", 2.0),
    ("DURATION", "1.5s", 1.5),
    ("DURATION", "1m", 60.0),
    ("DURATION", "1h", 3600.0),
    ("DURATION", "1ms", 0.001),
    ("DURATION", "480h", 1_728_000.0),
    ("PERCENT", "50 %", 0.5),
    ("PERCENT", "50%", 0.5),
    ("PERCENT", "12.5%", 0.125),
    ("PERCENT", "0%", 0.0),
    ("PERCENT", "100 %", 1.0),
    ("LISTEN", 3210, TcpAddress("127.0.0.1", 3210)),
    ("LISTEN", "0.0.0.0:3210", TcpAddress("0.0.0.0", 3210)),
    ("LISTEN", "127.0.0.2:1", TcpAddress("127.0.0.2", 1)),
    ("LISTEN", "[::1]:3210", TcpAddress("::1", 3210)),
    ("LISTEN", "[2001:DB8:0::1]:3210", TcpAddress("2001:db8::1", 3210)),
    ("LISTEN", "[::]:3210", TcpAddress("::", 3210)),
    ("LISTEN", "/run/web.sock", UnixSocket("/run/web.sock")),
    ("LISTEN", "/" + "x" * 99, UnixSocket("/" + "x" * 99)),
    ("ADMIN", "127.0.0.1:3199", TcpAddress("127.0.0.1", 3199)),
    ("ADMIN", "localhost:3199", TcpAddress("localhost", 3199)),
    ("ADMIN", "[::1]:3199", TcpAddress("::1", 3199)),
    ("HOST", "10.0.0.5", "10.0.0.5"),
    ("HOST", "2001:DB8::5", "2001:db8::5"),
    ("HOST", "web-1.example.com", "web-1.example.com"),
    ("HOST", "web_1", "web_1"),
    ("HOST", "localhost", "localhost"),
    ("REGISTRY", "zookeeper://zk1:2181,zk2:2182/smartstack", ZooKeeperUrl("zk1:2181,zk2:2182", "/smartstack")),
    ("REGISTRY", "zookeeper://zk1", ZooKeeperUrl("zk1:2181", "")),
    ("REGISTRY", "zookeeper://zk1/", ZooKeeperUrl("zk1:2181", "")),
    ("REGISTRY", "zookeeper://[::1]:2181,10.0.0.1/a/b", ZooKeeperUrl("[::1]:2181,10.0.0.1:2181", "/a/b")),
    ("REGISTRY", "zookeeper://[::1]", ZooKeeperUrl("[::1]:2181", "")),
    ("REGISTRY", "file:/var/lib/registry", DirectoryUrl("/var/lib/registry")),
    ("REGISTRY", "file:///var/lib/registry", DirectoryUrl("/var/lib/registry")),
    ("REGISTRY", "file:registry", DirectoryUrl("registry")),
    ("REGISTRY_PATH", "/nerve/services/web/services", "/nerve/services/web/services"),
    ("REGISTRY_PATH", "services/web", "services/web"),
    ("INSTANCE_ID", "host-1.example.com", "host-1.example.com"),
    ("LABELS", {}, {}),
    ("LABELS", {"zone": "us-east-1a", "a/b": ""}, {"zone": "us-east-1a", "a/b": ""}),
    ("USE", "all", None),
    ("USE", [], ()),
    ("USE", ["web", "api"], ("web", "api")),
    ("PATH", "services/", "services/"),
    ("PROGRAM", "haproxy", "haproxy"),
]


@pytest.mark.parametrize(("form", "value", "parsed"), TAKEN, ids=[f"{form} {value}"[:40] for form, value, _ in TAKEN])
def test_taken(form: str, value: Any, parsed: Any) -> None:
    """Each form takes what it says, and what it took can be written and read again."""
    assert FORMS[form].parse(value) == parsed
    assert type(FORMS[form].parse(value)) is type(parsed)
    assert FORMS[form].parse(FORMS[form].write(parsed)) == parsed


NOTHING: tuple[Any, ...] = (None, True, [1], {"a": {}}, 1.5, 10**30, -1)
"""What no form takes."""

HOSTILE = ("", " ", "a\nb", "a\0b", "\x1b", "a b", "\udc80", "\u2028", "\x85")
"""Texts that no form takes, labels and paths apart, which may hold spaces."""

REFUSED: dict[str, tuple[Any, ...]] = {
    "PORT": (0, 65536, "80", "0777", "12:30"),
    "DURATION": ("2", "2 seconds", "-1s", "1d", "1:30", "0s", "0.5ms", "481h", "1e3s", "1m30s", "2  s", "\u0663s"),
    "PERCENT": ("50", 50, "101 %", "-1%", "100.1%", "%", "\u0665%"),
    "LISTEN": (
        0, 65536, "3210", "localhost:3210", "*:3210", ":3210", "10.0.0.1", "10.0.0.1:0", "10.0.0.1:65536", "::1:80",
        "[10.0.0.1]:80", "[::1]", "[::1%eth0]:80", "[fe80::1%25eth0]:80", "10.0.0.1:80 ssl", "10.0.0.1:8\n0",
        "run/x", "/", "//x", "/a//b", "/a/../b", "/a/./b", "/a/", "/a b", "/a#b", "/a;b", "/a'b", '/a"b', "/a\\b",
        "/a\nb", "/${x}", "/" + "x" * 100, "/é", "unix@/x", "abns@x", "fd@3", "10.0.0.1:\u0668\u0660",
    ),
    "ADMIN": (3199, "3199", "127.0.0.1", "127.0.0.1:0", "a b:1", "http://x:1", "10.0.0.300:80", "-x:80"),
    "HOST": (
        "10.0.0.300", "10.0.0", "0.0.0.0", "::", "224.0.0.1", "ff02::1", "fe80::1%eth0", "1", "a..b", ".a", "a.", "-a",
        "a-", "a" * 64, ".".join(["a" * 60] * 5), "http://a", "a:80", "[::1]", "é", "unix@/x",
    ),
    "REGISTRY": (
        "zk://a", "http://a", "etcd://a:1", "zookeeper:a", "zookeeper:/a", "zookeeper://", "zookeeper:///x", "a:2181",
        "zookeeper://a,,b", "zookeeper://a,", "zookeeper://a:0", "zookeeper://a:port", "zookeeper://a:65536",
        "zookeeper://u:p@a:2181", "zookeeper://a//b", "zookeeper://a/b/", "zookeeper://a/../b", "zookeeper://a/./b",
        "zookeeper://a/b\nc", "zookeeper://::1:2181", "zookeeper://a b", "zookeeper://a/" + "x" * 256,
        "file:", "file://", "file://host/x", "file:////x", "file:/a\nb", "file", "registry", "FILE:/x",
    ),
    "REGISTRY_PATH": ("/", "//", "/a//b", "/a/", "a/", "/a/../b", "..", ".", "/./a", "/a\tb", "/a\0b", "/" + "x" * 256),
    "INSTANCE_ID": ("-a", ".a", "a/b", "a" * 101, "é", "a;b", 5),
    "LABELS": ("zone", {"a": 1}, {"a": True}, {"a": None}, {"a": ["b"]}, {"a": "b\nc"}, {"a\nb": "c"}, {"": "a"},
               {"a": "x" * 1001}, {str(n): "" for n in range(65)}),
    "USE": ("none", "web", [1], ["a b"], ["web", "web"], [["web"]], [None], {"web": 1}),
    "PATH": ("a\nb", "a\0b", "x" * 1001, 5),
    "PROGRAM": ("a\nb", "a\0b"),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_refused(form: str) -> None:
    """Each form refuses everything else with a ValueError that says what it wants, on one line."""
    free = form in ("PATH", "PROGRAM")
    texts = [text for text in HOSTILE if not (free and text.isprintable() and text)]
    for value in (*NOTHING, *texts, *REFUSED[form]):
        with pytest.raises(ValueError, match=r"^(must|is in the list twice)") as raised:
            print(f"taken: {value!r} as {FORMS[form].parse(value)!r}")
        assert str(raised.value).isprintable()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", ["hunter2\n", ["hunter2\n"], {"hunter2\n": 1}, {"a": "hunter2\n"}])
def test_what_is_wrong_is_said_without_the_value(form: str, value: Any) -> None:
    """A value may have come from an environment variable and be a secret: no message repeats it."""
    with pytest.raises(ValueError, match=r"^must") as raised:
        FORMS[form].parse(value)
    assert "hunter2" not in str(raised.value)


def test_parts_are_named() -> None:
    """A list or a mapping with wrong parts says which, and what is wrong with each."""
    with pytest.raises(FormError) as raised:
        LABELS.parse({"a": 1, "b": "fine", "c": "x\ny"})
    assert list(raised.value.parts) == ["a", "c"]
    with pytest.raises(FormError) as raised:
        USE.parse(["a b", "web", 5, "web"])
    assert list(raised.value.parts) == [0, 2, 3]


def test_null_is_not_everything() -> None:
    """`use:` with nothing after it (its list commented out) does not mean all, although all is a None inside."""
    assert not USE.null


def test_whole_numbers_in_disguise() -> None:
    """A number in quotes, or of YAML 1.1, is answered with how to write it."""
    with pytest.raises(ValueError, match="in plain digits and without quotes"):
        between(0, 100).parse("010")
    with pytest.raises(ValueError, match=r"^must be a whole number from 0 to 100$"):
        between(0, 100).parse("ten")


def test_durations_have_bounds() -> None:
    """A form may be narrower than what HAProxy can count; both bounds belong to it and are named as written."""
    form = duration("1s", "10m")
    assert [form.parse("1s"), form.parse("10m")] == [1.0, 600.0]
    for text in ("999ms", "601s"):
        with pytest.raises(ValueError, match=r"^must be a duration from 1s to 10m$"):
            form.parse(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.001, "1ms"), (0.25, "250ms"), (1.0, "1s"), (1.5, "1500ms"), (60.0, "1m"), (90.0, "90s"), (7200.0, "2h")],
)
def test_durations_are_written_in_the_largest_unit(seconds: float, text: str) -> None:
    """A duration is written as people write it."""
    assert write_duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (TcpAddress("10.0.0.1", 80), "10.0.0.1:80"),
        (TcpAddress("::1", 80), "[::1]:80"),
        (UnixSocket("/run/x"), "/run/x"),
        (ZooKeeperUrl("a:1,b:2", "/root"), "zookeeper://a:1,b:2/root"),
        (DirectoryUrl("/x"), "file:/x"),
    ],
)
def test_addresses_as_text(value: object, text: str) -> None:
    """An address is shown as it would be written."""
    assert str(value) == text
