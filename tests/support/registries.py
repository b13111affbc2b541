"""Registries for tests: each kind behind one face, and one that lives in memory and can be told to misbehave.

`RegistryUnderTest` is what the contract suite runs on. A new kind is a subclass with five short methods and an entry
in KINDS.
"""

import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest
from kazoo.client import KazooClient

from smartstack.errors import RegistryRefused, RegistryUnavailable
from smartstack.forms import DirectoryUrl, ZooKeeperUrl
from smartstack.instance import decode, payload_in_name, printable
from smartstack.registry.directory import DirectoryReader, DirectoryWriter
from smartstack.registry.directory.layout import file_name, service_directory
from smartstack.registry.protocol import (
    HeldNode,
    LinkStatus,
    Listing,
    NodeId,
    Record,
    Refused,
    RegistryReader,
    RegistryWriter,
    Ring,
    Unknown,
)
from smartstack.registry.zookeeper import ZooKeeperReader, ZooKeeperWriter
from tests.support.zookeeper_links import abandon

End = TypeVar("End", RegistryReader, RegistryWriter)


class Bell:
    """A ring callback that a test can ask whether it rang."""

    def __init__(self) -> None:
        self.rings = 0
        self._last = time.monotonic()

    def ring(self) -> None:
        self.rings += 1
        self._last = time.monotonic()

    def silent_for(self, seconds: float) -> bool:
        """Whether it has not rung for so long: before a test waits for a ring, the echoes of earlier ones are over."""
        return time.monotonic() - self._last >= seconds


class RegistryUnderTest(ABC):
    """One registry, empty at first, with any number of readers and writers and what others do to it."""

    def __init__(self) -> None:
        self._ends: list[RegistryReader | RegistryWriter] = []

    @abstractmethod
    def new_reader(self) -> RegistryReader:
        """A reader, not started."""

    @abstractmethod
    def new_writer(self) -> RegistryWriter:
        """A writer, not started."""

    @abstractmethod
    def inject(self, path: str, node: str, payload: bytes) -> None:
        """Somebody else, who lives, puts these very bytes there."""

    @abstractmethod
    def delete(self, path: str, node: str) -> None:
        """Somebody else removes a node, whoever owns it."""

    @abstractmethod
    def kill(self, writer: RegistryWriter) -> None:
        """The writer's end as the registry sees it when its process is killed."""

    def make_reader(self, ring: Ring = lambda: None) -> RegistryReader:
        """A reader that is started, and stopped at the end of the test."""
        return self._begin(self.new_reader(), ring)

    def make_writer(self, ring: Ring = lambda: None) -> RegistryWriter:
        """A writer that is started, and stopped at the end of the test."""
        return self._begin(self.new_writer(), ring)

    def _begin(self, end: End, ring: Ring) -> End:
        self._ends.append(end)
        end.start(ring)
        return end

    def close(self) -> None:
        for end in self._ends:
            end.stop()


class DirectoryUnderTest(RegistryUnderTest):
    """`file:` in a temporary directory."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root
        self.url = DirectoryUrl(str(root))
        self._other = DirectoryWriter(self.url)
        self._ends.append(self._other)
        self._other.start(lambda: None)

    def new_reader(self) -> RegistryReader:
        return DirectoryReader(self.url)

    def new_writer(self) -> RegistryWriter:
        return DirectoryWriter(self.url)

    def place(self, path: str, node: str) -> Path:
        """Where the file of a node is."""
        return Path(service_directory(str(self.root), path), file_name(node))

    def inject(self, path: str, node: str, payload: bytes) -> None:
        self._other.put(NodeId(path=path, node=node), payload)

    def delete(self, path: str, node: str) -> None:
        self.place(path, node).unlink()

    def kill(self, writer: RegistryWriter) -> None:
        """Does to its files what the kernel does when a process ends: closes them. Its descriptors stay valid, so
        that it can be stopped later and does not close anybody else's."""
        files = [self.place(node.path, node.node) for node, held in writer.held(()).items() if held.mine]
        with open(os.devnull, "rb") as null:
            for number in os.listdir("/proc/self/fd"):
                with suppress(OSError):
                    if any(os.path.samefile(f"/proc/self/fd/{number}", file) for file in files):
                        os.dup2(null.fileno(), int(number), inheritable=False)


@dataclass(frozen=True, slots=True)
class _Node:
    payload: bytes
    owner: "MemoryWriter | None"
    version: int


