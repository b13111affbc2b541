"""What nerve's commands have in common when they talk to the nerve that runs."""

import getpass
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import click

from nerve.settings import Settings
from smartstack.command import admin_address, config_option, fetch, post_action
from smartstack.definitions import load_settings
from smartstack.forms import DURATION, TcpAddress
from smartstack.tokens import TOKEN

F = TypeVar("F", bound=Callable[..., Any])

config = config_option("nerve")


def running(command: F) -> F:
    """The options that say which nerve is asked: `path` and `admin`."""
    admin = click.option("--admin", help="The daemon's admin address, instead of the one in nerve.yaml.")
    return config(admin(command))


def duration_option(*names: str, default: str | None = None, help: str) -> Callable[[F], F]:
    """An option that takes a duration with its unit, and gives seconds."""

    def seconds(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
        if value is None:
            return None
        try:
            parsed: float = DURATION.parse(value)
        except ValueError as error:
            raise click.BadParameter(f"{error}, got {value!r}", context, parameter) from None
        return parsed

    return click.option(*names, default=default, callback=seconds, help=help, show_default=default is not None)


@dataclass(frozen=True)
class Daemon:
    """The nerve that runs on this host, and its nerve.yaml, which is read only where it is needed."""

    path: str
    admin: str | None

    @cached_property
    def settings(self) -> Settings:
        """nerve.yaml. Raises ConfigError when it is wrong."""
        return load_settings(Settings, self.path, os.environ)

    @cached_property
    def address(self) -> TcpAddress:
        """Where it is asked."""
        return admin_address(self.admin, lambda: self.settings, self.path)

    def status(self) -> dict[str, Any]:
        """Its /status. Raises SmartStackError when it does not answer."""
        return fetch(self.address, "/status")

    def act(self, path: str, body: dict[str, Any], token: str = TOKEN) -> dict[str, Any]:
        """Ask for an action. Raises SmartStackError when it is refused, or may not be asked for by this user."""
        return post_action(self.address, path, body, os.path.join(self.settings.run_directory, token))


def caller() -> str:
    """Who asks: the person behind sudo, and the host."""
    return f"{os.environ.get('SUDO_USER') or getpass.getuser()}@{socket.gethostname()}"
