"""Commands that show the traffic of this host, or of all: stat, top, edges, routes."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlencode

import click

from smartstack.errors import SmartStackError
from smartstack.talk import duration_option, json_option
from synapse.cli.figures import edge_lines, route_lines, stat_lines, suggestion_lines, top_lines
from synapse.cli.screen import print_line, watch
from synapse.cli.talk import Daemon, running

TOP_SECONDS: Final = "10"
"""What `top` looks back on: the shortest time that is counted."""

_from = click.option("--from", "source", metavar="SOURCE", help="Only requests of this caller.")
_window = duration_option("--window", default="1m", help="How far to look back: 10s to 1h.")
_watch = click.option("-w", "--watch", "again", is_flag=True, help="Once a second, until Ctrl-C.")
_fleet = click.option("--fleet", is_flag=True, help="Of all hosts whose synapse is announced (fleet in synapse.yaml).")

Answer = dict[str, Any]


@click.command(short_help="Success rate, requests a second and latencies of each service.")
@running
@click.argument("service", required=False)
@click.option("--instances", is_flag=True, help="Each instance for itself.")
@_from
@_window
@_fleet
@json_option
@_watch
def stat(
    *,
    path: str,
    admin: str | None,
    service: str | None,
    instances: bool,
    source: str | None,
    window: float,
    fleet: bool,
    as_json: bool,
    again: bool,
) -> None:
    """Print of each service, or of SERVICE, as this host's clients saw it: the share of requests that succeeded
    (answered, and not with 5xx), requests a second, latencies in which half, 95 % and 99 % of them were answered, and
    the connections that are open now."""
    if instances and source is not None:
        raise click.UsageError("--from goes without --instances: who calls is not counted by instance")
    query = _query(window, service=service, by="instance" if instances else None, **{"from": source})
    _show(_asking(Daemon(path, admin), "stat", query, fleet=fleet), stat_lines, as_json=as_json, again=again)


@click.command(short_help="Who calls whom.")
@running
@_window
@_fleet
@json_option
@_watch
def edges(*, path: str, admin: str | None, window: float, fleet: bool, as_json: bool, again: bool) -> None:
    """Print who calls which service through this host's HAProxy, and how that goes. In brackets stands how it is known
    who called: by the address that was called (listener), by what the caller said (header), by the process, because
    one service only is announced here, or by the host alone."""
    _show(_asking(Daemon(path, admin), "edges", _query(window), fleet=fleet), edge_lines, as_json=as_json, again=again)


@click.command(short_help="The methods and paths of a service.")
@running
@click.argument("service")
@click.option("--learn", is_flag=True, help="Suggest paths for its definition, out of those that were seen.")
@_window
@_fleet
@json_option
@_watch
def routes(
    *, path: str, admin: str | None, service: str, learn: bool, window: float, fleet: bool, as_json: bool, again: bool
) -> None:
    """Print the figures of each method and path of SERVICE, as `proxy.paths` in its definition tells paths apart. With
    --learn, print lines for `proxy.paths` instead: paste them there."""
    if learn and fleet:
        raise click.UsageError("--learn is for one host: paths that were asked for stay there")
    query = _query(window, service=service, learn="1" if learn else None)
    lines = suggestion_lines if learn else route_lines
    _show(_asking(Daemon(path, admin), "routes", query, fleet=fleet), lines, as_json=as_json, again=again)


@click.command(short_help="The busiest routes and callers, live.")
@running
@click.argument("service", required=False)
@json_option
def top(path: str, admin: str | None, service: str | None, as_json: bool) -> None:
    """Show the routes and the callers of all services, or of SERVICE, with the most requests in the last 10 seconds,
    once a second until Ctrl-C."""
    daemon = Daemon(path, admin)
    queries = {by: _path("stat", {"window": TOP_SECONDS, "by": by, "service": service}) for by in ("route", "source")}

    def ask() -> Answer:
        return {by: daemon.get(each) for by, each in queries.items()}

    _show(ask, lambda answer: top_lines(answer["route"], answer["source"]), as_json=as_json, again=True)


def _asking(daemon: Daemon, question: str, query: Mapping[str, str | None], *, fleet: bool) -> Callable[[], Answer]:
    where = _path(question, query, "fleet" if fleet else "telemetry")
    return lambda: daemon.get(where)


def _query(window: float, **others: str | None) -> dict[str, str | None]:
    if not 10 <= window <= 3600:
        raise click.BadParameter("must be from 10s to 1h", param_hint="--window")
    return {"window": f"{window:g}", **others}


def _path(question: str, query: Mapping[str, str | None], room: str = "telemetry") -> str:
    given = {name: value for name, value in query.items() if value is not None}
    return f"/{room}/{question}?{urlencode(given)}"


def _show(ask: Callable[[], Answer], lines: Callable[[Answer], list[str]], *, as_json: bool, again: bool) -> None:
    """Print what is answered, once or again and again; as JSON each answer is a text, on one line where more come.

    Raises SmartStackError when the first question is not answered.
    """
    if as_json and again:
        watch(lambda: [json.dumps(ask())], in_place=False)
    elif as_json:
        click.echo(json.dumps(ask(), indent=2))
    elif again:
        watch(lambda: lines(ask()))
    else:
        _print(ask(), lines)


def _print(answer: Answer, lines: Callable[[Answer], list[str]]) -> None:
    """Print an answer. Raises SmartStackError when it is one of a fleet in which nobody answered: a script has to
    notice that."""
    hosts = answer.get("hosts")
    if hosts == []:
        raise SmartStackError(answer["note"])
    for line in lines(answer):
        print_line(line)
    if hosts and all(one["error"] is not None for one in hosts):
        raise SmartStackError("no synapse of the fleet answered")
