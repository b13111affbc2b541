"""The desk: orders are carried out on the loop's turn, answered when it is done, and refused when they cannot be."""

import io
import logging
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random
from threading import Event
from typing import Any

import pytest

from nerve.checks.base import Heartbeat
from nerve.desk import Desk
from nerve.maintenance import EVERYTHING
from nerve.maintenance_orders import DrainOrder, UndrainOrder
from nerve.maintenance_store import MaintenanceStore
from nerve.orders import CheckNow, Order, Report
from nerve.runner import Prompt, Runner
from nerve.status import Status
from smartstack.errors import SmartStackError
from smartstack.inbox import Inbox
from smartstack.logs import EventLog
from tests.unit.test_nerve_loop import Site

WALL = 1_700_000_000.0


@dataclass
class Asked:
    """What a runner was asked for."""

    what: Prompt | Heartbeat
    service: str


class RecordingRunner(Runner):
    """Notes what it is asked for."""

    def __init__(self) -> None:
        super().__init__(lambda: None, Random(1))
        self.asked: list[Asked] = []

    def prompt(self, service: str, why: Prompt) -> None:
        self.asked.append(Asked(why, service))

    def report(self, service: str, heartbeat: Heartbeat) -> None:
        self.asked.append(Asked(heartbeat, service))


class Office:
    """A desk between people who ask and a loop that the test turns step by step. `web` (with the port `web.admin`) and
    `api` are announced."""

    def __init__(self, directory: Path) -> None:
        self.now, self.wall = 50.0, WALL
        self.state = directory / "state"
        self.state.mkdir()
        self.site = Site(directory / "site")
        self.site.service("web", ports={"admin": {"port": 8081}})
        self.site.service("api", port=8082)
        self.site.settings("web", "api")
        self.site.begin()
        self.status: Status = self.site.turn(web=True, api=True)
        self.roster = self.site.nerve._roster
        self.runner = RecordingRunner()
        self.rung = Event()
        self.inbox: Inbox[Order] = Inbox(self.rung.set)
        self.pool = ThreadPoolExecutor()
        self.open()

    def open(self) -> None:
        """Begin, as at a start of nerve."""
        store = MaintenanceStore(str(self.state))
        self.desk = Desk(self.inbox, store, EventLog("nerve"), lambda: self.now, lambda: self.wall)

    def ask(self, order: Order) -> Future[Any]:
        """Somebody asks, and waits for the answer."""
        self.rung.clear()
        answer = self.pool.submit(self.inbox.ask, order)
        assert self.rung.wait(5)
        return answer

    def work(self) -> None:
        """The desk's part of a turn, before the registries are looked at."""
        self.desk.work(self.roster, self.runner)

    def turn(self) -> None:
        """A whole turn, as far as the desk sees one."""
        self.work()
        self.desk.answer(self.status)

    def done(self, order: Order) -> dict[str, Any]:
        """What an order is answered with after one turn."""
        answer = self.ask(order)
        self.turn()
        value: dict[str, Any] = answer.result(5)
        return value


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    (tmp_path / "site").mkdir()
    made = Office(tmp_path)
    yield made
    made.inbox.close()
    made.pool.shutdown()


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


def drain(*scopes: str, until: float | None = None) -> DrainOrder:
    return DrainOrder(scopes=scopes or ("web",), reason="deploy", owner="alice", until=until)


def test_an_answer_waits_for_the_end_of_the_turn(office: Office) -> None:
    """Whoever is answered finds it done: in the roster at once, in the registry when the turn is over; not before. The
    answer says when it was begun with."""
    answer = office.ask(drain())
    assert not answer.done()
    office.work()
    office.wall += 5
    assert office.roster.maintenances.keys() == {"web"}
    assert not answer.done()
    office.desk.answer(office.status)
    assert sorted(answer.result(5)["services"]) == ["web", "web.admin"]
    assert answer.result(5)["at"] == WALL


@pytest.mark.parametrize(
    ("order", "services"),
    [
        pytest.param(drain("web"), ["web", "web.admin"], id="a service and its ports"),
        pytest.param(drain("web.admin"), ["web.admin"], id="a port alone"),
        pytest.param(drain(EVERYTHING), ["api", "web", "web.admin"], id="everything"),
        pytest.param(drain("api", "web.admin"), ["api", "web.admin"], id="several"),
        pytest.param(CheckNow(service="web"), ["web"], id="a check"),
    ],
)
def test_an_answer_holds_what_the_order_was_about(office: Office, order: Order, services: list[str]) -> None:
    """And nothing of the others."""
    assert sorted(office.done(order)["services"]) == services


