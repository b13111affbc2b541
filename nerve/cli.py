"""The `nerve` command."""

import json
import os
import time
from typing import Any

import click

from nerve.address import advertised_address
from nerve.daemon import run
from nerve.registrations import Host
from nerve.services import announced
from nerve.settings import Settings
from smartstack import __version__
from smartstack.command import admin_address, config_option, fetch_status, log_options, run_command
from smartstack.definitions import load_settings
from smartstack.errors import ConfigError, Problem
from smartstack.installed import check_families
from smartstack.instance import printable
from smartstack.live import LiveConfiguration
from smartstack.logs import EventLog, configure

_config = config_option("nerve")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
def cli() -> None:
    """Checks the services on this host and keeps the well ones registered, so that every synapse finds them."""


@cli.command("run", short_help="Run in the foreground.")
@_config
@log_options
def run_(path: str, log_level: str, log_format: Any) -> int:
    """Run in the foreground, until SIGTERM or Ctrl-C; then deregister everything.

    Edits of nerve.yaml and of the service definitions take effect while it runs, service by service. A file that is
    wrong leaves everything as it was: see the log, `nerve status`, and the metric nerve_config_problems.
    """
    configure(log_level, log_format)
    return run(path, EventLog("nerve"))


@cli.command("check-config", short_help="Report every problem of the configuration.")
@_config
def check_config(path: str) -> None:
    """Read nerve.yaml and every service definition, and report every problem in them. Exits with 2 if there is one."""
    live = LiveConfiguration(Settings, path, families=check_families(), writes=False)
    settings, view = live.settings, live.view
    problems = [problem for name in sorted(view.problems) for problem in view.problems[name]]
    try:
        address = advertised_address(settings, path)
    except ConfigError as error:
        problems.extend(error.problems)
        address = "127.0.0.1"
    instance_id = settings.instance_id or "host"
    host = Host(address=address, instance_id=instance_id, labels=settings.labels, node_names=settings.node_names)
    found = announced(settings, view.definitions, host, broken=view.problems)
    for name, message in found.problems.items():
        # One whose file is wrong is reported with its file already.
        if name not in view.problems:
            problems.append(Problem(path=path, key=f"announce.{name}", message=message))
    if problems:
        raise ConfigError(problems)
    click.echo(f"ok: {_count(len(found.services), 'service')}")


@cli.command("status", short_help="What the running nerve sees.")
@_config
@click.option("--admin", "admin", help="The daemon's admin address, instead of the one in nerve.yaml.")
@click.option("--json", "as_json", is_flag=True, help="The whole of /status.")
def status(path: str, admin: str | None, as_json: bool) -> None:
    """Ask the running nerve what it sees: every service, its checks, its registration, and what is wrong."""
    answer = fetch_status(admin_address(admin, lambda: load_settings(Settings, path, os.environ), path))
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    for line in status_lines(answer, time.time()):
        click.echo(line)


def status_lines(answer: dict[str, Any], now: float) -> list[str]:
    """/status for people; `now` in seconds since the epoch."""
    registry = answer.get("registry", {})
    error = answer.get("registry_error")
    link = "connected" if registry.get("connected") and not error else "AWAY"
    session = f" (session {registry['session']})" if registry.get("session") else ""
    lines = [f"registry  {link}: {error or registry.get('detail', 'unknown')}{session}"]
    if answer.get("needs_restart"):
        lines.append(f"restart   needed for the edited settings: {', '.join(answer['needs_restart'])}")
    for problems in answer.get("problems", {}).values():
        lines.extend(f"problem   {printable(problem, 500)}" for problem in problems)
    rows = [("SERVICE", "STATE", "FOR", "ADDRESS", "REGISTERED", "REASON")]
    for name, service in answer.get("services", {}).items():
        rows.append(
            (
                name,
                service["state"].upper() if service["state"] == "down" else service["state"],
                _age(now - service["since"]),
                service["address"],
                _registered(service),
                service["error"] or service["reason"],
            )
        )
        if len(service["checks"]) > 1:
            for check, one in service["checks"].items():
                last = one["last"]
                reason = f"{last['reason']} ({last['duration_seconds'] * 1000:.0f} ms)" if last else "no result yet"
                rows.append((f"  {check}", one["state"], _age(now - one["since"]), "", "", reason))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines.append("")
    lines.extend("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return lines


def main() -> None:
    """The console script."""
    run_command(cli)


def _registered(service: dict[str, Any]) -> str:
    if service["contested"]:
        return "CONTESTED"
    return {True: "yes", False: "no", None: "unknown"}[service["registered"]]


def _age(seconds: float) -> str:
    """`4s`, `12m`, `3h`, `9d`: the largest unit that is not zero."""
    for name, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f}{name}"
    return f"{max(0.0, seconds):.0f}s"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
