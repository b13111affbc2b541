"""Whom Prometheus asks: every synapse of the fleet and its host's nerve, as a file for its discovery by files. Pure."""

import json
from collections.abc import Iterable
from typing import Any

from smartstack.forms import TcpAddress
from synapse.fleet.peer import Peer


def target_groups(peers: Iterable[Peer], nerve_port: int | None) -> list[dict[str, Any]]:
    """The groups, one for each daemon, so that each has its host's name.

    A nerve does not announce itself: it is taken to be at `nerve_port` of the address that its host's synapse has; None
    leaves nerves out.
    """
    synapses = [_group(peer.address, "synapse", peer.name) for peer in peers]
    if nerve_port is None:
        return synapses
    return [*synapses, *(_group(TcpAddress(peer.address.host, nerve_port), "nerve", peer.name) for peer in peers)]


def text(peers: Iterable[Peer], nerve_port: int | None) -> str:
    """The file; always the same for the same fleet."""
    return json.dumps(target_groups(tuple(peers), nerve_port), indent=1, ensure_ascii=False) + "\n"


def _group(address: TcpAddress, job: str, host: str) -> dict[str, Any]:
    return {"targets": [str(address)], "labels": {"job": job, "host": host}}
