"""Commands that ask the running synapse for something: hold, unhold, accept, wait, log-level."""

import math
import time
from typing import Any

import click

from smartstack.errors import SmartStackError
from smartstack.logs import LEVELS
from smartstack.maintenance import moment_text
from smartstack.talk import caller, duration_option
from synapse.cli.talk import Daemon, running
from synapse.explain import verdicts, why_not
from synapse.holds import fitting

POLL_SECONDS = 0.2
"""How often a command that waits looks again."""


@click.command(short_help="Send nothing new to an instance, from this host.")
@running
@click.argument("service")
@click.argument("address")
@duration_option("--for", "for_seconds", default="1h", forever=True, help="It ends by itself then; or `forever`.")
@click.option("--reason", default="", help="Why: everybody who looks will read it.")
@click.option("--owner", help="Who. Default: this user.")
@click.option("--force", is_flag=True, help="Also the last instance that serves.")
def hold(
    *,
    path: str,
    admin: str | None,
    service: str,
    address: str,
    for_seconds: float,
    reason: str,
    owner: str | None,
    force: bool,
) -> None:
    """Hold the instance of SERVICE at ADDRESS: requests under way end in peace, and this host sends it no new ones,
    whatever other hosts do. ADDRESS may be the host, the port or the instance's name alone, where that is enough.

    It survives restarts of synapse, and holds also for whoever comes back at that address.
    """
    body = {
        "service": service,
        "address": address,
        "reason": reason,
        "owner": owner or caller(),
        "for_seconds": None if math.isinf(for_seconds) else for_seconds,
        "force": force,
    }
    answer = Daemon(path, admin).act("/hold", body)
    until = answer["held"]["until"]
    when = "until it is let go (synapse unhold)" if until is None else f"until {moment_text(until)}"
    click.echo(f"{service} {answer['address']} is held on this host {when}")
    _say_untold(answer, ("serving", "down"))


@click.command(short_help="End a hold.")
@running
@click.argument("service")
@click.argument("address")
def unhold(path: str, admin: str | None, service: str, address: str) -> None:
    """Let go of the instance of SERVICE at ADDRESS: this host sends it new requests again, if it is well."""
    answer = Daemon(path, admin).act("/unhold", {"service": service, "address": address})
    click.echo(f"{service} {answer['address']} is not held any more")
    _say_untold(answer, ("draining",))


@click.command(short_help="Believe a listing that shrank too much.")
@running
@click.argument("service")
def accept(path: str, admin: str | None, service: str) -> None:
    """Take the sources of SERVICE at their word now, although they name far fewer instances than before. Says so where
    nothing is held back."""
    answer = Daemon(path, admin).act("/accept", {"service": service})
    if not answer["accepted"]:
        click.echo(f"nothing of {service} is held back: {answer['reason']}")
        return
    click.echo(f"accepted: {service} goes from {answer['before']} to {_instances(answer['instances'])}")
    if answer["error"]:
        click.echo(f"HAProxy was not told of everything yet: {answer['error']}", err=True)


@click.command(short_help="Return when enough instances of a service serve.")
@running
@click.argument("service")
@click.option("--min", "least", type=click.IntRange(min=0), help="So many serve.  [default: 1, without --gone]")
@click.option("--gone", metavar="ADDRESS", help="This instance gets nothing new.")
@duration_option("--timeout", default="60s", help="How long to wait.")
def wait(*, path: str, admin: str | None, service: str, least: int | None, gone: str | None, timeout: float) -> int:
    """Wait until this host sends requests to so many instances of SERVICE, by what HAProxy says; with --gone, until it
    sends nothing new to that one. Exits with 0 when it has come true, with 1 when the time ran out.

    A synapse that does not answer yet, and a service that is not known yet, are waited for too.
    """
    least = least if least is not None else int(gone is None)
    synapse = Daemon(path, admin)
    end = time.monotonic() + timeout
    while True:
        try:
            done, why = _look(synapse.look_at(service), service, least, gone)
        except SmartStackError as error:
            done, why = False, str(error)
        if done:
            click.echo(why)
            return 0
        if time.monotonic() >= end:
            raise SmartStackError(f"{service} is not as wanted after {timeout:g} s: {why}")
        time.sleep(POLL_SECONDS)


@click.command("log-level", short_help="Log more, or less, until the next start.")
@running
@click.argument("level", type=click.Choice(LEVELS))
def log_level(path: str, admin: str | None, level: str) -> None:
    """Change how much the running synapse logs."""
    Daemon(path, admin).act("/log-level", {"level": level})


def _look(answer: dict[str, Any], service: str, least: int, gone: str | None) -> tuple[bool, str]:
    """Whether it has come true, and how it is."""
    found = verdicts(answer, service)
    serving = sum(each.traffic for each in found)
    if serving < least:
        return False, f"{serving} of the {least} that are wanted get traffic; {why_not(answer, service)}"
    still = [] if gone is None else fitting(gone, {each.address: None for each in found if each.traffic})
    if still:
        return False, f"{still[0]} gets traffic still"
    return True, f"{_instances(serving)} of {service} get traffic"


def _say_untold(answer: dict[str, Any], states: tuple[str, ...]) -> None:
    """HAProxy may not be told yet: it is away, or waits for a reload."""
    if answer["offered"] and answer["state"] in states:
        why = f": {answer['error']}" if answer["error"] else ""
        click.echo(f"HAProxy was not told yet, and will be as soon as it can be{why}", err=True)


def _instances(count: int) -> str:
    return "1 instance" if count == 1 else f"{count} instances"
