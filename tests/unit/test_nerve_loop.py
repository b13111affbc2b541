"""nerve's loop turn by turn: real files, a registry in memory, and check results that the test gives."""

import io
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from random import Random

import pytest

from nerve.desk import Desk
from nerve.health import Result, State
from nerve.lifelines import Lifelines
from nerve.loop import LIVE, Nerve
from nerve.maintenance_store import MaintenanceStore
from nerve.metrics import Metrics
from nerve.orders import Order
from nerve.registrars import Registrars
from nerve.registrations import MAIN, Host
from nerve.runner import CheckResult, Runner
from nerve.services import Probe, announced, named_checks
from nerve.settings import Announcement, Settings
from nerve.statsd import Statsd
from nerve.status import Status, describe, describe_services, ready
from nerve.teller import Teller
from nerve.tether import Broken, Tethers
from smartstack.definition import ServiceDefinition
from smartstack.errors import ConfigError, Problem, RegistryUnavailable
from smartstack.forms import DirectoryUrl, TcpAddress
from smartstack.inbox import Inbox
from smartstack.installed import check_families
from smartstack.live import LiveConfiguration
from smartstack.logs import EventLog
from smartstack.registry.protocol import NodeId
from smartstack.responses import plain
from tests.support.registries import MemoryRegistry

CHECK = {"type": "tcp", "interval": "1h", "rise": 2, "fall": 2}


class ScriptedRunner(Runner):
    """No threads: the test says what the checks found."""

    def __init__(self) -> None:
        super().__init__(lambda: None, Random(1))
        self.probes: Mapping[str, Probe] = {}
        self.results: list[CheckResult] = []
        self.stuck: list[CheckResult] = []

    def watch(self, probes: Mapping[str, Probe]) -> None:
        self.probes = probes

    def drain(self) -> list[CheckResult]:
        results, self.results = self.results, []
        return results

    def hanging(self, now: float) -> list[CheckResult]:
        stuck, self.stuck = self.stuck, []
        return stuck


class ScriptedTethers(Tethers):
    """No sockets: the test says which connections end, and how."""

    def __init__(self, heard: Callable[[Broken], None]) -> None:
        self.wanted: Mapping[str, TcpAddress] = {}
        self.heard = heard

    def hold(self, wanted: Mapping[str, TcpAddress]) -> None:
        self.wanted = dict(wanted)

    def held(self) -> Mapping[str, tuple[str, int]]:
        return dict.fromkeys(self.wanted, ("127.0.0.1", 40_000))

    def stop(self) -> None:
        self.wanted = {}

    def broke(self, service: str, *, refused: bool, at: float) -> None:
        """The connection to this service ended."""
        address = self.wanted[service]
        self.heard(Broken(service=service, address=address, refused=refused, reason="it was closed", at=at))