class MemoryRegistry:
    """A registry in memory, for tests of what uses one. Its ends keep the contract, as the contract suite proves.

    `unavailable` and `refusing` hold a reason, or None while all is well. `journal` is every successful change, in
    order: ("put", node) or ("remove", node).
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.nodes: dict[NodeId, _Node] = {}
        self.ends: list[MemoryReader | MemoryWriter] = []
        self.refusing: str | None = None
        self.journal: list[tuple[str, NodeId]] = []
        self._unavailable: tuple[str, float] | None = None
        self._versions = 0

    def reader(self) -> "MemoryReader":
        return MemoryReader(self)

    def writer(self) -> "MemoryWriter":
        return MemoryWriter(self)

    @property
    def unavailable(self) -> str | None:
        return self._unavailable[0] if self._unavailable else None

    @unavailable.setter
    def unavailable(self, reason: str | None) -> None:
        with self.lock:
            self._unavailable = None if reason is None else (reason, time.time())
            for end in list(self.ends):
                end.link_changed(connected=reason is None)

    @property
    def unavailable_since(self) -> float:
        return self._unavailable[1] if self._unavailable else 0.0

    def inject(self, path: str, node: str, payload: bytes) -> None:
        """A foreign node, hostile or not."""
        self.set(NodeId(path=path, node=node), payload, None)

    def delete(self, path: str, node: str) -> None:
        self.set(NodeId(path=path, node=node), None, None)

    def expire(self, writer: "MemoryWriter") -> None:
        """The writer's session ends and it gets a new one: its nodes are gone."""
        for node in [node for node, there in self.nodes.items() if there.owner is writer]:
            self.set(node, None, None)
        writer.renew_session()

    def set(self, node: NodeId, payload: bytes | None, owner: "MemoryWriter | None") -> None:
        """Make a node be so, and ring whoever watches it."""
        with self.lock:
            before = self.nodes.pop(node, None)
            if payload is not None:
                self._versions += 1
                self.nodes[node] = _Node(payload, owner, self._versions)
            for end in list(self.ends):
                if end.watches(node) or (isinstance(end, MemoryWriter) and before is not None and before.owner is end):
                    end.ring()


class _MemoryEnd:
    """What both ends have: a bell, a link, counters."""

    def __init__(self, registry: MemoryRegistry, session: str | None) -> None:
        self._registry = registry
        self._bell: Ring = lambda: None
        self._session = session
        self._since = time.time()
        self._counters = {"requests": 0, "events": 0, "reconnects": 0, "sessions": 1}

    def ring(self) -> None:
        self._counters["events"] += 1
        self._bell()

    def link_changed(self, *, connected: bool) -> None:
        self._since = time.time()
        self._counters["reconnects"] += connected
        self._bell()

    def status(self) -> LinkStatus:
        reason = self._registry.unavailable
        return LinkStatus(
            connected=reason is None,
            detail=reason or "connected to memory",
            since=self._since,
            session=self._session,
            counters=dict(self._counters),
        )


class MemoryReader(_MemoryEnd):
    """See `RegistryReader`."""

    def __init__(self, registry: MemoryRegistry) -> None:
        super().__init__(registry, None)
        self._answers: dict[str, Listing | Unknown] = {}

    def start(self, ring: Ring) -> None:
        self._bell = ring
        self._registry.ends.append(self)

    def watches(self, node: NodeId) -> bool:
        return node.path in self._answers

    def read(self, paths: Collection[str]) -> Mapping[str, Listing | Unknown]:
        with self._registry.lock:
            before, self._answers = self._answers, {}
            for path in paths:
                now = self._look(path)
                self._answers[path] = before[path] if before.get(path) == now else now
            return dict(self._answers)

    def _look(self, path: str) -> Listing | Unknown:
        if (reason := self._registry.unavailable) is not None:
            return Unknown(reason=reason, since=self._registry.unavailable_since)
        self._counters["requests"] += 1
        records, refused = [], []
        for node, there in sorted(self._registry.nodes.items(), key=lambda item: item[0].node):
            if node.path != path:
                continue
            in_name = payload_in_name(node.node)
            instance = decode(there.payload if in_name is None else in_name)
            if isinstance(instance, str):
                refused.append(Refused(node=printable(node.node), reason=instance))
            else:
                records.append(Record(node=node.node, instance=instance, version=there.version))
        return Listing(records=tuple(records), refused=tuple(refused))

    def stop(self) -> None:
        if self in self._registry.ends:
            self._registry.ends.remove(self)


