"""What is said of the configuration without a daemon: check-config."""

import click

from nerve.address import advertised_address
from nerve.registrations import MAIN, Host
from nerve.services import announced
from nerve.settings import Settings
from smartstack.command import config_option
from smartstack.errors import ConfigError, Problem
from smartstack.installed import every_family
from smartstack.live import LiveConfiguration


@click.command("check-config", short_help="Report every problem of the configuration.")
@config_option("nerve")
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
    count = len(found.services)
    click.echo(f"ok: {count} service{'' if count == 1 else 's'}")
