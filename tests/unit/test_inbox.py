"""Orders to the loop: who asks gets the loop's own answer, and who was told that nothing was done can rely on it."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from smartstack import inbox as inbox_module
from smartstack.errors import SmartStackError
from smartstack.inbox import Inbox, Unanswered
from smartstack.wake import Wake
from tests.support.eventually import eventually

LONG = 30.0
"""A time that no test waits for."""


@pytest.fixture
def askers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(max_workers=20) as pool:
        yield pool


def wait_for(inbox: Inbox[str], count: int) -> None:
    assert eventually(lambda: len(inbox._waiting) == count)


def failure(asked: "Future[Any]") -> str:
    error = asked.exception(timeout=5)
    assert isinstance(error, SmartStackError)
    return str(error)


def test_the_loop_is_rung_and_its_answer_comes_back(askers: ThreadPoolExecutor) -> None:
    """An order rings, the loop takes it, and what the loop answers is what the asker gets."""
    wake = Wake()
    inbox: Inbox[str] = Inbox(wake.ring)
    asked = askers.submit(inbox.ask, "drain web", LONG)
    assert wake.wait(5)
    (envelope,) = inbox.take()
    assert envelope.order == "drain web"
    assert not asked.done()
    envelope.answer({"done": True})
    assert asked.result(timeout=5) == {"done": True}


def test_the_order_is_there_when_it_rings() -> None:
    """A loop that looks as soon as it is rung finds the order: the other way round it would sleep on it."""
    found: list[str] = []

    def look() -> None:
        for envelope in inbox.take():
            found.append(envelope.order)
            envelope.answer(None)

    inbox: Inbox[str] = Inbox(look)
    assert inbox.ask("drain web", LONG) is None
    assert found == ["drain web"]


def test_a_refusal_comes_back_as_it_is(askers: ThreadPoolExecutor) -> None:
    """What the loop will not do, the asker hears in the loop's own words."""
    inbox: Inbox[str] = Inbox(lambda: None)
    asked = askers.submit(inbox.ask, "drain wep", LONG)
    wait_for(inbox, 1)
    refusal = SmartStackError("no service wep here")
    inbox.take()[0].refuse(refusal)
    assert asked.exception(timeout=5) is refusal


@pytest.mark.parametrize(
    ("first", "second", "result"),
    [
        pytest.param(
            lambda one: one.answer(1), lambda one: one.refuse(SmartStackError("late")), 1, id="answered, refused"
        ),
        pytest.param(lambda one: one.answer(1), lambda one: one.answer(2), 1, id="answered twice"),
    ],
)
def test_only_the_first_word_counts(
    first: Callable[[Any], None], second: Callable[[Any], None], result: int, askers: ThreadPoolExecutor
) -> None:
    """A loop that says two things about one order has said the first."""
    inbox: Inbox[str] = Inbox(lambda: None)
    asked = askers.submit(inbox.ask, "drain web", LONG)
    wait_for(inbox, 1)
    (envelope,) = inbox.take()
    first(envelope)
    second(envelope)
    assert asked.result(timeout=5) == result


def test_orders_are_taken_once_and_in_their_order(askers: ThreadPoolExecutor) -> None:
    """The oldest order comes first, and none comes twice."""
    inbox: Inbox[str] = Inbox(lambda: None)
    for number in range(5):
        askers.submit(inbox.ask, str(number), LONG)
        wait_for(inbox, number + 1)
    taken = inbox.take()
    assert [envelope.order for envelope in taken] == ["0", "1", "2", "3", "4"]
    assert inbox.take() == []
    for envelope in taken:
        envelope.answer(None)


def test_an_order_that_was_given_up_is_never_executed() -> None:
    """A loop that did not look in time finds nothing: the asker was told that nothing was done."""
    inbox: Inbox[str] = Inbox(lambda: None)
    with pytest.raises(Unanswered) as caught:
        inbox.ask("drain web", 0.01)
    assert str(caught.value) == (
        "nothing was done: the loop did not look for orders within 0.01 s; see the daemon's log"
    )
    assert inbox.take() == []


def test_who_gives_up_an_order_that_was_taken_is_told_so() -> None:
    """What the loop has in hand cannot be taken back, so nobody is told that nothing was done."""
    inbox: Inbox[str] = Inbox(lambda: taken.extend(inbox.take()))
    taken: list[Any] = []
    with pytest.raises(Unanswered) as caught:
        inbox.ask("drain web", 0.01)
    assert str(caught.value) == (
        "the loop did not finish it within 0.01 s, and may still do so: see the daemon's status"
    )
    taken[0].answer("done")


