"""The `synapse` command."""

from typing import Any

import click

from smartstack import __version__
from smartstack.command import Rooms, config_option, log_options, run_command
from smartstack.errors import ConfigError
from smartstack.installed import every_family
from smartstack.live import LiveConfiguration
from smartstack.logs import configure
from synapse.daemon import run
from synapse.problems import dead_ends
from synapse.settings import Settings
from synapse.using import offered, unknown_names

_config = config_option("synapse")


@click.group(
    cls=Rooms,
    package=__name__,
    rooms={
        "follow": ("events",),
        "look": ("plan", "render"),
        "operate": ("accept", "hold", "log-level", "unhold", "wait"),
        "shift": ("fault", "split"),
        "show": ("explain", "holds", "instances", "status"),
        "tapping": ("tap",),
        "traffic": ("edges", "routes", "stat", "top"),
    },
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def cli() -> None:
    """Keeps a local HAProxy in step with the registry, so that services reach each other at fixed local ports."""


@cli.command("run", short_help="Run in the foreground.")
@_config
@log_options
def run_(path: str, log_level: str, log_format: Any) -> int:
    """Run in the foreground, until SIGTERM or Ctrl-C. HAProxy goes on serving afterwards (see haproxy.on_stop)."""
    configure(log_level, log_format)
    return run(path)


@cli.command("check-config", short_help="Report every problem of the configuration.")
@_config
def check_config(path: str) -> None:
    """Read synapse.yaml and every service definition, and report every problem in them. Exits with 2 if there is
    one."""
    configuration = LiveConfiguration(Settings, path, families=every_family(), writes=False)
    view = configuration.view
    problems = [problem for name in sorted(view.problems) for problem in view.problems[name]]
    problems.extend((*unknown_names(configuration), *dead_ends(configuration)))
    if problems:
        raise ConfigError(problems)
    count = len(offered(view.definitions, configuration.settings.use))
    click.echo(f"ok: {count} service{'' if count == 1 else 's'}")


def main() -> None:
    """The console script."""
    run_command(cli)
