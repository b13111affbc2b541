"""The service definition: one YAML file for a service, the same on every host. The file's name is its name."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal

from smartstack.forms import INSTANCE_ID, PORT, REGISTRY_PATH, duration
from smartstack.locality import WHERE, Locality, Where
from smartstack.model import Form, OneOf
from smartstack.traffic import Proxy

Combine = Literal["union", "fallback"]
Tether = Literal["conclusive", "check", "off"]

_PORT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def _port_name(value: Any) -> str:
    if not isinstance(value, str) or not _PORT_NAME.fullmatch(value):
        raise ValueError("a port's name is letters, digits, '_' and '-', and begins with a letter or a digit")
    return value


PORT_NAME = Form(_port_name, {"type": "string", "pattern": f"^{_PORT_NAME.pattern}$"})
"""Without dots, so that the service `<service>.<port's name>` is the port of one service only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherPlace:
    """One more place in a registry where the service is registered: a fleet that is being moved from or to it."""

    registry: Annotated[str | None, "one of nerve.yaml's registries; absent: the main one", INSTANCE_ID] = None
    path: Annotated[str | None, "its place there, if not the same", REGISTRY_PATH] = None

    def problems(self) -> Iterable[tuple[str, str]]:
        """Rules over several keys: the dotted key, and what is wrong."""
        if self.registry is None and self.path is None:
            yield "", "names neither a registry nor a path; without them it is where the service stands anyway"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One port of a service: where it listens, how nerve checks it, how synapse offers it."""

    port: Annotated[int, "where an instance listens", PORT]
    check: Annotated[Any, "how nerve decides that the instance on its own host is well", OneOf("check")] = None
    checks: Annotated[tuple[Annotated[Any, OneOf("check")], ...], "several checks, all of which must pass"] = ()
    proxy: Annotated[Proxy | None, "how synapse offers it to local clients; absent: discovery only"] = None
    registry_path: Annotated[str | None, "its place in the registry, if not services/<name>", REGISTRY_PATH] = None
    also_register: Annotated[tuple[OtherPlace, ...], "more places in registries where it stands too"] = ()

    def problems(self) -> Iterable[tuple[str, str]]:
        """Rules over several keys: the dotted key, and what is wrong."""
        if self.check is not None and self.checks:
            yield "checks", "stands beside check; give one of them"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceDefinition(Endpoint):
    """A service: its port, and what holds for the service as a whole.

    `check` and `checks` hold models of the check kinds that the reader gave to `validate`; a reader that gave none
    (synapse) finds the mapping as it stands in the file. `ports` are more ports of the same instance, each a service
    of its own called `<service>.<port's name>` (see `expand`).
    """

    ports: Annotated[
        Mapping[Annotated[str, PORT_NAME], Endpoint], "more ports of it, each a service of its own: <service>.<name>"
    ] = field(default_factory=dict)
    where: Annotated[Where, "labels that an instance must have to be used here", WHERE] = ()
    locality: Annotated[Locality | None, "instances near this host first; absent: all alike"] = None
    sources: Annotated[
        tuple[Annotated[Any, OneOf("source")], ...], "where its instances are found; absent: the registry"
    ] = ()
    combine: Annotated[Combine, "instances of all sources, or those of the first that has any"] = "union"
    leader_only: Annotated[bool, "use one instance only, the one that has been registered longest"] = False
    tether: Annotated[Tether, "what an idle connection that the service's end closes is worth"] = "conclusive"
    warmup: Annotated[
        float | None, "its weight grows from a tenth to full in this time after it joined", duration("1s")
    ] = None

    def problems(self) -> Iterable[tuple[str, str]]:
        """Rules over several keys: the dotted key, and what is wrong."""
        yield from Endpoint.problems(self)
        if self.combine == "fallback" and len(self.sources) < 2:
            yield "combine", "needs several sources, of which the first that has any instance is taken"
        holders: dict[tuple[str, object], str] = {}
        for name, endpoint in {"": self, **self.ports}.items():
            listens = endpoint.proxy.addresses if endpoint.proxy is not None else ()
            parts = [("port", endpoint.port), ("registry_path", endpoint.registry_path)]
            for key, value in (*parts, *(("proxy.listen", listen) for listen in listens)):
                holder = holders.setdefault((key, value), name)
                if value is not None and holder != name:
                    whose = f"ports.{holder}" if holder else "the service itself"
                    yield f"ports.{name}.{key}", f"is that of {whose} already"


def expand(name: str, definition: ServiceDefinition) -> Mapping[str, ServiceDefinition]:
    """The services that a definition stands for, by name: itself as it is, and each of its ports as `<name>.<port>`.

    A port has its own address, checks, proxy and places in registries; the tether, the warm-up and the choice of
    instances (`where`, `locality`, `leader_only`) are its parent's.
    One without checks is as well as its parent, which the reader sees in the parent's `ports`.
    """
    services = {name: definition}
    for port, endpoint in definition.ports.items():
        own = {field.name: getattr(endpoint, field.name) for field in fields(Endpoint)}
        services[f"{name}.{port}"] = ServiceDefinition(
            **own,
            tether=definition.tether,
            warmup=definition.warmup,
            where=definition.where,
            locality=definition.locality,
            leader_only=definition.leader_only,
        )
    return services


def parent_name(name: str) -> str:
    """The service that would have this one as a port, if any has; empty where none can."""
    return name.rpartition(".")[0]