def test_too_many_orders_are_refused_at_once(askers: ThreadPoolExecutor) -> None:
    """A loop that hangs does not collect threads: beyond the limit nobody waits, also for what was taken already."""
    inbox: Inbox[str] = Inbox(lambda: None, limit=2)
    asked = [askers.submit(inbox.ask, "a", LONG), askers.submit(inbox.ask, "b", LONG)]
    wait_for(inbox, 2)
    with pytest.raises(Unanswered, match=r"^nothing was done: 2 orders wait for the loop already; try again$"):
        inbox.ask("c", LONG)
    taken = inbox.take()
    with pytest.raises(Unanswered, match="try again"):
        inbox.ask("c", LONG)
    for envelope in taken:
        envelope.answer("done")
    assert [each.result(timeout=5) for each in asked] == ["done", "done"]
    asked.append(askers.submit(inbox.ask, "d", LONG))
    wait_for(inbox, 1)
    inbox.take()[0].answer("done again")
    assert asked[2].result(timeout=5) == "done again"


def test_a_burst_has_a_little_patience(askers: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    """More askers at once than may wait are all answered by a loop that answers, each as soon as there is room."""
    monkeypatch.setattr(inbox_module, "PATIENCE_SECONDS", LONG)
    wake, stop = Wake(), threading.Event()
    inbox: Inbox[int] = Inbox(wake.ring, limit=2)

    def loop() -> None:
        while not stop.is_set():
            wake.wait(0.01)
            for envelope in inbox.take():
                envelope.answer(-envelope.order)

    asked = [askers.submit(inbox.ask, number, LONG) for number in range(20)]
    thread = threading.Thread(target=loop)
    thread.start()
    try:
        assert [each.result(timeout=10) for each in asked] == [-number for number in range(20)]
    finally:
        stop.set()
        thread.join()


def test_an_order_is_left_for_a_loop_that_is_busy() -> None:
    """Who only tells does not wait; the loop finds the order in its turn, and its answer goes nowhere."""
    rings: list[bool] = []
    inbox: Inbox[str] = Inbox(lambda: rings.append(True), limit=0, told_limit=2)
    inbox.tell("web is well")
    inbox.tell("api is well")
    with pytest.raises(Unanswered, match=r"^nothing was done: 2 orders wait for the loop already; try again$"):
        inbox.tell("one too many")
    taken = inbox.take()
    assert ([envelope.order for envelope in taken], rings) == (["web is well", "api is well"], [True, True])
    taken[0].answer(None)
    taken[1].refuse(SmartStackError("no service api here"))
    inbox.close()
    with pytest.raises(Unanswered, match="the daemon stops"):
        inbox.tell("web is well")


def test_who_gave_up_leaves_its_place() -> None:
    """Orders that nobody waits for any more do not fill the box."""
    inbox: Inbox[str] = Inbox(lambda: None, limit=1)
    for _ in range(3):
        with pytest.raises(Unanswered, match="did not look"):
            inbox.ask("a", 0.001)


def test_a_stop_ends_all_waiting(askers: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that stops keeps nobody: who waits, for an answer or for room, and who comes later hear why, and nothing
    is executed."""
    monkeypatch.setattr(inbox_module, "PATIENCE_SECONDS", LONG)
    inbox: Inbox[str] = Inbox(lambda: None, limit=1)
    asked = askers.submit(inbox.ask, "drain web", LONG)
    wait_for(inbox, 1)
    crowded = [askers.submit(inbox.ask, "drain api", LONG) for _ in range(2)]
    assert eventually(lambda: len(vars(inbox._room)["_waiters"]) == 2)
    inbox.close()
    assert [failure(each) for each in crowded] == ["nothing was done: the daemon stops"] * 2
    assert failure(asked) == "nothing was done: the daemon stops"
    assert inbox.take() == []
    with pytest.raises(Unanswered, match="the daemon stops"):
        inbox.ask("drain web", LONG)


def test_many_askers_and_a_busy_loop_lose_nothing(askers: ThreadPoolExecutor) -> None:
    """Of orders that come while the loop takes others, each is executed once and answered to its own asker; and what
    was given up was not executed."""
    wake, stop = Wake(), threading.Event()
    executed: list[int] = []
    inbox: Inbox[int] = Inbox(wake.ring, limit=100)

    def loop() -> None:
        while not stop.is_set():
            wake.wait(0.01)
            for envelope in inbox.take():
                executed.append(envelope.order)
                envelope.answer(-envelope.order)

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        asked = {number: askers.submit(inbox.ask, number, LONG if number % 2 else 0.0) for number in range(1, 500)}
        results = {number: each.exception(timeout=10) or each.result() for number, each in asked.items()}
    finally:
        stop.set()
        thread.join()
    done = {number for number, result in results.items() if result == -number}
    undone = {number for number, result in results.items() if "nothing was done" in str(result)}
    assert done >= set(range(1, 500, 2))
    assert len(executed) == len(set(executed))
    assert set(executed) >= done
    assert not set(executed) & undone