class Site:
    """A host: its files, its nerve, its clock."""

    def __init__(self, directory: Path) -> None:
        self.now = 1000.0
        self.directory = directory
        self.memory = MemoryRegistry()
        self.writer = self.memory.writer()
        self.writer.start(lambda: None)
        self.runner = ScriptedRunner()
        self.lifelines = Lifelines(lambda: None, self.make_tethers)
        self.inbox: Inbox[Order] = Inbox(lambda: None)
        self.store = MaintenanceStore(str(directory / "state"))
        self.wall = 1_700_000_000.0
        self.address: str | None = "10.0.0.5"
        self.settings("web")
        self.service("web")

    def make_tethers(self, heard: Callable[[Broken], None], _made: Callable[[], None]) -> ScriptedTethers:
        self.tethers = ScriptedTethers(heard)
        return self.tethers

    def begin(self) -> None:
        """Start nerve, without a turn."""
        log = EventLog("nerve")
        self.metrics = Metrics(lambda: self.nerve.status)
        self.nerve = Nerve(
            live=LiveConfiguration(
                Settings, str(self.directory / "nerve.yaml"), families=check_families(), env={}, live=LIVE
            ),
            registrars=Registrars({MAIN: self.writer}, 10.0, lambda: self.now),
            runner=self.runner,
            lifelines=self.lifelines,
            desk=Desk(
                self.inbox, MaintenanceStore(str(self.directory / "state")), log, lambda: self.now, lambda: self.wall
            ),
            teller=Teller(self.metrics, Statsd(None), log),
            host_name="host5",
            advertised=self.advertised,
            clock=lambda: self.now,
        )

    def advertised(self, settings: Settings) -> str:
        if settings.host is not None:
            return settings.host
        if self.address is None:
            raise ConfigError([Problem(path="nerve.yaml", key="host", message="no address")])
        return self.address

    def settings(self, *announce: str, **more: object) -> None:
        """Write nerve.yaml."""
        text = {
            "registry": "file:registry",
            "state_directory": "state",
            "announce": {name: {} for name in announce},
            **more,
        }
        (self.directory / "nerve.yaml").write_text(json.dumps(text))

    def service(self, name: str, text: str | None = None, **more: object) -> None:
        """Write a definition, or this text in its place."""
        (self.directory / "services").mkdir(exist_ok=True)
        definition = json.dumps({"port": 8080, "check": CHECK, **more})
        (self.directory / "services" / f"{name}.yaml").write_text(definition if text is None else text)

    def turn(self, **passed: bool) -> Status:
        """A turn in which the checks of these services gave these results, and the files are looked at."""
        if self.nerve.status is None:
            self.nerve.cycle()
        self.now += 100.0
        for service, well in passed.items():
            for check in self.runner.probes[service].checks:
                reason = "connected" if well else "connection refused"
                result = Result(passed=well, reason=reason, duration_seconds=0.001, at=self.now)
                self.runner.results.append(CheckResult(service=service, check=check, result=result))
        self.nerve.cycle()
        assert self.nerve.status is not None
        return self.nerve.status

    def registered(self) -> dict[str, bytes]:
        """The payloads in the registry by path."""
        return {node.path: there.payload for node, there in self.memory.nodes.items()}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A host that announces `web`."""
    made = Site(tmp_path)
    made.begin()
    return made


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What nerve logs."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    logger = logging.getLogger("nerve")
    logger.addHandler(handler)
    logger.setLevel("INFO")
    yield text
    logger.removeHandler(handler)


def test_a_service_is_registered_while_it_is_well(site: Site, log: io.StringIO) -> None:
    """One pass registers, `fall` failures deregister, `rise` passes register again: one log line for each."""
    assert describe_services(site.turn())["web"].state is State.UNKNOWN
    assert site.registered() == {}
    assert describe_services(site.turn(web=True))["web"].registered
    assert list(site.registered()) == ["services/web"]
    assert describe_services(site.turn(web=False))["web"].state is State.UP
    assert describe_services(site.turn(web=False))["web"].state is State.DOWN
    assert site.registered() == {}
    site.turn(web=True)
    assert site.registered() == {}
    site.turn(web=True)
    assert list(site.registered()) == ["services/web"]
    lines = [line for line in log.getvalue().splitlines() if line.startswith("web is ")]
    assert lines == [
        "web is announced",
        "web is up: 1 check passed, last: connected",
        "web is registered",
        "web is down: 2 checks failed, last: connection refused",
        "web is deregistered",
        "web is up: 2 checks passed, last: connected",
        "web is registered",
    ]


def test_a_service_that_is_not_known_yet_stays_as_it_was(site: Site) -> None:
    """After a restart of nerve, what another life of it left stays until the checks say otherwise; it is taken over,
    because it would go with the session of that other life."""
    site.turn(web=True)
    [(node, there)] = site.memory.nodes.items()
    site.memory.set(node, there.payload, None)
    site.begin()
    site.turn()
    assert site.memory.nodes[node].owner is site.writer
    assert site.registered() == {"services/web": there.payload}
    site.turn(web=False)
    assert site.registered() == {"services/web": there.payload}
    site.turn(web=False)
    assert site.registered() == {}


def test_an_edit_takes_effect_without_a_restart(site: Site) -> None:
    """Another weight and other labels are another payload of the same node; another port is another instance."""
    site.turn(web=True)
    site.settings(labels={"zone": "a"}, announce={"web": {"weight": 7}})
    site.turn()
    assert site.registered()["services/web"] == (
        b'{"host":"10.0.0.5","port":8080,"name":"host5","weight":7,"labels":{"zone":"a"}}'
    )
    assert len(site.memory.nodes) == 1
    site.service("web", port=9000)
    assert describe_services(site.turn())["web"].state is State.UNKNOWN
    assert site.registered() == {}
    site.turn(web=True)
    assert b'"port":9000' in site.registered()["services/web"]


def test_an_edited_check_keeps_the_health(site: Site) -> None:
    """The service stays registered while the new check has not said anything yet."""
    site.turn(web=True)
    site.service("web", check={**CHECK, "interval": "2h"})
    assert describe_services(site.turn())["web"].state is State.UP
    site.service("web", check={"type": "http"})
    assert describe_services(site.turn())["web"].state is State.UNKNOWN
    assert list(site.registered()) == ["services/web"]
    assert not ready(site.nerve.status)[0]
    site.turn(web=True)
    assert ready(site.nerve.status)[0]


def test_what_is_not_announced_any_more_is_taken_back(site: Site) -> None:
    """Removing a service from nerve.yaml, or its definition, deregisters it; the others stay."""
    site.service("api")
    site.service("db")
    site.settings("web", "api", "db")
    site.turn()
    site.turn(web=True, api=True, db=True)
    assert sorted(site.registered()) == ["services/api", "services/db", "services/web"]
    site.settings("web", "db")
    (site.directory / "services" / "db.yaml").unlink()
    status = site.turn()
    assert list(site.registered()) == ["services/web"]
    assert "db" not in status.services
    assert "holds no valid definition db.yaml" in status.problems["db"][0]


def test_a_bad_file_leaves_its_service_as_it_was(site: Site, log: io.StringIO) -> None:
    """The last good definition goes on; the error is in the log once, in the status and in the metric, until it is
    right again."""
    site.turn(web=True)
    site.service("web", "port: 80x\n")
    for _ in range(3):
        status = site.turn(web=True)
    assert "80x" in status.problems["web"][0]
    assert describe_services(status)["web"].registered
    assert log.getvalue().count("a configuration file is wrong") == 1
    assert site.metrics.registry.get_sample_value("nerve_config_problems", {"service": "web"}) == 1.0
    site.service("web")
    assert site.turn().problems == {}
    assert "the configuration file is right again" in log.getvalue()


def test_a_bad_nerve_yaml_leaves_everything_as_it_was(site: Site) -> None:
    """The settings before go on, and the problem is under no service's name."""
    site.turn(web=True)
    (site.directory / "nerve.yaml").write_text("announce: [")
    status = site.turn()
    assert list(status.problems) == [""]
    assert list(site.registered()) == ["services/web"]


