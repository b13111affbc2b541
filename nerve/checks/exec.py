"""The `exec` check: a program ends with exit code 0. It never goes through a shell."""

import atexit
import contextlib
import os
import selectors
import shlex
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from nerve.checks.base import Outcome, Pace, Target, failed, passed, seconds_text
from smartstack.forms import PROGRAM
from smartstack.model import Form

OUTPUT_LIMIT = 4096
"""How much of the end of a program's output is kept, in bytes; all of it is read, so that it never blocks."""

_POLL_SECONDS = 0.05
_SOON_SECONDS = 0.001
_PIPE_SIZE = 65_536


def _command(value: Any) -> tuple[str, ...]:
    wrong = "must be a command, such as [/usr/bin/check, --fast] or '/usr/bin/check --fast'"
    try:
        parts = shlex.split(value) if isinstance(value, str) else value
    except ValueError as error:
        raise ValueError(f"{wrong}: {str(error).lower()}") from None
    if not isinstance(parts, list | tuple) or not parts or not all(isinstance(part, str) for part in parts):
        raise ValueError(wrong)
    if not parts[0] or any("\0" in part for part in parts):
        raise ValueError(wrong)
    return tuple(parts)


def _anchor(command: tuple[str, ...], directory: str) -> tuple[str, ...]:
    assert PROGRAM.anchor is not None
    return (PROGRAM.anchor(command[0], directory), *command[1:])


COMMAND = Form(
    _command,
    {"anyOf": [{"type": "string", "minLength": 1}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]},
    anchor=_anchor,
)
"""A list of words, or one text that is split as a shell would split it; nothing else of a shell happens.

The program is a path, or a bare name that is looked up in PATH.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecCheck(Pace):
    """Run a program. Passes when it exits with 0 in time; its last line of output is the reason.

    It finds the instance's address in `SMARTSTACK_HOST` and `SMARTSTACK_PORT`. When it has ended, and at the time-out,
    what is there of its process group is killed: one that leaves something behind would fill the host, run by run.
    """

    kind: ClassVar[str] = "exec"

    command: Annotated[tuple[str, ...], "the program and its arguments; no shell is involved", COMMAND]

    def run(self, target: Target) -> Outcome:
        """Raises nothing for what the program does, or when it cannot be started."""
        address = target.address
        environment = {**os.environ, "SMARTSTACK_HOST": address.host, "SMARTSTACK_PORT": str(address.port)}
        try:
            process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            return failed(f"cannot run {self.command[0]}: {(error.strerror or str(error)).lower()}")
        with _group(process):
            output, ended = _drain(process, time.monotonic() + self.timeout)
        code = process.returncode if ended else None
        line = _last_line(output)
        if code is None:
            return failed(f"killed after {seconds_text(self.timeout)}" + (f", last output: {line}" if line else ""))
        if code == 0:
            return passed(line or "exit 0")
        how = f"exit {code}" if code > 0 else f"ended by {_signal_name(-code)}"
        return failed(f"{how}: {line}" if line else how)


class _group:
    """A running program and everything that it started: killed when the block ends, or when nerve itself ends."""

    _running: ClassVar[set[int]] = set()
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    def __enter__(self) -> None:
        with self._lock:
            self._running.add(self._process.pid)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            # It was not reaped yet, so its number still names this group and no other.
            _kill_group(self._process.pid)
            self._running.discard(self._process.pid)
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    @classmethod
    def kill_all(cls) -> None:
        with cls._lock:
            for group in cls._running:
                _kill_group(group)


atexit.register(_group.kill_all)


def _kill_group(group: int) -> None:
    # Gone already, or it changed its user: then nothing of ours is left to kill.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _drain(process: "subprocess.Popen[bytes]", deadline: float) -> tuple[bytes, bool]:
    """Read the output until the program has ended or the time is over; the last few KB of it, and whether it has ended.

    A program that ends while something that it started keeps the pipe open has ended all the same.
    """
    assert process.stdout is not None
    tail = b""
    descriptor = process.stdout.fileno()
    os.set_blocking(descriptor, False)
    with selectors.PollSelector() as selector:  # it needs no descriptor of its own
        selector.register(descriptor, selectors.EVENT_READ)
        ended = False
        while not ended and (left := deadline - time.monotonic()) > 0:
            # Looked at before the read: once it has ended, one read takes all that it left in the pipe.
            ended = _has_ended(process)
            if selector.select(0 if ended else min(left, _POLL_SECONDS)):
                part = os.read(descriptor, _PIPE_SIZE)
                if not part:
                    break
                tail = (tail + part)[-OUTPUT_LIMIT:]
    # Where its output is closed already it ends at once as a rule, and may live on all the same.
    pause = _SOON_SECONDS
    while not ended and not (ended := _has_ended(process)) and (left := deadline - time.monotonic()) > 0:
        time.sleep(min(left, pause))
        pause = min(2 * pause, _POLL_SECONDS)
    return tail, ended


def _has_ended(process: "subprocess.Popen[bytes]") -> bool:
    """Whether the program has ended. It is not reaped, so that its number stays its own."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _last_line(output: bytes) -> str:
    lines = output.decode("utf-8", "replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
