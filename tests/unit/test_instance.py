"""The registration format: what is written, what is read, and what is refused at the door."""

import base64
import ipaddress
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from smartstack.instance import (
    LABEL_LIMIT,
    NAME,
    PAYLOAD_LIMIT,
    WEIGHT_RANGE,
    Instance,
    decode,
    encode,
    encoded_node_name,
    node_name,
    payload_in_name,
    printable,
    sequence_in_name,
)

SMALLEST = Instance(host="10.0.0.5", port=8080)


def payload(**keys: Any) -> bytes:
    """A payload that is good but for these keys."""
    return json.dumps({"host": "10.0.0.5", "port": 8080, **keys}).encode()


@pytest.mark.parametrize(
    ("instance", "text"),
    [
        pytest.param(SMALLEST, '{"host":"10.0.0.5","port":8080}', id="only what is required"),
        pytest.param(
            Instance(
                host="10.0.0.5",
                port=8080,
                name="web-1",
                weight=50,
                haproxy_server_options="backup",
                labels=(("region", "us-east-1"), ("zone", "us-east-1a")),
            ),
            '{"host":"10.0.0.5","port":8080,"name":"web-1","weight":50,"haproxy_server_options":"backup",'
            '"labels":{"region":"us-east-1","zone":"us-east-1a"}}',
            id="everything",
        ),
        pytest.param(
            Instance(host="2001:db8::1", port=1, weight=0), '{"host":"2001:db8::1","port":1,"weight":0}', id="draining"
        ),
        pytest.param(
            Instance(host="10.0.0.5", port=8080, labels=(("who", "Jörg"),)),
            '{"host":"10.0.0.5","port":8080,"labels":{"who":"Jörg"}}',
            id="letters of any language stand as they are",
        ),
    ],
)
def test_the_payload_is_compact_json_in_airbnbs_order(instance: Instance, text: str) -> None:
    """Keys in the order of Airbnb's nerve, no spaces, nothing for what is not there; and it reads back as it was."""
    assert encode(instance) == text.encode()
    assert decode(text.encode()) == instance