def test_an_announced_service_without_a_definition_does_not_hold_the_others_up(site: Site) -> None:
    """It is a problem in the status; the others are registered, and nerve is ready."""
    site.settings("web", "ghost")
    site.turn()
    status = site.turn(web=True)
    assert list(site.registered()) == ["services/web"]
    assert list(status.problems) == ["ghost"]
    assert ready(status)[0]


def test_settings_that_need_a_restart_say_so(site: Site, log: io.StringIO) -> None:
    """They are in the status while they differ, and in the log once."""
    site.turn(web=True)
    site.settings("web", registry="file:elsewhere", admin="127.0.0.1:4000")
    site.turn()
    assert site.turn().needs_restart == ("registry", "admin")
    assert log.getvalue().count("only a restart applies") == 1
    site.settings("web")
    assert site.turn().needs_restart == ()


def test_an_address_that_cannot_be_found_any_more_stays(site: Site) -> None:
    """At the start it would be an error; later the address before is kept, and the problem is shown."""
    site.turn(web=True)
    site.address = None
    site.settings("web", labels={"zone": "b"})
    status = site.turn()
    assert status.host == "10.0.0.5"
    assert "no address" in status.problems[""][0]
    assert b'"zone":"b"' in site.registered()["services/web"]
    with pytest.raises(ConfigError, match="no address"):
        site.begin()


def test_a_registry_that_is_away_is_said_and_tried_again(site: Site, log: io.StringIO) -> None:
    """Nothing is known of the registration meanwhile; checks go on; what changed is caught up with afterwards."""
    site.turn(web=True)
    site.memory.unavailable = "gone for lunch"
    status = site.turn(web=False)
    assert status.registry_error == "gone for lunch"
    assert describe_services(status)["web"].registered is None
    assert site.nerve.cycle() <= 1.0
    site.turn(web=False)
    assert list(site.registered()) == ["services/web"]
    site.memory.unavailable = None
    assert site.turn().registry_error is None
    assert site.registered() == {}
    assert log.getvalue().count("the registry is away") == 1
    assert log.getvalue().count("the registry is connected") == 2


