"""Paths and bytes of the ZooKeeper registry, without a server."""

import struct

import pytest

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


def test_the_bytes_of_a_recursive_watch() -> None:
    """Opcode 106, the path, mode 1 (org.apache.zookeeper.ZooDefs.AddWatchModes.persistentRecursive)."""
    request = wire.add_watch("/a")
    assert request.type == 106
    assert request.serialize() == struct.pack("!i2si", 2, b"/a", 1)
