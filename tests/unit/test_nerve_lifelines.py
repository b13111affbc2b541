"""Lifelines: who has an idle connection, and what its end means, with connections that the test makes and breaks."""

from collections.abc import Callable, Mapping

import pytest

from nerve.checks.tcp import TcpCheck
from nerve.health import Result
from nerve.lifelines import Lifelines, Snapped
from nerve.maintenance import EVERYTHING
from nerve.registrations import Host
from nerve.roster import Roster
from nerve.runner import CheckResult
from nerve.services import announced
from nerve.settings import Announcement, FlapDamping, PublishLimit, Settings
from nerve.tether import Broken, Tethers
from smartstack.definition import Endpoint, ServiceDefinition, Tether, expand
from smartstack.forms import DirectoryUrl, TcpAddress
from smartstack.maintenance import Maintenance

HOST = Host(address="10.0.0.5", instance_id="host5", labels={}, node_names="address")
WEB = TcpAddress("10.0.0.5", 80)
CHECK = TcpCheck(timeout=1.0, rise=1, fall=2)
DRAINED = Maintenance(scope=EVERYTHING, reason="reboot", owner="alice", since=0.0, until=None)


class FakeTethers(Tethers):
    """No sockets: what is wanted is noted, and is held once the test has `make` it so."""

    def __init__(self, heard: Callable[[Broken], None], made: Callable[[], None]) -> None:
        self.told: list[Mapping[str, TcpAddress]] = []
        self.stopped = False
        self._report, self._ring = heard, made
        self._there: dict[str, tuple[str, int]] = {}

    def hold(self, wanted: Mapping[str, TcpAddress]) -> None:
        self.told.append(dict(wanted))
        self._there = {name: end for name, end in self._there.items() if name in wanted}

    def held(self) -> Mapping[str, tuple[str, int]]:
        return dict(self._there)

    def stop(self) -> None:
        self.stopped = True

    def make(self, service: str) -> None:
        """The connection was made."""
        self._there[service] = ("10.0.0.5", 40_000)
        self._ring()

    def snap(self, service: str, *, refused: bool, address: TcpAddress = WEB) -> None:
        """It ended."""
        self._report(Broken(service=service, address=address, refused=refused, reason="it was closed", at=7.0))


class Fixture:
    """Lifelines, the roster that they read, and how often they rang."""

    def __init__(self) -> None:
        self.rings = 0
        self.roster = Roster(PublishLimit(), FlapDamping())
        self.lifelines = Lifelines(self._ring, self._make)
        self.tethers: FakeTethers

    def _ring(self) -> None:
        self.rings += 1

    def _make(self, heard: Callable[[Broken], None], made: Callable[[], None]) -> Tethers:
        self.tethers = FakeTethers(heard, made)
        return self.tethers

    def announce(self, **definitions: ServiceDefinition) -> None:
        """From now on these are announced."""
        everything = {name: one for key, value in definitions.items() for name, one in expand(key, value).items()}
        settings = Settings(registry=DirectoryUrl("/r"), announce=dict.fromkeys(definitions, Announcement()))
        found = announced(settings, everything, HOST)
        assert not found.problems
        self.roster.configure(found.services, PublishLimit(), FlapDamping(), 0.0)

    def result(self, *, passed: bool, at: float, took: float = 0.01) -> bool:
        """The check of `web` gave this result; whether it is to be run again at once."""
        result = Result(passed=passed, reason="", duration_seconds=took, at=at)
        self.roster.result("web", "tcp", result)
        return self.lifelines.result(CheckResult(service="web", check="tcp", result=result), self.roster)

    def hold(self) -> Mapping[str, TcpAddress]:
        """The end of a turn; what should be held by then."""
        self.lifelines.hold(self.roster)
        return self.tethers.told[-1] if self.tethers.told else {}

    def up(self, tether: Tether = "conclusive") -> None:
        """`web` is announced, well, and held."""
        self.announce(web=ServiceDefinition(port=80, check=CHECK, tether=tether))
        self.result(passed=True, at=1.0)
        assert self.hold() == {"web": WEB}
        self.tethers.make("web")


@pytest.fixture
def fixture() -> Fixture:
    return Fixture()


def test_who_is_well_is_held(fixture: Fixture) -> None:
    """From the first pass on, and not before; not any more once the service is down."""
    fixture.announce(web=ServiceDefinition(port=80, check=CHECK))
    assert fixture.hold() == {}
    fixture.result(passed=True, at=1.0)
    assert fixture.hold() == {"web": WEB}
    fixture.result(passed=False, at=2.0)
    assert fixture.hold() == {"web": WEB}
    fixture.result(passed=False, at=3.0)
    assert fixture.hold() == {}


@pytest.mark.parametrize(
    "definition",
    [
        pytest.param(ServiceDefinition(port=80, check=CHECK, tether="off"), id="its definition says off"),
        pytest.param(ServiceDefinition(port=80), id="it has no check to run when the connection ends"),
    ],
)
def test_some_services_are_never_held(fixture: Fixture, definition: ServiceDefinition) -> None:
    """However well they are."""
    fixture.announce(web=definition)
    for check in fixture.roster.services["web"].probe.checks:
        fixture.roster.result("web", check, Result(passed=True, reason="", duration_seconds=0.0, at=1.0))
    assert fixture.hold() == {}


