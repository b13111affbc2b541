"""The language of the lab: every scenario that is there can be read, and each mistake is told with its place."""

from unittest.mock import MagicMock

import pytest

from tests.lab.run import Run
from tests.lab.scenario import VERBS, Bound, ScenarioError, Step, read, scenarios, seconds

WHOLE = """
promise: Nothing
  happens.
quick: true
steps:
  - kill: h1/web
  - until: {all: {web: 2}, within: 5s}
expect:
  failed: {at_most: 3, why: those under way}
  recovery: 500ms
"""


def test_every_scenario_can_be_read() -> None:
    """And promises something of its own, in one sentence or a few; some are for CI."""
    found = scenarios()
    assert len({each.promise for each in found}) == len(found) > 30
    assert all("failed" in each.expect and each.promise.endswith(".") for each in found)
    assert 3 <= sum(each.quick for each in found) <= 12


def test_a_bound_that_is_not_0_says_why() -> None:
    """A promise with an exception is only one where the exception has a reason."""
    assert [
        each.name for each in scenarios() for bound in each.expect.values() if bound.at_most and not bound.why
    ] == []


def test_a_scenario_is_what_its_file_says() -> None:
    """Lines are joined, durations are seconds."""
    found = read("one", WHOLE)
    assert (found.promise, found.quick, found.needs) == ("Nothing happens.", True, ())
    assert found.steps[0] == Step(verb="kill", about="h1/web")
    assert [str(step) for step in found.steps] == ["kill h1/web", "until {all: {web: 2}, within: 5s}"]
    assert found.expect == {"failed": Bound(at_most=3, why="those under way"), "recovery": Bound(at_most=0.5)}


MISTAKES = {
    "no YAML": (WHOLE + "  a: [", "one:"),
    "no promise": (WHOLE.replace("promise", "note"), "one: needs promise, steps and expect"),
    "a key too many": (WHOLE + "more: 1\n", "one: needs promise, steps and expect"),
    "no verb": (WHOLE.replace("kill: h1", "hit: h1"), "one: step 1: 'hit' is no verb"),
    "two verbs in one": (WHOLE.replace("kill: h1/web", "{kill: h1, start: h1}"), "one: step 1 is not one verb"),
    "a duration without a unit": (WHOLE.replace("kill: h1/web", "wait: 5"), "'5' is no duration"),
    "two facts": (WHOLE.replace("all: {web: 2}", "all: {}, h1: {}"), "one: step 2: until is one fact"),
    "a bound that is none": (WHOLE.replace("recovery: 500ms", "speed: 1"), "one: expect: 'speed' is none of"),
    "a bound that is no number": (WHOLE.replace("recovery: 500ms", "slow: few"), "one: expect: slow is a number"),
    "a bound with half a reason": (WHOLE.replace(", why: those under way", ""), "one: expect: failed is a number"),
}


@pytest.mark.parametrize(("text", "says"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_with_its_place(text: str, says: str) -> None:
    """The scenario, and the step or the key."""
    with pytest.raises(ScenarioError) as refused:
        read("one", text)
    assert says in str(refused.value).replace("5 is no", "'5' is no")


@pytest.mark.parametrize(("text", "is_seconds"), [("500ms", 0.5), ("2s", 2.0), ("1.5m", 90.0), ("1h", 3600.0)])
def test_durations(text: str, is_seconds: float) -> None:
    """A number and its unit."""
    assert seconds(text) == is_seconds


def test_every_verb_is_built() -> None:
    """What the language has, a run can do."""
    assert VERBS - {"until"} == Run(MagicMock(), read("one", WHOLE), MagicMock()).verbs.keys()
