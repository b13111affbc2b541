"""The sources of all services together: opened, read and closed as the definitions say."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from smartstack.definition import ServiceDefinition
from smartstack.errors import RegistryRefused
from smartstack.forms import DirectoryUrl
from smartstack.installed import source_families
from smartstack.instance import Instance, encode
from smartstack.live import LiveConfiguration
from smartstack.registry.protocol import Listing, RegistryReader, Unknown
from smartstack.validation import validate
from smartstack.yaml_file import load
from synapse.offers import Offers
from synapse.selection import Origin
from synapse.settings import OtherRegistry, Settings
from synapse.sources import Sources, service
from synapse.sources import registries as registries_module
from synapse.sources.service import FIRST_WORD_SECONDS
from synapse.using import unknown_names
from tests.support.eventually import eventually
from tests.support.other_source import OtherSource
from tests.support.registries import Bell, MemoryReader, MemoryRegistry

FAMILIES = source_families()
STATIC = "{type: static, servers: [{host: 10.9.9.9}]}"
OLD = "{type: registry, registry: old}"
HERE = "{type: registry}"


def define(**services: str) -> dict[str, ServiceDefinition]:
    """Definitions from what stands in their files beside the port."""
    return {
        name: validate(ServiceDefinition, load(f"port: 8080\n{text}", name, {}), path=name, families=FAMILIES)
        for name, text in services.items()
    }


class Clock:
    """A monotonic clock that stands still."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


