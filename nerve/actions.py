"""What may be asked of nerve over its admin address: each request becomes an order for the loop, and waits for it."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from nerve.maintenance_orders import parse_drain, parse_undrain
from nerve.orders import CheckNow, Order, Report
from nerve.status import Status
from smartstack.actions import Action, BadRequest, log_level_action, take_only
from smartstack.errors import SmartStackError
from smartstack.inbox import Inbox
from smartstack.responses import Response, json_response

HEARTBEAT = "/heartbeat"
"""The action that a token of its own may open."""

NOTE_LIMIT = 200
"""Longest note of a heartbeat, in characters; the rest is cut off."""


def actions(inbox: Inbox[Order], status: Callable[[], Status | None]) -> dict[str, Action]:
    """The actions by path."""

    def services() -> frozenset[str]:
        now = status()
        return frozenset() if now is None else frozenset(now.services)

    def ask(order: Order | str) -> Response:
        if isinstance(order, str):
            raise BadRequest(order)
        return json_response(200, inbox.ask(order))

    def drain(arguments: Mapping[str, Any]) -> Response:
        return ask(parse_drain(arguments, services(), time.time()))

    def undrain(arguments: Mapping[str, Any]) -> Response:
        now = status()
        return ask(parse_undrain(arguments, services(), {} if now is None else now.maintenances))

    def check(arguments: Mapping[str, Any]) -> Response:
        take_only(arguments, "service")
        return ask(CheckNow(service=_service(arguments)))

    def heartbeat(arguments: Mapping[str, Any]) -> Response:
        take_only(arguments, "service", "passed", "note")
        passed, note = arguments.get("passed", True), arguments.get("note", "")
        if not isinstance(passed, bool) or not isinstance(note, str):
            raise BadRequest("passed is to be true or false, and note a text")
        service = _service(arguments)
        if service not in services():
            raise SmartStackError(f"{service!a} is not announced on this host: `nerve status` lists what is")
        # Nobody waits for a turn of the loop to say that he is alive.
        inbox.tell(Report(service=service, passed=passed, note=note[:NOTE_LIMIT]))
        return json_response(200, {"service": service})

    return {
        "/drain": drain,
        "/undrain": undrain,
        "/check": check,
        HEARTBEAT: heartbeat,
        "/log-level": log_level_action,
    }


def _service(arguments: Mapping[str, Any]) -> str:
    service = arguments.get("service")
    if not isinstance(service, str):
        raise BadRequest("service is to be the name of an announced service")
    return service
