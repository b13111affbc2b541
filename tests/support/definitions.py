"""Service definitions for tests, with only what matters said."""

from collections.abc import Iterable
from typing import Any

from smartstack.definition import ServiceDefinition
from smartstack.forms import TcpAddress
from smartstack.instance import Instance
from smartstack.traffic import Proxy
from synapse.placement import Placed, Placement, Role


def proxy(**fields: Any) -> Proxy:
    """A proxy at 127.0.0.1:3210, with these fields different; `listen` may be one address or a tuple of them."""
    listen = fields.pop("listen", TcpAddress("127.0.0.1", 3210))
    return Proxy(listen=listen if isinstance(listen, tuple) else (listen,), **fields)


def definition(**fields: Any) -> ServiceDefinition:
    """A definition whose proxy has these fields different."""
    return ServiceDefinition(port=8080, proxy=proxy(**fields))


def placed(instances: Iterable[Instance]) -> Placement:
    """A placement in which each of these takes traffic."""
    return Placement(members=tuple(Placed(instance=instance, role=Role.PRIMARY) for instance in instances))
