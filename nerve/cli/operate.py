"""Commands that ask the running nerve for something: drain, undrain, check, heartbeat, wait, log-level."""

import os
import time
from typing import Any

import click

from nerve.cli.talk import Daemon, running
from nerve.connections import established_each
from nerve.draining import Draining, Verdict, judge, leftover
from nerve.settings import Drain
from smartstack.addresses import split_port
from smartstack.command import readable_token
from smartstack.errors import SmartStackError
from smartstack.logs import LEVELS
from smartstack.talk import caller, duration_option
from smartstack.tokens import HEARTBEAT_TOKEN, TOKEN

POLL_SECONDS = 0.1
"""How often a command that waits looks again."""

_ROUNDED = 0.002
"""Seconds by which the time of a result may seem earlier than it was."""


@click.command(short_help="Take services out of use, to stop them safely.")
@running
@click.argument("services", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every service of this host, also those of later.")
@click.option("--reason", required=True, help="Why: everybody who looks will read it.")
@duration_option("--for", "for_seconds", help="It ends by itself after this time, such as 30m.")
@click.option("--owner", help="Who. Default: this user.")
@click.option("--wait", is_flag=True, help="Return when it is safe to stop them; exits with 1 if the limit ran out.")
@duration_option("--timeout", help="With --wait: how long at the most. Default: drain.timeout of nerve.yaml.")
def drain(
    *,
    path: str,
    admin: str | None,
    services: tuple[str, ...],
    everything: bool,
    reason: str,
    for_seconds: float | None,
    owner: str | None,
    wait: bool,
    timeout: float | None,
) -> int:
    """Take SERVICES into maintenance: they stay in the registry with weight 0 and the reason, so that no new request
    is sent to them, until `nerve undrain` or the end of the time that --for gives. It survives restarts of nerve.

    With --wait the command returns when consumers had the time that `drain.settle` gives them and the services' ports
    have no established connection any more (exit code 0), or when `drain.timeout` or --timeout ran out (1).
    """
    nerve = Daemon(path, admin)
    body: dict[str, Any] = {**_scopes(services, everything), "reason": reason, "owner": owner or caller()}
    if for_seconds is not None:
        body["for_seconds"] = for_seconds
    answer = nerve.act("/drain", body)
    names = sorted(answer["services"])
    click.echo(f"in maintenance: {', '.join(names) or 'no service yet'}")
    _say_untold(answer["services"])
    if not wait:
        return 0
    limits = nerve.settings.drain
    return _wait_until_safe(nerve, names, Drain(settle=limits.settle, timeout=timeout or limits.timeout))


@click.command(short_help="Put services back into use.")
@running
@click.argument("services", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="The maintenance of the whole host; single ones stay.")
def undrain(path: str, admin: str | None, services: tuple[str, ...], everything: bool) -> None:
    """End the maintenance of SERVICES: they are registered with their weight again, as soon as they are well."""
    answer = Daemon(path, admin).act("/undrain", _scopes(services, everything))
    still = {name: one["maintenance"] for name, one in answer["services"].items() if one["maintenance"]}
    ended = sorted(answer["services"].keys() - still.keys())
    click.echo(f"in use again: {', '.join(ended) or 'none'}")
    _say_untold(answer["services"])
    for name, one in sorted(still.items()):
        scope = "the whole host (nerve undrain --all)" if one["scope"] == "*" else f"{one['scope']}"
        click.echo(f"{name} is still in maintenance, by that of {scope}: {one['reason']}")


@click.command(short_help="Check a service now; if it passes, it is registered at once.")
@running
@click.argument("service")
@duration_option("--timeout", default="30s", help="How long to wait for the results.")
def check(*, path: str, admin: str | None, service: str, timeout: float) -> int:
    """Say that SERVICE is ready: its checks run now, and one pass is enough, whatever `rise` says. Exits with 1 if it
    is not well."""
    nerve = Daemon(path, admin)
    asked = nerve.act("/check", {"service": service})["at"]
    end = time.monotonic() + timeout
    while True:
        one = nerve.status()["services"].get(service)
        if one is None:
            raise SmartStackError(f"{service} is not announced any more")
        results = [check["last"] for check in one["checks"].values()]
        if all(last is not None and last["at"] - last["duration_seconds"] >= asked - _ROUNDED for last in results):
            break
        if time.monotonic() >= end:
            raise SmartStackError(f"the checks of {service} gave no result within {timeout:g} s")
        time.sleep(POLL_SECONDS)
    for name, found in one["checks"].items():
        click.echo(f"{name}: {found['last']['reason']} ({found['last']['duration_seconds'] * 1000:.0f} ms)")
    click.echo(f"{service} is {one['state']}: {one['reason']}")
    return 0 if one["state"] == "up" else 1


@click.command(short_help="Report that a service is well, for a `ttl` check.")
@running
@click.argument("service")
@click.option("--fail", is_flag=True, help="Report that it is not well.")
@click.option("--note", default="", help="A few words that nerve shows.")
@click.option("--token-file", help="Default: heartbeat-token or token in nerve's run directory, whichever may be read.")
def heartbeat(*, path: str, admin: str | None, service: str, fail: bool, note: str, token_file: str | None) -> None:
    """Report how SERVICE is, as the service itself may do over the admin address: POST /heartbeat."""
    nerve = Daemon(path, admin)
    names = (HEARTBEAT_TOKEN, TOKEN)
    token = os.path.abspath(token_file) if token_file else str(readable_token(nerve.settings.run_directory, *names))
    nerve.act("/heartbeat", {"service": service, "passed": not fail, "note": note}, token)


@click.command(short_help="Return when a service is in use, or out of it.")
@running
@click.argument("service")
@click.option("--up", "up", is_flag=True, help="Until it is well and registered everywhere, and not in maintenance.")
@click.option("--down", "down", is_flag=True, help="Until no registry offers it to consumers.")
@duration_option("--timeout", default="30s", help="How long to wait.")
def wait(*, path: str, admin: str | None, service: str, up: bool, down: bool, timeout: float) -> int:
    """Wait for SERVICE. Exits with 0 when it has come true, with 1 when the time ran out."""
    if up == down:
        raise click.UsageError("give one of --up and --down")
    nerve = Daemon(path, admin)
    end = time.monotonic() + timeout
    while True:
        one = nerve.status()["services"].get(service)
        if one is None and up:
            raise SmartStackError(f"{service} is not announced by the nerve of this host")
        if one is None or (is_in_use(one) if up else is_out_of_use(one)):
            click.echo(f"{service} is {'in use' if up else 'out of use'}")
            return 0
        if time.monotonic() >= end:
            word = "in use" if up else "out of use"
            raise SmartStackError(
                f"{service} is not {word} after {timeout:g} s: it is {one['state']}, {one['error'] or one['reason']}; "
                f"`nerve explain {service}` says more"
            )
        time.sleep(POLL_SECONDS)


@click.command("log-level", short_help="Log more, or less, until the next start.")
@running
@click.argument("level", type=click.Choice(LEVELS))
def log_level(path: str, admin: str | None, level: str) -> None:
    """Change how much the running nerve logs."""
    Daemon(path, admin).act("/log-level", {"level": level})


def is_in_use(service: dict[str, Any]) -> bool:
    """Whether consumers send to it, by its part of /status."""
    return service["state"] == "up" and service["registered"] is True and service["maintenance"] is None


def is_out_of_use(service: dict[str, Any]) -> bool:
    """Whether every registry says that nothing should be sent to it."""
    if service["maintenance"] is not None and service["registered"] is True:
        return True
    return all(place["present"] is False for place in service["places"])


def untold(services: dict[str, Any]) -> str | None:
    """Which services' registries could not be told of a change that is kept; None where all were."""
    names = sorted(
        name
        for name, one in services.items()
        if any(place["registered"] is None or place["error"] for place in one["places"])
    )
    if not names:
        return None
    return f"not told to the registry yet: {', '.join(names)}; it is kept, and told as soon as it can be (nerve status)"


def _say_untold(services: dict[str, Any]) -> None:
    if (sentence := untold(services)) is not None:
        click.echo(sentence, err=True)


def _wait_until_safe(nerve: Daemon, names: list[str], limits: Drain) -> int:
    began = time.monotonic()
    told_at: float | None = None
    said = ""
    while True:
        services = nerve.status()["services"]
        drained = {name: services[name] for name in names if name in services}
        now = time.monotonic()
        if not all(is_out_of_use(one) for one in drained.values()):
            told_at = None
        elif told_at is None:
            told_at = now
        moment = Draining(
            waited_seconds=now - began,
            told_for_seconds=None if told_at is None else now - told_at,
            connections=_connections({name: one["address"] for name, one in drained.items()}),
        )
        verdict = judge(moment, limits)
        if verdict is Verdict.SAFE:
            click.echo("safe to stop")
            return 0
        if verdict is Verdict.OVERDUE:
            raise SmartStackError(f"not safe to stop after {limits.timeout:g} s: {leftover(moment)}")
        if leftover(moment) != said:
            said = leftover(moment)
            click.echo(said)
        time.sleep(POLL_SECONDS)


def _connections(addresses: dict[str, str]) -> dict[str, int]:
    """Raises SmartStackError when they cannot be counted."""
    ends = [split for split in map(split_port, addresses.values()) if split is not None]
    return dict(zip(addresses, established_each([(port, host) for host, port in ends]), strict=True))


def _scopes(services: tuple[str, ...], everything: bool) -> dict[str, Any]:
    if everything == bool(services):
        raise click.UsageError("name the services, or give --all")
    return {"all": True} if everything else {"services": list(services)}
