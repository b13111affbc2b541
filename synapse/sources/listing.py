"""Listings out of what is no registry: each instance goes through the door that a registry's nodes go through. Pure."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from smartstack.instance import decode, printable
from smartstack.registry.protocol import Listing, Record, Refused

BROADCAST = "255.255.255.255"


def listing_of(payloads: Iterable[tuple[str, Mapping[str, Any]]]) -> Listing:
    """The instances in these payloads (`host`, `port`, `name`, `weight`, `labels`), each with the name of its node.

    What is no instance is refused, and so is the second one with an address.
    """
    records: dict[str, Record] = {}
    refused: list[Refused] = []
    for node, payload in payloads:
        instance = decode(json.dumps(payload).encode())
        name = printable(node)
        if isinstance(instance, str):
            refused.append(Refused(node=name, reason=instance))
        elif instance.host == BROADCAST:
            refused.append(Refused(node=name, reason=f"host is not an address of one machine: {BROADCAST}"))
        elif instance.address in records:
            refused.append(Refused(node=name, reason=f"{instance.address} is {records[instance.address].node} already"))
        else:
            records[instance.address] = Record(node=name, instance=instance)
    return Listing(
        records=tuple(sorted(records.values(), key=lambda record: record.node)),
        refused=tuple(sorted(refused, key=lambda each: each.node)),
    )
