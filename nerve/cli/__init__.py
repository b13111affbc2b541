"""The `nerve` command."""

from typing import Any

import click

from smartstack import __version__
from smartstack.command import Rooms, config_option, log_options, run_command


@click.group(
    cls=Rooms,
    package=__name__,
    rooms={
        "clean": ("clean",),
        "files": ("check-config",),
        "operate": ("check", "drain", "heartbeat", "log-level", "undrain", "wait"),
        "show": ("explain", "maintenance", "status"),
    },
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def cli() -> None:
    """Checks the services on this host and keeps the well ones registered, so that every synapse finds them."""


@cli.command("run", short_help="Run in the foreground.")
@config_option("nerve")
@log_options
def run_(path: str, log_level: str, log_format: Any) -> int:
    """Run in the foreground, until SIGTERM or Ctrl-C; then `on_stop` says what becomes of what is registered.

    Edits of nerve.yaml and of the service definitions take effect while it runs, service by service. A file that is
    wrong leaves everything as it was: see the log, `nerve status`, and the metric nerve_config_problems.
    """
    # The daemon is most of what there is to import, and no other command has a use for it.
    from nerve.daemon import run
    from smartstack.logs import EventLog, configure
    from smartstack.process import share_one_heap

    share_one_heap()
    configure(log_level, log_format)
    return run(path, EventLog("nerve"))


def main() -> None:
    """The console script."""
    run_command(cli)
