"""What may be asked of synapse over its admin address: each request becomes an order for the loop, and waits for it."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from smartstack.actions import Action, BadRequest, log_level_action, take_only
from smartstack.inbox import Inbox
from smartstack.maintenance import read_terms
from smartstack.responses import Question, Response, json_response, text_response
from synapse.holds import DEFAULT_SECONDS
from synapse.orders import Accept, HoldOrder, LetGo, LookAt, Order
from synapse.shift_actions import shift_actions
from synapse.status import Snapshot, describe


def actions(inbox: Inbox[Order], wall: Callable[[], float] = time.time) -> dict[str, Action]:
    """The actions by path."""

    def hold(arguments: Mapping[str, Any]) -> Response:
        """`POST /hold {"service": "web", "address": "10.0.0.5:8080", "reason": "…", "for_seconds": 600}`; null is
        without an end, and an hour is what is meant where no time is given."""
        take_only(arguments, "service", "address", "reason", "owner", "for_seconds", "force")
        terms = read_terms(arguments, wall(), DEFAULT_SECONDS)
        if isinstance(terms, str):
            raise BadRequest(f"cannot hold: {terms}")
        force = arguments.get("force", False)
        if not isinstance(force, bool):
            raise BadRequest("cannot hold: force must be true or false")
        order = HoldOrder(
            service=_text(arguments, "service"),
            address=_text(arguments, "address"),
            until=terms.until,
            reason=terms.reason,
            owner=terms.owner,
            force=force,
        )
        return json_response(200, inbox.ask(order))

    def unhold(arguments: Mapping[str, Any]) -> Response:
        take_only(arguments, "service", "address")
        order = LetGo(service=_text(arguments, "service"), address=_text(arguments, "address"))
        return json_response(200, inbox.ask(order))

    def accept(arguments: Mapping[str, Any]) -> Response:
        take_only(arguments, "service")
        return json_response(200, inbox.ask(Accept(service=_text(arguments, "service"))))

    own = {"/hold": hold, "/unhold": unhold, "/accept": accept, "/log-level": log_level_action}
    return {**own, **shift_actions(inbox, wall)}


def explanation(inbox: Inbox[Order]) -> Question:
    """`GET /explain/<service>`: /status of this service alone, with HAProxy asked anew."""

    def answer(name: str, query: Mapping[str, str]) -> Response:
        if query:
            raise BadRequest("there are no parameters here")
        if not name:
            return text_response(404, "no such path; ask for /explain/<service>")
        now: Snapshot = inbox.ask(LookAt(service=name))
        others = {} if name in now.offers else {"known_services": sorted(now.offers)}
        return json_response(200, {**describe(now, {name}), **others})

    return answer


def _text(arguments: Mapping[str, Any], key: str) -> str:
    value = arguments.get(key)
    if not isinstance(value, str) or not value:
        raise BadRequest(f"{key} is to be a text")
    return value
