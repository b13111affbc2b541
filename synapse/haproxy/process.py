"""The HAProxy process: found and adopted, or started; reloaded one at a time and confirmed; never a second one.

HAProxy outlives synapse. The master runs in a session of its own with its output in a file, so that neither a
terminal's Ctrl-C nor the end of a pipe reaches it, and a later synapse finds it by its pid file and its sockets.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from synapse.haproxy.answers import Info, alerts
from synapse.haproxy.errors import HAProxyAway, HAProxyError
from synapse.haproxy.owner import CONFIRM_SECONDS, await_worker, failed_reloads
from synapse.haproxy.proc import EndWatch, leader_with, processes_with, runs_with, wait_until
from synapse.haproxy.runtime import Runtime

_LOST_SECONDS = 2.0
"""After how long a reload that shows no effect is asked for again."""

_LEFTOVER_SECONDS = 1.0
_LOG_LIMIT = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where one HAProxy lives: its configuration, and a directory for its sockets, pid file and messages.

    `worker_socket`: the runtime socket, if it is to be elsewhere.
    """

    configuration: str
    run_directory: str
    worker_socket: str | None = None

    @property
    def socket(self) -> str:
        """The worker's runtime socket; it stands in HAProxy's configuration."""
        return self.worker_socket or f"{self.run_directory}/haproxy.sock"

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
        self._child: subprocess.Popen[bytes] | None = None
        self._end = EndWatch(ring)

    def master(self) -> int | None:
        """The master's process id, None when it is not running."""
        if self._child is not None and self._child.poll() is not None:
            self._child = None
        pid = self._pid()
        if pid is not None:
            self._end.follow(pid)
        return pid

    def _pid(self) -> int | None:
        """By the pid file; when somebody removed that, the one known before, or whoever runs with our configuration:
        a second HAProxy beside it could not have its ports."""
        try:
            written: int | None = int(Path(self._places.pid_file).read_text(encoding="ascii"))
        except (OSError, ValueError):
            written = None  # whoever has no descriptor left hears of it below, with nobody to be found
        configuration = self._places.configuration
        for pid in (written, self._end.last):
            if pid is not None and runs_with(pid, configuration):
                return pid
        return None if written is not None else leader_with(configuration)

    def running(self) -> bool:
        """Whether its master runs."""
        return self.master() is not None

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
        failures = self._failures_before(master)
        said = self._trim_messages()
        self._signal_reload(master)
        asked = time.monotonic()

        def failed() -> bool:
            nonlocal asked
            if failed_reloads(self.runtime) > failures:
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
            if wait_until(lambda: self.master() is None, CONFIRM_SECONDS):
                return

    def _confirm(self, what: str, description: str, before: int | None, failed: Callable[[], bool], said: int) -> Info:
        """Wait for a worker other than `before` that serves the description."""
        info = await_worker(self.runtime, description, before, failed)
        if info is None:
            words = alerts(self._messages(said)) or f"no new process within {CONFIRM_SECONDS:g} s"
            raise HAProxyError(f"cannot {what} HAProxy: {words}")
        self.master()
        return info

    def _failures_before(self, master: int) -> int:
        """How many reloads have failed since the last good one. Raises `HAProxyAway` for a master that hangs: it could
        not reload, and waiting for that would hold up everything else."""
        try:
            return self.runtime.processes().failed_reloads
        except HAProxyAway as away:
            if not away.nobody_listens:
                raise HAProxyAway(
                    f"cannot reload HAProxy: its master (pid {master}) does not answer; the worker serves on as it is"
                ) from away
            return 0

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

    def end_leftovers(self) -> None:
        """End what is left of a HAProxy of these places, while none of ours runs: it would hold our addresses.

        A worker whose master died ends by itself. One that hangs does not, nor does a HAProxy that was started here
        with another configuration file (the state directory was changed).
        """
        for number in (signal.SIGTERM, signal.SIGKILL):
            if wait_until(lambda: not self._leftovers(), _LEFTOVER_SECONDS):
                return
            for pid in self._leftovers():
                with contextlib.suppress(OSError):
                    os.kill(pid, number)
        wait_until(lambda: not self._leftovers(), _LEFTOVER_SECONDS)

    def _leftovers(self) -> list[int]:
        if self.master() is not None:
            return []
        return processes_with(self._places.configuration, self._places.pid_file)

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