class MemoryWriter(_MemoryEnd):
    """See `RegistryWriter`."""

    def __init__(self, registry: MemoryRegistry) -> None:
        super().__init__(registry, "0x1")
        self._places: set[NodeId] = set()

    def start(self, ring: Ring) -> None:
        self._bell = ring
        self._registry.ends.append(self)

    def watches(self, node: NodeId) -> bool:
        return node in self._places

    def renew_session(self) -> None:
        self._counters["sessions"] += 1
        self._session = hex(self._counters["sessions"])
        self.link_changed(connected=True)

    def held(self, candidates: Collection[NodeId]) -> Mapping[NodeId, HeldNode]:
        with self._registry.lock:
            self._check()
            nodes = self._registry.nodes
            self._places &= nodes.keys()
            places = [node for node in {*candidates, *self._places} if node in nodes]
            held = {
                node: HeldNode(payload=nodes[node].payload, mine=nodes[node].owner is self)
                for node in sorted(places, key=lambda node: (node.path, node.node))
            }
            return {node: there for node, there in held.items() if there.mine or node in candidates}

    def put(self, node: NodeId, payload: bytes, *, instead_of: NodeId | None = None) -> None:
        with self._registry.lock:
            self._check()
            if self._registry.refusing is not None:
                raise RegistryRefused(self._registry.refusing)
            self._places.add(node)
            there = self._registry.nodes.get(node)
            if there is None or there.owner is not self or there.payload != payload:
                self._registry.journal.append(("put", node))
                self._registry.set(node, payload, self)
            if instead_of is not None and instead_of != node:
                self.remove(instead_of)

    def remove(self, node: NodeId) -> None:
        with self._registry.lock:
            self._check()
            there = self._registry.nodes.get(node)
            if there is not None and there.owner is self:
                self._registry.journal.append(("remove", node))
                self._registry.set(node, None, None)

    def stop(self, *, leave: bool = False) -> None:
        with self._registry.lock:
            for node in [node for node, there in self._registry.nodes.items() if there.owner is self and not leave]:
                self._registry.set(node, None, None)
            if self in self._registry.ends:
                self._registry.ends.remove(self)

    def _check(self) -> None:
        if (reason := self._registry.unavailable) is not None:
            raise RegistryUnavailable(reason)
        self._counters["requests"] += 1


class MemoryUnderTest(RegistryUnderTest):
    """`MemoryRegistry`: the fake is held to the contract like the real ones."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = MemoryRegistry()

    def new_reader(self) -> RegistryReader:
        return self.memory.reader()

    def new_writer(self) -> RegistryWriter:
        return self.memory.writer()

    def inject(self, path: str, node: str, payload: bytes) -> None:
        self.memory.inject(path, node, payload)

    def delete(self, path: str, node: str) -> None:
        self.memory.delete(path, node)

    def kill(self, writer: RegistryWriter) -> None:
        assert isinstance(writer, MemoryWriter)
        self.memory.expire(writer)


class ZooKeeperUnderTest(RegistryUnderTest):
    """`zookeeper:` below a root of its own on the common server."""

    def __init__(self, url: ZooKeeperUrl, client: KazooClient) -> None:
        super().__init__()
        self.url = url
        self._client = client
        self._outside: set[str] = set()

    def new_reader(self) -> RegistryReader:
        return _NotingReader(self.url, self._outside)

    def new_writer(self) -> RegistryWriter:
        return ZooKeeperWriter(self.url, session_timeout_seconds=3)

    def inject(self, path: str, node: str, payload: bytes) -> None:
        self._client.create(f"{self.url.root}/{path}/{node}", payload, makepath=True)

    def delete(self, path: str, node: str) -> None:
        self._client.delete(f"{self.url.root}/{path}/{node}")

    def kill(self, writer: RegistryWriter) -> None:
        """Its connection breaks without a word: the server keeps the session, and its nodes, for the time-out."""
        assert isinstance(writer, ZooKeeperWriter)
        abandon(writer)

    def close(self) -> None:
        super().close()
        for path in self._outside:
            self._client.delete("/" + path.split("/")[1], recursive=True)


class _NotingReader(ZooKeeperReader):
    """Notes which paths outside the root were used, so that they can be cleaned."""

    def __init__(self, url: ZooKeeperUrl, outside: set[str]) -> None:
        super().__init__(url, session_timeout_seconds=30)
        self._outside = outside

    def read(self, paths: Collection[str]) -> Mapping[str, Listing | Unknown]:
        self._outside.update(path for path in paths if path.startswith("/"))
        return super().read(paths)


KINDS: dict[str, Callable[[pytest.FixtureRequest], RegistryUnderTest]] = {
    "memory": lambda request: MemoryUnderTest(),
    "directory": lambda request: DirectoryUnderTest(request.getfixturevalue("tmp_path") / "registry"),
    "zookeeper": lambda request: ZooKeeperUnderTest(
        request.getfixturevalue("zookeeper_url"), request.getfixturevalue("zookeeper_client")
    ),
}