def test_an_expired_session_is_registered_anew(site: Site) -> None:
    """The registry says what is there; nothing that nerve believes counts."""
    for _ in range(3):
        site.turn(web=True)
    site.memory.expire(site.writer)
    assert site.registered() == {}
    site.turn()
    assert list(site.registered()) == ["services/web"]


def test_a_check_that_hangs_brings_its_service_down(site: Site) -> None:
    """The loop asks for what hangs; as many failures as `fall` of it are enough, without any result."""
    site.turn(web=True)
    for _ in range(2):
        reason = "still running after 3.2 s, time-out 1s"
        stuck = Result(passed=False, reason=reason, duration_seconds=3.2, at=site.now)
        site.runner.stuck = [CheckResult(service="web", check="tcp", result=stuck)]
        status = site.turn()
    assert describe_services(status)["web"].state is State.DOWN
    assert describe_services(status)["web"].reason == "2 checks failed, last: still running after 3.2 s, time-out 1s"
    assert site.registered() == {}


def test_another_nerve_with_our_address_is_shown(site: Site, log: io.StringIO) -> None:
    """It is said once, in the log and in the status, instead of being fought with."""
    site.turn(web=True)
    [node] = site.memory.nodes
    for _ in range(4):
        site.memory.inject(node.path, node.node, b"theirs")
        site.now -= 99.0
        status = site.turn()
    assert describe_services(status)["web"].contested
    assert describe_services(status)["web"].registered is False
    assert site.memory.nodes[node].payload == b"theirs"
    assert log.getvalue().count("web is registered by another nerve too") == 1


def test_a_refused_registration_is_shown_and_said_once(site: Site, log: io.StringIO) -> None:
    """What the registry said stands beside the service that it was said of."""
    site.memory.refusing = "no permission"
    for _ in range(3):
        status = site.turn(web=True)
    assert describe_services(status)["web"].error == "no permission"
    assert not describe_services(status)["web"].registered
    assert log.getvalue().count("web cannot be registered") == 1
    failed = {"action": "put", "result": "failed"}
    assert site.metrics.registry.get_sample_value("nerve_registry_actions_total", failed) == 3.0


def test_b1_a_registration_that_failed_is_made_again_without_a_transition(site: Site) -> None:
    """The registry refuses one put, and is back before the next result: nothing about the service changes any more,
    and yet it is registered at the next turn. (Ruby's nerve noted that it had been told "up", and never put it.)"""
    site.memory.refusing = "gone for lunch"
    assert describe_services(site.turn(web=True))["web"].error == "gone for lunch"
    assert site.registered() == {}
    assert site.nerve.cycle() <= 1.0
    site.memory.refusing = None
    site.nerve.cycle()
    assert list(site.registered()) == ["services/web"]
    transitions = {"service": "web", "to": "up"}
    assert site.metrics.registry.get_sample_value("nerve_transitions_total", transitions) == 1.0


