"""synapse's desk: orders are carried out on the loop's turn, answered when it is done, and refused when they cannot
be; what is held survives a restart."""

from collections.abc import Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from smartstack.errors import SmartStackError
from smartstack.inbox import Inbox
from smartstack.instance import Instance
from smartstack.logs import EventLog
from smartstack.registry.protocol import Listing
from synapse.desk import HOLDS_FILE, Desk, holds_store
from synapse.haproxy.errors import HAProxyAway
from synapse.offers import Offer
from synapse.orders import Accept, HoldOrder, LetGo, LookAt, Order
from synapse.proxy import Admin, Observed, Slot
from synapse.selection import Choice, Memory, Origin
from synapse.shift_desk import ShiftDesk, ShiftStore
from synapse.status import Snapshot
from synapse.switches import Live
from tests.support.definitions import definition, placed
from tests.unit.test_synapse_status import QUIET

WALL = 1_700_000_000.0
ONE, TWO = (Instance(host=f"10.0.0.{number}", port=8080, name=f"host-{number}") for number in (1, 2))


def offer(*instances: Instance, origin: Origin = Origin.LISTING) -> Offer:
    choice = Choice(instances=instances, origin=origin, reason="as it was told", memory=Memory(good=instances))
    return Offer(definition=definition(), known=Listing(), choice=choice, placement=placed(instances))


def slot(instance: Instance, **fields: Any) -> Slot:
    return Slot(**{"name": "s1", "host": instance.host, "port": 8080, "weight": 100, "admin": Admin.READY, **fields})


class Office:
    """A desk between people who ask and a loop that the test turns. `web` has two instances, `api` one."""

    def __init__(self, directory: Path) -> None:
        self.wall = WALL
        self.live = Live(path="haproxy.map", faults=True, delay="pause")
        self.state = directory
        self.offers = {"web": offer(ONE, TWO), "api": offer(ONE)}
        self.observed: Observed | None = Observed(
            pid=1, description="x", backends={"web": (slot(ONE), slot(TWO, name="s2")), "api": (slot(ONE),)}
        )
        self.error: SmartStackError | None = None
        self.rung = Event()
        self.inbox: Inbox[Order] = Inbox(self.rung.set)
        self.pool = ThreadPoolExecutor()
        self.open()

    def open(self) -> None:
        """Begin, as at a start of synapse."""
        log = EventLog("synapse")
        shifts = ShiftDesk(ShiftStore(str(self.state), writes=True), self.live, log, lambda: self.wall)
        self.desk = Desk(self.inbox, holds_store(str(self.state), writes=True), shifts, log, lambda: self.wall)

    def observe(self, names: Collection[str] | None = None) -> Observed | None:
        """HAProxy, as the desk may ask it."""
        if self.error is not None:
            raise self.error
        return self.observed

    def ask(self, order: Order) -> Future[Any]:
        """Somebody asks, and waits for the answer."""
        self.rung.clear()
        answer = self.pool.submit(self.inbox.ask, order)
        assert self.rung.wait(5)
        return answer

    def work(self) -> None:
        """The desk's part of a turn, before the sources are read."""
        self.desk.work(self.offers, self)

    def snapshot(self) -> Snapshot:
        """What the turn came to."""
        return replace(QUIET, offers=self.offers, observed=self.observed, listens={"web": "x", "api": "y"})

    def done(self, order: Order) -> Any:
        """What an order is answered with after one turn."""
        answer = self.ask(order)
        self.work()
        self.desk.answer(self.snapshot())
        return answer.result(5)


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path)
    yield made
    made.inbox.close()
    made.pool.shutdown()


def hold(address: str = "10.0.0.1:8080", service: str = "web", **fields: Any) -> HoldOrder:
    return HoldOrder(
        **{"service": service, "address": address, "until": WALL + 600, "reason": "new disk", "owner": "al", **fields}
    )


def test_a_hold_holds_in_the_turn_in_which_it_is_ordered(office: Office) -> None:
    """The placement of this very turn knows it; the asker is answered when the turn is done, not before."""
    answer = office.ask(hold())
    office.work()
    assert office.desk.held == {"web": frozenset({"10.0.0.1:8080"})}
    assert office.desk.asked == {"web"}
    assert not answer.done()
    office.desk.answer(office.snapshot())
    told = answer.result(5)
    assert (told["address"], told["state"], told["offered"]) == ("10.0.0.1:8080", "serving", True)
    assert (told["held"].reason, told["held"].owner, told["held"].until) == ("new disk", "al", WALL + 600)


def test_a_hold_survives_a_restart_and_ends_by_itself(office: Office) -> None:
    """The next synapse finds it, and lets go at its time, to the second, also if that passed meanwhile."""
    office.done(hold())
    office.done(hold("10.0.0.2", until=None, force=True))
    office.open()
    assert office.desk.held == {"web": frozenset({"10.0.0.1:8080", "10.0.0.2:8080"})}
    office.wall = WALL + 599
    office.work()
    assert office.desk.due_in() == 1.0
    assert len(office.desk.held["web"]) == 2
    office.wall = WALL + 600
    office.work()
    assert office.desk.held == {"web": frozenset({"10.0.0.2:8080"})}
    assert office.desk.due_in() is None
    office.open()
    assert office.desk.held == {"web": frozenset({"10.0.0.2:8080"})}


