"""The processes that the demo starts, and waiting that Ctrl-C ends."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from smartstack.errors import SmartStackError
from smartstack.process import install_signals
from smartstack.wake import Wake

POLL_SECONDS = 0.02
STOP_SECONDS = 5.0


class Interrupted(Exception):
    """Somebody asked the demo to stop."""


class TooLate(SmartStackError):
    """What was waited for did not happen in time."""


class Patience:
    """Waits, until a signal asks to stop: Ctrl-C, SIGTERM, or a terminal that was closed. Main thread only.

    Signals only leave a note, and each wait looks at it, so that none falls between the start of a process and the
    record of it.
    """

    def __init__(self) -> None:
        self._wake = Wake()
        self._stopping = install_signals(self._wake)
        signal.signal(signal.SIGHUP, signal.getsignal(signal.SIGTERM))

    def wait(self, seconds: float) -> None:
        """Raises Interrupted."""
        end = time.monotonic() + seconds
        while not self._stopping.requested and (left := end - time.monotonic()) > 0:
            self._wake.wait(left)
        if self._stopping.requested:
            raise Interrupted

    def until(self, condition: Callable[[], bool], within: float, what: str) -> float:
        """Ask again and again until it is so; how many seconds that took. Raises TooLate and Interrupted."""
        began = time.monotonic()
        while not condition():
            if time.monotonic() - began > within:
                raise TooLate(f"{what}: not within {within:g} s")
            self.wait(POLL_SECONDS)
        return time.monotonic() - began


class Child:
    """One process of the demo. It may be started again after its end.

    It runs in a session of its own, so that the terminal's Ctrl-C reaches only the demo, which then ends all in order.
    Should the demo be killed, the kernel ends it too.
    """

    def __init__(self, name: str, command: Sequence[str], log: str) -> None:
        self.name = name
        self.log = log
        self.ended_at: float | None = None
        self.ended_by_us = False
        self._command = tuple(command)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id; 0 before the first start."""
        return self._process.pid if self._process else 0

    def start(self) -> None:
        """Raises SmartStackError when the program cannot be run."""
        setpriv = shutil.which("setpriv")
        guard = [setpriv, "--pdeathsig", "TERM"] if setpriv else []
        # HAProxy is in a directory that not every user has in the search path.
        environment = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
        with open(self.log, "ab") as log:
            try:
                self._process = subprocess.Popen(
                    [*guard, *self._command],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    env=environment,
                )
            except OSError as error:
                raise SmartStackError(f"cannot start {self.name}: {error.strerror} ({self._command[0]})") from error
        self.ended_at, self.ended_by_us = None, False

    def alive(self) -> bool:
        """Whether it runs. Also takes note of its end."""
        if self._process is None:
            return False
        if self._process.poll() is None:
            return True
        self.ended_at = self.ended_at or time.monotonic()
        return False

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it runs."""
        if self._process is not None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """kill -9, and wait for the end."""
        self.ended_by_us = True
        self.signal(signal.SIGKILL)
        self.end()

    def terminate(self) -> None:
        """Ask it to end, as an init system does, and wait for that."""
        self.ended_by_us = True
        self.signal(signal.SIGTERM)
        self.end()

    def end(self, within: float = STOP_SECONDS) -> None:
        """Wait for its end; when that takes too long, kill it."""
        if self._process is None:
            return
        # One that somebody halted (kill -STOP) would not hear.
        self.signal(signal.SIGCONT)
        try:
            self._process.wait(within)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.alive()

    def how_it_ended(self) -> str:
        """`web on host1 was ended by SIGKILL`, or its exit code and its last words."""
        code = self._process.returncode if self._process else None
        if code is not None and code < 0:
            return f"{self.name} was ended by {signal.Signals(-code).name}"
        words = Path(self.log).read_text(errors="replace").strip().splitlines()
        said = f": {words[-1]}" if words else ""
        return f"{self.name} ended with exit code {code}{said}"
