"""Under which address this host is announced."""

import ipaddress
import socket

from nerve.settings import Settings
from smartstack.errors import ConfigError, Problem
from smartstack.forms import DirectoryUrl, RegistryUrl

LOOPBACK = "127.0.0.1"


def advertised_address(settings: Settings, path: str) -> str:
    """The canonical IP address that settings ask for: `host` itself, what its name resolves to, or the address from
    which this host reaches the registry. `path` is the settings' file, for the error.

    May wait for a name server. Raises ConfigError when there is no such address.
    """
    if settings.host is not None:
        try:
            return resolve(settings.host)
        except OSError as error:
            message = f"cannot be resolved to an address: {_reason(error)}; give an IP address or repair the name"
            raise ConfigError([Problem(path=path, key="host", message=message, got=settings.host)]) from error
    try:
        return address_towards(settings.registry)
    except OSError as error:
        message = f"is not given, and this host has no address that reaches {settings.registry}: {_reason(error)}"
        raise ConfigError([Problem(path=path, key="host", message=message)]) from error


def resolve(host: str) -> str:
    """The address of a name (IPv4 if it has both), or an address in its canonical form. Raises OSError."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    first = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    return str(ipaddress.ip_address(first[4][0]))


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


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