def test_a_drain_begins_and_ends_by_order(office: Office, log: io.StringIO) -> None:
    """With reason, owner and since; one log line for each; and a drain of everything leaves the others as they are."""
    office.done(drain("web"))
    one = office.roster.maintenance("web.admin")
    assert one is not None
    assert (one.scope, one.reason, one.owner, one.since, one.until) == ("web", "deploy", "alice", WALL, None)
    office.done(drain(EVERYTHING))
    office.done(UndrainOrder(scopes=(EVERYTHING,)))
    assert office.roster.maintenances.keys() == {"web"}
    office.done(UndrainOrder(scopes=("web",)))
    assert office.roster.maintenances == {}
    lines = log.getvalue().splitlines()
    assert "maintenance of everything was ended" in lines
    assert "maintenance of web was ended" in lines
    assert len([line for line in lines if "deploy" in line]) == 2


def test_a_drain_survives_a_restart(office: Office) -> None:
    """It is on disk before its asker hears that it is done."""
    office.done(drain("web", until=WALL + 60))
    office.open()
    office.work()
    assert office.roster.maintenances["web"].until == WALL + 60


def test_a_drain_ends_when_its_time_is_over(office: Office, log: io.StringIO) -> None:
    """At the very second, without anybody asking; the loop is told when to turn for it; and a restart knows it too."""
    assert office.desk.due_in() == float("inf")
    office.done(drain("web", until=WALL + 60))
    office.done(drain("api", until=WALL + 30))
    assert office.desk.due_in() == 30.0
    office.wall = WALL + 30
    office.turn()
    assert office.roster.maintenances.keys() == {"web"}
    assert office.desk.due_in() == 30.0
    assert "maintenance of api has run out" in log.getvalue()
    office.wall = WALL + 100
    assert office.desk.due_in() == 0.0
    office.turn()
    assert office.roster.maintenances == {}
    office.open()
    office.work()
    assert office.roster.maintenances == {}


def test_what_cannot_be_kept_is_refused_and_not_done(office: Office) -> None:
    """A full or read-only disk: to drain would be undone by the next start. The other orders of the turn are done."""
    office.done(drain("api"))
    (office.state / "maintenance.json").unlink()
    (office.state / "maintenance.json").mkdir()
    refused, checked = office.ask(drain("web")), office.ask(CheckNow(service="api"))
    office.turn()
    with pytest.raises(SmartStackError, match="nothing was changed"):
        refused.result(5)
    assert sorted(checked.result(5)["services"]) == ["api"]
    assert office.roster.maintenances.keys() == {"api"}


def test_an_end_that_cannot_be_kept_is_an_end_all_the_same(office: Office, log: io.StringIO) -> None:
    """Time goes on for a full disk too; it is said, and a restart finds it over again."""
    office.done(drain("web", until=WALL + 60))
    kept = (office.state / "maintenance.json").read_bytes()
    (office.state / "maintenance.json").unlink()
    (office.state / "maintenance.json").mkdir()
    office.wall = WALL + 61
    office.turn()
    assert office.roster.maintenances == {}
    assert "the end of a maintenance cannot be kept" in log.getvalue()
    (office.state / "maintenance.json").rmdir()
    (office.state / "maintenance.json").write_bytes(kept)
    office.open()
    office.work()
    assert office.roster.maintenances == {}


def test_what_was_kept_and_cannot_be_read_is_said(office: Office, log: io.StringIO) -> None:
    """Nothing is drained by it, and the operator is told so, in the log and in the status."""
    (office.state / "maintenance.json").write_text("{")
    office.open()
    office.work()
    assert office.roster.maintenances == {}
    assert "maintenance is lost" in log.getvalue()
    assert "drain again what should be" in (office.desk.problem or "")


def test_the_drain_of_a_stop_is_not_kept(office: Office) -> None:
    """`on_stop: drain` covers everything until this nerve ends; the next one knows nothing of it."""
    office.desk.drain_for_stop()
    office.turn()
    assert office.roster.maintenances[EVERYTHING].reason == "nerve stops"
    office.open()
    office.work()
    assert office.roster.maintenances == {}


@pytest.mark.parametrize(
    ("order", "asked"),
    [
        pytest.param(CheckNow(service="web"), Asked(Prompt.READY, "web"), id="a check"),
        pytest.param(CheckNow(service="web.admin"), Asked(Prompt.READY, "web"), id="a check of a port that follows"),
        pytest.param(
            Report(service="api", passed=False, note="no disk"),
            Asked(Heartbeat(passed=False, note="no disk", at=50.0), "api"),
            id="a report",
        ),
    ],
)
def test_checks_and_reports_go_to_the_service_that_is_checked(office: Office, order: Order, asked: Asked) -> None:
    """A port without checks is as well as its service, so that one is meant; a report has the loop's time."""
    office.done(order)
    assert office.runner.asked == [asked]


def test_an_order_for_a_service_that_went_meanwhile_is_refused(office: Office) -> None:
    """The file was edited between the question and the turn; what else was asked is done."""
    refused, done = office.ask(CheckNow(service="gone")), office.ask(drain("web"))
    office.turn()
    with pytest.raises(SmartStackError, match="gone is not announced on this host"):
        refused.result(5)
    assert done.result(5)["services"]
    assert office.runner.asked == []
