"""The timeline: the last events by number, and who waits for the next."""

import json
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from smartstack.actions import BadRequest
from smartstack.inbox import Unanswered
from synapse import timeline as module
from synapse.board import WAITING_LIMIT
from synapse.events import Event, Kind
from synapse.timeline import Timeline, events
from tests.support.eventually import eventually


def event(what: str, service: str | None = "web") -> Event:
    return Event(at=1.0, kind=Kind.RUNTIME, what=what, service=service)


@pytest.fixture
def timeline() -> Timeline:
    """Begun at second 1, with three events: of web, of api, of the host."""
    made = Timeline(lambda: 1.0)
    made.post([event("a"), event("b", "api"), event("c", None)])
    return made


def asked(timeline: Timeline, **query: str) -> Any:
    return json.loads(events(timeline)("", query).body)


def told(timeline: Timeline, **query: str) -> list[str]:
    return [each["what"] for each in asked(timeline, **query)["events"]]


def test_everything_is_told_in_order(timeline: Timeline) -> None:
    """The oldest first, each with its number, which grows; a later process goes on above them."""
    answer = asked(timeline)
    assert [each["what"] for each in answer["events"]] == ["a", "b", "c"]
    assert [each["number"] for each in answer["events"]] == [1001, 1002, 1003]
    assert answer["number"] == 1003
    assert answer["events"][0] == {
        "number": 1001,
        "at": 1.0,
        "kind": "runtime",
        "service": "web",
        "what": "a",
        "why": "",
        "level": "info",
    }


QUERIES = {
    "after a number": ({"after": "1001"}, ["b", "c"]),
    "of a service and of the host": ({"service": "web"}, ["a", "c"]),
    "of a service that nobody knows": ({"service": "nobody"}, ["c"]),
    "after a number, of a service": ({"after": "1001", "service": "api"}, ["b", "c"]),
    "after a number of a process whose clock was ahead": ({"after": "999999"}, ["a", "b", "c"]),
    "nothing new, within the time": ({"after": "1003", "wait": "1ms"}, []),
}


@pytest.mark.parametrize(("query", "whats"), QUERIES.values(), ids=QUERIES)
def test_what_is_asked_for(timeline: Timeline, query: dict[str, str], whats: list[str]) -> None:
    """Only what is newer and concerns the service; nobody misses what came between two questions."""
    assert told(timeline, **query) == whats


@pytest.mark.parametrize(
    "query", [{"after": "x"}, {"wait": "1s"}, {"after": "1", "wait": "soon"}, {"kind": "runtime"}], ids=str
)
def test_a_question_that_means_nothing(timeline: Timeline, query: dict[str, str]) -> None:
    """It is refused with a sentence."""
    with pytest.raises(BadRequest):
        events(timeline)("", query)


def test_nothing_is_below(timeline: Timeline) -> None:
    """There is one timeline."""
    assert events(timeline)("web", {}).status == 404


def test_only_the_last_are_kept(timeline: Timeline) -> None:
    """A daemon that runs for a year holds no more of them than one of a day."""
    timeline.post(event(str(number)) for number in range(module.LIMIT + 10))
    kept = told(timeline)
    assert (len(kept), kept[0], kept[-1]) == (module.LIMIT, "10", str(module.LIMIT + 9))


def test_weights_drive_out_nothing_else(timeline: Timeline) -> None:
    """They change several times a minute, and what else changed has to be there the next morning; both are told in the
    order in which they came."""
    timeline.post(
        Event(at=1.0, kind=Kind.WEIGHTS, what=f"w{number}", service="web") for number in range(2 * module.LIMIT)
    )
    timeline.post([event("d")])
    kept = told(timeline)
    assert kept[:3] == ["a", "b", "c"]
    assert len(kept) == 3 + module.FLEETING_LIMIT + 1
    assert kept[-2:] == [f"w{2 * module.LIMIT - 1}", "d"]


def test_who_waits_hears_of_the_next(timeline: Timeline) -> None:
    """An event of the service or of the host, not one of another service."""
    with ThreadPoolExecutor() as pool:
        waiting: Future[list[str]] = pool.submit(told, timeline, after="1003", wait="30s", service="web")
        eventually(lambda: timeline._waiting == 1)
        other: Future[list[str]] = pool.submit(told, timeline, after="1003", wait="30s", service="api")
        eventually(lambda: timeline._waiting == 2)
        timeline.post([event("d", "api")])
        assert other.result(5) == ["d"]
        assert not waiting.done()
        timeline.post([event("e", None)])
        assert waiting.result(5) == ["e"]


def test_no_more_wait_than_there_are_threads_for(timeline: Timeline) -> None:
    """One too many is told so at once; at the end everybody is let go, with what there is."""
    with ThreadPoolExecutor(WAITING_LIMIT) as pool:
        waiting = [pool.submit(told, timeline, after="1003") for _ in range(WAITING_LIMIT)]
        eventually(lambda: timeline._waiting == WAITING_LIMIT)
        with pytest.raises(Unanswered):
            timeline.wait(1003, None, 30)
        timeline.close()
        assert [each.result(5) for each in waiting] == [[]] * WAITING_LIMIT
