"""`smartstack`: what belongs to neither daemon."""

import json

import click

from smartstack import __version__
from smartstack.command import run_command
from smartstack.definition import ServiceDefinition
from smartstack.errors import SmartStackError
from smartstack.installed import check_families, settings_models
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
    click.echo(json.dumps(json_schema(models[file], check_families(), f"{file} configuration"), indent=2))


def main() -> None:
    """The console script."""
    run_command(smartstack)
