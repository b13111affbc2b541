"""Commands that say where shares of the requests go, and that make some fail on purpose: split, fault."""

import json
import re
from typing import Any

import click

from smartstack.errors import SmartStackError
from smartstack.maintenance import moment_text
from smartstack.talk import age, caller, duration_option, json_option, table
from synapse.cli.talk import Daemon, running
from synapse.shifts import STATUSES

_SHARE = re.compile(r"([^=\s]+)=([0-9]{1,3}(?:\.[0-9]{1,2})?)\s?%?")


class _Share(click.ParamType[tuple[str, float]]):
    """`canary=5`: where to, and how much in percent."""

    name = "TARGET=PERCENT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float]:
        match = _SHARE.fullmatch(value)
        if match is None or float(match[2]) > 100:
            self.fail(f"must be a target and a percentage, such as canary=5 or canary=0.5, got {value!r}", param, ctx)
        return match[1], float(match[2])


@click.command(short_help="Where shares of a service's requests go, and how much.")
@running
@click.argument("service")
@click.argument("shares", nargs=-1, type=_Share())
@click.option("--clear", is_flag=True, help="The definition says the shares again.")
@json_option
def split(
    *, path: str, admin: str | None, service: str, shares: tuple[tuple[str, float], ...], clear: bool, as_json: bool
) -> None:
    """Show where shares of the requests for SERVICE go, or change them on this host: `synapse split web canary=5` sends
    5 % there from now on, whatever the definition says, until --clear. HAProxy is not reloaded.

    The targets are those that the definition has under `split`. It survives restarts of synapse.
    """
    if shares and clear:
        raise click.UsageError("give shares, or --clear")
    synapse = Daemon(path, admin)
    untold = None
    if shares or clear:
        untold = synapse.act("/split", {"service": service, "percent": dict(shares) or None})["error"]
    answer = synapse.status()
    if service not in answer["services"]:
        raise SmartStackError(f"{service!a} is no service of this host")
    found = answer["splits"].get(service, [])
    if as_json:
        click.echo(json.dumps(found, indent=2))
    elif not found:
        click.echo(f"all requests for {service} stay there: its definition has no split")
    else:
        rows = [_split_row(service, one, lives=_lives(answer["services"].get(one["to"]))) for one in found]
        for line in table([("TO", "PERCENT", "WHO SAYS SO"), *rows, _rest(service, found)], right={1}):
            click.echo(line)
    _say_untold(untold)


@click.command(short_help="Make requests fail or late on purpose, for a while.")
@running
@click.argument("service", required=False)
@click.option("--abort", type=click.Choice([str(status) for status in STATUSES]), help="Answer this status.")
@duration_option("--delay", help="Wait so long first.")
@click.option("--percent", type=click.FloatRange(0, 100, min_open=True), help="Of the requests.  [default: 100]")
@click.option("--from", "source", metavar="CALLER", help="Of this caller only.")
@click.option("--path", "url_path", metavar="PATH", help="Of requests only whose path begins so.")
@duration_option("--for", "for_seconds", help="It ends by itself then; at most 24h.")
@click.option("--owner", help="Who. Default: this user.")
@click.option("--clear", is_flag=True, help="End the fault of SERVICE.")
@json_option
def fault(
    *,
    path: str,
    admin: str | None,
    service: str | None,
    abort: str | None,
    delay: float | None,
    percent: float | None,
    source: str | None,
    url_path: str | None,
    for_seconds: float | None,
    owner: str | None,
    clear: bool,
    as_json: bool,
) -> None:
    """Make requests from this host to SERVICE fail, or come late, for a game day; without SERVICE, list what fails on
    purpose. The host must allow it: `faults: allowed` in synapse.yaml.

    It ends at its time, even if synapse does not run any more: HAProxy itself compares the time.
    """
    synapse = Daemon(path, admin)
    if service is None:
        if clear or any(given is not None for given in (abort, delay, percent, source, url_path, for_seconds)):
            raise click.UsageError("give the SERVICE that is meant")
        _list(synapse.status(), as_json)
        return
    if clear:
        answer = synapse.act("/fault", {"service": service})
        click.echo(f"no requests for {service} fail on purpose")
    else:
        if abort is None and delay is None:
            raise click.UsageError("give --abort, --delay or both; or --clear")
        if for_seconds is None:
            raise click.UsageError("give --for: how long it lasts, such as --for 10m")
        body: dict[str, Any] = {
            "service": service,
            "percent": 100 if percent is None else percent,
            "abort": None if abort is None else int(abort),
            "delay_ms": round((delay or 0) * 1000),
            "from": source,
            "path": url_path or "/",
            "for_seconds": for_seconds,
            "owner": owner or caller(),
        }
        answer = synapse.act("/fault", body)
        click.echo(f"{service} fails on purpose until {moment_text(answer['until'])}: {answer['words']}")
    _say_untold(answer["error"])


def _list(answer: dict[str, Any], as_json: bool) -> None:
    found = answer["faults"]
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    if not found:
        click.echo("nothing fails on purpose")
        return
    rows = [("SERVICE", "LEFT", "BY", "WHAT")]
    rows += [(one["service"], age(one["until"] - answer["at"]), one["owner"], one["words"]) for one in found]
    for line in table(rows):
        click.echo(line)


def _split_row(service: str, one: dict[str, Any], *, lives: bool) -> tuple[str, str, str]:
    if one["defined"] is None:
        return one["to"], "0 %", "an operator, but the definition does not have it any more"
    who = f"an operator, here; the definition says {one['defined']:g} %" if one["ordered"] else "the definition"
    instead = "" if lives else f"; nobody of {one['to']} serves, so {service} answers"
    return one["to"], f"{one['percent']:g} %", who + instead


def _lives(target: dict[str, Any] | None) -> bool:
    """Whether somebody answers the share of this service, by its part of /status; None: it is not on this host."""
    return target is not None and any(each["state"] == "serving" for each in target["instances"])


def _rest(service: str, found: list[dict[str, Any]]) -> tuple[str, str, str]:
    left = 100 - sum(one["percent"] for one in found)
    return service, f"{max(0.0, round(left, 2)):g} %", "what is left"


def _say_untold(error: str | None) -> None:
    if error:
        click.echo(f"HAProxy was not told yet, and will be as soon as it can be: {error}", err=True)
