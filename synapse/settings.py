"""synapse.yaml: what this host's synapse offers, and how its HAProxy runs."""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from smartstack.addresses import ADDRESS, canonical_ip, split_port
from smartstack.forms import (
    ADMIN,
    DURATION,
    LABELS,
    PATH,
    PORT,
    PROGRAM,
    REGISTRY,
    USE,
    RegistryUrl,
    TcpAddress,
    between,
    duration,
)
from smartstack.model import Form
from smartstack.registry.options import NOBODY, ZooKeeperOptions
from smartstack.traffic_forms import CALLER

Faults = Literal["off", "allowed"]
OnStop = Literal["keep", "stop"]
Owner = Literal["synapse", "external"]
OutputFormat = Literal["json", "env", "template"]

_SUFFIX = re.compile(r"\.[A-Za-z0-9_.-]{1,30}")


def _suffix(value: Any) -> str:
    if not isinstance(value, str) or not _SUFFIX.fullmatch(value):
        raise ValueError("must be the end of a file's name with its dot, such as .conf")
    return value


SUFFIX = Form(_suffix, {"type": "string", "pattern": f"^{_SUFFIX.pattern}$"})

_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")


def _user(value: Any) -> str:
    if not isinstance(value, str) or not _USER.fullmatch(value):
        raise ValueError("must be the name of a user of this machine")
    return value


USER = Form(_user, {"type": "string", "pattern": f"^{_USER.pattern}$"})

_ADMIN = TcpAddress("127.0.0.1", 3200)

AS_ADMIN = TcpAddress("127.0.0.1", 0)
"""Stands for the number of the admin address: several synapses on a host then do not meet."""


def _is_loopback(host: str) -> bool:
    return canonical_ip(host) is not None and ipaddress.ip_address(host).is_loopback


def _feed(value: Any) -> TcpAddress:
    split = split_port(value) if isinstance(value, str) else None
    host = canonical_ip(split[0]) if split else None
    if split is None or host is None or not _is_loopback(host):
        raise ValueError("must be a loopback address and a port, such as '127.0.0.1:3200', or null")
    return TcpAddress(host, split[1])


FEED = Form(
    _feed,
    {"type": "string", "pattern": f"^{ADDRESS.pattern}$"},
    lambda listen: str(_ADMIN if listen == AS_ADMIN else listen),
)
"""Loopback only: what clients ask for is nothing for the network, and nobody there may invent requests."""


def _fleet_listen(value: Any) -> TcpAddress:
    split = split_port(value) if isinstance(value, str) else None
    host = canonical_ip(split[0]) if split else None
    if split is None or host is None or ipaddress.ip_address(host).is_multicast:
        raise ValueError("must be an IP address of this host and a port, such as '10.0.0.5:3201' or '0.0.0.0:3201'")
    return TcpAddress(host, split[1])


FLEET_LISTEN = Form(_fleet_listen, {"type": "string", "pattern": f"^{ADDRESS.pattern}$"}, str)


