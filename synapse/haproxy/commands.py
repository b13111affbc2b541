"""Actions of a plan as lines for HAProxy's runtime socket. Pure, and the last guard: nothing that could be read as a
second command, a comment or a payload leaves here."""

import ipaddress
from collections.abc import Iterable, Iterator

from smartstack.instance import NAME
from synapse.plan import Action, Disable, Enable, SetAddress, SetWeight

LINE_LIMIT = 8000
"""Longest line sent, in bytes: HAProxy hangs or refuses above 16 KB (`tune.bufsize`)."""


def command(action: Action) -> str:
    """The runtime command for one action.

    Raises `ValueError` for a value outside its alphabet. Such a value is a defect: everything was checked when it
    came out of the registry or the definition.
    """
    for name in (action.backend, action.slot):
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} may not be sent to HAProxy")
    server = f"set server {action.backend}/{action.slot}"
    match action:
        case SetAddress(host=host, port=port):
            if port not in range(1, 65_536):
                raise ValueError(f"port {port!r} may not be sent to HAProxy")
            if "%" in host:  # the zone of an IPv6 address may be any text
                raise ValueError(f"address {host!r} may not be sent to HAProxy")
            return f"{server} addr {ipaddress.ip_address(host)} port {port:d}"
        case SetWeight(weight=weight):
            if weight not in range(257):
                raise ValueError(f"weight {weight!r} may not be sent to HAProxy")
            return f"{server} weight {weight:d}"
        case Enable():
            return f"{server} state ready"
        case Disable():
            return f"{server} state maint"


def batches(actions: Iterable[Action]) -> Iterator[list[Action]]:
    """The actions in runs that may go on one line, in order.

    An `Enable` never shares a line with the `SetAddress` of its slot: newer HAProxy applies an address a moment after
    it said so, and a slot that is enabled too early sends requests to the old address.
    """
    run: list[Action] = []
    size = 0
    addressed: set[tuple[str, str]] = set()
    for action in actions:
        line = len(command(action)) + 1
        waits = isinstance(action, Enable) and (action.backend, action.slot) in addressed
        if run and (waits or size + line > LINE_LIMIT):
            yield run
            run, size, addressed = [], 0, set()
        if isinstance(action, SetAddress):
            addressed.add((action.backend, action.slot))
        run.append(action)
        size += line
    if run:
        yield run
