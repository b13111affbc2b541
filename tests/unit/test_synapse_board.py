"""The board: who waits for a change hears of it at once, of each, and never of none."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from smartstack.inbox import Unanswered
from synapse import board as module
from synapse.board import Board
from tests.support.eventually import eventually


@pytest.fixture
def board() -> Board:
    """With web and api on it, begun at second 1."""
    made = Board(lambda: 1.0)
    made.post({"web": "a", "api": "b"}, {"web": 0, "api": 0})
    return made


def waiting(board: Board, count: int) -> Callable[[], bool]:
    return lambda: board._waiting == count


def test_a_number_grows_with_its_service_only(board: Board) -> None:
    """What is posted again as it was has the number that it had; the board's own grows with any."""
    web, api, whole = board.number("web"), board.number("api"), board.number()
    board.post({"web": "a", "api": "c"}, {"web": 0, "api": 0})
    assert board.number("web") == web
    assert board.number("api") > api
    assert board.number() > whole
    board.post({"api": "c"}, {"web": 0, "api": 0})
    assert board.number("api") == board.number()


def test_a_later_process_uses_no_number_again() -> None:
    """Who waits with a number of the process before hears of the difference."""
    assert Board(lambda: 2.0).number() > Board(lambda: 1.0).number()


def test_who_has_an_old_number_does_not_wait(board: Board) -> None:
    """What happened between two questions is not missed."""
    assert board.wait("web", 0, 60) == board.number("web")
    assert board.wait(None, 0, 60) == board.number()


def test_who_has_the_last_number_waits_for_the_next(board: Board) -> None:
    """A change of another service wakes nobody up; the service's own does, and that it is gone does."""
    with ThreadPoolExecutor() as pool:
        one: Future[int] = pool.submit(board.wait, "web", board.number("web"), 30)
        eventually(waiting(board, 1))
        for turn in range(5):
            # Whoever waits for api is woken by the same bell: when he has gone, the other has heard it too.
            other: Future[int] = pool.submit(board.wait, "api", board.number("api"), 30)
            eventually(waiting(board, 2))
            board.post({"api": turn}, {"web": 0, "api": 0})
            assert other.result(5) == board.number("api")
        assert not one.done()
        board.post({"web": "y"}, {"web": 0, "api": 0})
        assert one.result(5) == board.number("web")
        two: Future[int] = pool.submit(board.wait, "web", board.number("web"), 30)
        eventually(waiting(board, 1))
        board.post({}, {"api": 0})
        assert two.result(5) == 0


def test_nobody_waits_for_ever(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time that was asked for, and never more than the longest; the number is then the one that it was."""
    assert board.wait("web", board.number("web"), 0.01) == board.number("web")
    monkeypatch.setattr(module, "LONGEST_WAIT_SECONDS", 0.01)
    assert board.wait("web", board.number("web"), 1e6) == board.number("web")


def test_no_more_wait_than_there_are_threads_for(board: Board) -> None:
    """One too many is told so at once; at the end everybody is let go."""
    threads = [
        threading.Thread(target=board.wait, args=("web", board.number("web"), 30)) for _ in range(module.WAITING_LIMIT)
    ]
    for thread in threads:
        thread.start()
    eventually(waiting(board, module.WAITING_LIMIT))
    with pytest.raises(Unanswered, match="20 wait for changes already"):
        board.wait("web", board.number("web"), 30)
    board.close()
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