def test_a_port_that_follows_its_service_is_not_held(fixture: Fixture) -> None:
    """One connection to the service is enough."""
    fixture.announce(web=ServiceDefinition(port=80, check=CHECK, ports={"admin": Endpoint(port=81)}))
    fixture.result(passed=True, at=1.0)
    assert fixture.hold() == {"web": WEB}


def test_a_drained_service_is_let_go(fixture: Fixture) -> None:
    """Its connections are counted until there are none, and this would be one; afterwards it is held again."""
    fixture.up()
    fixture.roster.maintain({EVERYTHING: DRAINED})
    assert fixture.hold() == {}
    fixture.roster.maintain({})
    assert fixture.hold() == {"web": WEB}


def test_nobody_is_disturbed_while_nothing_changes(fixture: Fixture) -> None:
    """The same wish is not told twice."""
    fixture.up()
    for at in (2.0, 3.0):
        fixture.result(passed=True, at=at)
        fixture.hold()
    assert len(fixture.tethers.told) == 1


@pytest.mark.parametrize(
    ("tether", "refused", "conclusive"),
    [
        ("conclusive", True, True),
        ("conclusive", False, False),
        ("check", True, False),
        ("check", False, False),
    ],
)
def test_what_an_end_is_worth(fixture: Fixture, tether: Tether, refused: bool, conclusive: bool) -> None:
    """Only where nobody listens any more, and the definition does not want a check all the same, is it enough."""
    fixture.up(tether)
    fixture.tethers.snap("web", refused=refused)
    assert fixture.lifelines.take(fixture.roster) == [
        Snapped(service="web", reason="it was closed", at=7.0, conclusive=conclusive)
    ]
    assert fixture.lifelines.take(fixture.roster) == []


def test_an_end_that_comes_too_late_is_nobodys(fixture: Fixture) -> None:
    """Of an address that the service had before an edit, or of a service that is not announced any more."""
    fixture.up()
    fixture.tethers.snap("web", refused=True, address=TcpAddress("10.0.0.5", 79))
    fixture.tethers.snap("gone", refused=True)
    assert fixture.lifelines.take(fixture.roster) == []


def test_the_loop_is_rung_for_each_end_and_for_each_connection(fixture: Fixture) -> None:
    """The one is to be acted on, the other to be shown."""
    fixture.up()
    assert fixture.rings == 1
    fixture.tethers.snap("web", refused=True)
    assert fixture.rings == 2


def test_status_tells_what_is_held(fixture: Fixture) -> None:
    """Wanted is not held; of a service that wants none nothing is told."""
    fixture.announce(web=ServiceDefinition(port=80, check=CHECK), api=ServiceDefinition(port=81, tether="off"))
    fixture.result(passed=True, at=1.0)
    fixture.hold()
    assert fixture.lifelines.describe() == {"web": "not there for now"}
    fixture.tethers.make("web")
    assert fixture.lifelines.describe() == {"web": "held"}


def test_a_check_that_times_out_beside_a_tether_is_run_again_without_it(fixture: Fixture) -> None:
    """At once, and before anything is decided: the connection is closed within the same turn. When it passes then, the
    service serves one connection at a time, and is not held again."""
    fixture.up()
    assert fixture.result(passed=False, at=10.0, took=1.0)
    assert fixture.tethers.told[-1] == {}
    assert fixture.hold() == {}
    assert "released, because tcp timed out" in fixture.lifelines.describe()["web"]
    assert not fixture.result(passed=True, at=10.2, took=0.1)
    assert fixture.hold() == {}
    assert "write `tether: off` in its definition" in fixture.lifelines.describe()["web"]


def test_a_check_that_fails_without_a_tether_too_speaks_for_it(fixture: Fixture) -> None:
    """A service that hangs is held again when it goes on."""
    fixture.up()
    fixture.result(passed=False, at=10.0, took=1.0)
    assert not fixture.result(passed=False, at=11.1, took=1.0)
    assert fixture.hold() == {}
    fixture.result(passed=True, at=12.0)
    assert fixture.hold() == {"web": WEB}


def test_an_edit_forgives(fixture: Fixture) -> None:
    """Who mended the service, or wrote what was advised, begins anew."""
    fixture.up()
    fixture.result(passed=False, at=10.0, took=1.0)
    fixture.result(passed=True, at=10.2, took=0.1)
    assert fixture.hold() == {}
    fixture.announce(web=ServiceDefinition(port=80, check=TcpCheck(timeout=2.0, rise=1, fall=2), tether="check"))
    assert fixture.hold() == {"web": WEB}
    fixture.announce()
    assert fixture.hold() == {}
    assert fixture.lifelines.describe() == {}


def test_the_end_closes_everything(fixture: Fixture) -> None:
    """With nerve every connection goes."""
    fixture.lifelines.stop()
    assert fixture.tethers.stopped
