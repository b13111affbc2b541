"""What the kernel says of processes, as far as HAProxy's are concerned: who runs with which file, who is whose child,
and that one has ended. Whoever has no descriptor left to look with is told so by `HAProxyAway`: that no process is seen
does not mean then that none is there."""

import contextlib
import errno
import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from synapse.haproxy.errors import HAProxyAway

POLL_SECONDS = 0.005

_EXEC_SECONDS = 0.5


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Ask again and again; answer whether it came true within so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def runs_with(pid: int, *arguments: str) -> bool:
    """Whether this process lives and was started with one of these arguments (process ids are used again)."""
    given = _arguments(pid)
    return any(os.fsencode(argument) in given for argument in arguments)


def processes_with(*arguments: str) -> list[int]:
    """Every process that lives and was started with one of these arguments."""
    return [pid for pid in _everybody() if runs_with(pid, *arguments)]


def serving_with(argument: str) -> bool:
    """Whether some process runs with this argument, other than to check the file (`haproxy -c`)."""
    return any(b"-c" not in _arguments(pid) for pid in processes_with(argument))


def leader_with(configuration: str) -> int | None:
    """The process that leads a session of its own and runs with this configuration file: a master is started so, and
    its workers are in its session."""
    for pid in processes_with(configuration):
        with contextlib.suppress(OSError):
            if os.getsid(pid) == pid:
                return pid
    return None


def name(pid: int, proc: Path = Path("/proc")) -> str | None:
    """The name of its program, without arguments, which may hold secrets; None when it is gone."""
    try:
        text = (proc / str(pid) / "comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
    return text if text.isprintable() else repr(text)


def family(worker: int, configuration: str, proc: Path = Path("/proc")) -> tuple[int, tuple[int, ...]] | None:
    """The master of this worker and all of its workers, old ones too, this one first.

    None when the kernel does not tell, or shows another process by this number: HAProxy may be in a container.
    """
    called = name(worker, proc)
    if called is None or not runs_with(worker, configuration):
        return None
    try:
        master = int(_state(worker, proc)[1])
        children = (proc / str(master) / "task" / str(master) / "children").read_text(encoding="ascii").split()
    except (OSError, IndexError, ValueError):
        return None
    if name(master, proc) != called:
        return None  # it runs without a master
    others = [int(child) for child in children if int(child) != worker and name(int(child), proc) == called]
    return master, (worker, *others)


class EndWatch:
    """Rings when a process ends. Each process is watched once."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self.last: int | None = None
        self._ring = ring

    def follow(self, pid: int) -> None:
        """Watch this one from now on; one that is gone already, or is somebody else's to see, is not watched."""
        if self.last == pid:
            return
        try:
            handle = os.pidfd_open(pid)
        except OSError:
            return
        self.last = pid

        def wait_for_end() -> None:
            poll = select.poll()
            poll.register(handle, select.POLLIN)
            poll.poll()
            os.close(handle)
            self._ring()

        threading.Thread(target=wait_for_end, name=f"haproxy-{pid}", daemon=True).start()


def _arguments(pid: int) -> list[bytes]:
    """What a process that lives was started with; nothing of one that does not."""
    given: list[bytes] = []

    def known() -> bool:
        """A process in the middle of an exec has no arguments for a millisecond, and HAProxy's master does that twice
        at each reload; a kernel thread has none ever, nor a program."""
        given[:] = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return given != [b""] or not os.readlink(f"/proc/{pid}/exe")

    try:
        if _state(pid)[0] in "ZX":
            return []
        wait_until(known, _EXEC_SECONDS)
    except OSError as error:
        _look_closely(error)
        return []
    except IndexError:
        return []
    return given


def _state(pid: int, proc: Path = Path("/proc")) -> list[str]:
    """The fields of /proc/PID/stat from the third on: its state, its parent, …"""
    stat = (proc / str(pid) / "stat").read_text(encoding="ascii", errors="replace")
    return stat.rpartition(")")[2].split()


def _everybody(proc: Path = Path("/proc")) -> Iterator[int]:
    try:
        names = os.listdir(proc)
    except OSError as error:
        _look_closely(error)
        raise
    return (int(name) for name in names if name.isdigit())


def _look_closely(error: OSError) -> None:
    """Raise HAProxyAway where this error says nothing of the process that was looked at."""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        raise HAProxyAway("cannot see whether HAProxy runs: too many open files") from error
