"""How long a tether is tried, and whether it does harm: tables of lives and of results."""

import pytest

from nerve.health import Result
from nerve.tethering import Stage, Suspicion, is_kept, misses_after, suspect, wait_seconds

NOT_MADE = None


@pytest.mark.parametrize(
    ("lives", "misses"),
    [
        pytest.param([], 0, id="none yet"),
        pytest.param([75.0], 0, id="a long one"),
        pytest.param([1.5], 0, id="one that was just long enough"),
        pytest.param([2.0, 2.0, 2.0], 0, id="gunicorn's time-out for idle connections"),
        pytest.param([1.4], 1, id="a short one"),
        pytest.param([0.0, 0.0, NOT_MADE], 3, id="short ones, and one that was not made"),
        pytest.param([0.0, 0.0, 5.0], 0, id="a long one after short ones"),
        pytest.param([5.0, 0.05], 1, id="a short one after a long one"),
    ],
)
def test_misses_are_counted_in_a_row(lives: list[float | None], misses: int) -> None:
    """A tether that lived shortly, or could not be made, is one more miss; one that lived long ends the row."""
    count = 0
    for lived in lives:
        count = misses_after(count, lived)
    assert count == misses


@pytest.mark.parametrize(
    ("misses", "kept", "wait"),
    [
        (0, True, 1),
        (1, True, 1),
        (2, True, 1),
        (3, False, 1),
        (4, False, 2),
        (5, False, 4),
        (6, False, 8),
        (8, False, 32),
        (9, False, 60),
        (10, False, 60),
        (100_000, False, 60),
    ],
)
def test_patience(misses: int, kept: bool, wait: float) -> None:
    """The third miss in a row costs a second without a tether, each one after it twice as much, and none over a
    minute. A connection that cannot be made is tried again in a second from the first miss on."""
    assert (is_kept(misses), wait_seconds(misses)) == (kept, wait)


def outcome(at: float, *, passed: bool, took: float = 0.01) -> Result:
    return Result(passed=passed, reason="", duration_seconds=took, at=at)


def passes(at: float) -> Result:
    """It began a hundredth of a second before."""
    return outcome(at, passed=True)


def fails(at: float) -> Result:
    return outcome(at, passed=False)


def times_out(at: float) -> Result:
    """It began a second before, which is the time-out of all these checks."""
    return outcome(at, passed=False, took=1.0)


HTTP, TCP = "http", "tcp"
WITH, WITHOUT = True, False
Row = tuple[str, Result, bool]


def run(rows: list[Row], start: Suspicion | None = None) -> Suspicion:
    suspicion = start or Suspicion()
    for check, result, tethered in rows:
        suspicion = suspect(suspicion, check, result, timeout_seconds=1.0, tethered=tethered)
    return suspicion


RELEASE: list[Row] = [(HTTP, times_out(10), WITH)]
HARM: list[Row] = [*RELEASE, (HTTP, passes(10.1), WITHOUT)]
ILL: list[Row] = [(HTTP, times_out(20), WITH), (HTTP, fails(20.1), WITHOUT), (HTTP, passes(30), WITHOUT)]
BESIDE: list[Row] = [(HTTP, passes(8), WITH)]