@pytest.mark.parametrize(
    ("data", "instance"),
    [
        pytest.param(payload(port="8080"), SMALLEST, id="a port as text"),
        pytest.param(payload(weight="7"), Instance(host="10.0.0.5", port=8080, weight=7), id="a weight as text"),
        pytest.param(payload(weight=None, name=None, labels=None, haproxy_server_options=None), SMALLEST, id="nulls"),
        pytest.param(payload(name="", haproxy_server_options=""), SMALLEST, id="empty texts"),
        pytest.param(payload(id=3, check={"deep": [1]}), SMALLEST, id="keys that nobody knows"),
        pytest.param(payload(weight=256), Instance(host="10.0.0.5", port=8080, weight=256), id="the largest weight"),
        pytest.param(payload(port=65535), Instance(host="10.0.0.5", port=65535), id="the largest port"),
        pytest.param(
            payload(host="2001:DB8:0:0::1"), Instance(host="2001:db8::1", port=8080), id="an address becomes canonical"
        ),
        pytest.param(
            payload(labels={"b": True, "a": 3, "c": 0.5}),
            Instance(host="10.0.0.5", port=8080, labels=(("a", "3"), ("b", "true"), ("c", "0.5"))),
            id="labels become text, in order",
        ),
        pytest.param(b' {"port" : 8080,\n"host":"10.0.0.5"} ', SMALLEST, id="any JSON of the same meaning"),
    ],
)
def test_what_other_writers_write_is_taken(data: bytes, instance: Instance) -> None:
    """A reader requires `host` and `port`, takes numbers as text, and ignores what it does not know."""
    assert decode(data) == instance


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"", "payload is not JSON", id="nothing"),
        pytest.param(b"{", "payload is not JSON", id="half of it"),
        pytest.param(b"[" * 60_000, "payload is not JSON", id="deeper than the stack"),
        pytest.param(b"\xff\xfe", "payload is not UTF-8", id="not UTF-8"),
        pytest.param(b"[1]", "payload is not a JSON object", id="a list"),
        pytest.param(b"null", "payload is not a JSON object", id="null"),
        pytest.param(b'"' + b"a" * 1_000_000 + b'"', "payload of 1000002 bytes is over the limit of 65536", id="1 MB"),
        pytest.param(b'{"port":8080}', "host is missing", id="no host"),
        pytest.param(b'{"host":"10.0.0.5"}', "port is missing", id="no port"),
        pytest.param(payload(host=5), "host is not text", id="host is a number"),
        pytest.param(payload(host=["10.0.0.5"]), "host is not text", id="host is a list"),
        pytest.param(payload(host="web.example"), "host is not an IP address: web.example", id="host is a name"),
        pytest.param(payload(host="unix@/x"), "host is not an IP address: unix@/x", id="host is a unix socket"),
        pytest.param(payload(host="/run/x"), "host is not an IP address: /run/x", id="host is a path"),
        pytest.param(payload(host="127.1"), "host is not an IP address: 127.1", id="host is a short form"),
        pytest.param(payload(host="010.0.0.1"), "host is not an IP address: 010.0.0.1", id="host is octal, maybe"),
        pytest.param(payload(host="2130706433"), "host is not an IP address: 2130706433", id="host is one number"),
        pytest.param(
            payload(host="10.0.0.5 backup"), "host is not an IP address: 10.0.0.5 backup", id="host has a space"
        ),
        pytest.param(
            payload(host="10.0.0.5\n  server x"),
            "host is not an IP address: 10.0.0.5\\n  server x",
            id="host has a line break",
        ),
        pytest.param(payload(host="${HOME}"), "host is not an IP address: ${HOME}", id="host is a variable"),
        pytest.param(payload(host="0.0.0.0"), "host is not an address of one machine: 0.0.0.0", id="host is any"),
        pytest.param(payload(host="::"), "host is not an address of one machine: ::", id="host is any of IPv6"),
        pytest.param(payload(host="224.0.0.1"), "host is not an address of one machine: 224.0.0.1", id="host is many"),
        pytest.param(
            payload(host="fe80::1%eth0"), "host is not an address of one machine: fe80::1%eth0", id="host has a zone"
        ),
        pytest.param(payload(port=0), "port 0 is not in 1 to 65535", id="port 0"),
        pytest.param(payload(port=-1), "port -1 is not in 1 to 65535", id="port below 0"),
        pytest.param(payload(port=99_999), "port 99999 is not in 1 to 65535", id="port over the top"),
        pytest.param(payload(port="80;"), "port is not a whole number", id="port with a semicolon"),
        pytest.param(payload(port="٨٠"), "port is not a whole number", id="port in other digits"),
        pytest.param(payload(port=80.0), "port is not a whole number", id="port is not whole"),
        pytest.param(payload(port=True), "port is not a whole number", id="port is a truth"),
        pytest.param(payload(port=10**30), f"port {'1' + '0' * 22}~ is not in 1 to 65535", id="port is huge"),
        pytest.param(
            b'{"host":"10.0.0.5","port":' + b"9" * 5_000 + b"}", "payload is not JSON", id="port of 5000 digits"
        ),
        pytest.param(payload(weight=257), "weight 257 is not in 0 to 256", id="weight over the top"),
        pytest.param(payload(weight=-1), "weight -1 is not in 0 to 256", id="weight below 0"),
        pytest.param(payload(weight="heavy"), "weight is not a whole number", id="weight is a word"),
        pytest.param(
            payload(name="a b"), "name is not made of letters, digits, '_', '.' and '-': a b", id="name has a space"
        ),
        pytest.param(
            payload(name="a\nb"),
            "name is not made of letters, digits, '_', '.' and '-': a\\nb",
            id="name has a line break",
        ),
        pytest.param(
            payload(name="a;b"), "name is not made of letters, digits, '_', '.' and '-': a;b", id="name has a semicolon"
        ),
        pytest.param(
            payload(name="a#b"), "name is not made of letters, digits, '_', '.' and '-': a#b", id="name has a hash"
        ),
        pytest.param(
            payload(name=5), "name is not made of letters, digits, '_', '.' and '-': 5", id="name is a number"
        ),
        pytest.param(
            payload(name="x" * 101),
            f"name is not made of letters, digits, '_', '.' and '-': {'x' * 79}~",
            id="name is too long",
        ),
        pytest.param(
            payload(haproxy_server_options="a\nb"),
            "haproxy_server_options is not one line of text",
            id="options of two lines",
        ),
        pytest.param(
            payload(haproxy_server_options=["a"]),
            "haproxy_server_options is not one line of text",
            id="options in a list",
        ),
        pytest.param(
            payload(labels=["a"]), f"labels is not an object of at most {LABEL_LIMIT} keys", id="labels in a list"
        ),
        pytest.param(
            payload(labels={str(number): "" for number in range(LABEL_LIMIT + 1)}),
            f"labels is not an object of at most {LABEL_LIMIT} keys",
            id="too many labels",
        ),
        pytest.param(payload(labels={"a": {"b": 1}}), "label a is not text", id="a label in a label"),
        pytest.param(payload(labels={"a": "x\ty"}), "label a is not text", id="a label with a tab"),
        pytest.param(payload(labels={"a\x00": "x"}), "label a\\x00 is not text", id="a label's key with a zero"),
    ],
)
def test_what_is_not_good_is_refused_with_a_reason(data: bytes, reason: str) -> None:
    """Bad data is a value, not a crash: a few printable words that say what is wrong with it."""
    assert decode(data) == reason