class World:
    """Registries in memory, by the path in their URL, and sources that read them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.registries = {"/main": MemoryRegistry(), "/old": MemoryRegistry()}
        self.opened: list[str] = []
        self.readers: list[MemoryReader] = []
        self.refusing: str | None = None
        self.clock = Clock()
        self.bell = Bell()
        monkeypatch.setattr(registries_module, "open_reader", self._open)
        monkeypatch.setattr(registries_module, "time", self.clock)
        monkeypatch.setattr(service, "time", self.clock)
        settings = Settings(registry=DirectoryUrl("/main"), registries={"old": OtherRegistry(url=DirectoryUrl("/old"))})
        self.sources = Sources(settings)
        self.sources.start(self.bell.ring)

    def _open(self, url: DirectoryUrl, **options: Any) -> RegistryReader:
        if self.refusing and url.path == "/old":
            raise RegistryRefused(self.refusing)
        self.opened.append(url.path)
        self.readers.append(self.registries[url.path].reader())
        return self.readers[-1]

    def put(self, registry: str, path: str, number: int, port: int = 8080, **fields: Any) -> None:
        instance = Instance(host=f"10.0.0.{number}", port=port, **fields)
        self.registries[registry].inject(path, f"{number}_{port}", encode(instance))

    def drop(self, registry: str, path: str, number: int, port: int = 8080) -> None:
        self.registries[registry].delete(path, f"{number}_{port}")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World(monkeypatch)
    yield made
    made.sources.stop()


def shown(known: Listing | Unknown) -> str:
    """The addresses; `?` behind them where the listing is partial; the reason where nothing is known."""
    if isinstance(known, Unknown):
        return f"unknown: {known.reason}"
    return " ".join(sorted(record.instance.address for record in known.records)) + (" ?" if known.partial else "")


def test_a_service_without_sources_is_in_the_main_registry(world: World) -> None:
    """Where it stands there, or where its definition says."""
    world.put("/main", "services/web", 1)
    world.put("/main", "/nerve/api", 2)
    known = world.sources.read(define(web="", api="registry_path: /nerve/api"))
    assert shown(known["web"]) == "10.0.0.1:8080"
    assert shown(known["api"]) == "10.0.0.2:8080"
    assert world.opened == ["/main"]


def test_what_did_not_change_is_the_same_object(world: World) -> None:
    """Whatever its sources are: that is how a cycle costs nothing for what did not change."""
    definitions = define(web="", api=f"sources: [{HERE}, {STATIC}]", old=f"sources: [{OLD}]", one="leader_only: true")
    for name in ("web", "api", "one"):
        world.put("/main", f"services/{name}", 1)
    world.put("/old", "services/old", 2)
    before = world.sources.read(definitions)
    world.put("/main", "services/web", 3)
    after = world.sources.read({**definitions})
    assert after["web"] is not before["web"]
    assert all(after[name] is before[name] for name in ("api", "old", "one"))


def test_one_reader_for_each_registry(world: World) -> None:
    """One session for all services; a registry that nobody names has none."""
    definitions = define(**{f"s{number}": f"sources: [{HERE}, {OLD}]" for number in range(5)})
    world.put("/old", "services/s3", 7)
    known = world.sources.read(definitions)
    assert shown(known["s3"]) == "10.0.0.7:8080"
    assert world.opened == ["/main", "/old"]
    assert list(world.sources.others()) == ["old"]
    world.sources.read(define(s1=""))
    assert world.sources.others() == {}
    assert world.registries["/old"].ends == []
    world.sources.read(definitions)
    assert world.opened == ["/main", "/old", "/old"]


def test_sources_come_and_go_with_the_definition(world: World) -> None:
    """An edit takes effect at once; what both definitions have stays as it is."""
    world.put("/main", "services/web", 1)
    world.put("/old", "/nerve/web", 2)
    steps = {
        "": "10.0.0.1:8080",
        "sources: [{type: registry, registry: old, path: /nerve/web}]": "10.0.0.2:8080",
        f"sources: [{HERE}, {{type: registry, registry: old, path: /nerve/web}}]": "10.0.0.1:8080 10.0.0.2:8080",
        "sources: [{type: registry, port: 9}]": "10.0.0.1:9",
        f"sources: [{STATIC}]": "10.9.9.9:8080",
        "leader_only: true": "10.0.0.1:8080",
    }
    for text, expected in [*steps.items(), *steps.items()]:
        assert shown(world.sources.read(define(web=text))["web"]) == expected
    assert world.sources.read({}) == {}
    assert not world.sources._registries._wanted


def test_an_edit_does_not_forget_what_a_source_said(world: World) -> None:
    """Also of a source that is away while the definition is edited."""
    world.put("/main", "services/web", 1)
    world.put("/old", "services/web", 2)
    world.sources.read(define(web=f"sources: [{OLD}, {HERE}]"))
    world.registries["/old"].unavailable = "cut off"
    edited = define(web=f"sources: [{HERE}, {OLD}, {STATIC}]")
    assert shown(world.sources.read(edited)["web"]) == "10.0.0.1:8080 10.0.0.2:8080 10.9.9.9:8080 ?"
    assert world.opened == ["/main", "/old"]


def test_a_registry_that_synapse_yaml_does_not_name(world: World) -> None:
    """Nothing is known of it, which is said; the other sources go on."""
    world.put("/main", "services/web", 1)
    definitions = define(
        web=f"sources: [{HERE}, {{type: registry, registry: older}}]",
        api="sources: [{type: registry, registry: older}]",
    )
    known = world.sources.read(definitions)
    assert shown(known["api"]) == "unknown: synapse.yaml names no registry 'older' among its registries"
    assert world.sources.read(definitions)["api"] is known["api"]
    world.clock.now += FIRST_WORD_SECONDS
    assert shown(world.sources.read(definitions)["web"]) == "10.0.0.1:8080 ?"
    assert not world.sources.others()["older"].connected


def test_a_registry_that_cannot_be_opened_is_tried_again(world: World) -> None:
    """A certificate that is not there yet keeps nobody from running."""
    world.refusing = "cannot read /ca.pem"
    world.put("/old", "services/web", 1)
    definitions = define(web=f"sources: [{OLD}]")
    assert "registry 'old': cannot read /ca.pem" in shown(world.sources.read(definitions)["web"])
    due = world.sources.due_in()
    assert due is not None
    assert 0 < due <= registries_module.REOPEN_SECONDS
    world.refusing = None
    assert "cannot read /ca.pem" in shown(world.sources.read(definitions)["web"])
    world.clock.now += due
    assert shown(world.sources.read(definitions)["web"]) == "10.0.0.1:8080"
    assert world.sources.due_in() is None


def test_the_other_registry_is_away(world: World) -> None:
    """In a union its instances stay, and those of the one that is there come and go."""
    definitions = define(web=f"sources: [{OLD}, {HERE}]")
    world.put("/old", "services/web", 1)
    world.put("/main", "services/web", 2)
    assert shown(world.sources.read(definitions)["web"]) == "10.0.0.1:8080 10.0.0.2:8080"
    world.registries["/old"].unavailable = "cut off"
    assert shown(world.sources.read(definitions)["web"]) == "10.0.0.1:8080 10.0.0.2:8080 ?"
    world.put("/main", "services/web", 3)
    world.drop("/main", "services/web", 2)
    assert shown(world.sources.read(definitions)["web"]) == "10.0.0.1:8080 10.0.0.3:8080 ?"
    world.registries["/main"].unavailable = "cut off too"
    assert shown(world.sources.read(definitions)["web"]) == "unknown: cut off; cut off too"
    world.registries["/old"].unavailable = world.registries["/main"].unavailable = None
    world.drop("/old", "services/web", 1)
    assert shown(world.sources.read(definitions)["web"]) == "10.0.0.3:8080"


def test_a_restart_while_one_registry_is_away_drops_nobody(world: World) -> None:
    """What was good before the restart stays until the source that has it is heard; others decide on their own."""
    good = [Instance(host="10.0.0.1", port=8080), Instance(host="10.0.0.2", port=8080)]
    definitions = define(web=f"sources: [{OLD}, {HERE}]")
    world.registries["/old"].unavailable = "cut off"
    world.put("/main", "services/web", 2)

    def read() -> str:
        return shown(world.sources.read(definitions, lambda name: good)["web"])

    assert read() == "unknown: cut off"
    due = world.sources.due_in()
    assert due is not None
    world.clock.now += due
    assert read() == "10.0.0.1:8080 10.0.0.2:8080 ?"
    world.drop("/main", "services/web", 2)
    assert read() == "10.0.0.1:8080 ?"
    world.registries["/old"].unavailable = None
    assert read() == ""


def test_default_servers_serve_when_the_registry_is_empty(world: World) -> None:
    """What Airbnb calls default_servers: the last source of a fallback."""
    definitions = define(web=f"sources: [{HERE}, {STATIC}]\ncombine: fallback")
    assert shown(world.sources.read(definitions)["web"]) == "10.9.9.9:8080"
    world.put("/main", "services/web", 1)
    assert shown(world.sources.read(definitions)["web"]) == "10.0.0.1:8080"
    world.drop("/main", "services/web", 1)
    assert shown(world.sources.read(definitions)["web"]) == "10.9.9.9:8080"


def test_default_servers_do_not_serve_because_the_registry_is_away(world: World) -> None:
    """An outage is not an empty registry: what was known stays, also after a restart."""
    definitions = define(web=f"sources: [{HERE}, {STATIC}]\ncombine: fallback")
    world.put("/main", "services/web", 1)
    world.sources.read(definitions)
    world.registries["/main"].unavailable = "cut off"
    world.clock.now += 3600
    assert shown(world.sources.read(definitions)["web"]) == "unknown: cut off"


@pytest.mark.parametrize(
    ("good", "expected"),
    [([Instance(host="10.0.0.1", port=8080)], "unknown: cut off"), ([], "10.9.9.9:8080 ?")],
    ids=["something is known from before", "nothing is"],
)
def test_a_cold_start_without_the_registry(world: World, good: list[Instance], expected: str) -> None:
    """Default servers are used if nothing at all is known from before, and only once the registry had its time."""
    definitions = define(web=f"sources: [{HERE}, {STATIC}]\ncombine: fallback")
    world.registries["/main"].unavailable = "cut off"
    assert shown(world.sources.read(definitions, lambda name: good)["web"]) == "unknown: cut off"
    assert world.sources.due_in() == pytest.approx(FIRST_WORD_SECONDS)
    world.clock.now += FIRST_WORD_SECONDS
    assert shown(world.sources.read(definitions, lambda name: good)["web"]) == expected
    assert world.sources.due_in() is None


def test_keep_default_servers(world: World) -> None:
    """A union of the registry and static servers: always both."""
    definitions = define(web=f"sources: [{HERE}, {STATIC}]")
    world.put("/main", "services/web", 1)
    assert shown(world.sources.read(definitions)["web"]) == "10.0.0.1:8080 10.9.9.9:8080"


def test_the_leader(world: World) -> None:
    """The one that registered first; when it goes, the next; when all are gone, nobody."""
    definitions = define(web="leader_only: true")
    for number in (3, 1, 2):
        world.put("/main", "services/web", number)
    assert shown(world.sources.read(definitions)["web"]) == "10.0.0.3:8080"
    world.drop("/main", "services/web", 3)
    assert shown(world.sources.read(definitions)["web"]) == "10.0.0.1:8080"
    world.registries["/main"].unavailable = "cut off"
    assert shown(world.sources.read(definitions)["web"]) == "unknown: cut off"
    world.registries["/main"].unavailable = None
    for number in (1, 2):
        world.drop("/main", "services/web", number)
    assert shown(world.sources.read(definitions)["web"]) == ""


def test_the_leader_of_several_sources(world: World) -> None:
    """That of the first source that has one; another source's would be a second leader while the first is away."""
    definitions = define(web=f"leader_only: true\nsources: [{OLD}, {HERE}]")
    world.put("/main", "services/web", 1)
    world.put("/old", "services/web", 2)
    assert shown(world.sources.read(definitions)["web"]) == "10.0.0.2:8080"
    world.registries["/old"].unavailable = "cut off"
    world.clock.now += 3600
    assert shown(world.sources.read(definitions)["web"]) == "unknown: cut off"
    world.registries["/old"].unavailable = None
    world.drop("/old", "services/web", 2)
    assert shown(world.sources.read(definitions)["web"]) == "10.0.0.1:8080"


