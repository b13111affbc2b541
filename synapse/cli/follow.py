"""The command that tells what changed and why: events."""

import json
import time
from typing import Any
from urllib.parse import urlencode

import click

from smartstack.errors import SmartStackError
from smartstack.instance import printable
from smartstack.talk import json_option
from synapse.cli.talk import Daemon, running

_WAIT = "3s"
"""How long one question waits for news; less than a command line waits for any answer."""

_AGAIN_SECONDS = 1.0
_TEXT_LIMIT = 300


@click.command(short_help="What changed on this host, and why.")
@running
@click.argument("service", required=False)
@click.option("-w", "--watch", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@json_option
def events(path: str, admin: str | None, service: str | None, watch: bool, as_json: bool) -> None:
    """Print what changed since synapse started and why, the oldest first: of everything, or of SERVICE and of what
    concerns the whole host, such as a registry that is away. The last 2,000 changes are kept. With --json each is a
    line of its own."""
    daemon = Daemon(path, admin)
    query = {} if service is None else {"service": service}
    answer = daemon.get(_path(query))
    _print(answer, as_json)
    while watch:
        try:
            answer = daemon.get(_path({**query, "after": str(answer["number"]), "wait": _WAIT}))
        except SmartStackError as error:
            click.echo(f"{error}; asking again", err=True)
            time.sleep(_AGAIN_SECONDS)
        else:
            _print(answer, as_json)


def event_line(event: dict[str, Any]) -> str:
    """One event for people: when, of which service, what about, what and why."""
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event["at"]))
    why = f" ({printable(event['why'], _TEXT_LIMIT)})" if event["why"] else ""
    mark = {"warning": " !", "error": " !!"}.get(event["level"], "")
    about = printable(event["service"] or "-")
    return f"{moment}  {about:<16} {event['kind']:<11}{mark} {printable(event['what'], _TEXT_LIMIT)}{why}"


def _path(query: dict[str, str]) -> str:
    return f"/events?{urlencode(query)}" if query else "/events"


def _print(answer: dict[str, Any], as_json: bool) -> None:
    for event in answer["events"]:
        click.echo(json.dumps(event) if as_json else event_line(event))
