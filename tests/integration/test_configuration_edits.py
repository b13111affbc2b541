"""Edits of a running nerve's files, in every way in which files change: each takes effect for its service only, and
a watcher of the registry sees no gap."""

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient

from smartstack.definition import ServiceDefinition
from smartstack.errors import ConfigError
from smartstack.forms import DirectoryUrl, RegistryUrl, ZooKeeperUrl
from smartstack.installed import check_families, settings_models
from smartstack.registry import open_reader
from smartstack.registry.directory.layout import file_name, service_directory
from smartstack.registry.protocol import Listing
from smartstack.validation import validate
from smartstack.wake import Wake
from smartstack.yaml_file import load
from tests.support.edits import WAYS, Files, InPlace, Renamed
from tests.support.eventually import eventually
from tests.support.pair import BACKEND_PORT, Daemon, Host

CHECK = {"type": "http", "interval": "50ms", "timeout": "1s", "rise": 1, "fall": 5}
PORTS = {"web": BACKEND_PORT, "api": 8081, "db": 8082, "new": 8083}
CASES = sorted((Path(__file__).parents[1] / "golden" / "config").glob("*.yaml"))
ENVIRONMENT = {"PORT": "8080", "TOO_LARGE": "70001"}


class Watcher:
    """Reads the registry whenever it rings, and keeps each new listing of each service: its instances' weights."""

    def __init__(self, registry: RegistryUrl, services: tuple[str, ...]) -> None:
        self.story: dict[str, list[list[int | None]]] = {name: [] for name in services}
        self._reader = open_reader(registry, session_timeout_seconds=4)
        self._wake = Wake()
        self._stop = threading.Event()
        self._reader.start(self._wake.ring)
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        last: dict[str, Listing] = {}
        while not self._stop.is_set():
            for path, listing in self._reader.read([f"services/{name}" for name in self.story]).items():
                if isinstance(listing, Listing) and listing is not last.get(path):
                    last[path] = listing
                    weights = [record.instance.weight for record in listing.records]
                    self.story[path.removeprefix("services/")].append(weights)
            self._wake.wait(0.02)

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        self._thread.join()
        self._reader.stop()


class Site:
    """A nerve with three services that are well, its files changed each in a way of its own, and a watcher.

    `new` is announced and has no definition yet. Nothing is read again by itself: the resync is an hour away.
    """

    def __init__(self, host: Host, client: KazooClient | None, settings: type[Files], services: type[Files]) -> None:
        self.host = host
        self.address = host.instance(1).host
        for port in PORTS.values():
            if port != BACKEND_PORT:
                host.backends.open(self.address, port)
        self.services = services(
            host.directory / "b" / "services",
            {f"{name}.yaml": self.definition(name) for name in ("web", "api", "db")},
        )
        self.settings = settings(host.directory / "a" / "etc", {"nerve.yaml": self.announce()})
        self.nerve = Daemon("nerve", host.directory / "a" / "etc" / "nerve.yaml", f"{self.address}:3199")
        self.nerve.log_file = host.directory / "nerve.log"
        host.nerves[1] = self.nerve
        self._client = client
        self.nerve.start()
        self.watcher = Watcher(host.registry, ("web", "api", "db", "new"))
        eventually(lambda: self.seen("web") == self.seen("api") == self.seen("db") == [[None]])

    def seen(self, name: str) -> list[list[int | None]]:
        """What the watcher saw of a service from the moment on that it was there."""
        story = self.watcher.story[name]
        return story[1:] if story[:1] == [[]] else list(story)

    def definition(self, name: str, tcp_checks: int = 0, **more: Any) -> str:
        """A definition; the number of its tcp checks tells the edits apart."""
        checks = [CHECK, *({**CHECK, "type": "tcp"} for _ in range(tcp_checks))]
        return json.dumps({"port": PORTS[name], "checks": checks, **more})

    def announce(self, **more: Any) -> str:
        """nerve.yaml, with some of its announcements changed; None: not announced."""
        announced = {name: more.get(name, {}) for name in PORTS if more.get(name, {}) is not None}
        settings = {
            "registry": str(self.host.registry),
            "services": str(self.host.directory / "b" / "services"),
            "host": self.address,
            "admin": f"{self.address}:3199",
            "state_directory": str(self.host.directory / "state-nerve"),
            "run_directory": str(self.host.directory / "run-nerve"),
            "instance_id": "mine",
            "session_timeout": "4s",
            "resync_interval": "1h",
            "announce": announced,
        }
        return json.dumps(settings)

    def checks(self, name: str) -> int:
        """How many tcp checks nerve runs for a service."""
        return sum(check.startswith("tcp") for check in self.nerve.status()["services"][name]["checks"])

    def problems(self) -> dict[str, list[str]]:
        """What nerve says of its files, of the service without a definition excepted."""
        problems: dict[str, list[str]] = self.nerve.status()["problems"]
        return {name: said for name, said in problems.items() if name != "new"}

    def node(self, name: str) -> tuple[int, ...]:
        """What changes when anybody touches a service's node: the file, or ZooKeeper's numbers of it."""
        found = self.nerve.status()["services"][name]
        if self._client is None:
            root = str(self.host.registry).removeprefix("file:")
            status = os.stat(f"{service_directory(root, found['path'])}/{file_name(found['node'])}")
            return status.st_ino, status.st_mtime_ns, status.st_ctime_ns
        assert isinstance(self.host.registry, ZooKeeperUrl)
        stat = self._client.get(f"{self.host.registry.root}/{found['path']}/{found['node']}")[1]
        return stat.czxid, stat.mzxid, stat.pzxid, stat.ephemeralOwner

    def nodes(self, *names: str) -> dict[str, tuple[int, ...]]:
        """The same of several services."""
        return {name: self.node(name) for name in names}

    def hang_up(self) -> None:
        """SIGHUP."""
        os.kill(self.nerve.pid, signal.SIGHUP)

    def close(self) -> None:
        """End the watcher; nerve ends with the host."""
        self.watcher.stop()


