"""The command that shows requests as they end: tap."""

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlencode

import click

from smartstack.errors import SmartStackError
from smartstack.instance import printable
from smartstack.talk import json_option
from synapse.cli.figures import SENTENCE_LIMIT, request_line
from synapse.cli.screen import print_line
from synapse.cli.talk import Daemon, running

ANSWER_SECONDS: Final = 10.0
"""How long one question may take: synapse keeps it for 5 s while no request ends."""

AGAIN_SECONDS: Final = 1.0


@click.command(short_help="Requests of a service, live.")
@running
@click.argument("service")
@click.option("--path", "begins", metavar="BEGINNING", help="Only paths that begin so.")
@click.option("--method", help="Only this method.")
@click.option("--status", help="Only this status, such as 503, or class of them, such as 5xx.")
@click.option("--from", "source", metavar="SOURCE", help="Only requests of this caller.")
@click.option(
    "--max-rate",
    type=click.IntRange(1, 1000),
    default=100,
    show_default=True,
    help="So many a second; others are counted.",
)
@json_option
def tap(
    *,
    path: str,
    admin: str | None,
    service: str,
    begins: str | None,
    method: str | None,
    status: str | None,
    source: str | None,
    max_rate: int,
    as_json: bool,
) -> None:
    """Print each request of SERVICE that goes through this host's HAProxy when it ends, until Ctrl-C: when, who asked
    which instance for what, the status, how long it took, how often it was tried again, and HAProxy's letters for how
    it ended where that is not well. With --json each is a line of its own."""
    wanted = {
        "service": service,
        "path": begins,
        "method": method.upper() if method else None,
        "status": status,
        "from": source,
        "max_rate": str(max_rate),
    }
    told: list[str] = []
    for answer in _answers(Daemon(path, admin), {name: value for name, value in wanted.items() if value is not None}):
        problems = answer.get("problems", [])
        for problem in problems:
            if problem not in told:
                _say(printable(problem, SENTENCE_LIMIT))
        told = problems
        for request in answer["requests"]:
            print_line(json.dumps(request) if as_json else request_line(request))
        if answer["missed"]:
            _say(f"{answer['missed']} more were not shown: they were too many at once (see --max-rate)")


def _answers(daemon: Daemon, wanted: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Each answer of synapse to a tap that it is asked to open; opened again when it was lost, which is said once.

    Raises SmartStackError when the first one cannot be opened.
    """
    tap: str | None = None
    said: str | None = None
    listened = False
    while True:
        query = {"service": wanted["service"], "id": tap, "wait": "1"} if tap is not None else wanted
        try:
            answer = daemon.get(f"/telemetry/tap?{urlencode(query)}", ANSWER_SECONDS)
        except SmartStackError as error:
            if not listened:
                raise
            if str(error) != said:
                said = str(error)
                _say(f"{error}; asking again, and what ends meanwhile is not shown")
            tap = None
            time.sleep(AGAIN_SECONDS)
            continue
        if tap is None:
            _say("listening" if not listened else "listening again")
            tap, said, listened = answer["id"], None, True
        yield answer


def _say(sentence: str) -> None:
    """To people: what programs read is on standard output."""
    click.echo(sentence, err=True)