@pytest.mark.parametrize(
    ("rows", "stage"),
    [
        pytest.param([], Stage.CLEAR, id="nothing happened"),
        pytest.param([(HTTP, passes(8), WITH)], Stage.CLEAR, id="a pass beside it"),
        pytest.param([(HTTP, fails(8), WITH)], Stage.CLEAR, id="a failure that is no time-out"),
        pytest.param([(HTTP, times_out(8), WITHOUT)], Stage.CLEAR, id="a time-out without a tether"),
        pytest.param(RELEASE, Stage.RELEASED, id="a time-out beside it"),
        pytest.param([(HTTP, outcome(9, passed=False, took=0.95), WITH)], Stage.RELEASED, id="almost all of the time"),
        pytest.param([(HTTP, outcome(9, passed=False, took=1.6), WITH)], Stage.RELEASED, id="a check that hangs"),
        pytest.param([*BESIDE, *RELEASE], Stage.RELEASED, id="a time-out after passes"),
        pytest.param([*RELEASE, (TCP, passes(10.1), WITHOUT)], Stage.RELEASED, id="another check says nothing of it"),
        pytest.param(
            [*RELEASE, (HTTP, passes(10.005), WITHOUT)], Stage.RELEASED, id="a pass that began before the release"
        ),
        pytest.param(
            [*RELEASE, (HTTP, times_out(10.6), WITHOUT)], Stage.RELEASED, id="the same run, which ends at last"
        ),
        pytest.param(HARM, Stage.GIVEN_UP, id="a pass without it"),
        pytest.param([*RELEASE, (TCP, fails(10.1), WITHOUT), *HARM[1:]], Stage.GIVEN_UP, id="others in between"),
        pytest.param([*HARM, (HTTP, passes(20), WITHOUT)], Stage.GIVEN_UP, id="for good"),
        pytest.param([*HARM, (HTTP, times_out(20), WITHOUT)], Stage.GIVEN_UP, id="for good, also when it fails"),
        pytest.param([*RELEASE, (HTTP, times_out(11.1), WITHOUT)], Stage.NOT_TO_BLAME, id="a time-out without it"),
        pytest.param([*RELEASE, (HTTP, fails(10.1), WITHOUT)], Stage.NOT_TO_BLAME, id="a failure without it"),
        pytest.param(
            [*RELEASE, (HTTP, fails(10.1), WITHOUT), (TCP, passes(12), WITHOUT)],
            Stage.NOT_TO_BLAME,
            id="until the same check passes",
        ),
        pytest.param(
            [*RELEASE, (HTTP, fails(10.1), WITHOUT), (HTTP, passes(12), WITHOUT)], Stage.CLEAR, id="it is well again"
        ),
        pytest.param(
            [*RELEASE, (HTTP, fails(10.1), WITHOUT), (HTTP, passes(12), WITHOUT), (HTTP, times_out(20), WITH)],
            Stage.RELEASED,
            id="not to blame once is no licence",
        ),
        pytest.param([*BESIDE, *HARM], Stage.CLEAR, id="an accident: it has passed beside it before"),
        pytest.param(
            [*BESIDE, *HARM, (HTTP, passes(12), WITH), (HTTP, times_out(20), WITH), (HTTP, passes(20.1), WITHOUT)],
            Stage.GIVEN_UP,
            id="a second accident within the hour is none",
        ),
        pytest.param(
            [*BESIDE, *HARM, (HTTP, passes(12), WITH), (HTTP, times_out(3700), WITH), (HTTP, passes(3701), WITHOUT)],
            Stage.CLEAR,
            id="a second accident after more than an hour",
        ),
        pytest.param(
            [*BESIDE, *HARM, (HTTP, times_out(9000), WITH), (HTTP, passes(9001), WITHOUT)],
            Stage.GIVEN_UP,
            id="after an accident it must pass beside it anew",
        ),
        pytest.param(
            [
                *BESIDE,
                *HARM,
                *ILL,
                (HTTP, passes(40), WITH),
                (HTTP, times_out(50), WITH),
                (HTTP, passes(50.1), WITHOUT),
            ],
            Stage.GIVEN_UP,
            id="an accident is remembered over a failure that was none",
        ),
    ],
)
def test_verdicts(rows: list[Row], stage: Stage) -> None:
    """Results of checks, with or without a tether at that time, and what is thought in the end."""
    suspicion = run(rows)
    assert suspicion.stage is stage
    assert suspicion.may_hold is (stage is Stage.CLEAR)


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        pytest.param([], None, id="clear"),
        pytest.param(RELEASE, "released, because http timed out while it was held; http is run again", id="released"),
        pytest.param([*RELEASE, (HTTP, fails(10.1), WITHOUT)], "released until http passes", id="not to blame"),
        pytest.param(
            HARM,
            "given up: http timed out while it was held and passed without it, so the service seems to serve one "
            "connection at a time; write `tether: off` in its definition",
            id="given up",
        ),
    ],
)
def test_sentences(rows: list[Row], text: str | None) -> None:
    """What stands behind "the tether is" in status and log says why, and what to do."""
    assert run(rows).text == text
