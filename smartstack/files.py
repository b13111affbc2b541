"""Watch directories and ring the bell: the only room that knows watchdog.

Of watchdog it uses `InotifyFD`, one thread and one descriptor for all watches, and not `Observer`, which starts a
thread for each directory and holds everything after an unpaired rename back for half a second.
"""

import errno
import os
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from itertools import count

from watchdog.observers.inotify_c import CallbackId, InotifyConstants, InotifyEvent, InotifyFD, Mask, WatchDescriptor

ECHO_SECONDS = 0.05
"""After a file was closed the bell rings once more: the kernel tells of the close an instant before it drops the
locks of whoever closed it, so a first look may still find a dead owner's lock."""

TICK_SECONDS = 1.0
"""How often the bell rings when nothing can be watched."""

RETRY_TICKS = 60
"""After how many such rings watching is tried again."""

_LINK_LIMIT = 40
_STRUCTURE = Mask(
    InotifyConstants.IN_CREATE
    | InotifyConstants.IN_DELETE
    | InotifyConstants.IN_MOVE
    | InotifyConstants.IN_ATTRIB
    | InotifyConstants.IN_DELETE_SELF
    | InotifyConstants.IN_MOVE_SELF
    | InotifyConstants.IN_ONLYDIR
    | InotifyConstants.IN_EXCL_UNLINK
    | InotifyConstants.IN_MASK_ADD
)
_CONTENT = Mask(_STRUCTURE | InotifyConstants.IN_CLOSE_WRITE)


class FileWatch:
    """Rings when something in the watched directories changes, and keeps which of them it was.

    It rings for entries that come, go, are replaced, closed after writing, or get other permissions; for a directory
    that appears, goes, or is swapped by way of a symbolic link anywhere in its path. It does not ring for reading,
    nor for entries whose name starts with one dot (temporary files; `..data` of a Kubernetes volume counts), nor for
    what happens in deeper directories, nor behind a symbolic link to a single file (`links` finds whom to watch then).

    When the kernel gives no more watches it rings every second instead, says why in `blind`, and tries again later.
    """

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._lock = threading.Lock()
        self._opening = threading.Lock()
        self._wanted: frozenset[str] = frozenset()
        self._changed: set[str] | None = None
        self._echoes: set[str] = set()
        self._timer: threading.Timer | None = None
        self._trails: _Trails | None = None
        self._stopped = False
        self.blind: str | None = None
        self.events = 0

    def watch(self, directories: Collection[str]) -> None:
        """From now on watch exactly these absolute paths, whether they exist or not. Never raises.

        What is read after this call is read under the watch.
        """
        wanted = frozenset(directories)
        if self._stopped or (wanted == self._wanted and (self._trails or self.blind)):
            return
        self._wanted = wanted
        if self.blind is None:
            self._open()

    def take_changed(self) -> frozenset[str] | None:
        """The directories that changed since the last call; None: any may have (at first, after lost events)."""
        with self._lock:
            changed, self._changed = self._changed, set() if self.blind is None else None
        return None if changed is None else frozenset(changed)

    def stop(self) -> None:
        """End every thread. The bell is silent from here on."""
        with self._opening, self._lock:
            self._stopped = True
            timer, trails = self._timer, self._trails
        if timer is not None:
            timer.cancel()
        if trails is not None:
            trails.stop()

    def _open(self) -> None:
        try:
            with self._opening:
                if self._stopped:
                    return
                if self._trails is None:
                    self._trails = _Trails(self._heard, self._fail)
                self._trails.follow(self._wanted)
        except OSError as error:
            self._fail(error)

    def _heard(self, directories: Collection[str] | None, closed: bool) -> None:
        """Something happened in these directories (None: in any)."""
        with self._lock:
            if self._stopped:
                return
            self.events += 1
            if directories is None or self._changed is None:
                self._changed = None
            else:
                self._changed.update(directories)
            if closed and directories:
                self._echoes.update(directories)
                if self._timer is None:
                    self._timer = self._later(ECHO_SECONDS, self._echo)
        self._ring()

    def _echo(self) -> None:
        with self._lock:
            self._timer = None
            if self._changed is not None:
                self._changed.update(self._echoes)
            self._echoes.clear()
            if self._stopped:
                return
        self._ring()

    def _fail(self, error: OSError) -> None:
        with self._lock:
            trails, self._trails = self._trails, None
            why = error.strerror or str(error)
            self.blind = f"files cannot be watched ({why}); looking every {TICK_SECONDS:g} s instead"
            self._changed = None
            if self._timer is not None:
                self._timer.cancel()
            self._timer = None if self._stopped else self._later(TICK_SECONDS, self._tick, RETRY_TICKS)
        if trails is not None:
            trails.stop()
        self._ring()

    def _tick(self, ticks_left: int) -> None:
        with self._lock:
            if self._stopped:
                return
            if ticks_left:
                self._timer = self._later(TICK_SECONDS, self._tick, ticks_left - 1)
            else:
                self._timer, self.blind = None, None
        if not ticks_left:
            self._open()
            with self._lock:
                self._changed = None
        self._ring()

    @staticmethod
    def _later(seconds: float, call: Callable[..., None], *arguments: object) -> threading.Timer:
        timer = threading.Timer(seconds, call, arguments)
        timer.daemon = True
        timer.start()
        return timer


