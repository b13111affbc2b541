"""The systemd units: that they start commands that exist, and keep HAProxy alive when synapse is not."""

import configparser
import shlex
from pathlib import Path

import click
import pytest

import nerve.cli
import synapse.cli

UNITS = Path(__file__).parents[2] / "config" / "systemd"
COMMANDS = {"nerve": nerve.cli.cli, "synapse": synapse.cli.cli}


class Unit(configparser.RawConfigParser):
    """A unit file, whose keys keep their case."""

    def optionxform(self, optionstr: str) -> str:
        return optionstr


def unit(name: str) -> Unit:
    parser = Unit(strict=True)
    parser.read_string((UNITS / f"{name}.service").read_text())
    return parser


@pytest.mark.parametrize("name", COMMANDS)
def test_a_unit_starts_a_command_that_exists(name: str) -> None:
    """The command line of the unit is one that the command takes, and its process tells systemd of itself."""
    service = unit(name)["Service"]
    program, subcommand, *arguments = shlex.split(service["ExecStart"])
    assert Path(program).name == name
    group = COMMANDS[name]
    assert isinstance(group, click.Group)
    context = group.commands[subcommand].make_context(subcommand, arguments)
    assert f"/etc/smartstack/{name}.yaml" in context.params.values()
    assert service["Type"] == "notify"
    assert int(service["WatchdogSec"]) > 30


def test_synapses_unit_leaves_haproxy_alone() -> None:
    """When synapse stops, systemd kills only synapse, and HAProxy keeps its sockets for the next one."""
    service = unit("synapse")["Service"]
    assert service["KillMode"] == "process"
    assert service["RuntimeDirectoryPreserve"] == "yes"
    assert service["RuntimeDirectory"] == "smartstack/synapse"
