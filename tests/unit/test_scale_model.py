"""The formulas by which docs/scale.md sizes a registry."""

from pathlib import Path

import pytest

from tests.bench.scale_model import PLANS, Plan, table

DOCUMENT = Path(__file__).parents[2] / "docs" / "scale.md"

SMALL = Plan(hosts=20, services=6, instances=10, uses=3, changes_per_second=2, session_timeout_seconds=9.6)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("sessions", 40, id="two of each host"),
        pytest.param("readers", 10, id="20 hosts x 3 of 6 services"),
        pytest.param("watches", 20 * 3 * 2 + 60, id="two of each follower and service, one of each node"),
        pytest.param("pings_per_second", 40 / 3, id="a third of the time-out, and 0.2 s sooner"),
        pytest.param("requests_per_second", 2 * (10 + 3.5), id="each reader, and nerve"),
        pytest.param("events_per_second", 2 * 11, id="each reader, and nerve"),
        pytest.param("reload_requests", 60 + 20 * (3 + 1 + 1), id="own nodes; watches, lists, 30 nodes in one request"),
        pytest.param("start_requests_at_least", 300 + 20 * (3 + 1), id="5 for each node; watches and lists"),
        pytest.param("start_events_at_most", 20 * 30 + 60, id="each node to each reader, and to its nerve"),
    ],
)
def test_what_a_fleet_asks(name: str, expected: float) -> None:
    """Counted by hand."""
    assert getattr(SMALL, name) == pytest.approx(expected)


def test_more_than_fifty_nodes_are_more_than_one_request() -> None:
    """102 nodes are read in three requests, 51 services are listed in two."""
    plan = Plan(hosts=1, services=51, instances=2, uses=51, changes_per_second=1)
    assert plan.reload_requests == 102 + 51 + 2 + 3


def test_large_fleets_get_observers_and_heap() -> None:
    """Three voters are enough for a small one."""
    small, large = PLANS[0], PLANS[-1]
    assert small.servers == "3"
    assert "observers" in large.servers
    assert small.largest_heap_megabytes < large.largest_heap_megabytes
    assert large.largest_heap_megabytes >= 4 * large.heap_megabytes


def test_the_document_has_the_table_that_the_formulas_make() -> None:
    """`python -m tests.bench.scale --table` prints it."""
    assert table() in DOCUMENT.read_text()
