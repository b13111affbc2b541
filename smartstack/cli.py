"""`smartstack`: what belongs to neither daemon."""

import json

import click

from smartstack import __version__
from smartstack.command import run_command
from smartstack.definition import ServiceDefinition
from smartstack.demo.layout import HIGHEST_PORT_BASE, LOWEST_PORT_BASE, USUAL_PORT_BASE
from smartstack.errors import SmartStackError
from smartstack.installed import every_family, settings_models
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
