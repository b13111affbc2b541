"""Writes to a registry directory, and holds what it wrote: an open, locked file says that its owner lives."""

import contextlib
import errno
import os
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from smartstack.errors import RegistryError, RegistryRefused, RegistryUnavailable
from smartstack.files import FileWatch
from smartstack.forms import DirectoryUrl
from smartstack.registry.directory import changes
from smartstack.registry.directory.layout import (
    file_name,
    has_owner,
    is_leftover,
    open_file,
    read_payload,
    service_directory,
)
from smartstack.registry.protocol import HeldNode, LinkStatus, NodeId, Ring

SWEEP_SECONDS = 300.0
"""How often the leftovers of dead writers are removed from the directories that this one writes to."""

_ATTEMPTS = 3
_NO_USE_TO_REPEAT = {
    errno.EACCES: "let user id {user} write there",
    errno.EPERM: "let user id {user} write there",
    errno.EROFS: "mount it writable",
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "free some space there",
    errno.EFBIG: "raise this process's limit of file sizes",
    errno.EMFILE: "raise this process's limit of open files: each registered instance needs one",
    errno.ENFILE: "raise this machine's limit of open files",
    errno.EEXIST: "move away the file that stands where a directory should be",
    errno.ENOTDIR: "move away the file that stands where a directory should be",
    errno.EISDIR: "move away the directory that stands where a file should be",
    errno.ENOTEMPTY: "move away the directory that stands where a file should be",
    errno.ELOOP: "repair the symbolic links on that path",
    errno.ENAMETOOLONG: "choose a shorter path",
}

_Place = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Owned:
    """A file of ours: open, locked, and known by its inode."""

    node: NodeId
    descriptor: int
    inode: tuple[int, int]
    payload: bytes
    stamp: tuple[int, int]


