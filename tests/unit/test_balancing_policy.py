"""What one request says of the instance that had it."""

from typing import Any

import pytest

from smartstack.instance import Instance
from smartstack.traffic import Breaker
from synapse.balancing.policy import Member, Policy, answer_ms, members_of, policy_of, waited_ms, went_well
from synapse.placement import Placed, Placement, Role
from tests.support.definitions import proxy
from tests.support.virtual import request

A = "10.0.0.1:80"
VERDICTS: dict[str, tuple[dict[str, Any], bool | None]] = {
    "200": ({}, True),
    "404 is an answer": ({"status": 404}, True),
    "101 and then a tunnel": ({"status": 101}, True),
    "500": ({"status": 500}, False),
    "503 of the instance": ({"status": 503}, False),
    "no connection": ({"status": 503, "termination": "SC"}, False),
    "no connection in time": ({"status": 503, "termination": "sC"}, False),
    "no answer in time": ({"status": 504, "termination": "sH"}, False),
    "hung up before the answer": ({"status": 502, "termination": "SH"}, False),
    "hung up within the answer": ({"status": 200, "termination": "SD"}, False),
    "an answer that is none": ({"status": 502, "termination": "PH"}, False),
    "no place in time": ({"status": 503, "termination": "sQ"}, None),
    "refused by a rule of ours": ({"status": 403, "termination": "PR"}, None),
    "the client hung up": ({"status": 0, "termination": "CH"}, None),
    "the client was silent": ({"status": 408, "termination": "cR"}, None),
    "answered by HAProxy": ({"status": 503, "termination": "LR"}, None),
    "no memory": ({"status": 500, "termination": "RH"}, None),
    "tcp, good": ({"mode": "tcp", "status": 0}, True),
    "tcp, no connection": ({"mode": "tcp", "status": 0, "termination": "SC"}, False),
    "tcp, no connection in time": ({"mode": "tcp", "status": 0, "termination": "sC"}, False),
    "tcp, the instance hung up": ({"mode": "tcp", "status": 0, "termination": "SD"}, None),
    "tcp, the client hung up": ({"mode": "tcp", "status": 0, "termination": "CD"}, None),
}


@pytest.mark.parametrize(("fields", "well"), VERDICTS.values(), ids=VERDICTS)
def test_whose_fault_it_was(fields: dict[str, Any], well: bool | None) -> None:
    """An instance fails by a 5xx, by an answer that is none, or by none; what is the client's doing, HAProxy's or a
    rule's says nothing of it."""
    assert went_well(request(A, **fields)) is well


def test_how_long_an_answer_took() -> None:
    """From the connection on; time in the queue is not the instance's."""
    assert answer_ms(request(A, response_ms=7, connect_ms=2, queue_ms=400)) == 9
    assert answer_ms(request(A, response_ms=7, connect_ms=None)) == 7
    assert answer_ms(request(A, response_ms=None)) is None


def test_how_long_it_was_waited_for_nothing() -> None:
    """It would have taken longer still. One that was answered, or that waited for something else, does not count."""
    assert waited_ms(request(A, response_ms=None, total_ms=900, queue_ms=100, termination="CH")) == 800
    assert waited_ms(request(A, response_ms=None, total_ms=900, queue_ms=None, termination="sH")) == 900
    assert waited_ms(request(A, response_ms=5, total_ms=900, termination="CD")) is None
    assert waited_ms(request(A, response_ms=None, total_ms=900, termination="CR")) is None


def test_members_are_those_that_get_new_requests() -> None:
    """Whoever drains, is held or is not for this host is none of those that are weighed against each other."""
    placed = [
        Placed(instance=Instance(host="10.0.0.1", port=80), role=Role.PRIMARY),
        Placed(instance=Instance(host="10.0.0.2", port=80, weight=30), role=Role.BACKUP),
        Placed(instance=Instance(host="10.0.0.3", port=80, weight=0), role=Role.PRIMARY),
        Placed(instance=Instance(host="10.0.0.4", port=80), role=Role.HELD),
        Placed(instance=Instance(host="10.0.0.5", port=80), role=Role.OUT),
    ]
    assert members_of(Placement(members=tuple(placed))) == (
        Member(address="10.0.0.1:80", weight=100),
        Member(address="10.0.0.2:80", weight=30),
    )


def test_the_policy_is_the_definitions() -> None:
    """By latency unless it says otherwise; who comes back takes the slow_start, or a moment."""
    assert policy_of(proxy()) == Policy(by_latency=True, breaker=Breaker())
    assert policy_of(proxy(balance="leastconn", breaker=None, slow_start=30.0)) == Policy(
        by_latency=False, breaker=None, ramp_seconds=30.0
    )
    assert not policy_of(proxy(mode="tcp")).by_latency