@dataclass(slots=True, eq=False)
class _Ear:
    """One inotify watch: whose path leads through which name here, and whose content is here."""

    path: str
    handle: tuple[WatchDescriptor, CallbackId]
    through: dict[bytes, set[str]] = field(default_factory=dict)
    content: set[str] = field(default_factory=set)

    def everyone(self) -> set[str]:
        return self.content.union(*self.through.values())


class _Trails:
    """The watches that a set of directories needs: each directory, and every step of the path that leads to it.

    A step is a directory and the name in it that leads on, with symbolic links resolved, so all paths in here are
    physical. A change of a step makes the directories behind it be looked up anew. Rests on one rule: first watch,
    then look; whatever changes later is heard.
    """

    def __init__(self, heard: Callable[[Collection[str] | None, bool], None], fail: Callable[[OSError], None]) -> None:
        self._heard = heard
        self._fail = fail
        self._lock = threading.RLock()
        self._ids = count(1)
        self._ears: dict[str, _Ear] = {}
        self._by_descriptor: dict[WatchDescriptor, set[_Ear]] = {}
        self._trails: dict[str, list[_Ear]] = {}
        self._stopped = False
        self._inotify = InotifyFD()
        self._inotify.start()

    def follow(self, directories: frozenset[str]) -> None:
        """Watch exactly these. Raises OSError when the kernel gives no more watches."""
        with self._lock:
            if self._stopped:
                return
            for directory in self._trails.keys() - directories:
                self._forget((directory,))
            for directory in directories - self._trails.keys():
                self._walk(directory, set())

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
        self._inotify.stop()
        if self._inotify is not threading.current_thread():
            self._inotify.join(timeout=5.0)

    def on_event(self, event: InotifyEvent) -> None:
        """Called by watchdog's thread for each event."""
        name, led, seen = event.name, set[str](), set[str]()
        with self._lock:
            if self._stopped:
                return
            for ear in self._by_descriptor.get(event.wd, ()):
                if name:
                    led |= ear.through.get(name, set())
                elif event.mask & (InotifyConstants.IN_DELETE_SELF | InotifyConstants.IN_MOVE_SELF):
                    led |= ear.everyone()
                if not name.startswith(b".") or name.startswith(b".."):
                    seen |= ear.content
            self._walk_again(led)
        if led or seen:
            self._heard(led | seen, bool(event.mask & InotifyConstants.IN_CLOSE_WRITE))

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        """Called by watchdog's thread when the kernel dropped a watch: the directory is gone or was unmounted."""
        led = set[str]()
        with self._lock:
            if self._stopped:
                return
            for ear in self._by_descriptor.pop(wd, ()):
                self._ears.pop(ear.path, None)
                led |= ear.everyone()
            self._walk_again(led)
        if led:
            self._heard(led, False)

    def on_queue_overflow(self) -> None:
        """Called by watchdog's thread when the kernel threw events away."""
        with self._lock:
            if self._stopped:
                return
            self._walk_again(set(self._trails))
        self._heard(None, False)

    def _walk_again(self, directories: set[str]) -> None:
        if not directories:
            return
        self._forget(directories)
        renewed: set[str] = set()
        try:
            for directory in directories:
                self._walk(directory, renewed)
        except OSError as error:
            self._fail(error)

    def _forget(self, directories: Iterable[str]) -> None:
        for directory in directories:
            for ear in self._trails.pop(directory, ()):
                ear.content.discard(directory)
                for name, led in list(ear.through.items()):
                    led.discard(directory)
                    if not led:
                        del ear.through[name]
                if not ear.content and not ear.through and self._ears.get(ear.path) is ear:
                    self._drop(ear)

    def _drop(self, ear: _Ear) -> None:
        del self._ears[ear.path]
        self._release(ear)

    def _release(self, ear: _Ear) -> None:
        descriptor = ear.handle[0]
        sharing = self._by_descriptor.get(descriptor, set())
        sharing.discard(ear)
        if not sharing:
            self._by_descriptor.pop(descriptor, None)
        self._inotify.remove_callbacks([ear.handle])

    def _walk(self, directory: str, renewed: set[str]) -> None:
        """Go the way to a directory as far as it exists, step by step, and listen at each step."""
        trail = self._trails.setdefault(directory, [])
        steps, here, links = deque(directory.split("/")), "/", 0
        while steps:
            step = steps.popleft()
            if step in ("", "."):
                continue
            if step == "..":
                here = os.path.dirname(here)
                continue
            if not self._listen(here, step, directory, trail, renewed):
                return
            try:
                target = os.readlink(os.path.join(here, step))
            except OSError as error:
                if error.errno != errno.EINVAL:
                    return
                here = os.path.join(here, step)
                continue
            links += 1
            if links > _LINK_LIMIT:
                return
            here = "/" if target.startswith("/") else here
            steps.extendleft(reversed(target.split("/")))
        self._listen(here, None, directory, trail, renewed)

    def _listen(self, path: str, name: str | None, directory: str, trail: list[_Ear], renewed: set[str]) -> bool:
        """Listen in `path` for what `directory` needs; False when there is no such directory (any more)."""
        ear = self._ears.get(path)
        if ear is None or path not in renewed or (name is None and not ear.content):
            try:
                handle = self._add(path, _CONTENT if name is None else _STRUCTURE)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                    return False
                raise
            renewed.add(path)
            if handle is None:
                return True
            ear = self._renew(path, ear, handle)
        if name is None:
            ear.content.add(directory)
        else:
            ear.through.setdefault(os.fsencode(name), set()).add(directory)
        trail.append(ear)
        return True

    def _add(self, path: str, mask: Mask) -> tuple[WatchDescriptor, CallbackId] | None:
        """A watch on what is at this path now; None when it may not be read, so cannot be watched."""
        handle = CallbackId(next(self._ids))
        descriptor = self._inotify.add_callback(os.fsencode(path), mask, self, handle)
        return None if descriptor == -1 else (descriptor, handle)

    def _renew(self, path: str, ear: _Ear | None, handle: tuple[WatchDescriptor, CallbackId]) -> _Ear:
        if ear is None:
            ear = self._ears[path] = _Ear(path, handle)
        else:
            self._release(ear)
            ear.handle = handle
        self._by_descriptor.setdefault(handle[0], set()).add(ear)
        return ear
