"""Service definitions for tests, with only what matters said."""

from typing import Any

from smartstack.definition import Proxy, ServiceDefinition
from smartstack.forms import TcpAddress


def proxy(**fields: Any) -> Proxy:
    """A proxy at 127.0.0.1:3210, with these fields different."""
    return Proxy(**{"listen": TcpAddress("127.0.0.1", 3210), **fields})


def definition(**fields: Any) -> ServiceDefinition:
    """A definition whose proxy has these fields different."""
    return ServiceDefinition(port=8080, proxy=proxy(**fields))
