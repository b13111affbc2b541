"""The HAProxy process: found and adopted, or started; reloaded one at a time and confirmed; never a second one.

HAProxy outlives synapse. The master runs in a session of its own with its output in a file, so that neither a
terminal's Ctrl-C nor the end of a pipe reaches it, and a later synapse finds it by its pid file and its sockets.
"""

import contextlib
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from synapse.haproxy.answers import Info, alerts
from synapse.haproxy.errors import HAProxyAway, HAProxyError
from synapse.haproxy.runtime import Runtime

_CONFIRM_SECONDS = 10.0
"""How long a start or a reload may take: 10,000 servers take 0.2 s."""

_LOST_SECONDS = 2.0
"""After how long a reload that shows no effect is asked for again."""

_LEFTOVER_SECONDS = 1.0
_EXEC_SECONDS = 0.5
_POLL_SECONDS = 0.005
_LOG_LIMIT = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where one HAProxy lives: its configuration, and a directory for its sockets, pid file and messages."""

    configuration: str
    run_directory: str

    @property
    def socket(self) -> str:
        """The worker's runtime socket; HAProxy writes it into its configuration."""
        return f"{self.run_directory}/haproxy.sock"

    @property
    def master_socket(self) -> str:
        """The master's socket."""
        return f"{self.run_directory}/master.sock"

    @property
    def pid_file(self) -> str:
        """The master's process id."""
        return f"{self.run_directory}/haproxy.pid"

    @property
    def messages(self) -> str:
        """What HAProxy prints."""
        return f"{self.run_directory}/haproxy.log"


