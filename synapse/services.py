"""/services: what there is and where, for clients without the proxy; who gives the last number waits for the next."""

from collections.abc import Callable, Mapping
from typing import Any

from smartstack.actions import BadRequest
from smartstack.forms import DURATION
from smartstack.responses import Question, Response, json_response, text_response
from synapse.board import LONGEST_WAIT_SECONDS, Board
from synapse.discovery import service_view
from synapse.status import Snapshot


def services(snapshot: Callable[[], Snapshot | None], board: Board) -> Question:
    """The question. `?after=NUMBER&wait=30s` waits until the number is another one, or for so long."""

    def answer(name: str, query: Mapping[str, str]) -> Response:
        after, seconds = waiting(query)
        one = name or None
        number = board.number(one) if after is None else board.wait(one, after, seconds)
        now = snapshot()
        if now is None:
            return text_response(503, "the first turn of the loop is not done yet")
        if one is None:
            return json_response(
                200, {"number": number, "services": [_brief(now, each) for each in sorted(now.offers)]}
            )
        if one not in now.offers:
            return text_response(404, "no such service; /services lists what there is")
        return json_response(200, {"number": number, **view(now, one)})

    return answer


def view(snapshot: Snapshot, name: str) -> dict[str, Any]:
    """One service of a snapshot."""
    slots = snapshot.observed.backends.get(name, ()) if snapshot.observed else ()
    return service_view(name, snapshot.offers[name], snapshot.listens.get(name), slots)


def _brief(snapshot: Snapshot, name: str) -> dict[str, Any]:
    whole = view(snapshot, name)
    traffic = sum(each["use"] == "traffic" for each in whole["instances"])
    return {"service": name, "listen": whole["listen"], "instances": len(whole["instances"]), "traffic": traffic}


def waiting(query: Mapping[str, str], *others: str) -> tuple[int | None, float]:
    """The number after which something is waited for, None where nothing is, and for how many seconds. `others` are
    the parameters that the query may have besides. Raises `BadRequest`."""
    unknown = sorted(query.keys() - {"after", "wait", *others})
    if unknown:
        raise BadRequest(f"{unknown[0]!a} is no parameter; there are: {', '.join(('after', 'wait', *others))}")
    text = query.get("after")
    if text is None:
        if "wait" in query:
            raise BadRequest("wait goes with after: the number of the answer that you have")
        return None, 0.0
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise BadRequest("after is to be the number of the answer that you have")
    try:
        return int(text), float(DURATION.parse(query.get("wait", "30s")))
    except ValueError as error:
        raise BadRequest(f"wait {error}; {LONGEST_WAIT_SECONDS:g} s at most are waited") from error
