"""Shares and faults as they are asked for over the admin address: each request becomes an order for the loop."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from smartstack.actions import Action, BadRequest, take_only
from smartstack.inbox import Inbox
from smartstack.responses import Response, json_response
from synapse.live_map import PARTS
from synapse.orders import ClearFault, ClearSplit, FaultOrder, Order, SplitOrder
from synapse.shifts import MOST_SECONDS, read_fault

_FAULT = ("percent", "abort", "delay_ms", "from", "path", "for_seconds", "owner")


def shift_actions(inbox: Inbox[Order], wall: Callable[[], float] = time.time) -> dict[str, Action]:
    """The actions by path."""

    def split(arguments: Mapping[str, Any]) -> Response:
        """`POST /split {"service": "web", "percent": {"web.canary": 5}}`, or with null for what the definition says."""
        take_only(arguments, "service", "percent")
        service, percent = _service(arguments), arguments.get("percent")
        order = ClearSplit(service=service) if percent is None else SplitOrder(service=service, shares=_shares(percent))
        return json_response(200, inbox.ask(order))

    def fault(arguments: Mapping[str, Any]) -> Response:
        """`POST /fault {"service": "web", "percent": 10, "abort": 503, "delay_ms": 200, "from": "api", "path": "/x",
        "for_seconds": 600, "owner": "alice"}`; the service alone ends its fault."""
        take_only(arguments, "service", *_FAULT)
        service = _service(arguments)
        if not any(key in arguments for key in _FAULT):
            return json_response(200, inbox.ask(ClearFault(service=service)))
        now, seconds = wall(), arguments.get("for_seconds")
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            raise BadRequest("cannot order a fault: for_seconds, its end, is to be a number")
        if not 0 < seconds <= MOST_SECONDS:  # a number of hundreds of digits cannot be added to a time
            raise BadRequest(f"cannot order a fault: it must last at most {MOST_SECONDS // 3600} hours")
        found = read_fault(
            service,
            {
                "percent": _parts(arguments.get("percent", 100)),
                "status": arguments.get("abort"),
                "delay_ms": arguments.get("delay_ms", 0),
                "source": arguments.get("from"),
                "path": arguments.get("path", "/"),
                "owner": arguments.get("owner", ""),
                "since": now,
                "until": now + seconds,
            },
        )
        if isinstance(found, str):
            raise BadRequest(f"cannot order a fault: it {found}")
        return json_response(200, inbox.ask(FaultOrder(fault=found)))

    return {"/split": split, "/fault": fault}


def _service(arguments: Mapping[str, Any]) -> str:
    service = arguments.get("service")
    if not isinstance(service, str) or not service:
        raise BadRequest("service is to be a text")
    return service


def _shares(percent: Any) -> dict[str, int]:
    if not isinstance(percent, dict) or not percent:
        raise BadRequest("percent is to say how much goes where, such as {'web.canary': 5}; or null")
    found = {to: _parts(share) for to, share in percent.items()}
    wrong = next((to for to, share in found.items() if share is None or not 0 <= share <= PARTS), None)
    if wrong is not None:
        raise BadRequest(f"the percent of {wrong!a} is to be a number from 0 to 100")
    return {to: share for to, share in found.items() if share is not None}


def _parts(percent: Any) -> int | None:
    fits = isinstance(percent, int | float) and not isinstance(percent, bool) and 0 <= percent <= 100
    return round(percent * PARTS / 100) if fits else None
