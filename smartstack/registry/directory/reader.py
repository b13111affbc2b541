"""Reads a registry directory: told by the file watch what changed, and looking for itself now and then."""

import os
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from smartstack.errors import RegistryRefused
from smartstack.files import FileWatch
from smartstack.forms import DirectoryUrl
from smartstack.instance import printable
from smartstack.registry.directory.layout import has_owner, judge, node_of, open_file, read_payload, service_directory
from smartstack.registry.protocol import LinkStatus, Listing, Record, Refused, Ring, Unknown

FULL_PASS_SECONDS = 30.0
"""How often every file is looked at, changed or not: bounds what a lost event can hide."""

_PASSES = 20
_SETTLED_NS = 50_000_000
"""A file younger than this may change again within one tick of its file system's clock, so is read again next time."""

_Fingerprint = tuple[int, int, int, int, int]


class _Moved(Exception):
    """A file was replaced or removed while the directory was being read."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """What one file was worth when it looked like this; `fingerprint` None: it may look the same and differ."""

    worth: Record | Refused | None
    owned: bool = False
    fingerprint: _Fingerprint | None = None


@dataclass(slots=True)
class _Service:
    """What is known of one service's directory."""

    directory: str
    answer: Listing | Unknown
    entries: dict[str, _Entry] = field(default_factory=dict)
    unfinished: bool = True


class DirectoryReader:
    """See `RegistryReader`. Never writes anything, so needs no permission to."""

    def __init__(self, url: DirectoryUrl, *, full_pass_seconds: float = FULL_PASS_SECONDS) -> None:
        self._root = os.path.abspath(url.path)
        self._full_pass_seconds = full_pass_seconds
        self._next_full_pass = 0.0
        self._watch: FileWatch | None = None
        self._services: dict[str, _Service] = {}
        self._counters = {"requests": 0, "events": 0, "reconnects": 0, "sessions": 0}
        self._was_there = False
        self._status = LinkStatus(
            connected=False,
            detail=f"registry directory {self._root} was not read yet",
            since=time.time(),
            session=None,
            counters=dict(self._counters),
        )

    def start(self, ring: Ring) -> None:
        """Raises RegistryRefused when the directory is there and cannot be read; one that is missing may come."""
        try:
            with os.scandir(self._root):
                pass
        except FileNotFoundError:
            pass
        except NotADirectoryError as error:
            raise RegistryRefused(f"cannot read the registry: {self._root} is not a directory") from error
        except OSError as error:
            who = f"let user id {os.geteuid()} read that directory"
            raise RegistryRefused(f"cannot read the registry: {self._root}: {error.strerror}; {who}") from error
        self._watch = FileWatch(ring)
        self._watch.watch(())

    def read(self, paths: Collection[str]) -> Mapping[str, Listing | Unknown]:
        """See `RegistryReader.read`. A missing root is Unknown; a missing service below it is an empty listing."""
        if self._watch is None:
            return dict.fromkeys(paths, Unknown(reason=self._status.detail, since=self._status.since))
        if self._services.keys() != set(paths):
            self._services = {path: self._services.get(path) or self._new(path) for path in paths}
            self._watch.watch({service.directory for service in self._services.values() if service.directory})
        changed = self._watch.take_changed()
        if time.monotonic() >= self._next_full_pass:
            changed, self._next_full_pass = None, time.monotonic() + self._full_pass_seconds
        away = self._why_away()
        for service in self._services.values():
            if not service.directory:
                continue
            if away is not None:
                service.answer, service.unfinished = _unknown_since(service.answer, away), True
            elif service.unfinished or changed is None or service.directory in changed:
                self._look(service)
        self._tell(self._watch, away)
        return {path: service.answer for path, service in self._services.items()}

    def status(self) -> LinkStatus:
        return self._status

    def stop(self) -> None:
        if self._watch is not None:
            self._watch.stop()
            self._watch = None

    def _new(self, path: str) -> _Service:
        try:
            return _Service(service_directory(self._root, path), Unknown(reason="not read yet", since=time.time()))
        except RegistryRefused as refusal:
            return _Service("", Unknown(reason=str(refusal), since=time.time()))

    def _why_away(self) -> str | None:
        """Why nothing can be known at all, or None when the root is there."""
        try:
            with os.scandir(self._root):
                return None
        except FileNotFoundError:
            return f"registry directory {self._root} does not exist"
        except OSError as error:
            return f"registry directory {self._root} cannot be read: {error.strerror}"

    def _look(self, service: _Service) -> None:
        """Bring one service up to date, keeping the very object of its answer when nothing came of it."""
        self._counters["requests"] += 1
        try:
            service.entries = self._steady(service)
        except _Moved:
            if isinstance(service.answer, Unknown):
                service.answer = _unknown_since(service.answer, f"{service.directory} changes too fast to be read")
            service.unfinished = True
            return
        except OSError as error:
            reason = f"{service.directory} cannot be read: {error.strerror}"
            service.answer, service.unfinished = _unknown_since(service.answer, reason), True
            return
        service.unfinished = False
        worth = [entry.worth for _, entry in sorted(service.entries.items())]
        listing = Listing(
            records=tuple(sorted((item for item in worth if isinstance(item, Record)), key=lambda item: item.node)),
            refused=tuple(sorted((item for item in worth if isinstance(item, Refused)), key=lambda item: item.node)),
        )
        if listing != service.answer:
            service.answer = listing

    def _steady(self, service: _Service) -> dict[str, _Entry]:
        """The directory as it was at one moment: read again while files vanish under us, lest one that was replaced
        under another name be missed in both."""
        for _ in range(_PASSES):
            try:
                return _scan(service.directory, service.entries)
            except _Moved:
                continue
            except FileNotFoundError:
                if (away := self._why_away()) is not None:
                    raise OSError(None, away) from None
                return {}
        raise _Moved

    def _tell(self, watch: FileWatch, away: str | None) -> None:
        was, connected = self._status, away is None
        self._counters["events"] = watch.events
        self._counters["reconnects"] += connected and not was.connected and self._was_there
        self._was_there |= connected
        self._status = LinkStatus(
            connected=connected,
            detail=away or "; ".join(filter(None, (f"reading {self._root}", watch.blind))),
            since=was.since if was.connected == connected else time.time(),
            session=None,
            counters=dict(self._counters),
        )