def test_a_hold_can_be_ended_and_prolonged(office: Office) -> None:
    """Again is until another time; let go is gone, also where the instance or its service is gone by then."""
    office.done(hold())
    assert office.done(hold(until=WALL + 900, reason="")).get("held").until == WALL + 900
    office.offers = {"api": offer(ONE)}
    told = office.done(LetGo(service="web", address="10.0.0.1"))
    assert (told["address"], told["held"]) == ("10.0.0.1:8080", None)
    assert office.desk.held == {}
    office.open()
    assert office.desk.held == {}


@pytest.mark.parametrize(
    ("order", "says"),
    [
        pytest.param(hold(service="wbe"), "'wbe' is no service of this host; did you mean 'web'?", id="no service"),
        pytest.param(hold("10.0.0.9"), "10.0.0.9 is no instance of web: there are 10.0.0.1:8080", id="no instance"),
        pytest.param(hold(service="api"), "10.0.0.1:8080 is the only instance of api that serves", id="the last one"),
        pytest.param(LetGo(service="web", address="10.0.0.1"), "no held instance of web, which has none", id="free"),
        pytest.param(LetGo(service="wbe", address="10.0.0.1"), "did you mean 'web'?", id="let go of no service"),
        pytest.param(Accept(service="wbe"), "did you mean 'web'?", id="accept no service"),
    ],
)
def test_what_cannot_be_done_is_refused_and_changes_nothing(office: Office, order: Order, says: str) -> None:
    """With a sentence that says what to ask instead; nothing is kept of it."""
    answer = office.ask(order)
    office.work()
    with pytest.raises(SmartStackError) as refused:
        answer.result(5)
    assert says in str(refused.value)
    assert office.desk.held == {}
    assert not (office.state / HOLDS_FILE).exists()


def test_the_last_one_that_serves_is_held_only_by_force(office: Office) -> None:
    """HAProxy finds the other one down: it counts as nobody. Where HAProxy cannot be asked it may be well."""
    office.observed = Observed(pid=1, description="x", backends={"web": (slot(ONE), slot(TWO, name="s2", up=False))})
    answer = office.ask(hold())
    office.work()
    with pytest.raises(SmartStackError, match=r"only instance of web that serves on this host.*--force"):
        answer.result(5)
    assert office.done(hold(force=True))["held"] is not None
    office.done(LetGo(service="web", address="10.0.0.1"))
    office.error = HAProxyAway("HAProxy does not answer")
    assert office.done(hold())["held"] is not None


def test_what_cannot_be_kept_does_not_hold(office: Office) -> None:
    """A state directory that is gone: the order is refused, because the next start would not know of it."""
    office.state.rename(office.state.with_name("gone"))
    answer = office.ask(hold())
    office.work()
    with pytest.raises(SmartStackError, match=r"^cannot change what is held, and nothing was changed: cannot write"):
        answer.result(5)
    assert office.desk.held == {}


def test_a_file_that_cannot_be_used_is_a_problem_and_holds_nobody(office: Office) -> None:
    """It is said for as long as this synapse runs; who only looks leaves the file where it is."""
    (office.state / HOLDS_FILE).write_text("{")
    log, state = EventLog("synapse"), str(office.state)
    shifts = ShiftDesk(ShiftStore(state, writes=False), office.live, log)
    looking = Desk(Inbox(lambda: None), holds_store(state, writes=False), shifts, log)
    assert "it stays where it is; hold again what should be" in looking.problems[0]
    office.open()
    assert office.desk.held == {}
    assert office.desk.problems[0].startswith("cannot tell what was held before this start, so nothing is: ")
    assert (office.state / f"{HOLDS_FILE}.corrupt").read_text() == "{"


def test_a_shrunken_listing_is_accepted_for_one_turn(office: Office) -> None:
    """Selection is told in this turn and in no other; the answer says from how many to how many."""
    office.offers["web"] = offer(ONE, TWO, origin=Origin.HELD_BACK)
    answer = office.ask(Accept(service="web"))
    office.work()
    assert office.desk.accepted == {"web"}
    office.offers["web"] = offer(ONE)
    office.desk.answer(office.snapshot())
    told = answer.result(5)
    assert (told["accepted"], told["before"], told["instances"]) == (True, 2, 1)
    office.work()
    assert office.desk.accepted == set()


def test_where_nothing_is_held_back_there_is_nothing_to_accept(office: Office) -> None:
    """That is no error; selection is told of nothing, so that a later loss is not waved through."""
    told = office.done(Accept(service="web"))
    assert (told["accepted"], told["instances"], told["reason"]) == (False, 2, "as it was told")
    assert office.desk.accepted == set()


def test_who_asks_how_a_service_is_gets_a_look_of_this_turn(office: Office) -> None:
    """HAProxy is asked anew of that service; one that is not there is the asker's to explain."""
    answer = office.ask(LookAt(service="web"))
    office.work()
    assert office.desk.asked == {"web"}
    snapshot = office.snapshot()
    office.desk.answer(snapshot)
    assert answer.result(5) is snapshot
    office.done(LookAt(service="wbe"))
    assert office.desk.asked == set()
