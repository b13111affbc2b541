"""Waiting in tests: for a condition, never for a time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL_SECONDS = 0.01


def eventually(condition: Callable[[], T], within: float = 5.0, message: str = "") -> T:
    """Ask every 10 ms until the answer is true, and return it; fail when it is not within so many seconds.

    An assertion that fails inside counts as not yet, and is the reason given when the time is over.
    """
    end = time.monotonic() + within
    while True:
        reason: AssertionError | None = None
        answer: T | None = None
        try:
            answer = condition()
        except AssertionError as error:
            reason = error
        if answer:
            return answer
        if time.monotonic() >= end:
            said = message or "the condition did not come true"
            last = reason if reason is not None else f"last answer {answer!r}"
            raise AssertionError(f"{said} within {within:g} s: {last}") from reason
        time.sleep(POLL_SECONDS)
