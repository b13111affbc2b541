"""Taps: who listens hears of each request that is meant, at once, and nobody is held up by a listener."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from smartstack.inbox import Unanswered
from synapse.telemetry import taps as module
from synapse.telemetry.request import Request
from synapse.telemetry.taps import Catch, Filter, Taps
from tests.support.eventually import eventually
from tests.support.told import told


class Clock:
    """A time that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def taps(clock: Clock) -> Taps:
    return Taps(clock, lambda: 1_000_000.0)


def heard(taps: Taps, name: str) -> list[str]:
    """The paths that a tap has now."""
    catch = taps.ask(name, 0)
    assert catch is not None
    return [each.request.path for each in catch.heard]


@pytest.mark.parametrize(
    ("wanted", "takes"),
    [
        pytest.param({}, True, id="everything of the service"),
        pytest.param({"service": "api"}, False, id="another service"),
        pytest.param({"path": "/us"}, True, id="the beginning of the path"),
        pytest.param({"path": "/x"}, False, id="another path"),
        pytest.param({"method": "GET"}, True, id="the method"),
        pytest.param({"method": "POST"}, False, id="another method"),
        pytest.param({"statuses": (500, 599)}, True, id="the class"),
        pytest.param({"statuses": (503, 503)}, True, id="the status"),
        pytest.param({"statuses": (200, 299)}, False, id="another class"),
        pytest.param({"source": "api"}, True, id="the caller"),
        pytest.param({"source": "cron"}, False, id="another caller"),
        pytest.param({"path": "/us", "method": "POST"}, False, id="all must fit"),
    ],
)
def test_a_filter_takes_what_it_means(wanted: dict[str, Any], takes: bool) -> None:
    """Each of its parts, and all of them."""
    request = told(path="/users/1", status=503)
    assert Filter(**{"service": "web", **wanted}).takes(request) is takes


def test_a_tap_has_what_came_since_it_was_asked(taps: Taps) -> None:
    """Nothing of before it was opened, nothing twice, in the order in which it came."""
    taps.take([told(path="/before")], 100.0)
    name = taps.open(Filter(service="web"), 100)
    assert heard(taps, name) == []
    taps.take([told(path="/1"), told(path="/other", service="api")], 100.1)
    taps.take([told(path="/2")], 100.2)
    catch = taps.ask(name, 0)
    assert catch is not None
    assert [(each.at, each.request.path) for each in catch.heard] == [(1_000_000.0, "/1"), (1_000_000.0, "/2")]
    assert heard(taps, name) == []


def test_a_tap_shows_no_more_a_second_than_was_asked_for(taps: Taps) -> None:
    """What is beyond is counted as missed; a second later there is room again."""
    name = taps.open(Filter(service="web"), 10)
    taps.take([told()] * 25, 100.0)
    catch = taps.ask(name, 0)
    assert catch is not None
    assert (len(catch.heard), catch.missed) == (10, 15)
    taps.take([told()] * 25, 100.5)
    assert len(heard(taps, name)) == 5
    taps.take([told()] * 25, 110.0)
    assert len(heard(taps, name)) == 10


def test_what_nobody_fetches_is_bounded(taps: Taps) -> None:
    """The oldest give way, and are counted."""
    name = taps.open(Filter(service="web"), 1000)
    for second in range(5):
        taps.take([told(path=f"/{second}")] * 1000, 100.0 + second)
    catch = taps.ask(name, 0)
    assert catch is not None
    assert (len(catch.heard), catch.missed) == (module.QUEUE_LIMIT, 4000)
    assert {each.request.path for each in catch.heard} == {"/4"}


def test_a_tap_that_nobody_asks_ends(taps: Taps, clock: Clock) -> None:
    """After ten seconds; one that is asked lives on."""
    left, kept = taps.open(Filter(service="web"), 1), taps.open(Filter(service="web"), 1)
    clock.now += 9
    assert taps.ask(kept, 0) is not None
    clock.now += 2
    taps.tick(clock.now)
    assert taps.ask(left, 0) is None
    assert taps.ask(kept, 0) is not None
    assert taps.ask("no such tap", 0) is None


def test_there_are_only_so_many_taps(taps: Taps, clock: Clock) -> None:
    """One too many is told so; when one has ended there is room."""
    for _ in range(module.TAPS_LIMIT):
        taps.open(Filter(service="web"), 1)
    with pytest.raises(Unanswered, match="20 taps are open already"):
        taps.open(Filter(service="web"), 1)
    clock.now += 11
    assert taps.open(Filter(service="web"), 1)


def test_who_waits_is_answered_by_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by one that he does not mean, and with nothing when his time is over."""
    monkeypatch.setattr(module, "LONGEST_WAIT_SECONDS", 30.0)
    taps = Taps()
    name = taps.open(Filter(service="web"), 100)
    with ThreadPoolExecutor() as pool:
        answer: Future[Catch | None] = pool.submit(taps.ask, name, 30)
        eventually(lambda: taps._taps[name].turn == 1)
        taps.take([told(service="api")], time.monotonic())
        assert not answer.done()
        taps.take([told(path="/now")], time.monotonic())
        catch = answer.result(5)
    assert catch is not None
    assert [each.request.path for each in catch.heard] == ["/now"]
    monkeypatch.setattr(module, "LONGEST_WAIT_SECONDS", 0.01)
    assert taps.ask(name, 1e6) == Catch(missed=0, heard=())


def test_one_waits_for_a_tap_and_nobody_at_the_end() -> None:
    """A second who asks lets the first go; at the end everybody goes."""
    taps = Taps()
    name = taps.open(Filter(service="web"), 100)
    with ThreadPoolExecutor() as pool:
        first: Future[Catch | None] = pool.submit(taps.ask, name, 5)
        eventually(lambda: taps._taps[name].turn == 1)
        second: Future[Catch | None] = pool.submit(taps.ask, name, 5)
        assert first.result(4) == Catch(missed=0, heard=())
        assert not second.done()
        taps.close()
        assert second.result(4) == Catch(missed=0, heard=())


def test_without_a_tap_a_request_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No lock is taken and no request looked at."""

    class Untouchable(Sequence[Request]):
        def __getitem__(self, place: Any) -> Any:
            raise AssertionError("looked at")

        def __len__(self) -> int:
            raise AssertionError("counted")

    taps = Taps()

    def feed() -> None:
        taps.take(Untouchable(), 0.0)
        taps.tick(0.0)

    with taps._news:  # held by another thread: whoever wanted it would wait for ever
        thread = threading.Thread(target=feed, daemon=True)
        thread.start()
        thread.join(5)
        assert not thread.is_alive()