def _unknown_since(answer: Listing | Unknown, reason: str) -> Unknown:
    """The same object while the reason stays, the time of the first Unknown while it changes."""
    if isinstance(answer, Unknown):
        return answer if answer.reason == reason else replace(answer, reason=reason)
    return Unknown(reason=reason, since=time.time())


def _scan(directory: str, known: Mapping[str, _Entry]) -> dict[str, _Entry]:
    """Every file of the registry in a directory. Raises _Moved, OSError; FileNotFoundError: no such directory."""
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        names = [(name, node) for name in os.listdir(opened) if (node := node_of(name)) is not None]
        return {name: _entry(opened, name, node, known.get(name)) for name, node in names}
    finally:
        os.close(opened)


def _entry(directory: int, name: str, node: str, known: _Entry | None) -> _Entry:
    try:
        descriptor = open_file(name, directory)
    except FileNotFoundError:
        raise _Moved from None
    if isinstance(descriptor, str):
        return _Entry(Refused(node=printable(node), reason=descriptor))
    try:
        status = os.fstat(descriptor)
        seen = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        owned = has_owner(descriptor)
        if not owned and os.fstat(descriptor).st_nlink == 0:
            raise _Moved  # its owner lives and has just put another file in its place, then let go of this one
        if known is not None and known.owned == owned and known.fingerprint == seen:
            return known
        worth = judge(node, read_payload(descriptor), status.st_mtime_ns, owned=owned)
        settled = time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > _SETTLED_NS
        return _Entry(worth, owned, seen if settled else None)
    finally:
        os.close(descriptor)
