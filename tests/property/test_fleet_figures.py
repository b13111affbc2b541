"""Whatever way requests are spread over hosts, the fleet's figures are those of one host that saw them all."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from synapse.fleet.merge import Merged
from synapse.telemetry.query import Present, Scope, rows
from synapse.telemetry.request import Request
from synapse.telemetry.series import Series

NOW = 1_764_130_000.0
HOSTS = 3


def request(*, service: str, source: str, milliseconds: int, status: int, retries: int, ending: str) -> Request:
    """A request of the feed."""
    return Request(
        mode="http",
        service=service,
        frontend=service,
        slot="s1",
        host="10.0.0.5",
        port=8080,
        status=status,
        total_ms=milliseconds,
        response_ms=milliseconds,
        queue_ms=0,
        connect_ms=0,
        termination=ending,
        retries=retries,
        redispatched=False,
        sent_bytes=milliseconds * 10,
        received_bytes=status,
        client_host="127.0.0.1",
        client_port=40_000,
        source=source,
        source_kind="process",
        share=1.0,
        method="GET",
        path="/",
    )


requests = st.builds(
    request,
    service=st.sampled_from(["web", "api"]),
    source=st.sampled_from(["shop", "cron"]),
    milliseconds=st.integers(0, 80_000),
    status=st.sampled_from([0, 200, 304, 404, 500, 503]),
    retries=st.integers(0, 3),
    ending=st.sampled_from(["--", "CD", "sH", "SC"]),
)


def told(seen: list[Request], scope: Scope) -> bytes:
    """What a synapse that saw these answers, through JSON."""
    series = Series(NOW)
    series.advance(NOW + 5)
    series.add(seen, NOW + 5)
    window = series.window(60, "source" if scope.by == "source" else "service")
    return json.dumps({"covered_seconds": window.covered, "rows": rows(window, scope, Present())}).encode()


@given(st.lists(st.tuples(st.integers(0, HOSTS - 1), requests), max_size=60), st.sampled_from(["service", "source"]))
def test_the_whole_is_what_its_parts_add_up_to(spread: list[tuple[int, Request]], by: Any) -> None:
    """Counts, success rate and quantiles are equal; of what was rounded on each host, a little is lost."""
    scope = Scope(by=by, buckets=True)
    fleet, single = Merged("rows"), Merged("rows")
    for host in range(HOSTS):
        assert isinstance(fleet.take(str(host), told([each for at, each in spread if at == host], scope)), float)
    assert isinstance(single.take("all", told([each for _, each in spread], scope)), float)
    for found, expected in zip(fleet.rows(), single.rows(), strict=True):
        for key in expected.keys() - {"mean_ms", "rate"}:
            assert found[key] == expected[key], key
        for key in ("mean_ms", "rate"):
            assert abs((found[key] or 0) - (expected[key] or 0)) <= 0.01
