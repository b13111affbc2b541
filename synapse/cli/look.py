"""Commands that look for themselves, without the synapse that runs: plan, render."""

import json
import time
from contextlib import suppress
from typing import Any

import click

from smartstack.command import config_option, fetch_status
from smartstack.errors import SmartStackError
from smartstack.installed import source_families
from smartstack.live import LiveConfiguration
from smartstack.logs import configure
from smartstack.talk import json_option
from smartstack.wake import Wake
from synapse.control import Look
from synapse.haproxy.errors import HAProxyAway
from synapse.loop import Synapse
from synapse.outlook import outlook, outlook_lines
from synapse.settings import Settings

_config = config_option("synapse")
_wait = click.option(
    "--wait",
    "wait_seconds",
    default=5.0,
    type=click.FloatRange(min=0),
    show_default=True,
    help="Seconds to wait for the registry.",
)


@click.command(short_help="The haproxy.cfg that is wanted now.")
@_config
@_wait
def render(path: str, wait_seconds: float) -> None:
    """Print the haproxy.cfg that is wanted now. Changes nothing."""
    synapse, look, _ = _look(path, wait_seconds)
    _warn(synapse, wait_seconds)
    click.echo(synapse.render(look), nl=False)


@click.command(short_help="What would be done now, and why.")
@_config
@_wait
@json_option
def plan(path: str, wait_seconds: float, as_json: bool) -> None:
    """Print what would be done now to bring HAProxy in step, and why, service by service. Changes nothing.

    HAProxy is not asked whether it would take a new file: what the synapse that runs found out of that is told.
    """
    synapse, look, running = _look(path, wait_seconds)
    _warn(synapse, wait_seconds)
    refusals = {name: one["refused_definition"] for name, one in running.items() if one.get("refused_definition")}
    told = outlook(look.plan, look.observed, synapse.offers.by_name, refusals)
    if as_json:
        click.echo(json.dumps(told, indent=2))
        return
    for line in outlook_lines(told):
        click.echo(line)


def _running(synapse: Synapse) -> dict[str, Any]:
    """The services as the synapse which runs tells of them; none where it does not answer."""
    answer: dict[str, Any] = {}
    if synapse.settings.admin is not None:
        with suppress(SmartStackError):
            answer = fetch_status(synapse.settings.admin)
    services: dict[str, Any] = answer.get("services", {})
    return services


def _shares(services: dict[str, Any]) -> dict[str, dict[str, float]]:
    """How much of its weight each instance gets by the synapse which runs, where that is not all of it."""
    found = {
        name: {each["address"]: float(each["balance"]["share"]) for each in one["instances"] if each.get("balance")}
        for name, one in services.items()
    }
    return {name: shares for name, shares in found.items() if shares}


def _warn(synapse: Synapse, wait_seconds: float) -> None:
    """On standard error: what keeps the answer from being the whole truth."""
    for problems in synapse.problems().values():
        for problem in problems:
            stays = "" if problem.in_use else "; what was in use stays in use"
            click.echo(f"warning: {problem}{stays}", err=True)
    for name in synapse.missing():
        click.echo(f"warning: the registry has not said anything on {name} within {wait_seconds:g} s", err=True)


def _look(path: str, wait_seconds: float) -> tuple[Synapse, Look, dict[str, Any]]:
    """What a synapse with this configuration would do now, once the registry has said something on every service, and
    the services of the one that runs, by whose measurements this one goes."""
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
        running = _running(synapse)
        synapse.balancer.borrow(_shares(running))
        synapse.look_up()
        look = synapse.controller.look(synapse.offers.by_name, synapse.offers.by_name, everything=True)
        return synapse, look, running
    except HAProxyAway as away:
        raise SmartStackError(f"{away}; synapse itself would wait for it") from away
    finally:
        synapse.sources.stop()
