"""Under which address this host is announced."""

import ipaddress
import socket

from nerve.settings import Settings
from smartstack.errors import ConfigError, Problem
from smartstack.own_address import address_towards


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


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