ADDRESSES = st.ip_addresses().filter(lambda address: not address.is_unspecified and not address.is_multicast).map(str)
TEXTS = st.text(max_size=50).filter(str.isprintable)
INSTANCES = st.builds(
    Instance,
    host=ADDRESSES,
    port=st.integers(1, 65_535),
    name=st.none() | st.from_regex(NAME, fullmatch=True),
    weight=st.none() | st.sampled_from(WEIGHT_RANGE),
    haproxy_server_options=st.none() | TEXTS.filter(bool),
    labels=st.dictionaries(TEXTS, TEXTS, max_size=8).map(lambda labels: tuple(sorted(labels.items()))),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
KEYS = ("host", "port", "name", "weight", "haproxy_server_options", "labels")
NEARLY_GOOD = st.fixed_dictionaries(
    {"host": ADDRESSES | JSON, "port": st.integers(-1, 70_000) | JSON}, optional=dict.fromkeys(KEYS[2:], JSON)
)


@given(INSTANCES)
def test_an_instance_survives_the_registry(instance: Instance) -> None:
    """What is written is what is read, by the payload and by a name that carries it."""
    assert decode(encode(instance)) == instance
    name = encoded_node_name(instance)
    assert name is not None
    carried = payload_in_name(name)
    assert carried is not None
    assert decode(carried) == instance


@given(st.binary(max_size=300) | JSON.map(json.dumps).map(str.encode) | NEARLY_GOOD.map(json.dumps).map(str.encode))
@example(b'{"host":"10.0.0.5","port":8080,"labels":{"\\ud800":"\\udc00"}}')
@example(b'{"host":"\\ud800","port":8080}')
@example(b'{"host":"10.0.0.5","port":8080,"labels":{"a":NaN}}')
@example(b'{"host":"10.0.0.5","port":8080,"weight":1e999}')
def test_whatever_comes_is_an_instance_of_the_safe_alphabet_or_a_reason(data: bytes) -> None:
    """`decode` never raises, and what it lets through can be written to HAProxy as it is."""
    answer = decode(data)
    if isinstance(answer, str):
        assert answer.isascii() and answer.isprintable() and 0 < len(answer) < 200
        return
    assert str(ipaddress.ip_address(answer.host)) == answer.host
    assert 1 <= answer.port <= 65_535
    assert answer.name is None or NAME.fullmatch(answer.name)
    assert answer.weight is None or answer.weight in WEIGHT_RANGE
    assert answer.haproxy_server_options is None or answer.haproxy_server_options.isprintable()
    assert all(key.isprintable() and value.isprintable() for key, value in answer.labels)
    assert list(answer.labels) == sorted(answer.labels)
    # What was let in can be sent on, and is then the same.
    assert decode(encode(answer)) == answer


@pytest.mark.parametrize(
    ("instance", "name", "address"),
    [
        pytest.param(SMALLEST, "10.0.0.5_0000008080", "10.0.0.5:8080", id="IPv4"),
        pytest.param(Instance(host="2001:db8::1", port=1), "2001:db8::1_0000000001", "[2001:db8::1]:1", id="IPv6"),
    ],
)
def test_a_node_is_named_by_its_address(instance: Instance, name: str, address: str) -> None:
    """One address, one node: nothing else of the instance changes the name, which ends like Airbnb's."""
    weighted = Instance(host=instance.host, port=instance.port, name="other", weight=3)
    assert node_name(instance) == node_name(weighted) == name
    assert instance.address == address
    assert sequence_in_name(name) == instance.port


def test_a_name_that_carries_its_payload_has_airbnbs_form() -> None:
    """`base64_<length>_<urlsafe base64 with its padding>_<10 digits>`."""
    text = base64.urlsafe_b64encode(encode(SMALLEST)).decode()
    assert encoded_node_name(SMALLEST) == f"base64_{len(text)}_{text}_0000008080"


def test_a_payload_too_long_for_a_name_makes_none() -> None:
    """Beyond Airbnb's limit the payload is in the node's data only."""
    labels = tuple((f"{number:02}", "x" * 1000) for number in range(60))
    instance = Instance(host="10.0.0.5", port=8080, labels=labels)
    assert len(encode(instance)) < PAYLOAD_LIMIT
    assert encoded_node_name(instance) is None


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        pytest.param("base64_4_aGk=_0000000001", b"hi", id="with a sequence"),
        pytest.param("base64_4_aGk=", b"hi", id="without a sequence"),
        pytest.param("base64_4_aGk=_-2147483648", b"hi", id="with a sequence that ran over"),
        pytest.param("base64_3_aGk_0000000001", None, id="without its padding"),
        pytest.param("base64_4_-_8=_0000000001", b"\xfb\xff", id="with the letters of URLs"),
        pytest.param("base64_0__0000000001", b"", id="nothing in it"),
        pytest.param("base64_5_aGk=_0000000001", None, id="another length"),
        pytest.param("base64_4_aG+=_0000000001", None, id="letters of the other base64"),
        pytest.param("base64_4_=aGk_0000000001", None, id="padding in front"),
        pytest.param("base64_x_aGk=_0000000001", None, id="no length"),
        pytest.param("base64_4_aGk=_12", None, id="too short a sequence"),
        pytest.param("web_0000000001", None, id="an ordinary name"),
        pytest.param("", None, id="no name"),
    ],
)
def test_a_payload_is_found_in_a_name_or_the_node_is_read(node: str, expected: bytes | None) -> None:
    """A name that is not wholly of the form carries nothing, and the node itself has to be read."""
    assert payload_in_name(node) == expected


@given(st.text(max_size=60) | st.from_regex(r"base64_\d{1,6}_[A-Za-z0-9_=-]{0,20}(_\d{10})?", fullmatch=True))
def test_no_name_breaks_a_reader(node: str) -> None:
    """Any child name is taken, whoever made it."""
    carried = payload_in_name(node)
    assert carried is None or isinstance(decode(carried), Instance | str)
    assert isinstance(sequence_in_name(node), int)
    assert printable(node).isascii() and printable(node).isprintable() and len(printable(node)) <= 80


@pytest.mark.parametrize(
    ("node", "sequence"),
    [
        pytest.param("web_0000000012", 12, id="Airbnb's"),
        pytest.param("base64_4_aGk=_0000000007", 7, id="with a payload"),
        pytest.param("web_-2147483648", -2147483648, id="one that ran over"),
        pytest.param("web_12", 0, id="too few digits"),
        pytest.param("web", 0, id="none"),
    ],
)
def test_the_newer_of_two_nodes_is_told_by_its_sequence(node: str, sequence: int) -> None:
    """Ten digits at the end are the sequence; a name without them has none."""
    assert sequence_in_name(node) == sequence
