"""Requests and events of ZooKeeper's protocol, as its server (3.5 to 3.9) speaks it.

kazoo sends anything that has a `type`, `serialize` and `deserialize`. Requests of our own are used in place of kazoo's
because kazoo ties a callback to each watch and forgets it at any disconnect; here a watch is a flag in the request, and
every event goes to one place. `addWatch` and `removeWatches` are not in kazoo (opcodes: org.apache.zookeeper.ZooDefs).
"""

import enum
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kazoo.exceptions import EXCEPTIONS, NoAuthError, SessionClosedRequireSaslError, ZookeeperError
from kazoo.protocol.serialization import (
    Create,
    Delete,
    Exists,
    GetChildren,
    GetData,
    Transaction,
    int_struct,
    stat_struct,
    write_string,
)

_REMOVE_WATCHES = 18
MULTI_READ = 22
ADD_WATCH = 106
_PERSISTENT_RECURSIVE = 1
_ANY_WATCHER = 3
_EPHEMERAL = 1
_ANY_VERSION = -1
_PART_HEAD = struct.Struct("!i?i")
_LAST_PART = _PART_HEAD.pack(-1, True, -1)
_EVENT_HEAD = struct.Struct("!iii")


class EventKind(enum.Enum):
    """What happened to a node, by its number in the protocol."""

    CREATED = 1
    DELETED = 2
    CHANGED = 3
    CHILDREN = 4


@dataclass(frozen=True, slots=True)
class Event:
    """A watch was triggered by this node."""

    kind: EventKind
    path: str


@dataclass(frozen=True, slots=True)
class Request:
    """One request: its opcode, the node that it is about, its bytes, and how its answer is read.

    The bytes are made by the caller, so that what cannot be written never reaches kazoo's connection thread.
    """

    type: int
    path: str
    body: bytes
    parse: Callable[[bytes, int], Any]

    def serialize(self) -> bytes:
        """For kazoo."""
        return self.body

    def deserialize(self, buffer: bytes, offset: int) -> Any:
        """For kazoo."""
        return self.parse(buffer, offset)


def get(path: str, *, watch: bool) -> Request:
    """A node's data and stat; NoNodeError when it is not there, and then no watch is set."""
    return Request(GetData.type, path, _path_and_flag(path, watch), GetData.deserialize)


def exists(path: str, *, watch: bool) -> Request:
    """A node's stat, or None; the watch is set in either case."""
    return Request(Exists.type, path, _path_and_flag(path, watch), Exists.deserialize)


def children(path: str, *, watch: bool) -> Request:
    """The names of a node's children; NoNodeError when it is not there, and then no watch is set."""
    return Request(GetChildren.type, path, _path_and_flag(path, watch), GetChildren.deserialize)


def read_together(requests: Sequence[Request]) -> Request:
    """Several `get`s and `children`s without a watch as one request (ZooKeeper 3.6 and later): a tenth of the work.

    Its answer is a list with the answer of each, in this order; a ZookeeperError where that failed.
    """
    parts = [_PART_HEAD.pack(request.type, False, -1) + request.body for request in requests]

    def parse(buffer: bytes, offset: int) -> list[Any]:
        answers: list[Any] = []
        for request in requests:
            kind, last, error = _PART_HEAD.unpack_from(buffer, offset)
            offset += _PART_HEAD.size
            if last or kind not in (request.type, -1):
                raise ValueError("the answer has other parts than the request")
            if kind == -1:
                answers.append(EXCEPTIONS.get(error, ZookeeperError)())
                offset += int_struct.size
            else:
                answers.append(request.parse(buffer, offset))
                offset = _end_of_data(buffer, offset) if kind == GetData.type else _end_of_names(buffer, offset)
        return answers

    return Request(MULTI_READ, requests[0].path, b"".join([*parts, _LAST_PART]), parse)