MakeSite = Callable[..., Site]


@pytest.fixture
def make_site(host: Host) -> Iterator[MakeSite]:
    """A site on a `file:` registry: how its nerve.yaml and its definitions change."""
    sites: list[Site] = []

    def make(*, settings: type[Files] = InPlace, services: type[Files] = InPlace) -> Site:
        sites.append(Site(host, None, settings, services))
        return sites[-1]

    yield make
    for site in sites:
        site.close()


@pytest.fixture
def any_site(any_host: Host, request: pytest.FixtureRequest) -> Iterator[Site]:
    """A site on each kind of registry in turn, whose files are renamed into their place."""
    is_file = isinstance(any_host.registry, DirectoryUrl)
    site = Site(any_host, None if is_file else request.getfixturevalue("zookeeper_client"), Renamed, Renamed)
    yield site
    site.close()


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_definitions_change_one_by_one(make_site: MakeSite, way: type[Files]) -> None:
    """Changed, broken, mended, added, deleted: each in its turn for one service. Its node is not touched while it
    is announced, and the others' nodes never are."""
    site = make_site(services=way)
    before = site.nodes("web", "api", "db")
    for count in (1, 2):
        site.services.write("web.yaml", site.definition("web", count))
        eventually(lambda count=count: site.checks("web") == count)  # type: ignore[misc]
    site.services.write("web.yaml", "port: eighty")
    eventually(lambda: site.problems().keys() == {"web"})
    site.services.write("new.yaml", site.definition("new"))
    eventually(lambda: site.seen("new") == [[None]])
    site.services.write("web.yaml", site.definition("web", 3))
    eventually(lambda: site.problems() == {} and site.checks("web") == 3)
    assert site.nodes("web", "api", "db") == before
    site.services.delete("web.yaml")
    eventually(lambda: site.seen("web") == [[None], []])
    assert site.nodes("api", "db") == {name: before[name] for name in ("api", "db")}
    assert site.seen("api") == site.seen("db") == site.seen("new") == [[None]]


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_announcements_change_one_by_one(make_site: MakeSite, way: type[Files]) -> None:
    """The weight of a service is edited in nerve.yaml: a watcher sees it change and never misses the instance. A
    broken file changes nothing, and a service that is not announced any more goes alone."""
    site = make_site(settings=way)
    before = site.nodes("api", "db")
    for weight in (10, 20):
        site.settings.write("nerve.yaml", site.announce(web={"weight": weight}))
        eventually(lambda weight=weight: site.seen("web")[-1] == [weight])  # type: ignore[misc]
    site.settings.write("nerve.yaml", "registry: [")
    eventually(lambda: site.problems().keys() == {""})
    site.settings.write("nerve.yaml", site.announce(web=None))
    eventually(lambda: site.seen("web")[-1] == [])
    assert site.seen("web") == [[None], [10], [20], []]
    assert site.nodes("api", "db") == before
    assert site.seen("api") == site.seen("db") == [[None]]
    assert site.problems() == {}