def test_labels_weights_and_names_come_from_every_kind(world: World) -> None:
    """B13: Airbnb's synapse lost weights, and obeyed some of the filters only, where names had to be resolved. Here
    `where` and weights hold whatever an instance's source is."""
    static = "{type: static, servers: [{host: 10.9.9.9, weight: 7, labels: {env: prod}}, {host: 10.9.9.8}]}"
    definitions = define(web=f"sources: [{HERE}, {static}]\nwhere: {{env: prod}}")
    world.put("/main", "services/web", 1, weight=3, labels=(("env", "prod"),))
    world.put("/main", "services/web", 2, weight=4, labels=(("env", "test"),))
    offers = Offers({})
    offers.update(definitions, world.sources.read(definitions), 0.0)
    used = [placed.instance for placed in offers.by_name["web"].placement.used]
    assert [(instance.host, instance.weight) for instance in used] == [("10.0.0.1", 3), ("10.9.9.9", 7)]


def test_whoever_was_good_does_not_lead_together() -> None:
    """B12: a definition that becomes `leader_only` while the registry is away has no leader: nobody, never all."""
    both = (Instance(host="10.0.0.1", port=80), Instance(host="10.0.0.2", port=80))
    away = Unknown(reason="cut off", since=0.0)
    offers = Offers({"web": both})
    offers.update(define(web=""), {"web": away}, 0.0)
    before = offers.by_name["web"].choice
    offers.update(define(web="leader_only: true"), {"web": away}, 1.0)
    after = offers.by_name["web"].choice
    assert (before.instances, before.origin) == (both, Origin.LAST_GOOD)
    assert (after.instances, after.origin) == ((), Origin.NOTHING)


