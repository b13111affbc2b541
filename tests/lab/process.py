"""One process of the lab, in the namespace of its host: started, ended, hung, and started again."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.lab.network import inside

END_SECONDS = 15.0


class Process:
    """`log` takes what it prints; `environment` is added to the lab's own at its next start."""

    def __init__(self, namespace: str, command: Sequence[str], log: Path) -> None:
        self.log = log
        self.environment: dict[str, str] = {}
        self._namespace = namespace
        self._command = list(command)
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id. Raises LookupError when it does not run."""
        if not self.running or self._child is None:
            raise LookupError(f"{self._command[-1]} does not run")
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._child is not None and self._child.poll() is None

    def start(self) -> None:
        """Start it, unless it runs."""
        if self.running:
            return
        environment: Mapping[str, str] = {**os.environ, **self.environment}
        with open(self.log, "ab") as log:
            self._child = subprocess.Popen(
                inside(self._namespace, self._command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )

    def send(self, number: signal.Signals) -> None:
        """Send it a signal; nothing where it does not run."""
        if self.running and self._child is not None:
            self._child.send_signal(number)

    def end(self, number: signal.Signals) -> None:
        """Send it a signal that ends it, and wait for that; after 15 s it is killed."""
        if not self.running or self._child is None:
            return
        self.send(number)
        try:
            self._child.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
