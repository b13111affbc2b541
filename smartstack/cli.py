"""`smartstack`: what belongs to neither daemon."""

import json
import os

import click

from smartstack import __version__
from smartstack.command import run_command
from smartstack.definition import ServiceDefinition
from smartstack.demo.layout import HIGHEST_PORT_BASE, LOWEST_PORT_BASE, USUAL_PORT_BASE
from smartstack.errors import SmartStackError
from smartstack.installed import every_family, settings_models
from smartstack.process import write_atomically
from smartstack.schema import json_schema


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="smartstack")
def smartstack() -> None:
    """Tools around nerve and synapse."""


@smartstack.command()
@click.argument("file", type=click.Choice(["service", "nerve", "synapse"]), metavar="service|nerve|synapse")
def schema(file: str) -> None:
    """Print the JSON Schema of a configuration file, for editors and for checks before a rollout.

    An editor with yaml-language-server uses it after a first line such as

    \b
        # yaml-language-server: $schema=service.schema.json
    """
    models = {"service": ServiceDefinition, **settings_models()}
    if file not in models:
        raise SmartStackError(f"cannot print the schema of {file}: it is not installed here; pip install it again")
    click.echo(json.dumps(json_schema(models[file], every_family(), f"{file} configuration"), indent=2))


@smartstack.command()
@click.argument("directory", type=click.Path(file_okay=False))
def monitoring(directory: str) -> None:
    """Write what Prometheus and Grafana need into DIRECTORY: prometheus/prometheus.yml with its rules, and a dashboard
    in each file of grafana/. What stands there by these names is replaced.
    """
    from smartstack.monitoring.files import monitoring_files

    for name, text in monitoring_files().items():
        path = os.path.join(directory, name)
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
        except OSError as error:
            raise SmartStackError(f"cannot make the directory of {path}: {error.strerror}") from error
        write_atomically(path, text.encode(), 0o644, durable=False)
        click.echo(path)


@smartstack.command()
@click.option("--tour", is_flag=True, help="Break things one after the other, then exit: 0 if no request failed.")
@click.option(
    "--registry",
    type=click.Choice(["file", "zookeeper"]),
    default="file",
    show_default=True,
    help="A directory, or a ZooKeeper that the demo starts.",
)
@click.option("--directory", help="Keep the files here: a new or empty directory. Default: a temporary one.")
@click.option(
    "--port-base",
    type=click.IntRange(LOWEST_PORT_BASE, HIGHEST_PORT_BASE),
    default=USUAL_PORT_BASE,
    show_default=True,
    help="Where web is reached; every other port moves with it.",
)
def demo(tour: bool, registry: str, directory: str | None, port_base: int) -> int:
    """Run a fleet on this machine, until Ctrl-C: something to break, without harm.

    Three instances of a service `web` and two of `api`, on three simulated hosts (127.0.0.11 to 127.0.0.13) with a
    nerve each; one synapse with its HAProxy; and a client that asks web and api all the time.
    """
    from smartstack.demo.run import demo as run_demo

    return run_demo(registry=registry, tour=tour, directory=directory, port_base=port_base)


def main() -> None:
    """The console script."""
    run_command(smartstack)
