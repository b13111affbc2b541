"""A crowd of instances beside those of the lab's hosts: registered by the lab itself, and answered for by one of its
services at many addresses."""

import socket
import sys
from functools import partial
from pathlib import Path
from typing import Final

from smartstack.forms import ZooKeeperUrl
from smartstack.instance import Instance, encode, node_name
from smartstack.registry import open_writer
from smartstack.registry.protocol import NodeId, RegistryWriter
from tests.lab.grammar import SERVICES
from tests.lab.network import Network, ip
from tests.lab.process import Process
from tests.support.eventually import eventually

_NAME: Final = "crowd"
_NETWORK: Final = "10.79.0.0/16"


class Crowd:
    """Made when it is needed first."""

    def __init__(self, network: Network, directory: Path, registry: ZooKeeperUrl, hosts: tuple[str, ...]) -> None:
        self._network = network
        self._directory = directory
        self._registry = registry
        self._hosts = hosts
        self._writer: RegistryWriter | None = None
        self._here: dict[str, list[Instance]] = {}

    def join(self, service: str, count: int) -> None:
        """So many more instances of a service."""
        writer, known = self._ready(), self._here.setdefault(service, [])
        port = SERVICES[service][0]
        for number in range(len(known), len(known) + count):
            instance = Instance(host=f"10.79.{number // 250 + 1}.{number % 250 + 1}", port=port)
            known.append(instance)
            writer.put(self._place(service, instance), encode(instance))

    def leave(self, service: str, count: int) -> None:
        """So many leave."""
        leaving, self._here[service] = self._here[service][:count], self._here[service][count:]
        for instance in leaving:
            self._ready().remove(self._place(service, instance))

    def clear(self) -> None:
        """All leave."""
        for service, instances in list(self._here.items()):
            self.leave(service, len(instances))

    def stop(self) -> None:
        """End it."""
        if self._writer is not None:
            self._writer.stop()

    @staticmethod
    def _place(service: str, instance: Instance) -> NodeId:
        return NodeId(path=f"services/{service}", node=node_name(instance))

    def _ready(self) -> RegistryWriter:
        if self._writer is not None:
            return self._writer
        self._network.add(_NAME)
        namespace = self._network.namespace(_NAME)
        ip("-n", namespace, "route", "add", "local", _NETWORK, "dev", "lo")
        for host in self._hosts:
            ip("-n", self._network.namespace(host), "route", "add", _NETWORK, "via", self._network.address(_NAME))
        for service, (port, _) in SERVICES.items():
            command = [sys.executable, "-m", "tests.lab.service", "0.0.0.0", str(port), service, "/nowhere"]
            Process(namespace, command, self._directory / f"crowd-{service}.log").start()
            eventually(partial(_listens, self._network.control(_NAME), port), message=f"the crowd's {service} listens")
        writer = self._writer = open_writer(self._registry, session_timeout_seconds=10)
        writer.start(lambda: None)
        eventually(lambda: writer.status().connected, within=10)
        return writer


def _listens(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), 1.0).close()
    except OSError:
        return False
    return True
