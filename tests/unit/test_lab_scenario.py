"""The language of the lab: every scenario that is there can be read, and each mistake is told with its place."""

from unittest.mock import MagicMock

import pytest
import yaml

from tests.lab.grammar import HOSTS, SERVERS, VERBS, places, seconds, split_cut
from tests.lab.scenario import Bound, ScenarioError, Step, read, scenarios
from tests.lab.verbs import Verbs

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
    "two facts": (WHOLE.replace("all: {web: 2}", "all: {}, h1: {}"), "one: step 2: until: is one fact"),
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


WRONG_STEPS = [
    ({"kill": "h4"}, "'h4' is none of h1, h2, h3, zk1, zk2, zk3, leader, follower, zookeeper, *"),
    ({"kill": "h1/redis"}, "'redis' is none of nerve, synapse, haproxy, web, api"),
    ({"kill": ["h1/web", "h9/web"]}, "'h9' is none of h1, h2, h3"),
    ({"start": "h1/haproxy"}, "HAProxy is started by synapse"),
    ({"resume": "leader"}, "a server that hung leads no more"),
    ({"cut": "h1 off h2"}, "is not like h1"),
    ({"cut": "h1 from h1"}, "'h1' is none of h2, h3, zk1, zk2, zk3"),
    ({"flap": {"cut": "h1", "times": 3, "every": "1"}}, "no duration"),
    ({"storm": {"of": "h1/nerve", "times": "ten", "every": "1s"}}, "times cannot be 'ten'"),
    ({"limit": {"h1/nerve": {"files": 3}}}, "'files' is none of descriptors, memory"),
    ({"link": {"h1": {"rate": 64, "delay": "5ms"}}}, "a rate stands alone"),
    ({"answer": {"h1/web": {"status": "500"}}}, "status cannot be '500'"),
    ({"edit": {"h1": None}}, "is like h1/synapse.yaml"),
    ({"clock": {"h1/web": "+3600"}}, "of a daemon"),
    ({"wipe": "h1"}, "is none of tree, zookeeper, h1/state"),
    ({"fill": "zk1"}, "'zk1' is none of h1, h2, h3"),
    ({"crowd": {"redis": 5}}, "'redis' is none of web, api"),
    ({"until": {"all": {"web": True}}}, "web cannot be True"),
    ({"until": {"h1 h7": {"web": 1}}}, "'h7' is none of h1, h2, h3"),
    ({"until": {"zookeeper": "sings"}}, "'sings' is none of leads, serves"),
    ({"until": {"ready": "h1/nerve", "within": 5}}, "no duration"),
]


@pytest.mark.parametrize(("step", "says"), WRONG_STEPS, ids=[str(step) for step, _ in WRONG_STEPS])
def test_a_step_is_refused_before_anything_is_broken(step: dict[str, object], says: str) -> None:
    """Each verb knows what it may be about."""
    with pytest.raises(ScenarioError) as refused:
        read("one", yaml.safe_dump({"promise": "No.", "steps": [step], "expect": {"failed": 0}}))
    assert str(refused.value).startswith(f"one: step 1: {next(iter(step))}: ")
    assert says in str(refused.value)


def test_places() -> None:
    """Hosts, all hosts, what runs there, and ZooKeeper's servers."""
    assert places("h1/nerve, h2") == places(["h1/nerve", "h2"]) == [("h1", "nerve"), ("h2", "")]
    assert places("*/web") == [(host, "web") for host in HOSTS]
    assert places("zookeeper") == [(server, "") for server in SERVERS]
    assert places("leader, zk2") == [("leader", ""), ("zk2", "")]


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("h1", ("h1", "", ())),
        ("h2 from others", ("h2", "from", ("h1", "h3"))),
        ("h2 to zookeeper", ("h2", "to", SERVERS)),
        ("h1 from zk3", ("h1", "from", ("zk3",))),
    ],
)
def test_cuts(text: str, cut: tuple[str, str, tuple[str, ...]]) -> None:
    """A cable, or both ways, or one, between a host and some others."""
    assert split_cut(text) == cut


@pytest.mark.parametrize(("text", "is_seconds"), [("500ms", 0.5), ("2s", 2.0), ("1.5m", 90.0), ("1h", 3600.0)])
def test_durations(text: str, is_seconds: float) -> None:
    """A number and its unit."""
    assert seconds(text) == is_seconds


def test_every_verb_is_built() -> None:
    """What the language has, a run can do."""
    assert VERBS.keys() - {"until", "still"} == Verbs(MagicMock(), MagicMock()).table.keys()
