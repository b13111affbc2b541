"""nerve.yaml: what this host's nerve announces, and where."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from smartstack.forms import (
    ADMIN,
    HOST,
    INSTANCE_ID,
    LABELS,
    PATH,
    PORT,
    REGISTRY,
    RegistryUrl,
    TcpAddress,
    between,
    duration,
)

NodeNames = Literal["address", "payload"]

_ADMIN = TcpAddress("127.0.0.1", 3199)


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """One service that runs on this host."""

    port: Annotated[int | None, "where it listens here, if not where its definition says", PORT] = None
    weight: Annotated[int | None, "its share of the traffic; 0 is draining; 100 if absent", between(0, 256)] = None
    labels: Annotated[Mapping[str, str], "added to the labels of the host", LABELS] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """This host's nerve."""

    registry: Annotated[RegistryUrl, "zookeeper://host:port,host:port/root, or file:/directory", REGISTRY]
    services: Annotated[str, "the directory of the service definitions", PATH] = "services"
    host: Annotated[str | None, "the advertised address; default: the one that reaches the registry", HOST] = None
    instance_id: Annotated[str | None, "the name in the registration; default: the host's name", INSTANCE_ID] = None
    labels: Annotated[Mapping[str, str], "of every instance here (zone, region)", LABELS] = field(default_factory=dict)
    announce: Annotated[Mapping[str, Announcement], "the services that run here"] = field(default_factory=dict)
    node_names: Annotated[NodeNames, "payload puts the registration in the node's name: saves reads"] = "address"
    session_timeout: Annotated[float, "how long the nodes of a nerve that died stay", duration("1s", "10m")] = 10.0
    admin: Annotated[TcpAddress | None, "where /status and /metrics are served; null: nowhere", ADMIN] = _ADMIN
    state_directory: Annotated[str, "where nerve keeps what survives a restart", PATH] = "/var/lib/smartstack/nerve"
    resync_interval: Annotated[float, "how often all is compared again, rung or not", duration("1s", "1h")] = 30.0
