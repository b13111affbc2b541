"""What the commands of both daemons have in common when they talk to the daemon that runs."""

import getpass
import os
import socket
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, Protocol, TypeVar

import click

from smartstack.command import HasAdmin, admin_address, config_option, fetch, post_action
from smartstack.definitions import load_settings
from smartstack.forms import DURATION, TcpAddress
from smartstack.tokens import TOKEN

FOREVER = "forever"
"""In place of a duration, where one is taken: without an end."""


class HasRunDirectory(HasAdmin, Protocol):
    """Host settings that say where the daemon is asked, and where its tokens are."""

    @property
    def run_directory(self) -> str: ...


F = TypeVar("F", bound=Callable[..., Any])
S = TypeVar("S", bound=HasRunDirectory)


def running_options(daemon: str) -> Callable[[F], F]:
    """The options that say which daemon is asked: `path` and `admin`."""

    def options(command: F) -> F:
        admin = click.option("--admin", help=f"The daemon's admin address, instead of the one in {daemon}.yaml.")
        return config_option(daemon)(admin(command))

    return options


json_option = click.option("--json", "as_json", is_flag=True, help="For programs, as JSON.")


def duration_option(*names: str, default: str | None = None, forever: bool = False, help: str) -> Callable[[F], F]:
    """An option that takes a duration with its unit, and gives seconds; None where it is left out and has no default,
    and infinity for `forever`, where that is taken."""

    def seconds(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
        if value is None:
            return None
        if forever and value == FOREVER:
            return float("inf")
        try:
            parsed: float = DURATION.parse(value)
        except ValueError as error:
            raise click.BadParameter(f"{error}, got {value!r}", context, parameter) from None
        return parsed

    return click.option(*names, default=default, callback=seconds, help=help, show_default=default is not None)


@dataclass(frozen=True)
class RunningDaemon(Generic[S]):
    """The daemon that runs on this host, and its own file, which is read only where it is needed."""

    model: type[S]
    path: str
    admin: str | None

    @cached_property
    def settings(self) -> S:
        """Its file. Raises ConfigError when it is wrong."""
        return load_settings(self.model, self.path, os.environ)

    @cached_property
    def address(self) -> TcpAddress:
        """Where it is asked."""
        return admin_address(self.admin, lambda: self.settings, self.path)

    def get(self, path: str, timeout_seconds: float | None = None) -> dict[str, Any]:
        """The JSON object that it answers for this path; None waits as long as for any answer. Raises SmartStackError
        when it does not answer in time."""
        return fetch(self.address, path, timeout_seconds)

    def status(self) -> dict[str, Any]:
        """Its /status. Raises SmartStackError when it does not answer."""
        return self.get("/status")

    def act(self, path: str, body: dict[str, Any], token: str = TOKEN) -> dict[str, Any]:
        """Ask for an action. Raises SmartStackError when it is refused, or may not be asked for by this user."""
        return post_action(self.address, path, body, os.path.join(self.settings.run_directory, token))


def caller() -> str:
    """Who asks: the person behind sudo, and the host."""
    return f"{os.environ.get('SUDO_USER') or getpass.getuser()}@{socket.gethostname()}"


def table(rows: Sequence[tuple[str, ...]], *, right: Collection[int] = ()) -> list[str]:
    """Rows as lines, each column as wide as its widest cell; in those numbered in `right` the cells end together, as
    numbers should. Colours take no room."""
    columns = range(len(rows[0]))
    lengths = [[len(click.unstyle(cell)) for cell in row] for row in rows]
    widths = [max(row[column] for row in lengths) for column in columns]

    def padded(row: int, column: int) -> str:
        cell, space = rows[row][column], " " * (widths[column] - lengths[row][column])
        return space + cell if column in right else cell + space

    return ["  ".join(padded(row, column) for column in columns).rstrip() for row in range(len(rows))]


def age(seconds: float) -> str:
    """`4s`, `12m`, `3h`, `9d`: the largest unit that is not zero."""
    for name, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f}{name}"
    return f"{max(0.0, seconds):.0f}s"
