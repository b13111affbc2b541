"""Cells: what one request adds to the figures."""

from typing import Any

import pytest

from synapse.telemetry import cells
from synapse.telemetry.request import Request
from tests.support.told import told


def counted(*requests: Request) -> cells.Cell:
    """A cell of these."""
    cell = cells.empty()
    for request in requests:
        cells.count(request, [cell])
    return cell


@pytest.mark.parametrize(
    ("request_", "figures"),
    [
        pytest.param(told(), {"success": 1, "failures": 0, "aborted": 0, "success_rate": 1.0}, id="a good one"),
        pytest.param(told(status=503), {"success": 0, "failures": 1, "success_rate": 0.0}, id="a bad one"),
        pytest.param(told(termination="CD"), {"aborted": 1, "success": 0, "success_rate": None}, id="hung up"),
        pytest.param(told(total_ms=-1), {"mean_ms": 0.0, "p50_ms": 0.5}, id="no time"),
        pytest.param(told(retries=2), {"retries": 2}, id="tried three times"),
        pytest.param(
            told(share=0.25, retries=1),
            {"requests": 4, "success": 4, "retries": 4, "sent_bytes": 400, "received_bytes": 40, "sampled": 0.25},
            id="stands for four",
        ),
        pytest.param(told(share=0.0), {"requests": 1, "sampled": 1.0}, id="a share that cannot be"),
        pytest.param(told(status=0, termination="SC"), {"failures": 1}, id="no answer"),
    ],
)
def test_what_a_request_counts(request_: Request, figures: dict[str, Any]) -> None:
    """Each by how it ended; those that a client broke off say nothing of success."""
    found = cells.figures(counted(request_), 10.0)
    assert {name: found[name] for name in figures} == figures


@pytest.mark.parametrize(
    ("status", "name"),
    [(200, "2xx"), (304, "3xx"), (404, "4xx"), (599, "5xx"), (0, "other"), (101, "other"), (600, "other")],
)
def test_the_class_of_a_status(status: int, name: str) -> None:
    """The same as the request's own."""
    request = told(status=status)
    classes = cells.figures(counted(request), 10.0)["classes"]
    assert classes == {each: int(each == name) for each in cells.CLASSES}
    assert request.status_class == name


def test_rates_are_of_the_seconds_that_are_covered() -> None:
    """No second, no rate."""
    cell = counted(*[told()] * 30)
    assert cells.figures(cell, 10.0)["rate"] == 3.0
    assert cells.figures(cell, 0.0)["rate"] is None


def test_a_cell_that_counted_nothing_knows_nothing() -> None:
    """Null, never 0 or 100 %."""
    found = cells.figures(cells.empty(), 10.0)
    assert [found[name] for name in ("success_rate", "p50_ms", "p95_ms", "p99_ms", "mean_ms")] == [None] * 5
    assert found["rate"] == 0.0


def test_the_figures_of_a_cell_make_it_again() -> None:
    """So that those of several hosts can be added up."""
    cell = counted(told(), told(status=404, total_ms=700, share=0.5), told(termination="CD", retries=1))
    told_of = {**cells.figures(cell, 10.0), "buckets": cells.buckets(cell)}
    assert cells.of_figures(told_of) == pytest.approx(cell, abs=0.01)
