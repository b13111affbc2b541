"""What synapse counts: commands by kind and result, reloads by the causes of their reasons."""

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from synapse.control import NOT_RUNNING
from synapse.metrics import Metrics
from synapse.plan import Action, Disable, Enable, SetAddress, SetWeight, Structure, plan
from synapse.proxy import Admin, Observed, Service, Slot
from synapse.reasons import Cause, Reason, cause_of, distrust
from tests.support.definitions import proxy


def series(registry: CollectorRegistry, name: str, *labels: str) -> dict[tuple[str, ...], float]:
    """The values that are not zero, by these labels."""
    samples = [sample for family in registry.collect() for sample in family.samples if sample.name == name]
    return {tuple(sample.labels[label] for label in labels): sample.value for sample in samples if sample.value}


def at(slot: str) -> dict[str, Any]:
    return {"backend": "web", "slot": slot, "host": "10.0.0.1", "port": 80}


def test_commands_are_counted_by_kind_and_result() -> None:
    """One that failed is no other one's failure; each kind is there from the start, with nothing counted."""
    metrics = Metrics()
    one, two = at("s1"), at("s2")
    actions: list[Action] = [
        SetAddress(**one),
        Enable(**one),
        Enable(**two),
        SetWeight(**two, weight=0),
        Disable(**two),
    ]
    metrics.executed(actions, [Enable(**two)])
    assert series(metrics.registry, "synapse_runtime_commands_total", "kind", "result") == {
        ("address", "done"): 1,
        ("enable", "done"): 1,
        ("enable", "failed"): 1,
        ("weight", "done"): 1,
        ("disable", "done"): 1,
    }
    kinds = [each for family in metrics.registry.collect() for each in family.samples if "kind" in each.labels]
    assert len([each for each in kinds if each.name == "synapse_runtime_commands_total"]) == 8


def test_a_reload_counts_once_for_each_of_its_causes() -> None:
    """Three services that are added are one cause; what says no cause is counted as other, so that nothing is lost."""
    metrics = Metrics()
    added = [Reason(f"added {name}", Cause.ADDED) for name in ("api", "db", "web")]
    metrics.reloaded([*added, Reason("changed global settings", Cause.GLOBAL), "words alone"])
    assert series(metrics.registry, "synapse_haproxy_reload_reasons_total", "reason") == {
        ("added",): 1,
        ("global",): 1,
        ("other",): 1,
    }


SLOT = Slot(name="s1", host="10.0.0.1", port=80, weight=100, admin=Admin.READY)
WEB = Service(name="web", proxy=proxy(), targets=(), slots=4)
OLD = Structure(description="old", digests={"": "g", "web": "w", "db": "d"})


@pytest.mark.parametrize(
    ("wanted", "remembered", "distrusted", "reasons"),
    [
        pytest.param({"": "g", "web": "w2", "db": "d"}, OLD, {}, {"changed web": Cause.CHANGED}, id="changed"),
        pytest.param({"": "g", "web": "w"}, OLD, {}, {"removed db": Cause.REMOVED}, id="removed"),
        pytest.param({"": "g", "web": "w", "db": "d", "api": "a"}, OLD, {}, {"added api": Cause.ADDED}, id="added"),
        pytest.param({"": "x", "web": "w", "db": "d"}, OLD, {}, {"changed global settings": Cause.GLOBAL}, id="global"),
        pytest.param(
            {"": "g"}, None, {"web": "it lies"}, {"web: it lies": Cause.DISTRUST}, id="distrust, and nothing else known"
        ),
    ],
)
def test_each_reason_of_a_plan_has_its_cause(
    wanted: dict[str, str], remembered: Structure | None, distrusted: dict[str, str], reasons: dict[str, Cause]
) -> None:
    """The sentence is for people, the cause is for counting."""
    observed = Observed(pid=1, description="old", backends={"web": (SLOT,) * 4})
    made = plan(observed, {"web": WEB}, Structure(description="new", digests=wanted), remembered, distrusted)
    found = {str(reason): cause_of(reason) for reason in made.reload_reasons}
    assert {words: found.get(words) for words in reasons} == reasons


def test_slots_and_what_nobody_remembers_are_causes_too() -> None:
    """A service that outgrows its slots, a structure of which nothing is known, a HAProxy that is not there."""
    few = Observed(pid=1, description="old", backends={"web": (SLOT,)})
    new = Structure(description="new", digests={})
    assert [cause_of(each) for each in plan(few, {"web": WEB}, new, None, {}).reload_reasons] == [Cause.SLOTS]
    assert [cause_of(each) for each in plan(few, {}, new, None, {}).reload_reasons] == [Cause.STRUCTURE]
    assert cause_of(NOT_RUNNING) is Cause.NOT_RUNNING
    assert cause_of(distrust({"web": "it lies"})[0]) is Cause.DISTRUST
