"""What is said of the configuration without a daemon: check-config."""

import click

from smartstack.command import config_option
from smartstack.errors import ConfigError
from smartstack.installed import every_family
from smartstack.live import LiveConfiguration
from synapse.problems import dead_ends
from synapse.settings import Settings
from synapse.using import offered, unknown_names


@click.command("check-config", short_help="Report every problem of the configuration.")
@config_option("synapse")
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
