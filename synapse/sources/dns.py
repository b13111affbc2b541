"""Sources of type `dns`: the addresses of a name, or the targets of its SRV records."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Annotated, Any, Literal

from smartstack.addresses import canonical_ip, host_name, names_no_machine, split_port
from smartstack.forms import PORT, TcpAddress, duration
from smartstack.model import Form
from synapse.sources.base import Place, Source

RecordType = Literal["a", "aaaa", "srv"]

MISSING = "needs dnspython, which is not installed: pip install 'smartstack-py[dns]'"

_DNS_PORT = 53
_SCHEMA_NAME = r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?$"


def _name(value: Any) -> str:
    name = value.removesuffix(".") if isinstance(value, str) else None
    if not name or not re.fullmatch(_SCHEMA_NAME, name) or host_name(name) is None:
        raise ValueError("must be a whole name in DNS, such as web.example.com or _web._tcp.example.com")
    return name


def _nameserver(value: Any) -> TcpAddress:
    address = canonical_ip(value) if isinstance(value, str) else None
    split = (address, _DNS_PORT) if address else split_port(value) if isinstance(value, str) else None
    host = canonical_ip(split[0]) if split else None
    if split is None or host is None or names_no_machine(host):
        raise ValueError("must be an IP address, with a port if that is not 53: 10.0.0.2, '10.0.0.2:8600'")
    return TcpAddress(host, split[1])


DNS_NAME = Form(_name, {"type": "string", "pattern": _SCHEMA_NAME})
NAMESERVER = Form(_nameserver, {"type": "string", "pattern": r"^[0-9A-Fa-f:.\[\]]+$"}, str)


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsSource:
    """The addresses of a name, asked for again when the answer's time is over.

    Needs dnspython (`pip install 'smartstack-py[dns]'`).
    """

    name: Annotated[str, "the whole name; search domains and /etc/hosts are not used", DNS_NAME]
    record: Annotated[RecordType | None, "which records; absent: a and aaaa"] = None
    port: Annotated[int | None, "where instances listen; absent: what SRV says, or the definition's port", PORT] = None
    nameservers: Annotated[
        tuple[Annotated[TcpAddress, NAMESERVER], ...], "whom to ask; absent: those of /etc/resolv.conf"
    ] = ()
    min_ttl: Annotated[float, "an answer is good for so long at the least", duration("100ms", "24h")] = 5.0
    max_ttl: Annotated[float, "and for so long at the most", duration("100ms", "24h")] = 60.0

    def problems(self) -> Iterable[tuple[str, str]]:
        """Rules over several keys: the dotted key, and what is wrong."""
        if self.min_ttl > self.max_ttl:
            yield "min_ttl", "is more than max_ttl"
        if find_spec("dns") is None:
            yield "type", MISSING

    def open(self, place: Place) -> Source:
        """All names are asked for by one thread."""
        # An extra, and 17 MB with asyncio.
        from synapse.sources.resolver import Lookup, Question, Resolver

        question = Question(
            name=self.name,
            record=self.record,
            port=self.port if self.record == "srv" else self.port or place.port,
            nameservers=self.nameservers,
            min_ttl=self.min_ttl,
            max_ttl=self.max_ttl,
        )
        return Lookup(question, place.shared.of(Resolver))
