"""The `nerve` command."""

from typing import Any

import click

from nerve.address import advertised_address
from nerve.daemon import run
from nerve.registrations import MAIN, Host
from nerve.services import announced
from nerve.settings import Settings
from smartstack import __version__
from smartstack.command import Rooms, config_option, log_options, run_command
from smartstack.errors import ConfigError, Problem
from smartstack.installed import every_family
from smartstack.live import LiveConfiguration
from smartstack.logs import EventLog, configure
from smartstack.process import share_one_heap

_config = config_option("nerve")


@click.group(
    cls=Rooms,
    package=__name__,
    rooms={
        "clean": ("clean",),
        "operate": ("check", "drain", "heartbeat", "log-level", "undrain", "wait"),
        "show": ("explain", "maintenance", "status"),
    },
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def cli() -> None:
    """Checks the services on this host and keeps the well ones registered, so that every synapse finds them."""


@cli.command("run", short_help="Run in the foreground.")
@_config
@log_options
def run_(path: str, log_level: str, log_format: Any) -> int:
    """Run in the foreground, until SIGTERM or Ctrl-C; then `on_stop` says what becomes of what is registered.

    Edits of nerve.yaml and of the service definitions take effect while it runs, service by service. A file that is
    wrong leaves everything as it was: see the log, `nerve status`, and the metric nerve_config_problems.
    """
    share_one_heap()
    configure(log_level, log_format)
    return run(path, EventLog("nerve"))


@cli.command("check-config", short_help="Report every problem of the configuration.")
@_config
def check_config(path: str) -> None:
    """Read nerve.yaml and every service definition, and report every problem in them. Exits with 2 if there is one."""
    live = LiveConfiguration(Settings, path, families=every_family(), writes=False)
    settings, view = live.settings, live.view
    problems = [problem for name in sorted(view.problems) for problem in view.problems[name]]
    try:
        address = advertised_address(settings, path)
    except ConfigError as error:
        problems.extend(error.problems)
        address = "127.0.0.1"
    instance_id = settings.instance_id or "host"
    host = Host(address=address, instance_id=instance_id, labels=settings.labels, node_names=settings.node_names)
    found = announced(settings, view.definitions, host, registries=(MAIN, *settings.registries), broken=view.problems)
    for name, message in found.problems.items():
        # One whose file is wrong is reported with its file already.
        if name not in view.problems:
            problems.append(Problem(path=path, key=f"announce.{name}", message=message))
    if problems:
        raise ConfigError(problems)
    click.echo(f"ok: {_count(len(found.services), 'service')}")


def main() -> None:
    """The console script."""
    run_command(cli)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
