"""ZooKeeper's wire format, as far as a simulated host needs it beyond `smartstack.registry.zookeeper.wire`. Pure.

The requests themselves are the product's own: what a simulated host asks is byte for byte what a daemon asks. Here are
the frames around them, and a reading of the large answers that only looks at what a simulation has to know.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from kazoo.protocol.serialization import Connect

from smartstack.registry.zookeeper.wire import Request

EVENT_XID: Final = -1
PING_XID: Final = -2
PING_TYPE: Final = 11
CLOSE_TYPE: Final = -11
NO_NODE: Final = -101

_LENGTH: Final = struct.Struct("!i")
_REQUEST_HEAD: Final = struct.Struct("!iii")
_ANSWER_HEAD: Final = struct.Struct("!iqi")
_PART_HEAD: Final = struct.Struct("!i?i")
_STAT_BYTES: Final = 68
_NO_PASSWORD: Final = bytes(16)

ANSWER_HEAD_BYTES: Final = _ANSWER_HEAD.size
PING: Final = _REQUEST_HEAD.pack(8, PING_XID, PING_TYPE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A session as the server gave it: whoever shows id and password goes on with it."""

    session: int = 0
    password: bytes = _NO_PASSWORD
    timeout_seconds: float = 0.0


def connect(grant: Grant, last_zxid: int, timeout_seconds: float) -> bytes:
    """The first frame of a connection: go on with this session, or begin one where it is `Grant()`."""
    body = Connect(0, last_zxid, int(timeout_seconds * 1000), grant.session, grant.password, False).serialize()
    return _LENGTH.pack(len(body)) + bytes(body)


def read_grant(frame: bytes) -> Grant | None:
    """The answer to `connect`; None says that the session has expired."""
    answer, _ = Connect.deserialize(frame, 0)
    if answer.time_out <= 0:
        return None
    return Grant(session=answer.session_id, password=answer.passwd, timeout_seconds=answer.time_out / 1000)


def request(xid: int, asked: Request) -> bytes:
    """A request as a frame."""
    return _REQUEST_HEAD.pack(8 + len(asked.body), xid, asked.type) + asked.body


def close(xid: int) -> bytes:
    """The frame that ends a session."""
    return _REQUEST_HEAD.pack(8, xid, CLOSE_TYPE)


def frames(data: bytes) -> Iterator[tuple[int, int]]:
    """Where each whole frame in this data begins, after its length, and ends."""
    offset, end = 0, len(data)
    while end - offset >= _LENGTH.size:
        (length,) = _LENGTH.unpack_from(data, offset)
        start = offset + _LENGTH.size
        if end - start < length:
            return
        offset = start + length
        yield start, offset


def answer_head(data: bytes, offset: int) -> tuple[int, int, int]:
    """The head of an answer: the number of its request, the last transaction, and the error or 0."""
    xid, zxid, error = _ANSWER_HEAD.unpack_from(data, offset)
    return xid, zxid, error


def errors_in_data(body: bytes) -> list[int]:
    """The answer to several `get`s as one request: the error of each, 0 where there is data."""
    found: list[int] = []
    offset = 0
    while True:
        kind, last, error = _PART_HEAD.unpack_from(body, offset)
        offset += _PART_HEAD.size
        if last:
            return found
        found.append(error)
        (length,) = _LENGTH.unpack_from(body, offset)
        offset += _LENGTH.size + (0 if kind == -1 else max(0, length) + _STAT_BYTES)


def names_in_lists(body: bytes) -> list[list[bytes]]:
    """The answer to several `children` as one request: the names in each, none where there is an error."""
    found: list[list[bytes]] = []
    offset = 0
    while True:
        kind, last, _error = _PART_HEAD.unpack_from(body, offset)
        offset += _PART_HEAD.size
        if last:
            return found
        if kind == -1:
            found.append([])
            offset += _LENGTH.size
        else:
            names, offset = _names(body, offset)
            found.append(names)


def names(body: bytes) -> list[bytes]:
    """The answer to one `children`."""
    return _names(body, 0)[0]


def _names(body: bytes, offset: int) -> tuple[list[bytes], int]:
    (count,) = _LENGTH.unpack_from(body, offset)
    offset += _LENGTH.size
    found = []
    for _ in range(count):
        (length,) = _LENGTH.unpack_from(body, offset)
        offset += _LENGTH.size
        found.append(body[offset : offset + length])
        offset += length
    return found, offset
