"""When it is safe to stop what is drained."""

import pytest

from nerve.draining import Draining, Verdict, judge, leftover
from nerve.settings import Drain

DRAIN = Drain(settle=3.0, timeout=60.0)


@pytest.mark.parametrize(
    ("waited", "told", "connections", "verdict", "left"),
    [
        pytest.param(1.0, None, 0, Verdict.WAIT, "the registry does not say yet", id="the registry was not told yet"),
        pytest.param(1.0, 1.0, 0, Verdict.WAIT, "consumers are given time", id="consumers had no time yet"),
        pytest.param(3.0, 3.0, 0, Verdict.SAFE, "", id="they had, and nobody is connected"),
        pytest.param(3.0, 3.0, 2, Verdict.WAIT, "connections: web has 2", id="somebody is connected"),
        pytest.param(60.0, 50.0, 2, Verdict.OVERDUE, "connections: web has 2", id="still, at the limit"),
        pytest.param(60.0, None, 0, Verdict.OVERDUE, "the registry does not say", id="never told, at the limit"),
        pytest.param(60.0, 1.0, 0, Verdict.OVERDUE, "consumers are given time", id="told late, at the limit"),
        pytest.param(60.0, 60.0, 0, Verdict.SAFE, "", id="safe at the very limit is safe"),
    ],
)
def test_the_verdict(waited: float, told: float | None, connections: int, verdict: Verdict, left: str) -> None:
    """Consumers had their time since the registry says so, and nothing is connected; or the limit is over."""
    moment = Draining(waited_seconds=waited, told_for_seconds=told, connections={"web": connections, "api": 0})
    assert judge(moment, DRAIN) is verdict
    if verdict is not Verdict.SAFE:
        assert leftover(moment).startswith(left)
