"""Command lines, run to their end in this process: an interpreter of its own for each would import all anew."""

import io
from contextlib import redirect_stderr, redirect_stdout

import click
import pytest

from smartstack.command import run_command


def run_here(command: click.Command, *arguments: str) -> tuple[int, str, str]:
    """A command's exit code, its output and its errors, as a shell would see them. What it does not catch is raised.

    For commands that ask a daemon or read files. One that is interrupted, changes its process or whose process is the
    subject runs as one.
    """
    output, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(output), redirect_stderr(errors), pytest.raises(SystemExit) as ended:
        run_command(command, arguments)
    code = ended.value.code
    assert isinstance(code, int)
    return code, output.getvalue(), errors.getvalue()
