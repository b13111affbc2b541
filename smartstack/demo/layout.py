"""Where the demo's parts are, and the files that an operator would have written. Pure.

A host is an address of its own below 127.0.0.0/8, all of which is this machine's loopback.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from smartstack.forms import TcpAddress

USUAL_PORT_BASE = 3210
LOWEST_PORT_BASE = 2000
HIGHEST_PORT_BASE = 60_000

SESSION_SECONDS = 6
"""How long ZooKeeper keeps the nodes of a nerve that died."""

LOOPBACK = "127.0.0.1"
ADDED = "hello"
"""The service that the tour adds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One instance: the service it belongs to, the host it is on, where it listens."""

    service: str
    host: str
    address: TcpAddress

    @property
    def name(self) -> str:
        """What people call it: `web on host2`."""
        return f"{self.service} on {self.host}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Every place of one demo. `directory` is absolute; all ports move with `port_base`.

    `registry` is `file` or `zookeeper`.
    """

    directory: str
    registry: str
    port_base: int = USUAL_PORT_BASE
    addresses: Mapping[str, str] = field(
        default_factory=lambda: {f"host{number}": f"127.0.0.{10 + number}" for number in (1, 2, 3)}
    )

    @property
    def members(self) -> tuple[Member, ...]:
        """The instances that run from the start."""
        where = {"web": ("host1", "host2", "host3"), "api": ("host1", "host2")}
        return tuple(self.member(service, host) for service, hosts in where.items() for host in hosts)

    @property
    def added(self) -> Member:
        """The instance of the service that the tour adds."""
        return self.member(ADDED, "host3")

    def member(self, service: str, host: str) -> Member:
        """The instance of a service on a host."""
        return Member(service=service, host=host, address=TcpAddress(self.addresses[host], self.port(service)))

    def port(self, service: str) -> int:
        """Where the instances of a service listen."""
        return 8080 + _number(service) + self.port_base - USUAL_PORT_BASE

    def listen(self, service: str) -> TcpAddress:
        """Where clients on this machine reach a service."""
        return TcpAddress(LOOPBACK, self.port_base + _number(service))

    @property
    def synapse_admin(self) -> TcpAddress:
        """synapse's admin address."""
        return TcpAddress(LOOPBACK, self.port_base - 10)

    def nerve_admin(self, host: str) -> TcpAddress:
        """The admin address of a host's nerve."""
        return TcpAddress(self.addresses[host], self.port_base - 11)

    @property
    def zookeeper(self) -> TcpAddress:
        """Where the demo's ZooKeeper listens."""
        return TcpAddress(LOOPBACK, self.port_base - 9)

    @property
    def registry_url(self) -> str:
        """Where the registrations are."""
        return self._registry_below(f"{self.directory}/")

    def _registry_below(self, directory: str) -> str:
        if self.registry == "zookeeper":
            return f"zookeeper://{self.zookeeper}/smartstack"
        return f"file:{directory}registry"

    @property
    def listened(self) -> tuple[TcpAddress, ...]:
        """Everything that the demo listens at."""
        services = ("web", "api", ADDED)
        return (
            *map(self.listen, services),
            self.synapse_admin,
            *map(self.nerve_admin, self.addresses),
            *(member.address for member in (*self.members, self.added)),
            *([self.zookeeper] if self.registry == "zookeeper" else []),
        )

    @property
    def synapse_yaml(self) -> str:
        """The path of synapse.yaml."""
        return f"{self.directory}/synapse.yaml"

    def nerve_yaml(self, host: str) -> str:
        """The path of the nerve.yaml of a host."""
        return f"{self.directory}/nerve-{host}.yaml"

    def service_yaml(self, service: str) -> str:
        """The path of a service's definition."""
        return f"{self.directory}/services/{service}.yaml"

    def log(self, name: str) -> str:
        """The log of a process."""
        return f"{self.directory}/logs/{name.replace(' on ', '-')}.log"

    @property
    def run_directory(self) -> str:
        """Where the sockets of HAProxy are."""
        return f"{self.directory}/run"

    @property
    def haproxy_configuration(self) -> str:
        """The file that synapse writes and HAProxy runs with."""
        return f"{self.directory}/state/synapse/haproxy.cfg"

    def files(self) -> Mapping[str, str]:
        """What an operator would have written: texts by path."""
        texts = {self.service_yaml(service): self.service_text(service) for service in ("web", "api")}
        for host in self.addresses:
            here = [member.service for member in self.members if member.host == host]
            texts[self.nerve_yaml(host)] = self.nerve_text(host, here)
        texts[self.synapse_yaml] = self._synapse_text()
        return texts

    def service_text(self, service: str) -> str:
        """A service's definition."""
        return f"""\
# The service {service}. Edits take effect when the file is saved; a mistake leaves the service as it was.
port: {self.port(service)}
check:
  type: http
  path: /health
  interval: 300ms
  timeout: 1s
  rise: 1
  fall: 2
proxy:
  listen: {self.listen(service).port}
"""

    def nerve_text(self, host: str, services: list[str]) -> str:
        """A host's nerve.yaml that announces these services."""
        announce = "".join(f"  {service}: {{}}\n" for service in services)
        return f"""\
# What {host} says of itself.
registry: {self._registry_below("")}
services: services
host: {self.addresses[host]}
instance_id: {host}
admin: {self.nerve_admin(host)}
state_directory: state/{host}
run_directory: run/{host}
session_timeout: {SESSION_SECONDS}s
announce:
{announce}"""

    def _synapse_text(self) -> str:
        return f"""\
# What clients on this machine are offered.
registry: {self._registry_below("")}
services: services
admin: {self.synapse_admin}
state_directory: state/synapse
run_directory: run
session_timeout: {SESSION_SECONDS}s
haproxy:
  on_stop: keep        # HAProxy goes on while synapse is away
  hard_stop_after: 5s
"""


def _number(service: str) -> int:
    return ("web", "api", ADDED).index(service)
