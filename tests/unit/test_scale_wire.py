"""The frames of the simulated hosts, held against what the product reads and kazoo writes."""

import struct
from collections.abc import Sequence

import pytest
from kazoo.exceptions import NoNodeError
from kazoo.protocol.serialization import Connect, GetData

from smartstack.registry.zookeeper import wire as product
from tests.bench import scale_wire as wire

STAT = bytes(68)
LAST = struct.pack("!i?i", -1, True, -1)
ABSENT = struct.pack("!i?i", -1, False, wire.NO_NODE) + struct.pack("!i", wire.NO_NODE)


def _text(value: bytes) -> bytes:
    return struct.pack("!i", len(value)) + value


def _data(payload: bytes | None) -> bytes:
    data = struct.pack("!i", -1) if payload is None else _text(payload)
    return struct.pack("!i?i", 4, False, 0) + data + STAT


def _names(*found: bytes) -> bytes:
    return struct.pack("!i?i", 8, False, 0) + struct.pack("!i", len(found)) + b"".join(map(_text, found))


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([], id="nothing"),
        pytest.param([_data(b"{}")], id="data"),
        pytest.param([_data(None), _data(b"")], id="none and empty"),
        pytest.param([_data(b"a"), ABSENT, _data(b"b")], id="one is gone"),
        pytest.param([ABSENT, ABSENT], id="all are gone"),
    ],
)
def test_errors_of_many_reads_are_those_that_the_product_reads(parts: Sequence[bytes]) -> None:
    """0 where the product finds data, NoNode where it finds that error."""
    body = b"".join([*parts, LAST])
    found = wire.errors_in_data(body)
    assert len(found) == len(parts)
    if parts:
        asked = product.read_together([product.get("/a", watch=False)] * len(parts))
        answers = asked.deserialize(body, 0)
        assert [isinstance(each, NoNodeError) for each in answers] == [each == wire.NO_NODE for each in found]


def test_names_of_many_lists_are_those_that_the_product_reads() -> None:
    """An absent service is an empty list."""
    body = b"".join([_names(b"x", b"yy"), ABSENT, _names(), LAST])
    asked = product.read_together([product.children("/a", watch=False)] * 3)
    first, absent, empty = asked.deserialize(body, 0)
    assert wire.names_in_lists(body) == [[b"x", b"yy"], [], []]
    assert (first, type(absent), empty) == (["x", "yy"], NoNodeError, [])
    assert wire.names(_names(b"x")[9:]) == [b"x"]


@pytest.mark.parametrize("cut", range(20))
def test_a_frame_is_taken_only_when_it_is_whole(cut: int) -> None:
    """However the stream is cut, frames come out whole and in order, and the rest is left."""
    data = wire.request(1, product.get("/a", watch=True)) + wire.close(2)
    cut = min(cut * 2, len(data))
    whole = [data[start:end] for start, end in wire.frames(data)]
    before = list(wire.frames(data[:cut]))
    taken = before[-1][1] if before else 0
    after = [data[taken + start : taken + end] for start, end in wire.frames(data[taken:])]
    assert [data[start:end] for start, end in before] + after == whole
    assert len(whole) == 2


@pytest.mark.parametrize(
    ("frame", "xid", "opcode"),
    [
        pytest.param(wire.request(7, product.get("/a", watch=True)), 7, GetData.type, id="request"),
        pytest.param(wire.close(8), 8, -11, id="close"),
        pytest.param(wire.PING, -2, 11, id="ping"),
    ],
)
def test_a_frame_says_its_length_number_and_kind(frame: bytes, xid: int, opcode: int) -> None:
    """As the server reads it."""
    assert struct.unpack_from("!iii", frame) == (len(frame) - 4, xid, opcode)


def _granted(seconds: int) -> bytes:
    return struct.pack("!iiq", 0, seconds * 1000, 77) + _text(b"p" * 16) + b"\0"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        pytest.param(10, wire.Grant(session=77, password=b"p" * 16, timeout_seconds=10.0), id="granted"),
        pytest.param(0, None, id="expired"),
    ],
)
def test_a_session_is_granted_or_has_expired(seconds: int, expected: wire.Grant | None) -> None:
    """A time-out of 0 is how the server says that a session is over."""
    assert wire.read_grant(_granted(seconds)) == expected


def test_a_session_is_asked_for_as_kazoo_does() -> None:
    """With the last transaction seen, so that no server that is behind takes us."""
    grant = wire.Grant(session=77, password=b"p" * 16)
    frame = wire.connect(grant, 5, 10.0)
    assert struct.unpack_from("!i", frame) == (len(frame) - 4,)
    assert bytes(frame[4:]) == bytes(Connect(0, 5, 10_000, 77, b"p" * 16, False).serialize())
