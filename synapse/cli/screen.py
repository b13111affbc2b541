"""A screen that is drawn again and again: in place on a terminal, one after the other everywhere else."""

import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final

import click

from smartstack.errors import SmartStackError

INTERVAL_SECONDS: Final = 1.0


def print_line(line: str) -> None:
    """A line, with its colours on a terminal only, and there only where nobody said NO_COLOR (no-color.org)."""
    click.echo(line, color=False if os.environ.get("NO_COLOR") else None)


class Screen:
    """Shows lines in place of those before them, if it may and can."""

    def __init__(self, *, in_place: bool = True) -> None:
        self._in_place = in_place and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self._height = 0

    def show(self, lines: Sequence[str]) -> None:
        """These are the lines now. On a terminal what does not fit is left out, and said to be."""
        if not self._in_place:
            for line in lines:
                print_line(line)
            return
        columns, rows = shutil.get_terminal_size()
        fitting = fit(lines, columns, rows)
        up = f"\x1b[{self._height}A" if self._height else ""
        # A redraw in one piece does not flicker: each line is written over, and its rest cleared.
        sys.stdout.write(f"{up}\r" + "".join(f"{_painted(line)}\x1b[K\n" for line in fitting) + "\x1b[J")
        sys.stdout.flush()
        self._height = len(fitting)


def watch(draw: Callable[[], Sequence[str]], *, in_place: bool = True) -> None:
    """Draw every second, until Ctrl-C. What goes wrong in the first round is raised; later it is shown, or said on
    standard error where not drawn in place, as it may pass (a daemon that is started anew)."""
    screen = Screen(in_place=in_place)
    screen.show(draw())
    while True:
        time.sleep(INTERVAL_SECONDS)
        try:
            lines = draw()
        except SmartStackError as error:
            if not in_place:
                click.echo(str(error), err=True)
                continue
            lines = [str(error)]
        screen.show(lines)


def fit(lines: Sequence[str], columns: int, rows: int) -> list[str]:
    """What of these lines a terminal of this size shows without rolling; the last one says what is left out."""
    room = max(1, rows - 1)
    if len(lines) > room:
        lines = [*lines[: room - 1], f"… {len(lines) - room + 1} more"]
    return [_cut(line, max(1, columns - 1)) for line in lines]


def _cut(line: str, width: int) -> str:
    plain = click.unstyle(line)
    return line if len(plain) <= width else f"{plain[: width - 1]}…"


def _painted(line: str) -> str:
    return click.unstyle(line) if os.environ.get("NO_COLOR") else line
