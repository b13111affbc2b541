"""A service whose instances do what the test says, and clients that look at the whole of an answer."""

import http.client
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.pair import BACKEND_PORT, Host
from tests.support.scripted import Reply, Request, Scripted

PORT = 3210
QUIET: dict[str, Any] = {"health": {"interval": "1h", "fast_interval": "1h"}, "breaker": "off"}
"""Checks and a breaker that stay out of the way of what a test counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a client got, and the port that it asked from."""

    status: int
    text: str
    headers: Mapping[str, str]
    client_port: int


class Client:
    """One connection to the service."""

    def __init__(self, host: Host, port: int = PORT) -> None:
        self._connection = http.client.HTTPConnection(host.address, port, timeout=10)

    def ask(self, method: str = "GET", target: str = "/", **headers: str) -> Answer:
        """One request; `x_user` is the header X-User."""
        named = {name.replace("_", "-").title(): value for name, value in headers.items()}
        self._connection.request(method, target, headers=named, body=b"x" if method in ("POST", "PUT") else None)
        port = self._connection.sock.getsockname()[1]
        answer = self._connection.getresponse()
        text = answer.read().decode().strip()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(status=answer.status, text=text, headers=found, client_port=port)

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


def ask(host: Host, method: str = "GET", target: str = "/", **headers: str) -> Answer:
    """One request on a connection of its own."""
    client = Client(host)
    try:
        return client.ask(method, target, **headers)
    finally:
        client.close()


class Stage:
    """A host whose instances do what the test says."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.actors: list[Scripted] = []

    def play(self, number: int, answer: Callable[[Request], Reply] | None = None, **fields: Any) -> Scripted:
        """A scripted server as instance `number` of the service `web`."""
        instance = self.host.instance(number)
        self.host.backends.close(instance.host, BACKEND_PORT)
        actor = Scripted(instance.host, BACKEND_PORT, answer, **fields)
        self.actors.append(actor)
        self.host.join("web", number)
        return actor

    def start(self, **proxy: Any) -> None:
        """Offer the service, and wait until every instance of it is in HAProxy."""
        self.host.define("web", PORT, **proxy)
        self.host.start()


def cookie_of(answer: Answer) -> str:
    """The cookie that an answer sets, empty when it sets none."""
    return answer.headers.get("set-cookie", "").partition(";")[0]


def statuses(host: Host, method: str = "GET", count: int = 20) -> Counter[int]:
    """The statuses of so many requests, each on a connection of its own."""
    return Counter(ask(host, method).status for _ in range(count))


def stat(host: Host, column: str, server: str | None = None) -> list[str]:
    """A column of HAProxy's statistics for the servers of `web`."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(f"{host.directory}/run/haproxy.sock")
        connection.sendall(b"show stat -1 6 -1\n")
        header, *rows = connection.makefile().read().removeprefix("# ").strip().splitlines()
    table = [dict(zip(header.split(","), row.split(","), strict=False)) for row in rows]
    return [row[column] for row in table if row["pxname"] == "web" and server in (None, row["svname"])]


def queued(host: Host) -> int:
    """How many requests wait for an instance."""
    return sum(int(each or 0) for each in stat(host, "qcur"))


def connect(host: Host, *hello: bytes) -> socket.socket:
    """A connection to the service, with something said on it."""
    connection = socket.create_connection((host.address, PORT), 10)
    connection.sendall(b"".join(hello))
    return connection


@pytest.fixture
def stage(host: Host) -> Iterator[Stage]:
    """A host on a `file:` registry, with actors."""
    made = Stage(host)
    yield made
    for actor in made.actors:
        actor.close()
