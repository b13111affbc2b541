"""What may be asked of nerve over its admin address: how requests become orders, and which do not."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from nerve.actions import NOTE_LIMIT, actions
from nerve.maintenance_orders import DrainOrder, UndrainOrder
from nerve.orders import CheckNow, Order, Report
from nerve.status import Status
from smartstack.actions import BadRequest
from smartstack.errors import SmartStackError
from smartstack.inbox import Inbox
from smartstack.responses import Response
from tests.unit.test_nerve_loop import Site

LONG = "x" * (NOTE_LIMIT + 50)


class Counter:
    """The actions of a nerve that announces `web` and `web.admin`, and the orders that reach its loop."""

    def __init__(self, directory: Path) -> None:
        site = Site(directory)
        site.service("web", ports={"admin": {"port": 8081}})
        site.begin()
        self.status: Status | None = site.turn(web=True)
        self.rung = Event()
        self.inbox: Inbox[Order] = Inbox(self.rung.set)
        self.actions = actions(self.inbox, lambda: self.status)
        self.pool = ThreadPoolExecutor()

    def ask(self, path: str, arguments: dict[str, Any]) -> tuple[Order, Future[Response]]:
        """The order that a request becomes, answered as a loop would, and what its asker gets."""
        answer = self.pool.submit(self.actions[path], arguments)
        assert self.rung.wait(5)
        [envelope] = self.inbox.take()
        envelope.answer({"done": True})
        return envelope.order, answer


@pytest.fixture
def counter(tmp_path: Path) -> Iterator[Counter]:
    made = Counter(tmp_path)
    yield made
    made.pool.shutdown()


def test_there_is_an_action_for_each_operation(counter: Counter) -> None:
    """No more, and none under another name: scripts rely on them."""
    assert sorted(counter.actions) == ["/check", "/drain", "/heartbeat", "/log-level", "/undrain"]


@pytest.mark.parametrize(
    ("path", "arguments", "order"),
    [
        pytest.param(
            "/drain",
            {"services": ["web"], "reason": "deploy 123", "owner": "alice"},
            DrainOrder(scopes=("web",), reason="deploy 123", owner="alice", until=None),
            id="drain",
        ),
        pytest.param("/undrain", {"services": ["web"]}, UndrainOrder(scopes=("web",)), id="undrain"),
        pytest.param("/check", {"service": "web.admin"}, CheckNow(service="web.admin"), id="check"),
    ],
)
def test_a_request_becomes_an_order_and_waits_for_it(
    counter: Counter, path: str, arguments: dict[str, Any], order: Order
) -> None:
    """The loop gets what was meant, and the asker what the loop answers."""
    given, answer = counter.ask(path, arguments)
    assert given == order
    response = answer.result(5)
    assert (response.status, b'"done": true' in response.body) == (200, True)


@pytest.mark.parametrize(
    ("arguments", "report"),
    [
        pytest.param({"service": "web"}, Report(service="web", passed=True, note=""), id="a service is well"),
        pytest.param(
            {"service": "web", "passed": False, "note": "no disk"},
            Report(service="web", passed=False, note="no disk"),
            id="it is not",
        ),
        pytest.param(
            {"service": "web.admin", "note": LONG},
            Report(service="web.admin", passed=True, note=LONG[:NOTE_LIMIT]),
            id="a long note is cut",
        ),
    ],
)
def test_a_heartbeat_does_not_wait_for_the_loop(counter: Counter, arguments: dict[str, Any], report: Report) -> None:
    """It is left there; a service that reports itself must not stand still because nerve does."""
    assert counter.actions["/heartbeat"](arguments).status == 200
    assert [envelope.order for envelope in counter.inbox.take()] == [report]


@pytest.mark.parametrize(
    ("path", "arguments", "says"),
    [
        pytest.param("/drain", {}, "services must be a list of names", id="drain nothing"),
        pytest.param("/drain", {"services": ["web"]}, "reason is missing", id="drain for no reason"),
        pytest.param("/drain", {"services": ["wbe"], "reason": "x"}, "did you mean 'web'", id="drain another"),
        pytest.param("/drain", {"services": ["web"], "reason": "x", "for": 3}, "unknown key 'for'", id="drain for 3"),
        pytest.param("/undrain", {"services": "web"}, "services must be a list of names", id="undrain a text"),
        pytest.param("/undrain", {"all": 1}, "all must be true or false", id="undrain all of 1"),
        pytest.param("/check", {}, "service is to be the name of an announced service", id="check nothing"),
        pytest.param("/check", {"service": 1}, "service is to be the name", id="check a number"),
        pytest.param("/check", {"service": "web", "rise": 1}, "there is no argument 'rise'", id="check with a rise"),
        pytest.param("/heartbeat", {}, "service is to be the name", id="a heartbeat of nobody"),
        pytest.param("/heartbeat", {"service": "web", "passed": "no"}, "true or false", id="a heartbeat that says no"),
        pytest.param("/heartbeat", {"service": "web", "passed": 1}, "true or false", id="a heartbeat that says 1"),
        pytest.param("/heartbeat", {"service": "web", "note": 7}, "note a text", id="a note that is a number"),
        pytest.param("/heartbeat", {"service": "web", "ttl": 7}, "no argument 'ttl'", id="a heartbeat with a ttl"),
        pytest.param("/log-level", {"level": "loud"}, "level is to be one of", id="a level that is none"),
    ],
)
def test_what_is_no_order_is_refused_before_the_loop_hears_of_it(
    counter: Counter, path: str, arguments: dict[str, Any], says: str
) -> None:
    """With a sentence that names the mistake; the answer is 400."""
    with pytest.raises(BadRequest, match=says):
        counter.actions[path](arguments)
    assert counter.inbox.take() == []


def test_a_heartbeat_of_a_service_that_is_not_here_is_refused(counter: Counter) -> None:
    """It is well-formed, and yet nobody takes it."""
    with pytest.raises(SmartStackError, match="'wbe' is not announced on this host") as caught:
        counter.actions["/heartbeat"]({"service": "wbe"})
    assert not isinstance(caught.value, BadRequest)
    assert counter.inbox.take() == []


def test_before_the_first_turn_nothing_is_announced(counter: Counter) -> None:
    """Whoever asks so early is told so, and may ask again."""
    counter.status = None
    with pytest.raises(BadRequest, match="no such service is announced here"):
        counter.actions["/drain"]({"services": ["web"], "reason": "x"})
    with pytest.raises(SmartStackError, match="is not announced"):
        counter.actions["/heartbeat"]({"service": "web"})
