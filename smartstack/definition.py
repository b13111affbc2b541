"""The service definition: one YAML file for a service, the same on every host. The file's name is its name."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any, Literal

from smartstack.forms import INSTANCE_ID, PORT, REGISTRY_PATH, duration
from smartstack.locality import WHERE, Locality, Where
from smartstack.model import Form, OneOf
from smartstack.shifting import Subset
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
    subsets: Annotated[
        Mapping[Annotated[str, PORT_NAME], Subset], "some of its instances, each a service of its own: <service>.<name>"
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
        for name in self.ports.keys() & self.subsets.keys():
            yield f"subsets.{name}", f"is the name of ports.{name} already"
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
    """The services that a definition stands for, by name: itself, and each of its ports and subsets as
    `<name>.<port or subset>`.

    A port has its own address, checks, proxy and places in registries; the tether, the warm-up and the choice of
    instances (`where`, `locality`, `leader_only`) are its parent's.
    One without checks is as well as its parent, which the reader sees in the parent's `ports`.
    A subset is its parent in everything but its instances, and that it has no clients of its own.
    """
    services = {name: _without_exclusive(definition)}
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
    for key, subset in definition.subsets.items():
        services[f"{name}.{key}"] = replace(
            definition,
            registry_path=definition.registry_path or f"services/{name}",
            also_register=(),
            proxy=None if definition.proxy is None else _without_clients(name, definition.proxy),
            ports={},
            subsets={},
            where=(*definition.where, *subset.where),
        )
    return services


def claims(name: str, definition: ServiceDefinition) -> Mapping[str, str]:
    """The services beside itself that a definition stands for, each with the key that says so."""
    keys = [("ports", port) for port in definition.ports] + [("subsets", subset) for subset in definition.subsets]
    return {f"{name}.{key}": f"{group}.{key}" for group, key in keys}


def _without_exclusive(definition: ServiceDefinition) -> ServiceDefinition:
    """The service that is left when its subsets have their instances for themselves where they are to."""
    taken = [condition for subset in definition.subsets.values() if subset.exclusive for condition in subset.where]
    if not taken:
        return definition
    return replace(definition, where=(*definition.where, *(replace(one, negate=not one.negate) for one in taken)))


def _without_clients(name: str, proxy: Proxy) -> Proxy | None:
    """How a subset of a service is offered: by routes and splits alone, which mode tcp has none of."""
    if proxy.mode == "tcp":
        return None
    health = proxy.health
    if health.path is not None and health.host is None:
        health = replace(health, host=name)
    return replace(
        proxy,
        listen=(),
        also_listen=(),
        routes=(),
        split=(),
        split_by=None,
        limits=replace(proxy.limits, clients=None, rate=None),
        raw=replace(proxy.raw, frontend=()),
        health=health,
    )


def parent_name(name: str) -> str:
    """The service that would have this one as a port, if any has; empty where none can."""
    return name.rpartition(".")[0]
