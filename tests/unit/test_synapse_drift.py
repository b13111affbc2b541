"""What HAProxy shows that synapse did not do: found, told apart, counted."""

from dataclasses import replace

import pytest

from synapse.drift import Drift, DriftRecord, Kind, differences
from synapse.proxy import Admin, Slot

ONE = Slot(name="s1", host="10.0.0.1", port=80, weight=100, admin=Admin.READY)
TWO = Slot(name="s2", host="10.0.0.2", port=80, weight=100, admin=Admin.MAINT)

CASES: dict[str, tuple[list[Slot], list[tuple[Kind, str]]]] = {
    "nothing": ([ONE, TWO], []),
    "what HAProxy's check finds is no drift": ([replace(ONE, up=False), TWO], []),
    "the order of servers is none": ([TWO, ONE], []),
    "a weight": (
        [replace(ONE, weight=5), TWO],
        [(Kind.WEIGHT, "the weight of web/s1 (10.0.0.1:80) went from 100 to 5")],
    ),
    "an address": (
        [replace(ONE, host="10.9.9.9"), TWO],
        [(Kind.ADDRESS, "web/s1 went from 10.0.0.1:80 to 10.9.9.9:80")],
    ),
    "a port": ([replace(ONE, port=81), TWO], [(Kind.ADDRESS, "web/s1 went from 10.0.0.1:80 to 10.0.0.1:81")]),
    "put into maintenance": (
        [replace(ONE, admin=Admin.MAINT), TWO],
        [(Kind.STATE, "web/s1 (10.0.0.1:80) went from ready to maint")],
    ),
    "enabled again, elsewhere": (
        [ONE, replace(TWO, port=81, admin=Admin.READY)],
        [
            (Kind.ADDRESS, "web/s2 went from 10.0.0.2:80 to 10.0.0.2:81"),
            (Kind.STATE, "web/s2 (10.0.0.2:81) went from maint to ready"),
        ],
    ),
    "a server deleted": ([ONE], [(Kind.SERVER, "web/s2 was deleted")]),
    "a server added": ([ONE, TWO, replace(ONE, name="mine")], [(Kind.SERVER, "web/mine was added")]),
}


@pytest.mark.parametrize(("now", "found"), CASES.values(), ids=CASES)
def test_what_differs(now: list[Slot], found: list[tuple[Kind, str]]) -> None:
    """Each thing once, by its kind, with the slot and both of its values."""
    drifts = list(differences({"web": [ONE, TWO], "api": []}, {"web": now}))
    assert [(drift.kind, drift.what) for drift in drifts] == found
    assert all(drift.backend == "web" for drift in drifts)


def test_a_backend_that_only_one_side_has_is_not_compared() -> None:
    """It came or went with a reload, or was not asked about."""
    assert list(differences({"web": [ONE]}, {"api": [TWO]})) == []


def test_the_record_counts_all_and_remembers_the_last() -> None:
    """Counts add up by kind; what was found last stands there in words, not more than a screen of them."""
    weights = [Drift(kind=Kind.WEIGHT, what=f"weight {number}") for number in range(30)]
    record = DriftRecord().plus([Drift(kind=Kind.FILE, what="edited")], 1.0).plus(weights, 2.0)
    assert record.counts == {"file": 1, "weight": 30}
    assert record.at == 2.0
    assert record.last[0] == "weight 0"
    assert len(record.last) == 20
