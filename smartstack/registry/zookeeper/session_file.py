"""The session of this process on disk, so that the next one can go on with it and no watcher sees anything.

Whoever has what stands in the file has the session, so only its owner may read it. The file is written before a place
is first put: a process that is killed in between leaves no node behind that its living session owns and that nobody
knows of. It does not have to survive the machine, so it is not forced to the disk: the boot's id stands in it.
"""

import contextlib
import json
import os
import stat
import time
from dataclasses import dataclass, field
from pathlib import Path

from smartstack.errors import SmartStackError
from smartstack.process import write_atomically
from smartstack.registry.protocol import NodeId

OLDEST_SECONDS = 7200.0
"""A file that nobody touched for so long is of a session that is over: a living writer touches it in every resync (at
most an hour), and no session time-out is longer than ten minutes."""

FRESH_SECONDS = 60.0
"""How often the file is touched at most, and how often a file that could not be written is tried again."""

SIZE_LIMIT = 4 << 20
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Identity:
    """A session's id, as the server signs ephemeral nodes with it, and the password with which anybody can have it."""

    session: int
    password: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A session, and every place where it may own a node."""

    identity: Identity
    places: frozenset[NodeId]


def encode(saved: Saved, registry: str, boot: str) -> bytes:
    """The file's content. `registry` names the servers, the root and the user: a session is no good elsewhere."""
    places = sorted((place.path, place.node) for place in saved.places)
    return json.dumps(
        {
            "format": _FORMAT,
            "boot": boot,
            "registry": registry,
            "session": saved.identity.session,
            "password": saved.identity.password.hex(),
            "places": places,
        }
    ).encode()


def decode(content: bytes, registry: str, boot: str) -> Saved | str | None:
    """What the file holds; why it cannot be used, if somebody should know; None when there is just no use for it: it
    is empty, of another boot or of another registry. Never raises."""
    if not content:
        return None
    try:
        document = json.loads(content)
        if not isinstance(document, dict) or document["format"] != _FORMAT:
            return "is of another version"
        if document["boot"] != boot or document["registry"] != registry:
            return None
        session, password = document["session"], bytes.fromhex(document["password"])
        if type(session) is not int or not -(1 << 63) <= session < 1 << 63 or session == 0 or len(password) != 16:
            return "is damaged"
        places = frozenset(NodeId(path=path, node=node) for path, node in document["places"])
        for place in places:
            f"{place.path}/{place.node}".encode()
        if not all(isinstance(text, str) for place in places for text in (place.path, place.node)):
            return "is damaged"
    except (ValueError, TypeError, KeyError, RecursionError):
        return "is damaged"
    return Saved(identity=Identity(session, password), places=places)


class SessionFile:
    """The file of one writer; nothing here raises."""

    def __init__(self, path: str, registry: str) -> None:
        self._path = Path(path)
        self._registry = registry
        self._boot = _boot_id()
        self._written: Saved | None = None
        self._touched = float("-inf")
        self._failed_at = float("-inf")
        self._ignored = ""
        self._problem = ""

    @property
    def problem(self) -> str:
        """Why this process did not find the session, and why the next one will not: empty when all is well."""
        return "; ".join(filter(None, (self._ignored, self._problem)))

    def load(self) -> Saved | None:
        """What the process before left here, None when there is nothing that could be used."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._ignore(f"cannot be read: {(error.strerror or str(error)).lower()}")
            return None
        try:
            found = self._read(descriptor)
        except OSError as error:
            found = f"cannot be read: {(error.strerror or str(error)).lower()}"
        finally:
            os.close(descriptor)
        if isinstance(found, str):
            self._ignore(found)
            return None
        self._written = found
        return found

    def save(self, saved: Saved, *, exact: bool = False) -> bool:
        """Have the file name this session and at least these places; with `exact` no others.

        False is a danger: the file could neither be written nor be made useless, so it still names this session
        without some place. In any other case it is whole, or is not there.
        """
        now = time.monotonic()
        written = self._written
        if written == saved:
            return True
        if written is not None and written.identity == saved.identity and saved.places <= written.places and not exact:
            return True
        if written is None and now - self._failed_at < FRESH_SECONDS:
            return True
        try:
            if not self._boot:
                raise SmartStackError(f"cannot tell this boot from others: {_BOOT_ID} cannot be read")
            write_atomically(self._path, encode(saved, self._registry, self._boot), 0o600, durable=False)
        except SmartStackError as error:
            self._failed_at = now
            self._problem = f"session hand-over is off: {error}"
            if self._invalidate():
                self._written = None
            return self._written is None or self._written.identity != saved.identity
        self._written, self._touched, self._problem = saved, now, ""
        return True

    def touch(self) -> None:
        """Keep the file young, at little cost; one that somebody removed is written again at the next `save`."""
        now = time.monotonic()
        if self._written is None or now - self._touched < FRESH_SECONDS:
            return
        self._touched = now
        try:
            os.utime(self._path)
        except FileNotFoundError:
            self._written = None
        except OSError as error:
            self._problem = f"session hand-over may fail: cannot touch {self._path}: {error.strerror}"

    def remove(self) -> None:
        """The session is over."""
        self._written = None
        self._invalidate()

    def _read(self, descriptor: int) -> Saved | str | None:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid not in (0, os.geteuid()):
            return "is not a file of this user"
        if status.st_mode & 0o077:
            return "may be read by others, who could have taken the session: it must have mode 600"
        if status.st_size > SIZE_LIMIT:
            return "is damaged"
        if time.time() - status.st_mtime > OLDEST_SECONDS or not self._boot:
            return None
        with os.fdopen(os.dup(descriptor), "rb") as file:
            return decode(file.read(SIZE_LIMIT), self._registry, self._boot)

    def _ignore(self, reason: str) -> None:
        self._ignored = f"the session of before was not taken up: {self._path} {reason}"

    def _invalidate(self) -> bool:
        """Make sure that nobody finds a session in the file; a full disk does not keep us from it."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError:
            with contextlib.suppress(OSError):
                os.truncate(self._path, 0)
                return True
            return False
        return True


def _boot_id() -> str:
    try:
        return Path(_BOOT_ID).read_text().strip()
    except OSError:
        return ""
