"""/telemetry/…: what is known of requests, for the command line, the dashboard and other hosts. All only reads."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Final

from smartstack.responses import Question, Response, json_response, text_response
from synapse.status import Snapshot
from synapse.telemetry.frames import FRAME_SECONDS
from synapse.telemetry.gauges import Gauge
from synapse.telemetry.history import History
from synapse.telemetry.learning import suggest
from synapse.telemetry.parameters import (
    HOUR_SECONDS,
    Query,
    check,
    read_filter,
    read_flag,
    read_rate,
    read_scope,
    read_service,
    read_window,
)
from synapse.telemetry.query import Known, Present, Scope, counted_by, edges, points, rows, services
from synapse.telemetry.receiver import Counts
from synapse.telemetry.series import Window
from synapse.telemetry.taps import LONGEST_WAIT_SECONDS, Heard, Taps


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """What the answers are made of: the name of this host, what was counted, who listens, what is offered, and what
    HAProxy says of now. `history` is None where the feed is off; `problems` say why nothing, or not all, is known."""

    host: str
    history: History | None
    taps: Taps
    counts: Callable[[], Counts]
    snapshot: Callable[[], Snapshot | None]
    gauge: Callable[[], Gauge]
    problems: Callable[[], tuple[str, ...]]
    wall: Callable[[], float] = time.time


def telemetry(telling: Telling) -> dict[str, Question]:
    """The questions by path: /telemetry/stat, edges, routes, points and tap."""
    return {f"/telemetry/{name}": partial(_answer, asked, telling) for name, asked in _ANSWERS.items()}


def _answer(asked: "_Asked", telling: Telling, rest: str, query: Query) -> Response:
    if rest:
        return text_response(404, "no such path: there is nothing below this one")
    if telling.history is None:
        return text_response(404, "nothing is known of requests: telemetry.listen is null in synapse.yaml")
    return asked(telling, telling.history, query)


def _stat(telling: Telling, history: History, query: Query) -> Response:
    check(query, "window", "service", "by", "from", "buckets")
    scope, seconds = read_scope(query), read_window(query)
    present = Present(known=_known(telling), connections=telling.gauge().connections)
    if not _is_known(scope.service, present.known, history):
        return _no_such_service()
    window = history.window(seconds, counted_by(scope))
    about = {**_about(telling, seconds, window), "by": scope.by, **_losses(telling, history)}
    return json_response(200, {**about, "rows": rows(window, scope, present)})


def _edges(telling: Telling, history: History, query: Query) -> Response:
    check(query, "window", "buckets")
    seconds, buckets = read_window(query), read_flag(query, "buckets")
    window = history.window(seconds, "source")
    found = edges(window, telling.host, Present(known=_known(telling)), buckets=buckets)
    return json_response(200, {**_about(telling, seconds, window), "edges": found})


def _routes(telling: Telling, history: History, query: Query) -> Response:
    check(query, "window", "service", "learn", "buckets")
    name, seconds = read_service(query), read_window(query)
    scope = Scope(by="route", service=name, buckets=read_flag(query, "buckets"))
    learns = read_flag(query, "learn")
    known = _known(telling)
    if not _is_known(name, known, history):
        return _no_such_service()
    window = history.window(seconds, "route")
    learnt = {"suggestions": [asdict(each) for each in suggest(history.learn(name))]} if learns else {}
    return json_response(
        200, {**_about(telling, seconds, window), "rows": rows(window, scope, Present(known=known)), **learnt}
    )


def _points(telling: Telling, history: History, query: Query) -> Response:
    check(query, "window", "service")
    name, seconds = read_service(query), read_window(query, HOUR_SECONDS)
    if not _is_known(name, _known(telling), history):
        return _no_such_service()
    window = history.window(seconds, "service")
    curve = {"service": name, "step_seconds": FRAME_SECONDS, "points": points(window, name)}
    return json_response(200, {**_about(telling, seconds, window), **curve})


def _tap(telling: Telling, history: History, query: Query) -> Response:
    """The first question opens a tap; those that come with its `id` are answered with what it has heard since."""
    check(query, "service", "path", "method", "status", "from", "max_rate", "id", "wait")
    waits, max_rate, name = read_flag(query, "wait"), read_rate(query), query.get("id")
    if name is None:
        wanted = read_filter(query)
        if not _is_known(wanted.service, _known(telling), history):
            return _no_such_service()
        name, waits = telling.taps.open(wanted, max_rate), False
    catch = telling.taps.ask(name, LONGEST_WAIT_SECONDS if waits else 0.0)
    if catch is None:
        return text_response(404, "no such tap, or nobody asked for it for 10 s: ask without id for a new one")
    heard = [_request(each) for each in catch.heard]
    problems = list(telling.problems())
    return json_response(200, {"id": name, "missed": catch.missed, "requests": heard, "problems": problems})


_Asked = Callable[[Telling, History, Query], Response]

_ANSWERS: Final[dict[str, _Asked]] = {
    "stat": _stat,
    "edges": _edges,
    "routes": _routes,
    "points": _points,
    "tap": _tap,
}


def _about(telling: Telling, seconds: int, window: Window) -> dict[str, Any]:
    return {
        "at": telling.wall(),
        "host": telling.host,
        "window_seconds": seconds,
        "covered_seconds": round(window.covered, 3),
        "problems": list(telling.problems()),
    }


def _losses(telling: Telling, history: History) -> dict[str, Any]:
    counts = telling.counts()
    lost = {"unparsed": counts.unparsed, "forged": counts.forged, "receiver": counts.dropped}
    return {"dropped": {**lost, "haproxy": telling.gauge().dropped}, "limits": asdict(history.limits())}


def _known(telling: Telling) -> dict[str, Known]:
    """What is offered through the proxy now."""
    now = telling.snapshot()
    offers = {} if now is None else now.offers
    return {
        name: Known(
            mode=offer.definition.proxy.mode,
            instances=tuple(placed.instance.address for placed in offer.placement.used),
        )
        for name, offer in offers.items()
        if offer.definition.proxy is not None
    }


def _is_known(name: str | None, known: Mapping[str, Known], history: History) -> bool:
    """Whether there is this service, or was in the last hour."""
    return name is None or name in known or name in services(history.window(HOUR_SECONDS, "service"))


def _no_such_service() -> Response:
    return text_response(404, "no such service; /services lists what there is")


def _request(heard: Heard) -> dict[str, Any]:
    told = heard.request
    return {
        "at": round(heard.at, 3),
        "service": told.service,
        "frontend": told.frontend,
        "instance": told.instance,
        "source": told.source,
        "method": told.method,
        "path": told.path,
        "status": told.status,
        "total_ms": told.total_ms,
        "response_ms": told.response_ms,
        "queue_ms": told.queue_ms,
        "connect_ms": told.connect_ms,
        "retries": told.retries,
        "termination": told.termination,
        "sent_bytes": told.sent_bytes,
        "received_bytes": told.received_bytes,
        "client": f"{told.client_host}:{told.client_port}",
        "mode": told.mode,
    }