def test_b1_a_removal_that_failed_is_made_again_without_a_transition(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for a dead service: it would be sent requests until it came back and died once more."""
    site.turn(web=True)
    site.turn(web=False)

    def refuse(node: NodeId) -> None:
        raise RegistryUnavailable("gone for lunch")

    with monkeypatch.context() as patch:
        patch.setattr(site.writer, "remove", refuse)
        web = describe_services(site.turn(web=False))["web"]
        assert (web.state, web.error) == (State.DOWN, "gone for lunch")
        assert list(site.registered()) == ["services/web"]
        assert site.nerve.cycle() <= 1.0
    site.nerve.cycle()
    assert site.registered() == {}
    transitions = {"service": "web", "to": "down"}
    assert site.metrics.registry.get_sample_value("nerve_transitions_total", transitions) == 1.0


def test_the_metrics_show_the_last_turn(site: Site) -> None:
    """State, registration, link, and what was counted on the way."""
    site.turn(web=True)
    value = site.metrics.registry.get_sample_value
    assert value("nerve_service_up", {"service": "web"}) == 1.0
    assert value("nerve_registered", {"service": "web"}) == 1.0
    assert value("nerve_registry_connected", {"registry": "main"}) == 1.0
    assert value("nerve_check_total", {"service": "web", "check": "tcp", "result": "passed"}) == 1.0
    assert value("nerve_check_seconds_count", {"service": "web", "check": "tcp"}) == 1.0
    assert value("nerve_transitions_total", {"service": "web", "to": "up"}) == 1.0
    assert value("nerve_cycles_total") == 2.0
    assert value("nerve_registry_sessions_total", {"registry": "main"}) == 1.0
    site.turn(web=False)
    site.turn(web=False)
    assert value("nerve_service_up", {"service": "web"}) == 0.0
    assert value("nerve_registered", {"service": "web"}) == 0.0


def test_nobody_is_ready_before_the_first_turn(site: Site) -> None:
    """What is missing is named: the turn, the registry, the verdict."""
    assert ready(None) == (False, {"missing": ["the first turn of the loop"]})
    assert describe(None)["daemon"] == "nerve"
    site.memory.unavailable = "gone for lunch"
    assert ready(site.turn())[1]["missing"] == [
        "the registry was not reached yet: gone for lunch",
        "web has no verdict yet",
    ]


def test_the_status_is_plain_json(site: Site) -> None:
    """Every part of the snapshot can be served, and tells what people ask for."""
    status = plain(describe(site.turn(web=True)))
    web = json.loads(json.dumps(status))["services"]["web"]
    assert (web["state"], web["registered"], web["node"]) == ("up", True, "10.0.0.5_0000008080")
    assert web["checks"]["tcp"]["last"]["reason"] == "connected"


HOST = Host(address="10.0.0.5", instance_id="host5", labels={}, node_names="address")


def test_checks_are_named_by_their_kind() -> None:
    """The first of a kind has its name, the others a number too, so that an edit elsewhere does not rename them."""
    kinds = check_families()["check"]
    tcp, http = kinds["tcp"](), kinds["http"]()
    definition = ServiceDefinition(port=1, check=http, checks=(tcp, kinds["tcp"](port=5), http))
    assert list(named_checks(definition)) == ["http", "tcp", "tcp-2", "http-2"]
    assert named_checks(ServiceDefinition(port=1)) == {}


def test_what_every_reader_would_refuse_is_not_announced() -> None:
    """A payload that does not pass the door of the registry format is a problem here, and not at each reader."""
    settings = Settings(registry=DirectoryUrl("/r"), announce={"web": Announcement()})
    bad = Host(address="10.0.0.5", instance_id="not a name", labels={}, node_names="address")
    found = announced(settings, {"web": ServiceDefinition(port=80)}, bad)
    assert found.services == {}
    assert "every reader would refuse it: name is not made of" in found.problems["web"]


def test_a_misspelt_service_is_told_with_what_was_meant() -> None:
    """What is announced and has no file gets the nearest name that has one; a file that is wrong is no misspelling."""
    settings = Settings(registry=DirectoryUrl("/r"), services="/s", announce={"wbe": Announcement()})
    known = {name: ServiceDefinition(port=80) for name in ("web", "api")}
    found = announced(settings, known, HOST)
    message = "is announced, but /s holds no valid definition wbe.yaml"
    assert found.problems == {"wbe": f"{message}; did you mean 'web'?"}
    assert announced(settings, known, HOST, broken={"wbe"}).problems == {"wbe": message}


def test_rivals_for_one_place_are_told() -> None:
    """The first by name is announced; the other one is told who has its place."""
    shared = ServiceDefinition(port=80, registry_path="/shared")
    settings = Settings(registry=DirectoryUrl("/r"), announce={"b": Announcement(), "a": Announcement()})
    found = announced(settings, {"a": shared, "b": shared}, HOST)
    assert list(found.services) == ["a"]
    assert found.services["a"].main.node == NodeId(path="/shared", node="10.0.0.5_0000000080")
    assert found.services["a"].probe.address == TcpAddress("10.0.0.5", 80)
    assert found.problems == {"b": "has the same place as a (10.0.0.5:80 in /shared)"}
