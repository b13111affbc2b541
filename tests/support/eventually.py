"""Waiting in tests: for a condition, never for a time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL_SECONDS = (0.01, 0.05)
"""The shortest and the longest pause between two questions: to ask a daemon costs it, and everybody on two cores."""


def eventually(condition: Callable[[], T], within: float = 30.0, message: str = "") -> T:
    """Ask until the answer is true, and return it; fail when it is not within so many seconds: by default so many that
    only what never happens fails, however busy the machine. The pause before the next question is a tenth of the time
    that has passed, within `POLL_SECONDS`.

    An assertion that fails inside, or a look for what is not there, counts as not yet, and is the reason given when the
    time is over.
    """
    began = time.monotonic()
    while True:
        reason: AssertionError | LookupError | None = None
        answer: T | None = None
        try:
            answer = condition()
        except (AssertionError, LookupError) as error:
            reason = error
        if answer:
            return answer
        passed = time.monotonic() - began
        if passed >= within:
            said = message or "the condition did not come true"
            last = f"{type(reason).__name__}: {reason}" if reason is not None else f"last answer {answer!r}"
            raise AssertionError(f"{said} within {within:g} s: {last}") from reason
        time.sleep(min(max(passed / 10, POLL_SECONDS[0]), POLL_SECONDS[1]))