def test_no_thread_is_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What a source has started ends with it: of files, of names, of registries."""
    before = set(threading.enumerate())
    settings = Settings(
        registry=DirectoryUrl(str(tmp_path / "main")),
        registries={"old": OtherRegistry(url=DirectoryUrl(str(tmp_path / "old")))},
    )
    sources = Sources(settings)
    sources.start(lambda: None)
    main = set(threading.enumerate())
    text = (
        f"sources: [{OLD}, {{type: file, path: '{tmp_path}/web.json'}}, "
        "{type: dns, name: web.test, nameservers: [127.0.0.1:1]}]"
    )
    for _ in range(2):
        sources.read(define(web=text))
        assert {"dns"} <= {thread.name for thread in threading.enumerate()}
        sources.read(define(web=""))
        eventually(lambda: set(threading.enumerate()) <= main)
    sources.read(define(web=text))
    sources.stop()
    eventually(lambda: set(threading.enumerate()) <= before)


def test_a_source_of_another_package(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A third party's kind is a model with `open`; one that cannot be opened is tried again, and is never fatal."""
    monkeypatch.setitem(FAMILIES["source"], "other", OtherSource)
    definitions = define(web="sources: [{type: other, answer: 10.0.0.7}]", api="sources: [{type: other, answer: none}]")
    known = world.sources.read(definitions)
    assert shown(known["web"]) == "10.0.0.7:8080"
    assert shown(known["api"]) == "unknown: other: there is no answer"
    assert world.sources.due_in() == pytest.approx(service.REOPEN_SECONDS)
    OtherSource.answers["none"] = "10.0.0.8"
    world.clock.now += service.REOPEN_SECONDS
    assert shown(world.sources.read(definitions)["api"]) == "10.0.0.8:8080"


def test_check_config_knows_the_registries(tmp_path: Path) -> None:
    """A source in a registry that synapse.yaml does not name is a problem of synapse.yaml; of services that this host
    does not use nobody asks."""
    (tmp_path / "services").mkdir()
    for name in ("web", "api"):
        (tmp_path / "services" / f"{name}.yaml").write_text(f"port: 1\nsources: [{OLD}, {{type: registry}}]\n")
    path = tmp_path / "synapse.yaml"
    path.write_text("registry: file:registry\nuse: [web]\nregistries: {odl: {url: 'file:old'}, new: {url: 'file:n'}}\n")
    configuration = LiveConfiguration(Settings, str(path), families=FAMILIES, writes=False)
    assert [str(problem) for problem in unknown_names(configuration)] == [
        f"{path}: registries: has no 'old', which is a source of web; did you mean 'odl'?"
    ]
