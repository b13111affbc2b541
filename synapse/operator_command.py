"""Commands that the operator gave: run in bounded time, with their last words where they fail."""

import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress

from smartstack.file_text import reason

_WORDS_LIMIT = 300


def run_command(
    command: Sequence[str],
    timeout_seconds: float,
    *,
    environment: Mapping[str, str] | None = None,
    end_group: bool = False,
) -> str | None:
    """Run it and wait; None when it ended with 0, else what went wrong, in words.

    `environment` is added to ours. What takes too long is ended; with `end_group` whatever it started, too. A process
    that it leaves behind otherwise, such as a daemon, is not waited for.
    """
    shown = " ".join(command)
    ours = {key: value for key, value in os.environ.items() if key != "NOTIFY_SOCKET"}
    # Not a pipe: a daemon that the command leaves behind would keep it open.
    with tempfile.TemporaryFile() as output:
        try:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env={**ours, **(environment or {})},
                cwd="/",
            )
        except OSError as error:
            return f"cannot run {shown}: {reason(error)}"
        try:
            code = child.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            with suppress(OSError):
                if end_group:
                    os.killpg(child.pid, signal.SIGKILL)
                else:
                    child.kill()
            child.wait()
            return f"{shown} took longer than {timeout_seconds:g} s and was ended"
        output.seek(0)
        words = " ".join(output.read().decode("utf-8", "replace").split())[-_WORDS_LIMIT:]
    return None if code == 0 else f"{shown} ended with {code}: {words or 'without a word'}"