@dataclass(frozen=True, slots=True, kw_only=True)
class HAProxySettings:
    """The HAProxy of this host, and whose it is."""

    owner: Annotated[Owner, "who starts and stops it: synapse, or somebody else, such as systemd"] = "synapse"
    binary: Annotated[str, "the program, by name or path", PROGRAM] = "haproxy"
    templates: Annotated[str | None, "a directory whose templates override the package's, by file name", PATH] = None
    nbthread: Annotated[int, "threads that serve traffic", between(1, 64)] = 1
    maxconn: Annotated[int, "most connections at once; give 5 times the peak", between(100, 1_000_000)] = 2000
    hard_stop_after: Annotated[float, "how long the old process may finish its connections", DURATION] = 300.0
    on_stop: Annotated[OnStop, "when synapse stops, HAProxy goes on serving or is stopped too"] = "keep"
    reload_interval: Annotated[float, "least time between two reloads", DURATION] = 1.0
    reload_splay: Annotated[float, "each host waits its own part of it before it reloads", duration("0s", "1h")] = 0.0
    configuration: Annotated[str | None, "the file that synapse writes", PATH] = None
    files: Annotated[tuple[str, ...], "external: files of yours that HAProxy runs with, before synapse's"] = ()
    socket: Annotated[str | None, "the runtime socket that synapse's file gives HAProxy", PATH] = None
    socket_user: Annotated[str | None, "external: who may use the runtime socket; synapse's user", USER] = None
    master_socket: Annotated[str | None, "external: the socket that HAProxy was given with -S", PATH] = None
    reload: Annotated[tuple[str, ...], "external: a program with its arguments that has HAProxy reload"] = ()
    start: Annotated[tuple[str, ...], "external: a program with its arguments that starts HAProxy"] = ()

    def problems(self) -> Iterable[tuple[str, str]]:
        """Rules over several keys: the dotted key, and what is wrong."""
        if self.owner == "synapse":
            for key in ("files", "socket_user", "master_socket", "reload", "start"):
                if getattr(self, key):
                    yield key, "has a meaning only with owner: external"
            return
        if not self.reload and self.master_socket is None:
            yield "reload", "is missing: a command such as [systemctl, reload, haproxy]; or give master_socket"
        if self.on_stop == "stop":
            yield "on_stop", "must be keep: synapse does not stop a HAProxy that is not its own"
        for file in self.files:
            if not file.startswith("/"):
                yield "files", f"must be absolute paths, as in HAProxy's command line, and {file} is not"


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Files that say where services are, one for each, for programs that do without the proxy."""

    directory: Annotated[str, "where the files are; others may be there too", PATH]
    format: Annotated[OutputFormat, "json as /services/<name> answers; env for shells; template: your own"] = "json"
    template: Annotated[str | None, "a Jinja2 template, given what /services/<name> answers", PATH] = None
    suffix: Annotated[str | None, "how the files' names end; default: .json, .env, or the template's own", SUFFIX] = (
        None
    )
    services: Annotated[tuple[str, ...] | None, "all, or a list of services", USE] = None
    command: Annotated[tuple[str, ...], "a program with its arguments, run after files changed"] = ()
    timeout: Annotated[float, "how long the command may take", duration("100ms", "10m")] = 30.0

    def problems(self) -> Iterable[tuple[str, str]]:
        """Rules over several keys: the dotted key, and what is wrong."""
        if self.format == "template" and self.template is None:
            yield "template", "is missing: the path of the template"
        if self.format != "template" and self.template is not None:
            yield "template", f"has no meaning for format: {self.format}"


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherRegistry:
    """One more registry, for sources of definitions that name it."""

    url: Annotated[RegistryUrl, "zookeeper://host:port,host:port/root, or file:/directory", REGISTRY]
    zookeeper: Annotated[ZooKeeperOptions, "user, password and TLS for ZooKeeper"] = NOBODY


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetrySettings:
    """What HAProxy tells synapse of each request."""

    listen: Annotated[
        TcpAddress | None,
        "the UDP address, of this machine only, that it tells it; default: the number of admin; null: nothing is told",
        FEED,
    ] = AS_ADMIN
    source: Annotated[str | None, "what callers from this host are called; absent: synapse finds out", CALLER] = None
    sample_above: Annotated[
        int, "of a service with more requests a second, a part is told, and counted as all", between(10, 1_000_000)
    ] = 2000
    instance_metrics: Annotated[bool, "in /metrics, each instance has series of its own: 31 for each"] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSettings:
    """How other hosts may look at the traffic of this one."""

    listen: Annotated[
        TcpAddress,
        "where they ask, and can change nothing; announced in the registry; 0.0.0.0: all of this host's addresses",
        FLEET_LISTEN,
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class PrometheusSettings:
    """For a Prometheus on this host: whom it asks, kept in step with the fleet."""

    targets: Annotated[str, "the file that tells it (file_sd), written with every synapse that is announced", PATH]
    nerve_port: Annotated[
        int | None, "each host's nerve too, at this port of the address that its synapse has; absent: no nerve", PORT
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """This host's synapse."""

    registry: Annotated[RegistryUrl, "zookeeper://host:port,host:port/root, or file:/directory", REGISTRY]
    zookeeper: Annotated[ZooKeeperOptions, "user, password and TLS for ZooKeeper"] = NOBODY
    services: Annotated[str, "the directory of the service definitions", PATH] = "services"
    labels: Annotated[Mapping[str, str], "labels of this host (zone, region)", LABELS] = field(default_factory=dict)
    registries: Annotated[Mapping[str, OtherRegistry], "more registries, by name"] = field(default_factory=dict)
    use: Annotated[tuple[str, ...] | None, "all, or the services that local clients call", USE] = None
    haproxy: Annotated[HAProxySettings, "everything has a default"] = HAProxySettings()
    outputs: Annotated[tuple[Output, ...], "files that say where services are"] = ()
    last_good_warning: Annotated[float, "instances that nobody has confirmed for so long are warned of", DURATION] = (
        600.0
    )
    session_timeout: Annotated[float, "how long the registry waits for a silent synapse", duration("1s", "10m")] = 10.0
    admin: Annotated[TcpAddress | None, "where /status and /metrics are served; null: nowhere", ADMIN] = _ADMIN
    telemetry: Annotated[TelemetrySettings, "what is known of each request"] = TelemetrySettings()
    fleet: Annotated[FleetSettings | None, "where other hosts may look at traffic; absent: nowhere"] = None
    prometheus: Annotated[PrometheusSettings | None, "tell a Prometheus on this host whom to ask; absent: none"] = None
    faults: Annotated[Faults, "whether requests may be made to fail on purpose from this host"] = "off"
    state_directory: Annotated[str, "where synapse keeps what survives a restart", PATH] = "/var/lib/smartstack/synapse"
    run_directory: Annotated[str, "where the HAProxy sockets and the lock are", PATH] = "/run/smartstack/synapse"
    resync_interval: Annotated[float, "how often all is compared again, rung or not", duration("1s", "1h")] = 30.0

    @property
    def feed(self) -> TcpAddress | None:
        """Where HAProxy tells of each request; None where it does not. The port is that of the admin address, by UDP,
        and so is the host if that is a loopback address, unless `telemetry.listen` says otherwise."""
        if self.telemetry.listen != AS_ADMIN:
            return self.telemetry.listen
        admin = self.admin or _ADMIN
        return TcpAddress(admin.host if _is_loopback(admin.host) else _ADMIN.host, admin.port)


LIVE = (
    "use",
    "labels",
    "outputs",
    "last_good_warning",
    "resync_interval",
    "haproxy.templates",
    "haproxy.nbthread",
    "haproxy.maxconn",
    "haproxy.hard_stop_after",
    "haproxy.on_stop",
)
"""The keys of synapse.yaml that take effect without a restart."""
