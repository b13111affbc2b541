"""Keeps the file in step that tells Prometheus whom to ask, on a thread of its own."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from smartstack.errors import SmartStackError
from smartstack.logs import EventLog
from smartstack.process import write_atomically
from synapse.fleet.peers import Known
from synapse.fleet.targets import text

EVERY_SECONDS: Final = 5.0
STOP_SECONDS: Final = 3.0


class TargetFile:
    """Writes until it is stopped. `known` says who is announced, and may wait for that a moment.

    Only what the registry says now is written: while it is away, Prometheus goes on with those of before. `problem` is
    what keeps the file from being written.
    """

    def __init__(self, path: str, nerve_port: int | None, known: Callable[[], Known], log: EventLog) -> None:
        self.problem: str | None = None
        self._path = Path(path)
        self._nerve_port = nerve_port
        self._known = known
        self._log = log
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="targets", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; the file stays."""
        self._stopping.set()
        self._thread.join(STOP_SECONDS)

    def turn(self) -> None:
        """Look once, and write what changed."""
        known = self._known()
        if known.problem is not None:
            return
        problem = None
        try:
            _replace(self._path, text(known.peers, self._nerve_port).encode())
        except SmartStackError as error:
            problem = str(error)
        if problem is not None and problem != self.problem:
            self._log.warning("Prometheus is not told whom to ask", why=problem)
        self.problem = problem

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.turn()
            self._stopping.wait(EVERY_SECONDS)


def _replace(path: Path, content: bytes) -> None:
    """Raises SmartStackError."""
    try:
        if path.read_bytes() == content:
            return
    except OSError:
        pass  # whatever stands there is replaced
    try:
        os.makedirs(path.parent, exist_ok=True)
    except OSError as error:
        raise SmartStackError(f"cannot make the directory {path.parent}: {error.strerror}") from error
    write_atomically(path, content)