def test_hangup_reads_at_once_and_touches_nothing_else(make_site: MakeSite) -> None:
    """A file with a second name elsewhere is edited there, which no watch can hear: SIGHUP reads it. Any number of
    SIGHUPs over files that did not change is no event in the registry."""
    site = make_site()
    before = site.nodes("web", "api", "db")
    elsewhere = site.host.directory / "elsewhere"
    os.link(site.services.directory / "web.yaml", elsewhere)
    elsewhere.write_text(site.definition("web", 1))
    cycles = site.nerve.metric("nerve_cycles_total")
    site.hang_up()
    eventually(lambda: site.checks("web") == 1)
    for count in range(20):
        site.hang_up()
        eventually(lambda count=count: site.nerve.metric("nerve_cycles_total") > cycles + count)  # type: ignore[misc]
    assert site.nodes("web", "api", "db") == before
    assert site.seen("web") == site.seen("api") == site.seen("db") == [[None]]


def said_of(model: type[Any], data: bytes, path: Path) -> list[str]:
    """The problems of a file, as nerve has to say them; none where only synapse has something against it."""
    try:
        validate(model, load(data, str(path), {**os.environ, **ENVIRONMENT}), path=str(path), families=check_families())
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return []


def cases(kind: str) -> list[bytes]:
    """The wrong files of this kind."""
    return [data for data in map(Path.read_bytes, CASES) if data.splitlines()[0] == kind.encode()]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables that the wrong files name."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def write_bytes(files: Files, name: str, data: bytes) -> None:
    """A file that may not be text, renamed into its place."""
    new = files.directory / f".{name}.new"
    new.write_bytes(data)
    new.rename(files.directory / name)


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("any_host", ["zookeeper"], indirect=True)
def test_b5_no_bad_definition_costs_a_node(any_site: Site) -> None:
    """Airbnb's nerve ends at SIGHUP over one bad file, and takes every service of the host with it. Here each bad
    definition of the golden set leaves every node as it is, its own too, and is told of."""
    site = any_site
    before, pid = site.nodes("web", "api", "db"), site.nerve.pid
    place = site.services.directory / "web.yaml"
    bad = [data for data in cases("# service") if said_of(ServiceDefinition, data, place)]
    assert len(bad) >= 40
    for data in bad:
        write_bytes(site.services, "web.yaml", data)
        site.hang_up()
        said = said_of(ServiceDefinition, data, place)
        eventually(lambda said=said: site.problems() == {"web": said})  # type: ignore[misc]
        assert site.nodes("web", "api", "db") == before
    site.services.write("web.yaml", site.definition("web", 1))
    eventually(lambda: site.problems() == {} and site.checks("web") == 1)
    assert site.nodes("web", "api", "db") == before
    assert site.seen("web") == site.seen("api") == site.seen("db") == [[None]]
    assert site.nerve.running
    assert site.nerve.pid == pid


@pytest.mark.usefixtures("environment")
def test_b5_no_bad_settings_cost_a_node(any_site: Site) -> None:
    """The same of nerve.yaml: with each bad one of the golden set everything goes on as with the last good one."""
    site = any_site
    before = site.nodes("web", "api", "db")
    bad = cases("# nerve")
    assert len(bad) >= 10
    for data in bad:
        write_bytes(site.settings, "nerve.yaml", data)
        site.hang_up()
        said = said_of(settings_models()["nerve"], data, site.settings.directory / "nerve.yaml")
        eventually(lambda said=said: site.problems() == {"": said})  # type: ignore[misc]
    site.settings.write("nerve.yaml", site.announce(web={"weight": 7}))
    eventually(lambda: site.seen("web") == [[None], [7]])
    assert site.nodes("api", "db") == {name: before[name] for name in ("api", "db")}
    assert site.seen("api") == site.seen("db") == [[None]]
    assert site.nerve.running
