"""Holds: which instances get no new requests from this host, by whom, why and until when. Pure.

A hold is a maintenance whose scope is a service and an address: `web 10.0.0.5:8080`. It stays when the instance leaves
the registry, and holds for whoever comes back there.
"""

from collections.abc import Mapping
from typing import Final

from smartstack import maintenance
from smartstack.addresses import canonical_ip, split_port
from smartstack.errors import SmartStackError
from smartstack.instance import NAME, printable
from smartstack.maintenance import Maintenance, Maintenances, Wording
from synapse.placement import Placed, Placement, Role, Seen

DEFAULT_SECONDS: Final = 3600.0
"""How long a hold lasts that is ordered without a time: what is forgotten ends by itself."""

NO_REASON: Final = "no reason given"

_SHOWN = 5


def scope_of(service: str, address: str) -> str:
    """The scope of a hold."""
    return f"{service} {address}"


def is_scope(scope: str) -> bool:
    """Whether a hold may have this scope."""
    service, _, address = scope.partition(" ")
    parts = split_port(address)
    return NAME.fullmatch(service) is not None and parts is not None and canonical_ip(parts[0]) == parts[0]


WORDING: Final = Wording(daemon="synapse", noun="hold", done="held", is_scope=is_scope)


def by_service(holds: Maintenances) -> Mapping[str, Mapping[str, Maintenance]]:
    """The holds by service and address."""
    found: dict[str, dict[str, Maintenance]] = {}
    for scope, hold in sorted(holds.items()):
        service, _, address = scope.partition(" ")
        found.setdefault(service, {})[address] = hold
    return found


def text(hold: Maintenance, now: float) -> str:
    """One sentence for people."""
    return maintenance.text(hold, f"{hold.scope} is held on this host", now)


def find(service: str, typed: str, known: Mapping[str, str | None], among: str = "instance") -> str:
    """The address that is meant, of those that are known with their names: by the whole address, by the host, the port
    or the name where only one has it.

    Raises SmartStackError when none is meant or several are; `among` says what they are.
    """
    fits = fitting(typed, known)
    shown = printable(typed, 80)
    if len(fits) == 1:
        return fits[0]
    if fits:
        raise SmartStackError(f"{shown} is more than one {among} of {service}: give one of {_listed(fits)}")
    if not known:
        raise SmartStackError(f"{shown} is no {among} of {service}, which has none")
    raise SmartStackError(
        f"{shown} is no {among} of {service}: there {'is' if len(known) == 1 else 'are'} {_listed(list(known))}"
    )


def fitting(typed: str, known: Mapping[str, str | None]) -> list[str]:
    """The addresses that may be meant."""
    return [address for address, name in known.items() if _fits(typed, address, name)]


def is_last(placement: Placement, address: str, seen: Seen) -> bool:
    """Whether new requests go to this instance and, by what HAProxy finds, to no other."""
    serving = {placed.instance.address for placed in placement.members if _serves(placed)}
    return address in serving and not serving - seen.down - {address}


def _serves(placed: Placed) -> bool:
    return placed.role in (Role.PRIMARY, Role.BACKUP) and placed.instance.weight != 0


def _fits(typed: str, address: str, name: str | None) -> bool:
    host, port = split_port(address) or (address, 0)
    whole = split_port(typed)
    if whole is not None:
        return (canonical_ip(whole[0]), whole[1]) == (host, port)
    if typed.removeprefix(":") == str(port):
        return True
    return typed == name or canonical_ip(typed.strip("[]")) == host


def _listed(addresses: list[str]) -> str:
    more = len(addresses) - _SHOWN
    return ", ".join(addresses[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
