"""nerve.yaml: what this host's nerve announces, and where."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from smartstack.addresses import canonical_ip
from smartstack.forms import (
    ADMIN,
    DURATION,
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
from smartstack.registry.options import NOBODY, ZooKeeperOptions

NodeNames = Literal["address", "payload"]
OnStop = Literal["deregister", "drain", "leave"]

_ADMIN = TcpAddress("127.0.0.1", 3199)
_STATSD = TcpAddress("127.0.0.1", 8125)


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """One service that runs on this host."""

    port: Annotated[int | None, "where it listens here, if not where its definition says", PORT] = None
    weight: Annotated[int | None, "its share of the traffic; 0 is draining; 100 if absent", between(0, 256)] = None
    labels: Annotated[Mapping[str, str], "added to the labels of the host", LABELS] = field(default_factory=dict)
    haproxy_server_options: Annotated[
        str | None, "carried in the registration, for readers of Airbnb's SmartStack; synapse does not render it"
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """When an instance that is being drained is safe to stop."""

    settle: Annotated[float, "how long consumers have to hear of it, at the least", DURATION] = 3.0
    timeout: Annotated[float, "how long its connections may take to end, at the most", DURATION] = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishLimit:
    """How often a service may join the registry; to leave it is never limited."""

    burst: Annotated[int, "joins that are free", between(1, 10_000)] = 10
    every: Annotated[float, "one more join each so often", DURATION] = 10.0
    shadow: Annotated[bool, "only count and log what would have been held back"] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FlapDamping:
    """A service that goes down again and again is kept out until it has been quiet."""

    limit: Annotated[int, "so many times down, with none forgotten, keeps a service out", between(2, 1000)] = 5
    half_life: Annotated[float, "in this time half of them are forgotten", duration("1s", "24h")] = 60.0
    shadow: Annotated[bool, "only count and log what would have been held back"] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherRegistry:
    """One more registry, for definitions that register there too (`also_register`)."""

    url: Annotated[RegistryUrl, "zookeeper://host:port,host:port/root, or file:/directory", REGISTRY]
    zookeeper: Annotated[ZooKeeperOptions, "user, password and TLS for ZooKeeper"] = NOBODY


@dataclass(frozen=True, slots=True, kw_only=True)
class Statsd:
    """Where the metrics of Airbnb's nerve are sent, as DogStatsD datagrams."""

    address: Annotated[TcpAddress, "where the agent listens: an IP address, or localhost", ADMIN] = _STATSD

    def problems(self) -> Iterable[tuple[str, str]]:
        """Rules over several keys: the dotted key, and what is wrong."""
        # A name would be looked up again and again, by the loop: whatever it counts would wait for a name server.
        if self.address.host != "localhost" and canonical_ip(self.address.host) is None:
            yield "address", "must be an IP address, or localhost: nothing in nerve's loop may wait for a name server"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """This host's nerve."""

    registry: Annotated[RegistryUrl, "zookeeper://host:port,host:port/root, or file:/directory", REGISTRY]
    zookeeper: Annotated[ZooKeeperOptions, "user, password and TLS for ZooKeeper"] = NOBODY
    services: Annotated[str, "the directory of the service definitions", PATH] = "services"
    host: Annotated[str | None, "the advertised address; default: the one that reaches the registry", HOST] = None
    instance_id: Annotated[str | None, "the name in the registration; default: the host's name", INSTANCE_ID] = None
    labels: Annotated[Mapping[str, str], "of every instance here (zone, region)", LABELS] = field(default_factory=dict)
    announce: Annotated[Mapping[str, Announcement], "the services that run here"] = field(default_factory=dict)
    node_names: Annotated[NodeNames, "payload puts the registration in the node's name: saves reads"] = "address"
    session_timeout: Annotated[float, "how long the nodes of a nerve that died stay", duration("1s", "10m")] = 10.0
    admin: Annotated[TcpAddress | None, "where /status and /metrics are served; null: nowhere", ADMIN] = _ADMIN
    state_directory: Annotated[str, "where nerve keeps what survives a restart", PATH] = "/var/lib/smartstack/nerve"
    run_directory: Annotated[str, "where the token for actions is", PATH] = "/run/smartstack/nerve"
    heartbeat_group: Annotated[str | None, "a group whose members may report heartbeats of services"] = None
    heartbeat_file: Annotated[str | None, "a file that is touched while the loop turns", PATH] = None
    on_stop: Annotated[OnStop, "what a stop does with what is registered"] = "deregister"
    drain: Annotated[Drain, "when a drained instance is safe to stop"] = Drain()
    publish_limit: Annotated[PublishLimit, "how often a service may join the registry"] = PublishLimit()
    flap_damping: Annotated[FlapDamping, "keeps out what goes down again and again"] = FlapDamping()
    registries: Annotated[Mapping[str, OtherRegistry], "more registries, by name"] = field(default_factory=dict)
    statsd: Annotated[Statsd | None, "absent: no statsd"] = None
    resync_interval: Annotated[float, "how often all is compared again, rung or not", duration("1s", "1h")] = 30.0
