"""Paths and bytes of the ZooKeeper registry, without a server."""

import struct

import pytest
from kazoo.exceptions import NoNodeError, ZookeeperError

from smartstack.registry.zookeeper import paths, wire
from smartstack.registry.zookeeper.wire import Event, EventKind

ABSOLUTE = [
    ("/smartstack", "services/web", "/smartstack/services/web"),
    ("", "services/web", "/services/web"),
    ("/smartstack", "/nerve/services/web/services", "/nerve/services/web/services"),
    ("/smartstack", "/nerve/", "/nerve"),
    ("/smartstack", "/", "/"),
]


@pytest.mark.parametrize(("root", "path", "expected"), ABSOLUTE)
def test_a_path_is_below_the_root_unless_it_begins_with_a_slash(root: str, path: str, expected: str) -> None:
    """`registry_path` may name a place of another fleet's."""
    assert paths.absolute(root, path) == expected


@pytest.mark.parametrize("path", ["/a", "/a/b", "/a/b/c d"])
def test_split_is_the_reverse_of_join(path: str) -> None:
    """Also directly below the tree's root."""
    assert paths.join(*paths.split(path)) == path


def test_ancestors_are_named_from_the_top() -> None:
    """In the order in which they have to be made."""
    assert paths.ancestors("/a/b/c") == ["/a", "/a/b"]
    assert paths.ancestors("/a") == []


def event(kind: int, path: bytes) -> bytes:
    return struct.pack("!iii", kind, 3, len(path)) + path


EVENTS = {
    "created": (event(1, b"/a/b"), Event(EventKind.CREATED, "/a/b")),
    "deleted": (event(2, b"/a/b"), Event(EventKind.DELETED, "/a/b")),
    "changed": (event(3, b"/a/b"), Event(EventKind.CHANGED, "/a/b")),
    "children": (event(4, "/ä".encode()), Event(EventKind.CHILDREN, "/ä")),
    "a kind of a later version": (event(9, b"/a"), None),
    "no kind": (event(-1, b""), None),
    "not UTF-8": (event(1, b"/a\xed\xa0\x80"), Event(EventKind.CREATED, "/a\ufffd\ufffd\ufffd")),
    "no path": (struct.pack("!iii", 1, 3, -1), Event(EventKind.CREATED, "")),
}


@pytest.mark.parametrize(("message", "expected"), EVENTS.values(), ids=EVENTS.keys())
def test_an_event_is_read_or_passed_over(message: bytes, expected: Event | None) -> None:
    """Whatever a server sends, reading it raises nothing: it happens on the thread that holds the connection."""
    assert wire.read_event(b"head" + message, 4) == expected


def part(kind: int, body: bytes, *, error: int = 0) -> bytes:
    return struct.pack("!i?i", kind, False, error) + body


STAT = struct.pack("!qqqqiiiqiiq", 7, 8, 0, 0, 0, 0, 0, 0, 3, 0, 8)
END = struct.pack("!i?i", -1, True, -1)


def test_several_reads_in_one_request() -> None:
    """Opcode 22 (org.apache.zookeeper.ZooDefs.OpCode.multiRead): each question behind a head, and a last head; each
    part of the answer is that of its question, or why there is none."""
    asked = [wire.get("/a", watch=False), wire.children("/b", watch=False), wire.get("/c", watch=False)]
    request = wire.read_together(asked)
    assert (request.type, request.path) == (22, "/a")
    minus = struct.pack("!i?i", 4, False, -1)
    assert request.serialize().startswith(minus + struct.pack("!i", 2) + b"/a\0")
    assert request.serialize().endswith(END)
    names = struct.pack("!ii", 2, 1) + b"x" + struct.pack("!i", 2) + b"yz"
    answer = part(4, struct.pack("!i", 3) + b"abc" + STAT) + part(8, names)
    answer += part(-1, struct.pack("!i", -101), error=-101) + END
    (data, stat), listed, error = request.deserialize(b"head" + answer, 4)
    assert (data, stat.czxid, listed) == (b"abc", 7, ["x", "yz"])
    assert isinstance(error, NoNodeError)
    unknown = part(-1, struct.pack("!i", -9999), error=-9999) * 3 + END
    assert all(type(each) is ZookeeperError for each in request.deserialize(unknown, 0))


NO_NAMES = struct.pack("!i", 0)
NO_ANSWERS = {
    "nothing": b"",
    "the end at once": END,
    "data where names were asked for": part(4, struct.pack("!i", 0) + STAT) * 2,
    "names without their end": part(8, struct.pack("!i", 3)),
    "names where data was asked for": part(8, NO_NAMES) * 2,
    "a part too few": part(8, NO_NAMES) + END,
}


@pytest.mark.parametrize("answer", NO_ANSWERS.values(), ids=NO_ANSWERS)
def test_an_answer_that_is_no_answer(answer: bytes) -> None:
    """Parts of another kind, too few of them, or none: an error that the link knows, whatever the server sends."""
    request = wire.read_together([wire.children("/a", watch=False), wire.get("/b", watch=False)])
    with pytest.raises((ValueError, struct.error)):
        request.deserialize(answer, 0)


def test_the_bytes_of_a_recursive_watch() -> None:
    """Opcode 106, the path, mode 1 (org.apache.zookeeper.ZooDefs.AddWatchModes.persistentRecursive)."""
    request = wire.add_watch("/a")
    assert request.type == 106
    assert request.serialize() == struct.pack("!i2si", 2, b"/a", 1)
