"""The `synapse` command."""

import json
import os
import time
from typing import Any

import click

from smartstack import __version__
from smartstack.command import admin_address, config_option, fetch_status, log_options, run_command
from smartstack.definitions import load_settings
from smartstack.errors import ConfigError, SmartStackError
from smartstack.installed import every_family, source_families
from smartstack.instance import MAINTENANCE_LABEL, printable
from smartstack.live import LiveConfiguration
from smartstack.logs import configure
from smartstack.wake import Wake
from synapse.control import Look
from synapse.daemon import run
from synapse.haproxy.commands import command as runtime_command
from synapse.haproxy.errors import HAProxyAway
from synapse.loop import Synapse
from synapse.settings import Settings
from synapse.using import offered, unknown_names

_config = config_option("synapse")
_wait = click.option(
    "--wait",
    "wait_seconds",
    default=5.0,
    type=click.FloatRange(min=0),
    show_default=True,
    help="Seconds to wait for the registry.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
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
    """Read synapse.yaml and every service definition, and report every problem in them."""
    configuration = LiveConfiguration(Settings, path, families=every_family(), writes=False)
    view = configuration.view
    problems = [problem for name in sorted(view.problems) for problem in view.problems[name]]
    problems.extend(unknown_names(configuration))
    if problems:
        raise ConfigError(problems)
    count = len(offered(view.definitions, configuration.settings.use))
    click.echo(f"ok: {count} service{'' if count == 1 else 's'}")


@cli.command("render", short_help="The haproxy.cfg that is wanted now.")
@_config
@_wait
def render(path: str, wait_seconds: float) -> None:
    """Print the haproxy.cfg that is wanted now. Changes nothing."""
    synapse, look = _look(path, wait_seconds)
    _warn(synapse, wait_seconds)
    click.echo(synapse.render(look), nl=False)


@cli.command("plan", short_help="What would be done now, and why.")
@_config
@_wait
def plan_(path: str, wait_seconds: float) -> None:
    """Print what would be done now to bring HAProxy in step, and why. Changes nothing."""
    synapse, look = _look(path, wait_seconds)
    _warn(synapse, wait_seconds)
    if look.observed is None:
        click.echo("HAProxy is not running: it would be started")
    else:
        click.echo(f"HAProxy runs, pid {look.observed.pid}, structure {look.observed.description}")
    for name, offer in sorted(synapse.offers.by_name.items()):
        click.echo(f"{name}: {offer.choice.origin.value}, {offer.choice.reason}")
    for action in look.plan.actions:
        click.echo(f"runtime: {runtime_command(action)}  # {action.host}:{action.port}")
    if look.observed is not None:
        for reason in look.plan.reload_reasons:
            click.echo(f"reload: {reason}")
    if look.plan.empty:
        click.echo("nothing to do")


@cli.command("status", short_help="What the running synapse sees.")
@_config
@click.option("--admin", "admin", help="The daemon's admin address, instead of the one in synapse.yaml.")
@click.option("--json", "as_json", is_flag=True, help="The whole of /status.")
def status(path: str, admin: str | None, as_json: bool) -> None:
    """Ask the running synapse what it sees: every service, its instances, and what is wrong."""
    answer = fetch_status(admin_address(admin, lambda: load_settings(Settings, path, os.environ), path))
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    for line in status_lines(answer):
        click.echo(line)


def status_lines(answer: dict[str, Any]) -> list[str]:
    """/status for people."""
    haproxy, registry = answer.get("haproxy", {}), answer.get("registry", {})
    runs = f"running, pid {haproxy['pid']}" if haproxy.get("running") else "NOT RUNNING, or it does not answer"
    lines = [
        f"registry  {'connected' if registry.get('connected') else 'AWAY'}: {registry.get('detail', 'unknown')}",
        f"haproxy   {runs}",
    ]
    for name, other in answer.get("registries", {}).items():
        lines.append(f"registry  {name} {'connected' if other['connected'] else 'AWAY'}: {other['detail']}")
    if answer.get("error"):
        lines.append(f"error     {answer['error']}")
    for problems in answer.get("problems", {}).values():
        lines.extend(f"problem   {problem}" for problem in problems)
    if answer.get("needs_restart"):
        lines.append(f"restart   needed for the edited settings: {', '.join(answer['needs_restart'])}")
    for name, service in answer.get("services", {}).items():
        place = service["listen"] or ("not offered" if service["refused_definition"] else "discovery only")
        lines.append(f"\n{name}  {place}  ({service['origin']}: {service['reason']})")
        if service["refused_definition"]:
            lines.append(f"  definition not in use: {service['refused_definition']}")
        for each in service["instances"]:
            weight = "" if each["weight"] is None else f"  weight {each['weight']}"
            lines.append(f"  {each['address']:<24} {each['state']}{weight}{_maintenance(each['labels'])}")
        lines.extend(f"  refused node {each['node']}: {each['reason']}" for each in service["refused_nodes"])
    return lines


def _maintenance(labels: dict[str, str]) -> str:
    """Why an instance is drained, as its nerve says."""
    reason = labels.get(MAINTENANCE_LABEL)
    owner = labels.get(f"{MAINTENANCE_LABEL}_owner")
    return "" if reason is None else f"  {printable(reason, 200)}" + (f" ({printable(owner)})" if owner else "")


def main() -> None:
    """The console script."""
    run_command(cli)


def _warn(synapse: Synapse, wait_seconds: float) -> None:
    """On standard error: what keeps the answer from being the whole truth."""
    for problems in synapse.problems().values():
        for problem in problems:
            click.echo(f"warning: {problem}; what was in use stays in use", err=True)
    for name in synapse.missing():
        click.echo(f"warning: the registry has not said anything on {name} within {wait_seconds:g} s", err=True)


def _look(path: str, wait_seconds: float) -> tuple[Synapse, Look]:
    """What a synapse with this configuration would do now, once the registry has said something on every service."""
    configure("warning", "text")
    wake = Wake()
    synapse = Synapse(LiveConfiguration(Settings, path, families=source_families(), writes=False), wake, acts=False)
    synapse.sources.start(wake.ring)
    try:
        synapse.remember_running()
        end = time.monotonic() + wait_seconds
        while True:
            synapse.look_up()
            left = end - time.monotonic()
            if not synapse.missing() or left <= 0:
                break
            wake.wait(min(left, 0.2))
        return synapse, synapse.controller.look(synapse.offers.by_name, synapse.offers.by_name, everything=True)
    except HAProxyAway as away:
        raise SmartStackError(f"{away}; synapse itself would wait for it") from away
    finally:
        synapse.sources.stop()