class HAProxyProcess:
    """The one HAProxy of these places. `ring` is called when its master ends."""

    def __init__(self, binary: str, places: Places, ring: Callable[[], None]) -> None:
        self.runtime = Runtime(places.socket, places.master_socket)
        self._binary = binary
        self._places = places
        self._ring = ring
        self._child: subprocess.Popen[bytes] | None = None
        self._watched: int | None = None

    def master(self) -> int | None:
        """The master's process id, None when it is not running."""
        if self._child is not None and self._child.poll() is not None:
            self._child = None
        pid = self._pid()
        if pid is not None:
            self._watch(pid)
        return pid

    def _pid(self) -> int | None:
        """By the pid file; when somebody removed that, the one known before, or whoever runs with our configuration:
        a second HAProxy beside it could not have its ports."""
        try:
            written: int | None = int(Path(self._places.pid_file).read_text(encoding="ascii"))
        except (OSError, ValueError):
            written = None
        configuration = self._places.configuration
        for pid in (written, self._watched):
            if pid is not None and _runs_with(pid, configuration):
                return pid
        return None if written is not None else _leader_with(configuration)

    def observe(self) -> Info | None:
        """Who serves, None when HAProxy is not running. Raises `HAProxyAway` when it is and does not answer."""
        if self.master() is None:
            return None
        return self.runtime.info()

    def start(self, description: str) -> Info:
        """Start HAProxy and wait until it serves the structure of this description. Raises `HAProxyError`."""
        arguments = [self._binary, "-W", "-f", self._places.configuration, "-S", self._places.master_socket]
        arguments += ["-p", self._places.pid_file]
        environment = {key: value for key, value in os.environ.items() if key != "NOTIFY_SOCKET"}
        said = self._trim_messages()
        try:
            os.makedirs(self._places.run_directory, mode=0o750, exist_ok=True)
            with open(self._places.messages, "ab") as messages:
                self._child = subprocess.Popen(
                    arguments,
                    stdin=subprocess.DEVNULL,
                    stdout=messages,
                    stderr=messages,
                    start_new_session=True,
                    env=environment,
                    cwd="/",
                )
        except OSError as error:
            raise HAProxyError(f"cannot start {self._binary}: {error.filename or ''} {error.strerror}") from error
        child = self._child
        return self._confirm("start", description, None, lambda: child.poll() is not None, said)

    def reload(self, description: str) -> Info:
        """Have the master start a new worker from the file, and wait until that one serves. Raises `HAProxyError`,
        with HAProxy's words; the old worker goes on then."""
        master = self.master()
        if master is None:
            raise HAProxyAway("cannot reload HAProxy: it is not running", nobody_listens=True)
        try:
            before: int | None = self.runtime.info().pid
        except HAProxyAway:
            before = None
        said = self._trim_messages()
        self._signal_reload(master)
        asked = time.monotonic()

        def failed() -> bool:
            nonlocal asked
            if self._reload_failed():
                return True
            if time.monotonic() - asked > _LOST_SECONDS and self._serves_still(before):
                self._signal_reload(master)
                asked = time.monotonic()
            return False

        return self._confirm("reload", description, before, failed, said)

    def stop(self) -> None:
        """End HAProxy, letting go of its connections, and wait for it."""
        master = self.master()
        if master is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(OSError):
                os.kill(master, number)
            if _wait(lambda: self.master() is None, _CONFIRM_SECONDS):
                return

    def _confirm(self, what: str, description: str, before: int | None, failed: Callable[[], bool], said: int) -> Info:
        """Wait for a worker other than `before` that serves the description, asking a fresh connection each time."""
        deadline = time.monotonic() + _CONFIRM_SECONDS
        while time.monotonic() < deadline:
            try:
                info = self.runtime.info()
                if info.pid != before and info.description == description and not info.stopping:
                    self.master()
                    return info
            except HAProxyAway:
                pass
            if failed():
                break
            time.sleep(_POLL_SECONDS)
        words = alerts(self._messages(said)) or f"no new process within {_CONFIRM_SECONDS:g} s"
        raise HAProxyError(f"cannot {what} HAProxy: {words}")

    @staticmethod
    def _signal_reload(master: int) -> None:
        try:
            os.kill(master, signal.SIGUSR2)
        except OSError as error:
            raise HAProxyError(f"cannot reload HAProxy, its master (pid {master}): {error.strerror}") from error

    def _serves_still(self, worker: int | None) -> bool:
        """Whether the master has not even begun with a reload: HAProxy loses a SIGUSR2 that comes during another."""
        try:
            return worker in self.runtime.processes().workers
        except HAProxyAway:
            return False

    def _reload_failed(self) -> bool:
        try:
            return self.runtime.processes().failed_reloads > 0
        except HAProxyAway:
            return False

    def end_leftovers(self) -> None:
        """End what is left of a HAProxy of these places, while none of ours runs: it would hold our addresses.

        A worker whose master died ends by itself. One that hangs does not, nor does a HAProxy that was started here
        with another configuration file (the state directory was changed).
        """
        for number in (signal.SIGTERM, signal.SIGKILL):
            if _wait(lambda: not self._leftovers(), _LEFTOVER_SECONDS):
                return
            for pid in self._leftovers():
                with contextlib.suppress(OSError):
                    os.kill(pid, number)
        _wait(lambda: not self._leftovers(), _LEFTOVER_SECONDS)

    def _leftovers(self) -> list[int]:
        if self.master() is not None:
            return []
        return processes_with(self._places.configuration, self._places.pid_file)

    def _watch(self, pid: int) -> None:
        if self._watched == pid:
            return
        try:
            handle = os.pidfd_open(pid)
        except OSError:
            return
        self._watched = pid

        def wait_for_end() -> None:
            poll = select.poll()
            poll.register(handle, select.POLLIN)
            poll.poll()
            os.close(handle)
            self._ring()

        threading.Thread(target=wait_for_end, name=f"haproxy-{pid}", daemon=True).start()

    def _messages(self, since: int) -> str:
        try:
            with open(self._places.messages, "rb") as messages:
                messages.seek(since)
                return messages.read(_LOG_LIMIT).decode("utf-8", "replace")
        except OSError:
            return ""

    def _trim_messages(self) -> int:
        """Where in HAProxy's messages new ones begin; the file is emptied when it has grown large."""
        try:
            size = os.path.getsize(self._places.messages)
            if size > _LOG_LIMIT:
                os.truncate(self._places.messages, 0)
                return 0
        except OSError:
            return 0
        return size


def _runs_with(pid: int, *arguments: str) -> bool:
    """Whether this process lives and was started with one of these arguments (process ids are used again)."""
    given: list[bytes] = []

    def known() -> bool:
        """A process in the middle of an exec has no arguments for a millisecond, and HAProxy's master does that twice
        at each reload; a kernel thread has none ever, nor a program."""
        given[:] = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return given != [b""] or not os.readlink(f"/proc/{pid}/exe")

    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[0]
        if state in "ZX":
            return False
        _wait(known, _EXEC_SECONDS)
    except (OSError, IndexError):
        return False
    return any(os.fsencode(argument) in given for argument in arguments)


def processes_with(*arguments: str) -> list[int]:
    """Every process that lives and was started with one of these arguments."""
    return [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and _runs_with(int(entry.name), *arguments)
    ]


def _leader_with(configuration: str) -> int | None:
    """The process that leads a session of its own and runs with this configuration file: a master is started so, and
    its workers are in its session."""
    for pid in processes_with(configuration):
        with contextlib.suppress(OSError):
            if os.getsid(pid) == pid:
                return pid
    return None


def _wait(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True
