"""Under which address this host is reached by the others of its fleet, where nobody says it."""

import ipaddress
import socket

from smartstack.forms import DirectoryUrl, RegistryUrl

LOOPBACK = "127.0.0.1"


def address_towards(registry: RegistryUrl) -> str:
    """The address of this host from which the first member of the registry on another host is reached; a loopback
    address only if every member is reached from one: that is a single machine. Raises OSError."""
    if isinstance(registry, DirectoryUrl):
        return LOOPBACK
    loopback, failure = None, None
    for member in registry.hosts.split(","):
        try:
            source = _source_towards(member)
        except OSError as error:
            failure = error
            continue
        if not ipaddress.ip_address(source).is_loopback:
            return source
        loopback = loopback or source
    # Of a member that is not found nobody knows that it is on this host: loopback would be a guess that harms others.
    if loopback is None or failure is not None:
        raise failure or OSError("it names no host")
    return loopback


def _source_towards(member: str) -> str:
    """The address from which this host reaches `host:port`. Raises OSError.

    A UDP socket that is connected sends nothing, but has chosen its route and with it its address.
    """
    host, _, port = member.rpartition(":")
    family, _, _, _, place = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect(place)
        return str(ipaddress.ip_address(probe.getsockname()[0]))
