"""Sources of type `static`: servers that stand in the definition itself."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from smartstack.addresses import canonical_ip, names_no_machine
from smartstack.forms import INSTANCE_ID, LABELS, PORT, TcpAddress, between
from smartstack.instance import WEIGHT_RANGE
from smartstack.model import Form
from synapse.sources.base import Fixed, Place, Source
from synapse.sources.listing import listing_of


def _address(value: Any) -> str:
    address = canonical_ip(value) if isinstance(value, str) else None
    if address is None or names_no_machine(address):
        raise ValueError("must be the IP address of one machine; for a name there is type: dns")
    return address


ADDRESS = Form(_address, {"type": "string", "pattern": r"^[0-9A-Fa-f:.]+$"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One server. It is not registered and nobody checks it but HAProxy, where the definition says so."""

    host: Annotated[str, "its IP address", ADDRESS]
    port: Annotated[int | None, "where it listens; absent: the definition's port", PORT] = None
    weight: Annotated[int | None, "its share of the traffic", between(WEIGHT_RANGE.start, WEIGHT_RANGE.stop - 1)] = None
    labels: Annotated[Mapping[str, str], "what `where` and `locality` go by", LABELS] = field(default_factory=dict)
    name: Annotated[str | None, "what people see", INSTANCE_ID] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticSource:
    """Servers that are always there. With `combine: fallback`, and last: servers for when nobody is registered."""

    servers: Annotated[tuple[Server, ...], "one or more of them"]

    def problems(self) -> Iterable[tuple[str, str]]:
        """Rules over several keys: the dotted key, and what is wrong."""
        if not self.servers:
            yield "servers", "names no server"
        seen: set[tuple[str, int | None]] = set()
        for server in self.servers:
            if (server.host, server.port) in seen:
                address = server.host if server.port is None else TcpAddress(server.host, server.port)
                yield "servers", f"has {address} twice"
            seen.add((server.host, server.port))

    def open(self, place: Place) -> Source:
        """Nothing has to be started for it."""
        payloads: list[dict[str, Any]] = [
            {
                "host": server.host,
                "port": server.port or place.port,
                "weight": server.weight,
                "labels": dict(server.labels),
                "name": server.name,
            }
            for server in self.servers
        ]
        return Fixed(listing_of((str(TcpAddress(each["host"], each["port"])), each) for each in payloads))
