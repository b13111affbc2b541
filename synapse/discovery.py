"""What clients that do without the proxy are told of a service: JSON, and variables for a shell. Pure."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from smartstack.registry.protocol import Listing
from synapse.offers import Offer
from synapse.placement import Placed, Role
from synapse.proxy import Admin, Slot


def service_view(name: str, offer: Offer, listen: str | None, slots: Sequence[Slot]) -> dict[str, Any]:
    """One service as /services answers it: where it is offered, and every instance that may be used here.

    `use` says for which an instance is: `traffic`, `backup` (only when no other is up) or `drain` (nothing new). `up`
    is what HAProxy's own check finds, None where the service is not offered through HAProxy.
    """
    checked = {slot.address: slot.up for slot in slots if slot.admin is not Admin.MAINT}
    return {
        "service": name,
        "listen": listen,
        "known": isinstance(offer.known, Listing),
        "origin": offer.choice.origin.value,
        "reason": offer.choice.reason,
        "instances": [_instance(placed, checked) for placed in offer.placement.used],
    }


def shell_variables(view: Mapping[str, Any]) -> str:
    """The same as lines of `NAME=value` that a shell, systemd's EnvironmentFile and Docker's --env-file read alike:
    `WEB_LISTEN`, `WEB_COUNT`, and in `WEB_INSTANCES` the addresses that take traffic, with spaces between them."""
    prefix = re.sub(r"[^A-Z0-9]", "_", view["service"].upper())
    if prefix[0].isdigit():
        prefix = f"_{prefix}"
    addresses = [each["address"] for each in view["instances"] if each["use"] == "traffic"]
    quoted = f'"{" ".join(addresses)}"'
    return f'{prefix}_LISTEN="{view["listen"] or ""}"\n{prefix}_COUNT={len(addresses)}\n{prefix}_INSTANCES={quoted}\n'


def _instance(placed: Placed, checked: Mapping[str, bool]) -> dict[str, Any]:
    instance = placed.instance
    return {
        "address": instance.address,
        "host": instance.host,
        "port": instance.port,
        "name": instance.name,
        "weight": instance.weight,
        "labels": dict(instance.labels),
        "use": _use(placed),
        "ring": placed.ring,
        "up": checked.get(instance.address),
    }


def _use(placed: Placed) -> str:
    if placed.role is Role.HELD or placed.instance.weight == 0:
        return "drain"
    return "backup" if placed.role is Role.BACKUP else "traffic"
