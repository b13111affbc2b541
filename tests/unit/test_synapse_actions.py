"""What may be asked of synapse over its admin address: how requests become orders, and which do not."""

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest

from smartstack.actions import BadRequest
from smartstack.inbox import Inbox
from smartstack.responses import Response
from synapse.actions import actions, explanation
from synapse.orders import Accept, HoldOrder, LetGo, LookAt, Order
from tests.unit.test_synapse_status import QUIET

NOW = 1_700_000_000.0
WEB = {"service": "web", "address": "10.0.0.5"}


class Counter:
    """The actions of a synapse, and the orders that reach its loop."""

    def __init__(self) -> None:
        self.rung = Event()
        self.inbox: Inbox[Order] = Inbox(self.rung.set)
        self.actions = actions(self.inbox, lambda: NOW)
        self.explain = explanation(self.inbox)
        self.pool = ThreadPoolExecutor()

    def taken(self, answer: Any) -> Order:
        """The one order that has come, answered as a loop would."""
        assert self.rung.wait(5)
        [envelope] = self.inbox.take()
        envelope.answer(answer)
        return envelope.order

    def ask(self, path: str, arguments: dict[str, Any]) -> tuple[Order, Future[Response]]:
        answer = self.pool.submit(self.actions[path], arguments)
        return self.taken({"done": True}), answer


@pytest.fixture
def counter() -> Iterator[Counter]:
    made = Counter()
    yield made
    made.pool.shutdown()


def order(until: float | None = NOW + 3600, **fields: Any) -> HoldOrder:
    return HoldOrder(**{**WEB, "until": until, "reason": "", "owner": "", **fields})


@pytest.mark.parametrize(
    ("path", "arguments", "order"),
    [
        pytest.param("/hold", WEB, order(), id="hold, for an hour where nobody says how long"),
        pytest.param("/hold", {**WEB, "for_seconds": 600}, order(NOW + 600), id="hold for ten minutes"),
        pytest.param("/hold", {**WEB, "for_seconds": None}, order(None), id="hold without an end"),
        pytest.param(
            "/hold",
            {**WEB, "reason": " new\ndisk", "owner": "al", "force": True},
            order(reason="new disk", owner="al", force=True),
            id="hold, with everything said",
        ),
        pytest.param("/unhold", WEB, LetGo(service="web", address="10.0.0.5"), id="unhold"),
        pytest.param("/accept", {"service": "web"}, Accept(service="web"), id="accept"),
    ],
)
def test_a_request_becomes_an_order_and_waits_for_it(
    counter: Counter, path: str, arguments: dict[str, Any], order: Order
) -> None:
    """The loop gets what was meant, and the asker what the loop answers."""
    given, answer = counter.ask(path, arguments)
    assert given == order
    response = answer.result(5)
    assert (response.status, json.loads(response.body)) == (200, {"done": True})


@pytest.mark.parametrize(
    ("path", "arguments", "says"),
    [
        pytest.param("/hold", {"address": "x"}, "service is to be a text", id="of no service"),
        pytest.param("/hold", {"service": "web"}, "address is to be a text", id="of no instance"),
        pytest.param("/hold", {**WEB, "address": 8080}, "address is to be a text", id="of a number"),
        pytest.param("/hold", {**WEB, "for": 3}, "no argument 'for'", id="a misspelt time is not one without end"),
        pytest.param("/hold", {**WEB, "for_seconds": "10m"}, "cannot hold: for_seconds must be a number", id="a unit"),
        pytest.param("/hold", {**WEB, "for_seconds": 0}, "for_seconds must be from 1 to", id="for no time"),
        pytest.param("/hold", {**WEB, "reason": 1}, "reason must be a text", id="for a number"),
        pytest.param("/hold", {**WEB, "force": "yes"}, "force must be true or false", id="forced by a text"),
        pytest.param("/unhold", {**WEB, "all": True}, "no argument 'all'", id="unhold all"),
        pytest.param("/accept", {}, "service is to be a text", id="accept nothing"),
        pytest.param(
            "/fault",
            {"service": "web", "abort": 503, "for_seconds": 10**400},
            "it must last at most 24 hours",
            id="a fault for longer than a time can be",
        ),
        pytest.param("/log-level", {"level": "loud"}, "level is to be one of", id="a level that is none"),
    ],
)
def test_what_is_no_order_never_reaches_the_loop(
    counter: Counter, path: str, arguments: dict[str, Any], says: str
) -> None:
    """It is refused with a sentence that says what to write instead."""
    with pytest.raises(BadRequest) as refused:
        counter.actions[path](arguments)
    assert says in str(refused.value)
    assert counter.inbox.take() == []


def test_there_is_an_action_for_each_operation(counter: Counter) -> None:
    """No more, and none under another name: scripts rely on them."""
    assert sorted(counter.actions) == ["/accept", "/fault", "/hold", "/log-level", "/split", "/unhold"]


def test_an_explanation_is_a_fresh_status_of_one_service(counter: Counter) -> None:
    """The loop looks, and what it saw is told as /status tells it; of one that is not there, which there are."""
    answer = counter.pool.submit(counter.explain, "web", {})
    assert counter.taken(QUIET) == LookAt(service="web")
    assert list(json.loads(answer.result(5).body)["services"]) == ["web"]
    counter.rung.clear()
    answer = counter.pool.submit(counter.explain, "wbe", {})
    counter.taken(QUIET)
    told = json.loads(answer.result(5).body)
    assert (told["services"], told["known_services"]) == ({}, ["web"])
    assert counter.explain("", {}).status == 404
    with pytest.raises(BadRequest):
        counter.explain("web", {"wait": "1s"})
