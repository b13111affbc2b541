"""Readiness is latched: what goes away after the first full turn takes no host out of service."""

from dataclasses import replace

from smartstack.process import Heartbeat
from synapse.readiness import Readiness
from tests.unit.test_synapse_status import LINK, QUIET


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_not_before_everything_was_seen_once() -> None:
    """What is missing is named until then, turn after turn."""
    readiness = Readiness(Heartbeat())
    assert readiness.answer(None) == (False, {"missing": ["the first turn of the loop"], "degraded": []})
    early = replace(QUIET, missing=("api",))
    readiness.turned(early)
    assert readiness.answer(early) == (False, {"missing": ["the registry's word on api"], "degraded": []})
    readiness.turned(QUIET)
    assert readiness.answer(QUIET) == (True, {"missing": [], "degraded": []})


def test_once_ready_always_ready() -> None:
    """A registry that is away, a definition that nobody has seen yet and a HAProxy that is down are told, and do not
    end it, although no turn since was whole; nor is it needed that somebody asked in time."""
    readiness = Readiness(Heartbeat())
    readiness.turned(QUIET)
    later = replace(QUIET, missing=("api",), observed=None, registry=replace(LINK, connected=False), error="down")
    readiness.turned(later)
    degraded = ["the registry is away", "the registry's word on api", "a running HAProxy", "down"]
    assert readiness.answer(later) == (True, {"missing": [], "degraded": degraded})


def test_a_loop_that_does_not_turn_is_not_ready() -> None:
    """Nobody knows what such a synapse would do; it is ready again when it turns again."""
    clock = Clock()
    heartbeat = Heartbeat(clock)
    readiness = Readiness(heartbeat, limit_seconds=30)
    readiness.turned(QUIET)
    clock.now = 129.9
    assert readiness.answer(QUIET)[0]
    clock.now = 130.0
    assert readiness.answer(QUIET) == (False, {"missing": ["a turn of the loop since 30 s"], "degraded": []})
    heartbeat.beat()
    assert readiness.answer(QUIET)[0]
