"""The `synapse` command."""

from typing import Any

import click

from smartstack import __version__
from smartstack.command import Rooms, config_option, log_options, run_command


@click.group(
    cls=Rooms,
    package=__name__,
    rooms={
        "files": ("check-config",),
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
@config_option("synapse")
@log_options
def run_(path: str, log_level: str, log_format: Any) -> int:
    """Run in the foreground, until SIGTERM or Ctrl-C. HAProxy goes on serving afterwards (see haproxy.on_stop)."""
    # The daemon is most of what there is to import, and no other command has a use for it.
    from smartstack.logs import configure
    from synapse.daemon import run

    configure(log_level, log_format)
    return run(path)


def main() -> None:
    """The console script."""
    run_command(cli)
