"""The shell of a daemon: signals, the loop with its safety net and its heartbeat, systemd, the lock, whole files."""

import contextlib
import ctypes
import errno
import fcntl
import os
import signal
import socket
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Final

from smartstack.errors import SmartStackError
from smartstack.logs import EventLog
from smartstack.wake import Wake

BEAT_SECONDS: Final = 5.0
"""Longest time between two beats of a loop that has nothing to do."""

TOUCH_SECONDS: Final = 1.0
"""Shortest time between two touches of the heartbeat file."""

FIRST_RETRY_SECONDS: Final = 0.1
LAST_RETRY_SECONDS: Final = 5.0

_REMEMBERED_FAILURES: Final = 100


INTERRUPTED: Final = 130
"""The exit code of what was ended by Ctrl-C."""


_M_ARENA_MAX: Final = -8
"""From glibc's malloc.h."""


def share_one_heap() -> None:
    """Let the threads of this process, which are all started later, take memory from one heap.

    The C library gives each thread one of its own, up to eight for each processor, so that they need not wait for each
    other; Python's wait for each other anyway. With a hundred threads that is memory for nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc has it
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)


class Stopping:
    """Whether somebody asked this process to stop; `exit_code` is 130 when that was Ctrl-C, else 0. `reloading`:
    somebody asked to read everything again, and systemd was not told yet that this is being done."""

    def __init__(self) -> None:
        self.requested = False
        self.reloading = False
        self.exit_code = 0


def install_signals(wake: Wake, resync: Callable[[], None] = lambda: None) -> Stopping:
    """From now on SIGTERM and SIGINT ask to stop, and SIGHUP asks to read everything again; main thread only.

    `resync` makes the next cycle a whole one. It is called inside the signal's handler, so it may do no more than
    assign.
    """
    stopping = Stopping()

    def stop(number: int, frame: FrameType | None) -> None:
        stopping.requested = True
        stopping.exit_code = INTERRUPTED if number == signal.SIGINT else 0
        wake.ring()

    def look_again(number: int, frame: FrameType | None) -> None:
        resync()
        stopping.reloading = True
        wake.ring()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGHUP, look_again)
    return stopping


class Heartbeat:
    """When the loop last turned, and what broke its last cycle (one line; None when it went through).

    With a `file`, a beat touches it, at most once a second: who watches from outside goes by the time of its last
    change. `problem` says why that could not be done; it is tried again with the next beat, and never stops the loop.

    Read by any thread. `clock` is monotonic, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, file: Path | None = None) -> None:
        self._clock = clock
        self._last = clock()
        self._file = file
        self._next_touch = self._last
        self.failure: str | None = None
        self.problem: str | None = None

    def beat(self) -> None:
        """The loop turns."""
        self._last = self._clock()
        if self._file is not None and self._last >= self._next_touch:
            self._next_touch = self._last + TOUCH_SECONDS
            self.problem = _touch(self._file)

    def age_seconds(self) -> float:
        """Seconds since the last beat, or since the start when there was none."""
        return self._clock() - self._last


def _touch(file: Path) -> str | None:
    """Set the time of a file to now, and make it (mode 0644) where it is missing; what went wrong, if anything."""
    try:
        try:
            os.utime(file)
        except FileNotFoundError:
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC)
            with os.fdopen(descriptor, "wb"):
                os.fchmod(descriptor, 0o644)
    except OSError as error:
        return _cannot("touch", file, error)
    return None


