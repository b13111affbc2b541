"""nerve.yaml: what this host's nerve announces, and where."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from smartstack.forms import ADMIN, DURATION, HOST, INSTANCE_ID, LABELS, PATH, PORT, REGISTRY, RegistryUrl, TcpAddress, between

NodeNames = Literal["address", "payload"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """One service that runs on this host."""

    port: Annotated[int | None, "where it listens here, if not where its definition says", PORT] = None
    weight: Annotated[int | None, "its share of the traffic, 0 to 256; 0 is draining; 100 if absent", between(0, 256)] = None
    labels: Annotated[Mapping[str, str], "labels of this instance, added to the host's", LABELS] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """This host's nerve."""

    registry: Annotated[RegistryUrl, "zookeeper://host:port,host:port/root, or file:/directory", REGISTRY]
    services: Annotated[str, "the directory of the service definitions", PATH] = "services"
    host: Annotated[str | None, "the advertised address; default: the address this host uses to reach the registry", HOST] = None
    instance_id: Annotated[str | None, "the name in the registration; default: this machine's host name", INSTANCE_ID] = None
    labels: Annotated[Mapping[str, str], "labels of every instance on this host (zone, region)", LABELS] = field(default_factory=dict)
    announce: Annotated[Mapping[str, Announcement], "the services that run here"] = field(default_factory=dict)
    node_names: Annotated[NodeNames, "payload puts the registration into the node's name, which saves every reader a read"] = "address"
    session_timeout: Annotated[float, "how long the registry keeps the nodes of a nerve that died", DURATION] = 10.0
    admin: Annotated[TcpAddress | None, "where /status and /metrics are served; null serves nothing", ADMIN] = TcpAddress("127.0.0.1", 3199)
    state_directory: Annotated[str, "where nerve keeps what must survive a restart", PATH] = "/var/lib/smartstack/nerve"
    resync_interval: Annotated[float, "how often everything is compared again, rung or not", DURATION] = 30.0