class DirectoryWriter:
    """See `RegistryWriter`. Lives as long as its process: a child that was forked and runs no other program would
    keep the files locked after its parent's death."""

    def __init__(self, url: DirectoryUrl) -> None:
        self._root = os.path.abspath(url.path)
        self._watch: FileWatch | None = None
        self._owned: dict[_Place, _Owned] = {}
        self._swept: dict[str, float] = {}
        self._requests = 0
        self._connected = False
        self._since = time.time()
        self._detail = f"registry directory {self._root} was not opened yet"

    def start(self, ring: Ring) -> None:
        """Make the directory if it is missing. Raises RegistryRefused when it cannot be made or written to."""
        try:
            os.makedirs(self._root, exist_ok=True)
            with changes.open_directory(self._root) as opened:
                changes.prove_writable(opened)
        except OSError as error:
            raise RegistryRefused(_text("keep a registry", self._root, error)) from error
        self._watch = FileWatch(ring)
        self._watch.watch(())
        self._note(None)

    def held(self, candidates: Collection[NodeId]) -> Mapping[NodeId, HeldNode]:
        """See `RegistryWriter.held`. A dead writer's leftover counts as nothing, as it does for readers."""
        found: dict[NodeId, HeldNode] = {}
        with self._reporting("look at what is registered", self._root, refusal=RegistryUnavailable):
            for place, owned in list(self._owned.items()):
                status = _status(place)
                if status is None or (status.st_dev, status.st_ino) != owned.inode:
                    self._let_go(place)
                    continue
                same = (status.st_size, status.st_mtime_ns) == owned.stamp
                payload = owned.payload if same else read_payload(owned.descriptor)
                found[owned.node] = HeldNode(payload=payload, mine=True)
            for node in candidates:
                if node not in found and (foreign := self._foreign(node)) is not None:
                    found[node] = foreign
            self._sweep_now_and_then()
        return found

    def put(self, node: NodeId, payload: bytes, *, instead_of: NodeId | None = None) -> None:
        """See `RegistryWriter.put`. A file is replaced by renaming another, already locked one over it."""
        place = self._place(node)
        with self._reporting(f"register {node.node}", place[0]):
            self._listen_to(place[0])
            if not self._stands(place, payload):
                self._write(place, node, payload)
        if instead_of is not None and self._place(instead_of) != place:
            self.remove(instead_of)

    def remove(self, node: NodeId) -> None:
        """See `RegistryWriter.remove`."""
        place = self._place(node)
        owned = self._owned.get(place)
        if owned is None:
            return
        with self._reporting(f"remove {node.node}", place[0]):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError), changes.locked(place[0]) as opened:
                changes.remove(opened, place[1], owned.inode)
            self._let_go(place)

    def status(self) -> LinkStatus:
        watch, detail = self._watch, self._detail
        return LinkStatus(
            connected=self._connected,
            detail="; ".join(filter(None, (detail, watch.blind if watch else None))),
            since=self._since,
            session=None,
            counters={
                "requests": self._requests,
                "events": watch.events if watch else 0,
                "reconnects": 0,
                "sessions": 0,
            },
        )

    def stop(self, *, leave: bool = False) -> None:
        """See `RegistryWriter.stop`. What cannot be removed is let go of, so counts for nothing. `leave` makes no
        difference: nodes live by locks, which die with the process."""
        if self._watch is not None:
            self._watch.stop()
            self._watch = None
        for place, owned in list(self._owned.items()):
            with contextlib.suppress(RegistryError):
                self.remove(owned.node)
            self._let_go(place)
        self._connected, self._since, self._detail = False, time.time(), "stopped"

    def _place(self, node: NodeId) -> _Place:
        return service_directory(self._root, node.path), file_name(node.node)

    def _stands(self, place: _Place, payload: bytes) -> bool:
        """Whether this very file of ours is there, with this payload, untouched."""
        owned, status = self._owned.get(place), _status(place)
        return (
            owned is not None
            and status is not None
            and owned.payload == payload
            and owned.inode == (status.st_dev, status.st_ino)
            and owned.stamp == (status.st_size, status.st_mtime_ns)
        )

    def _write(self, place: _Place, node: NodeId, payload: bytes) -> None:
        directory, name = place
        for attempt in range(1, _ATTEMPTS + 1):
            os.makedirs(directory, exist_ok=True)
            try:
                with changes.locked(directory) as opened:
                    if directory not in self._swept:
                        self._sweep(directory, opened)
                    descriptor = changes.replace(opened, name, payload)
                break
            except FileNotFoundError:  # somebody removed the directory while we were at it
                if attempt == _ATTEMPTS:
                    raise
        status, before = os.fstat(descriptor), self._owned.get(place)
        self._owned[place] = _Owned(
            node=node,
            descriptor=descriptor,
            inode=(status.st_dev, status.st_ino),
            payload=payload,
            stamp=(status.st_size, status.st_mtime_ns),
        )
        if before is not None:
            os.close(before.descriptor)
        self._requests += 1

    def _let_go(self, place: _Place) -> None:
        """Close a file of ours, which is gone, replaced or given up; the last of a directory ends its watch."""
        owned = self._owned.pop(place, None)
        if owned is not None:
            os.close(owned.descriptor)
            self._listen_to()

    def _listen_to(self, *more: str) -> None:
        if self._watch is not None:
            self._watch.watch({directory for directory, _ in self._owned}.union(more))

    def _foreign(self, node: NodeId) -> HeldNode | None:
        """What somebody else has at this place. What is no file with a payload is there with an empty one."""
        try:
            directory, name = self._place(node)
        except RegistryRefused:
            return None  # nothing can be there; `put` will say why
        try:
            with changes.open_directory(directory) as opened:
                descriptor = open_file(name, opened)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if isinstance(descriptor, str):
            return HeldNode(payload=b"", mine=False)
        try:
            payload = read_payload(descriptor)
            dead = not has_owner(descriptor) and is_leftover(payload)
        finally:
            os.close(descriptor)
        return None if dead else HeldNode(payload=payload, mine=False)

    def _sweep_now_and_then(self) -> None:
        now = time.monotonic()
        for directory in {directory for directory, _ in self._owned}:
            if now - self._swept.get(directory, now) > SWEEP_SECONDS:
                with contextlib.suppress(OSError, RegistryUnavailable), changes.locked(directory) as opened:
                    self._sweep(directory, opened)

    def _sweep(self, directory: str, opened: int) -> None:
        self._swept[directory] = time.monotonic()
        changes.sweep(opened)

    @contextlib.contextmanager
    def _reporting(self, action: str, where: str, *, refusal: type[RegistryError] = RegistryRefused) -> Iterator[None]:
        """Turn what the machine says into a sentence, and keep it for `status`."""
        try:
            yield
        except OSError as error:
            kind = refusal if error.errno in _NO_USE_TO_REPEAT else RegistryUnavailable
            self._note(failure := kind(_text(action, where, error)))
            raise failure from error
        except RegistryError as failure:
            self._note(failure)
            raise
        self._note(None)

    def _note(self, failure: RegistryError | None) -> None:
        connected = failure is None
        if connected != self._connected:
            self._connected, self._since = connected, time.time()
        self._detail = f"writing to {self._root}" if failure is None else str(failure)


def _text(action: str, where: str, error: OSError) -> str:
    advice = _NO_USE_TO_REPEAT.get(error.errno or 0, "it will be tried again")
    return f"cannot {action} in {where}: {error.strerror}; {advice.format(user=os.geteuid())}"


def _status(place: _Place) -> os.stat_result | None:
    try:
        return os.stat("/".join(place), follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None