def run_loop(cycle: Callable[[], float], wake: Wake, stopping: Stopping, heartbeat: Heartbeat, log: EventLog) -> None:
    """Call `cycle` until somebody asks to stop; it returns in how many seconds it wants to be called if nobody rings.

    Beats at least every `BEAT_SECONDS`, also while it waits. Tells systemd READY=1 after the first cycle that went
    through, WATCHDOG=1 with each beat where systemd asked for it, and STOPPING=1 at the end. Around the cycle that
    answers a SIGHUP stand RELOADING=1 and READY=1, as `Type=notify-reload` wants it.

    A cycle that raises is a defect, but no reason to stop serving: its traceback is logged once for each distinct
    text, and the cycle is tried again after 0.1 s, doubling to 5 s, however often somebody rings meanwhile.
    """
    beat_seconds = _beat_seconds()
    told: set[str] = set()
    retry_seconds = FIRST_RETRY_SECONDS
    ready = False
    while not stopping.requested:
        if stopping.reloading:
            stopping.reloading, ready = False, False
            notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            wait_seconds = cycle()
        except Exception as error:  # the loop's safety net: one of the two places where this may stand
            text = "".join(traceback.format_exception(error))
            if text not in told and len(told) < _REMEMBERED_FAILURES:
                told.add(text)
                log.failure("the cycle failed and will be tried again; this is a defect", error)
            heartbeat.failure = " ".join(traceback.format_exception_only(error)[-1].split())
            wait_seconds, ring_counts = retry_seconds, False
            retry_seconds = min(2 * retry_seconds, LAST_RETRY_SECONDS)
        else:
            heartbeat.failure = None
            ring_counts = True
            retry_seconds = FIRST_RETRY_SECONDS
            if not ready:
                ready = True
                notify("READY=1")
        _wait(wake, stopping, heartbeat, seconds=wait_seconds, beat_seconds=beat_seconds, ring_counts=ring_counts)
    notify("STOPPING=1")


def _wait(
    wake: Wake, stopping: Stopping, heartbeat: Heartbeat, *, seconds: float, beat_seconds: float, ring_counts: bool
) -> None:
    """Wait for the end of the time, for a stop, or for a ring if a ring counts; beat all the while."""
    end = time.monotonic() + seconds
    while True:
        heartbeat.beat()
        if "WATCHDOG_USEC" in os.environ:
            notify("WATCHDOG=1")
        rung = wake.wait(min(beat_seconds, end - time.monotonic()))
        if stopping.requested or (rung and ring_counts) or time.monotonic() >= end:
            return


def _beat_seconds() -> float:
    """Half of the time after which systemd would call us dead, as sd_watchdog_enabled(3) advises, or our own."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    return min(BEAT_SECONDS, int(microseconds) / 2e6) if microseconds.isdigit() else BEAT_SECONDS


def notify(state: str) -> None:
    """Tell systemd (sd_notify(3)), where systemd asked to be told. Never waits, never raises."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        link.sendto(state.encode(), socket.MSG_DONTWAIT, address)


class ProcessLock:
    """One process for one directory, for as long as this process lives: a flock on a file that holds its pid, where the
    disk has room for it.

    The file stays when the lock is gone: to remove it would let two processes lock two files of one name. The
    descriptor is not inherited, so that a HAProxy that outlives its synapse does not hold the lock.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._descriptor: int | None = None

    def __enter__(self) -> "ProcessLock":
        """Take the lock; makes the directory. Raises SmartStackError when another process has it."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise SmartStackError(_cannot("lock", self._path, error)) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise SmartStackError(
                f"another {self._path.stem} (pid {pid if pid.isdigit() else 'unknown'}) already runs with "
                f"{self._path.parent}: stop it, or give this one a directory of its own"
            ) from None
        except OSError as error:
            os.close(descriptor)
            raise SmartStackError(_cannot("lock", self._path, error)) from error
        # The number is for people: a full disk keeps no daemon from its start.
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def write_atomically(path: str | Path, data: bytes, mode: int = 0o644, *, durable: bool = True) -> None:
    """Replace a file as a whole: a reader, and a machine that loses its power, see the old content or the new.

    Not `durable`: only readers do, which costs no wait for the disk; for what is worth nothing after a reboot.

    Raises SmartStackError (disk full, read-only, no such directory); the old file is then as it was, and nothing
    else is left behind.
    """
    path = Path(path)
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.rename(temporary, path)
        temporary = None
        if durable:
            _sync_directory(path.parent)
    except OSError as error:
        raise SmartStackError(_cannot("write", path, error)) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_ADVICE: Final = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EROFS: "choose a directory that may be written",
    errno.EACCES: "give this user the permission to write there, or choose another directory",
    errno.EPERM: "give this user the permission to write there, or choose another directory",
    errno.ENOENT: "make the directory first",
    errno.ENOTDIR: "choose another directory",
}


def _cannot(what: str, path: Path, error: OSError) -> str:
    advice = _ADVICE.get(error.errno or 0)
    reason = (error.strerror or str(error)).lower()
    return f"cannot {what} {path}: {reason}; {advice}" if advice else f"cannot {what} {path}: {reason}"