def add_watch(path: str) -> Request:
    """A watch on this path, there or not, and on all below it, that lasts as long as the connection.

    Servers before 3.6 answer UnimplementedError; those with `watchManagerName=WatchManagerOptimized` MarshallingError.
    """
    return Request(ADD_WATCH, path, _text(path) + int_struct.pack(_PERSISTENT_RECURSIVE), _nothing)


def remove_watches(path: str) -> Request:
    """Take every watch of this connection off this path; NoWatcherError when there is none."""
    return Request(_REMOVE_WATCHES, path, _text(path) + int_struct.pack(_ANY_WATCHER), _nothing)


def create_persistent(path: str, rights: Sequence[Any]) -> Request:
    """An empty node that stays, with this ACL: a service's directory."""
    body = bytes(Create(path, b"", rights, 0).serialize())
    return Request(Create.type, path, body, Create.deserialize)


def delete(path: str) -> Request:
    """The node goes, whatever its version."""
    return Request(Delete.type, path, bytes(Delete(path, _ANY_VERSION).serialize()), _nothing)


def try_create(path: str, rights: Sequence[Any]) -> Request:
    """A node is made in a step that is bound to fail, so that nobody ever sees it and no watch hears of it.

    The answer is a list of two errors: RolledBackError first if the node could have been made, else why not.
    """
    operations = [Create(path, b"", rights, _EPHEMERAL), Delete(f"{path}/none", _ANY_VERSION)]
    return Request(Transaction.type, path, bytes(Transaction(operations).serialize()), Transaction.deserialize)


def put_ephemeral(path: str, payload: bytes, rights: Sequence[Any], *, over: bool, instead_of: str | None) -> Request:
    """Create this ephemeral node, deleting the one that is there (`over`) and then another: all or nothing, one step.

    The answer is a list with one item for each operation, in this order. If it failed, each item is an error, and
    those that are not the cause are RolledBackError or RuntimeInconsistency. The new node comes before the old one
    goes, for a reader that sees the two events apart.
    """
    operations: list[Any] = [Delete(path, _ANY_VERSION)] if over else []
    operations.append(Create(path, payload, rights, _EPHEMERAL))
    if instead_of is not None:
        operations.append(Delete(instead_of, _ANY_VERSION))
    body = bytes(Transaction(operations).serialize())
    return Request(Transaction.type, path, body, Transaction.deserialize)


def read_event(buffer: bytes, offset: int) -> Event | None:
    """The event in a notification, None for a kind that we do not know."""
    kind, _state, length = _EVENT_HEAD.unpack_from(buffer, offset)
    start = offset + _EVENT_HEAD.size
    path = bytes(buffer[start : start + max(0, length)]).decode("utf-8", "replace")
    try:
        return Event(EventKind(kind), path)
    except ValueError:
        return None


def describe(error: Exception) -> str:
    """An answer that is an error, in a few words."""
    if isinstance(error, SessionClosedRequireSaslError):
        return "the server takes only clients that log in with sasl"
    return "no permission" if isinstance(error, NoAuthError) else type(error).__name__.removesuffix("Error")


def _end_of_data(buffer: bytes, offset: int) -> int:
    """Where an answer to `get` ends: after the data, whose length of -1 means none, and the stat."""
    (length,) = int_struct.unpack_from(buffer, offset)
    return offset + int(int_struct.size) + max(0, int(length)) + int(stat_struct.size)


def _end_of_names(buffer: bytes, offset: int) -> int:
    """Where an answer to `children` ends: after so many names, each with its length before it."""
    (count,) = int_struct.unpack_from(buffer, offset)
    offset += int_struct.size
    for _name in range(count):
        (length,) = int_struct.unpack_from(buffer, offset)
        offset += int_struct.size + max(0, length)
    return offset


def _path_and_flag(path: str, flag: bool) -> bytes:
    return _text(path) + bytes([flag])


def _text(value: str) -> bytes:
    return bytes(write_string(value))


def _nothing(_buffer: bytes, _offset: int) -> bool:
    return True
