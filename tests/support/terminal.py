"""Commands as people run them: on a terminal, and beside it."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

PROGRAMS = Path(sys.executable).parent


class Terminal:
    """A program on a terminal of so many columns and rows; what it has written there is in `text`."""

    def __init__(
        self, command: Sequence[str], *, columns: int = 120, rows: int = 30, env: Mapping[str, str] | None = None
    ) -> None:
        self.text = ""
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        variables = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
        self._process = subprocess.Popen(
            command,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            env={**variables, "TERM": "xterm", **(env or {})},
        )
        os.close(theirs)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def send(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def wait(self, within: float = 15.0) -> int:
        """Wait for its end, and for all that it wrote; its exit code."""
        code = self._process.wait(within)
        self._reader.join(within)
        return code

    def close(self) -> None:
        """Make sure that it does not run."""
        if self._process.poll() is None:
            self._process.kill()
        self.wait()
        os.close(self._ours)

    def _read(self) -> None:
        with suppress(OSError):  # the other side is closed
            while data := os.read(self._ours, 65_536):
                self.text += data.decode()
