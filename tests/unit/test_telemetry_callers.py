"""The process behind a connection: real sockets of this process, asked of the real kernel."""

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from smartstack.instance import Instance
from smartstack.logs import EventLog
from synapse.settings import Settings
from synapse.telemetry import callers, station
from synapse.telemetry.callers import ASKED_LIMIT, CONNECTIONS_LIMIT, KNOWN_SECONDS, Callers, Connection
from synapse.telemetry.netlink import Owner, SocketTable, own_addresses
from synapse.telemetry.source import OUTSIDE, Caller
from synapse.telemetry.station import Telemetry
from tests.golden.test_render import model
from tests.support.eventually import eventually

COMMAND = Path("/proc/self/comm").read_text().strip()


@dataclass
class Pair:
    """A connection of this process to itself, as HAProxy would tell of it."""

    client: socket.socket
    connection: Connection


@pytest.fixture(params=["127.0.0.1", "::1"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """By either kind of address."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.create_server((request.param, 0), family=family) as server:
        client = socket.create_connection(server.getsockname()[:2])
        yield Pair(client, (*client.getsockname()[:2], *client.getpeername()[:2]))
        client.close()


@dataclass
class Clock:
    """Time that a test moves."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def found(clock: Clock) -> Iterator[Callers]:
    """Started."""
    made = Callers(EventLog("test"), clock)
    made.start()
    yield made
    made.stop()


def unit_of(pair: Pair, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """This process's control group is a unit's from now on."""
    table = SocketTable()
    owner = table.owner(pair.connection[:2], pair.connection[2:])
    table.close()
    assert owner is not None
    monkeypatch.setattr(callers, "groups", lambda: iter([(owner.cgroup, name)]))


def test_the_kernel_says_whose_a_socket_is(pair: Pair) -> None:
    """By both ends of the connection; nothing of one that is not there, or of what is no address."""
    table = SocketTable()
    owner = table.owner(pair.connection[:2], pair.connection[2:])
    assert owner is not None
    assert f"socket:[{owner.inode}]" == str(Path(f"/proc/self/fd/{pair.client.fileno()}").readlink())
    assert table.owner((pair.connection[0], 1), pair.connection[2:]) is None
    assert table.owner(("unix", 3), ("unix", 3)) is None
    assert table.owner(("10.0.0.1", -1), ("10.0.0.1", 99999)) is None
    table.close()


def test_this_host_has_its_addresses() -> None:
    """Loopback among them."""
    assert {"127.0.0.1"} <= own_addresses()


def test_a_unit_is_known_at_once(pair: Pair, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """One question to the kernel says it."""
    unit_of(pair, monkeypatch, "web")
    made = Callers(EventLog("test"), clock)
    made.start()
    assert made.name(pair.connection) == "web"
    made.stop()


def test_a_unit_that_started_later_is_found(pair: Pair, found: Callers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its control group was not there when synapse started."""
    unit_of(pair, monkeypatch, "web")
    found._groups = {}
    assert found.name(pair.connection) is None
    eventually(lambda: found.name(pair.connection) == "web")


def test_what_is_in_no_unit_has_the_name_of_its_process(
    pair: Pair, found: Callers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is looked for in the background."""
    monkeypatch.setattr(callers, "of_cgroup", lambda path: None)
    found._groups = dict(callers.groups())
    assert found.name(pair.connection) is None
    eventually(lambda: found.name(pair.connection) == COMMAND)


def test_who_has_hung_up_is_still_who_it_was(pair: Pair, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last request of a connection is often told after its end; a port's next owner is another, later."""
    unit_of(pair, monkeypatch, "web")
    made = Callers(EventLog("test"), clock)
    made.start()
    assert made.name(pair.connection) == "web"
    pair.client.close()
    clock.now += KNOWN_SECONDS
    made.name(("127.0.0.1", 1, "127.0.0.1", 1))
    assert made.name(pair.connection) == "web"
    clock.now += KNOWN_SECONDS
    made.name(("127.0.0.1", 1, "127.0.0.1", 1))
    assert made.name(pair.connection) is None
    made.stop()


def test_questions_and_memory_are_bounded(clock: Clock, found: Callers, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many questions in 0.1 s, whatever comes, and so many connections that are remembered."""
    asked: list[Connection] = []
    monkeypatch.setattr(found, "_owner", lambda table, connection: asked.append(connection))
    for port in range(1000):
        assert found.name(("127.0.0.1", port, "127.0.0.1", 3210)) is None
    assert len(asked) == ASKED_LIMIT
    clock.now += 0.2
    found.name(("127.0.0.1", 1, "127.0.0.1", 3210))
    assert len(asked) == ASKED_LIMIT + 1
    monkeypatch.setattr(found, "_owner", lambda table, connection: Owner(inode=1, cgroup=0))
    found._groups = {0: "web"}
    for port in range(3 * CONNECTIONS_LIMIT):
        clock.now += 0.01
        assert found.name(("127.0.0.1", port, "127.0.0.1", 3210)) == "web"
    assert len(found._known) + len(found._older) <= 2 * CONNECTIONS_LIMIT


# What telemetry makes of it


@dataclass(frozen=True)
class Choice:
    instances: tuple[Instance, ...]


@dataclass(frozen=True)
class Offer:
    """As much of an offer as is asked for."""

    choice: Choice
    definition: Any = None


def offers(**hosts: str) -> dict[str, Any]:
    """Each service with an instance at that host."""
    return {name: Offer(Choice((Instance(host=host, port=80, name="x"),))) for name, host in hosts.items()}


def telemetry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **given: Any) -> Telemetry:
    """On a host with one address of its own."""
    monkeypatch.setattr(station, "own_addresses", lambda: frozenset({"10.0.0.5", "127.0.0.1"}))
    monkeypatch.setattr(Telemetry, "_take_paths", lambda *_: None, raising=False)
    settings: Settings = model(Settings, {"registry": "file:/r", "state_directory": str(tmp_path), "telemetry": given})
    return Telemetry(settings, EventLog("test"), lambda: None, writes=False)


def caller(made: Telemetry, client: str) -> Caller:
    return made._caller(client, 50000, "127.0.0.1", 3210)


def test_the_one_service_that_is_announced_here_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as it is one; who comes from elsewhere is outside."""
    made = telemetry(tmp_path, monkeypatch)
    here = Caller(name=made.host, kind="host")
    assert caller(made, "127.0.0.1") == here
    made.look(offers(web="10.0.0.5", api="10.0.0.6"), {"web", "api"}, everything=False)
    web = Caller(name="web", kind="announced")
    assert [caller(made, client) for client in ("127.0.0.1", "127.9.9.9", "10.0.0.5", "unix", "::1")] == [web] * 5
    assert caller(made, "10.0.0.6") == OUTSIDE
    made.look(offers(web="10.0.0.5", api="10.0.0.5"), {"api"}, everything=False)
    assert caller(made, "127.0.0.1") == here
    made.look(offers(api="10.0.0.5"), {"web"}, everything=False)
    assert caller(made, "127.0.0.1") == Caller(name="api", kind="announced")


def test_addresses_that_change_are_learnt_at_the_next_resync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for services of which nothing changed."""
    made = telemetry(tmp_path, monkeypatch)
    made.look(offers(web="10.0.0.9"), {"web"}, everything=False)
    assert caller(made, "127.0.0.1").kind == "host"
    monkeypatch.setattr(station, "own_addresses", lambda: frozenset({"10.0.0.9"}))
    made.look(offers(web="10.0.0.9"), (), everything=True)
    assert caller(made, "127.0.0.1") == Caller(name="web", kind="announced")


def test_a_source_that_is_given_stands_above_guesses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pair: Pair
) -> None:
    """No process is looked for."""
    made = telemetry(tmp_path, monkeypatch, source="batch")
    made.look(offers(web="10.0.0.5"), {"web"}, everything=False)
    assert made._caller(*pair.connection) == Caller(name="batch", kind="host")
    assert caller(made, "10.0.0.6") == OUTSIDE
