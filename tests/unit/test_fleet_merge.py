"""The answers of several synapses as one, and what becomes of those that are none."""

import json
from typing import Any

import pytest

from synapse.fleet import merge
from synapse.fleet.merge import Merged
from synapse.telemetry.histogram import BUCKETS, bucket_of


def row(milliseconds: int = 3, count: int = 10, **more: Any) -> dict[str, Any]:
    """What one synapse says of a service to which `count` requests went, each of which took so long."""
    buckets = [0.0] * BUCKETS
    buckets[bucket_of(milliseconds)] = float(count)
    return {
        "service": "web",
        "mode": "http",
        "requests": count,
        "rate": count / 10,
        "success": count,
        "failures": 0,
        "aborted": 0,
        "mean_ms": float(milliseconds),
        "retries": 0,
        "classes": {"2xx": count, "3xx": 0, "4xx": 0, "5xx": 0, "other": 0},
        "sent_bytes": 100 * count,
        "received_bytes": count,
        "connections": 2,
        "sampled": 1.0,
        "buckets": buckets,
        **more,
    }


def body(*rows: Any, **more: Any) -> bytes:
    """An answer of /telemetry/stat."""
    return json.dumps({"covered_seconds": 58.5, "rows": rows, **more}).encode()


def merged(*bodies: bytes, kind: str = "rows") -> Merged:
    """The answers of hosts that are called a, b, c."""
    made = Merged(kind)
    for host, each in zip("abc", bodies, strict=False):
        assert made.take(host, each) == 58.5
    return made


def test_counts_add_up_and_quantiles_come_of_all_requests() -> None:
    """The p99 of two hosts is not the mean of theirs: nine quick requests and one slow one have a slow p99."""
    [found] = merged(body(row(3, 90)), body(row(400, 10, success=7, failures=3, retries=1))).rows()
    assert (found["requests"], found["retries"]) == (100, 1)
    assert (found["success"], found["failures"], found["success_rate"]) == (97, 3, 0.97)
    assert found["rate"] == 10.0
    assert found["connections"] == 4
    assert found["p50_ms"] < 3 and 300 < found["p99_ms"] <= 400
    assert found["mean_ms"] == pytest.approx(0.9 * 3 + 0.1 * 400)
    assert found["classes"] == {"2xx": 100, "3xx": 0, "4xx": 0, "5xx": 0, "other": 0}
    assert (found["sent_bytes"], found["received_bytes"]) == (10_000, 100)


def test_a_service_that_one_host_does_not_know_counts_for_nothing_there() -> None:
    """No request is no latency of 0; what is unknown does not make the whole unknown."""
    quiet = row(count=0, rate=None, mean_ms=None, connections=None, buckets=[0.0] * BUCKETS)
    [found] = merged(body(row(3, 10)), body(quiet)).rows()
    assert (found["requests"], found["connections"], found["rate"]) == (10, 2, 1.0)
    [nobody] = merged(body(quiet), body(quiet)).rows()
    assert (nobody["success_rate"], nobody["p50_ms"], nobody["connections"]) == (None, None, None)


def test_rows_are_told_apart_by_all_of_their_names() -> None:
    """The same route of two methods, the same caller by two kinds: each is a row of its own, in the order of names."""
    routes = [row(method=method, route=route) for method in ("GET", "PUT") for route in ("/b", "/a")]
    found = merged(body(*routes), body(*routes)).rows()
    assert [(each["method"], each["route"], each["requests"]) for each in found] == [
        ("GET", "/a", 20),
        ("GET", "/b", 20),
        ("PUT", "/a", 20),
        ("PUT", "/b", 20),
    ]


def test_an_edge_is_of_the_host_that_told_of_it() -> None:
    """Hosts may call themselves the same; the registry's names are told apart."""
    edge = row(source="api", source_kind="process", host="localhost")
    told = json.dumps({"covered_seconds": 58.5, "edges": [edge]}).encode()
    found = merged(told, told, kind="edges").rows()
    assert [(each["source"], each["host"], each["service"], each["requests"]) for each in found] == [
        ("api", "a", "web", 10),
        ("api", "b", "web", 10),
    ]
    assert "connections" not in found[0]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        pytest.param(b"", "its answer is not JSON", id="nothing"),
        pytest.param(b"\xff\xfe{}", "its answer is not JSON", id="no text"),
        pytest.param(b"[" * 100_000, "its answer is not JSON", id="deeper than can be read"),
        pytest.param(b"[]", "its answer cannot be used: rows is missing, or is of another kind", id="a list"),
        pytest.param(b"{}", "its answer cannot be used: rows is missing, or is of another kind", id="no rows"),
        pytest.param(
            b'{"rows": []}',
            "its answer cannot be used: covered_seconds is missing, or is of another kind",
            id="no time",
        ),
        pytest.param(
            body(covered_seconds=True), "its answer cannot be used: what should be a number is none", id="yes"
        ),
        pytest.param(body(7), "its answer cannot be used: a row is no object", id="a number for a row"),
        pytest.param(body(row(requests=-1)), "its answer cannot be used: a number is out of range", id="below zero"),
        pytest.param(body(row(requests=1e19)), "its answer cannot be used: a number is out of range", id="beyond all"),
        pytest.param(body(row(rate=float("nan"))), "its answer cannot be used: a number is out of range", id="NaN"),
        pytest.param(
            body(row(retries=10**400)), "its answer cannot be used: a number is out of range", id="a long number"
        ),
        pytest.param(
            body(row(success="7")), "its answer cannot be used: success is missing, or is of another kind", id="a text"
        ),
        pytest.param(
            body(row(service=7)), "its answer cannot be used: service is no text, or is too long", id="a name"
        ),
        pytest.param(
            body(row(service="x" * 3000)),
            "its answer cannot be used: service is no text, or is too long",
            id="a long name",
        ),
        pytest.param(
            body(row(buckets=[1.0])),
            f"its answer cannot be used: it has 1 buckets, not {BUCKETS}: it is another version of synapse",
            id="other buckets",
        ),
        pytest.param(
            body(row(classes={})), "its answer cannot be used: 2xx is missing, or is of another kind", id="no classes"
        ),
    ],
)
def test_a_bad_answer_is_told_of_its_host_and_counts_for_nothing(bad: bytes, reason: str) -> None:
    """Not even its good rows: half of an answer would be a wrong one. The others are not touched."""
    found = merged(body(row(3, 10)))
    assert found.take("b", bad) == reason
    assert [each["requests"] for each in found.rows()] == [10]


def test_a_bad_row_takes_the_good_ones_with_it() -> None:
    """All or nothing of each host."""
    found = Merged("rows")
    assert isinstance(found.take("a", body(row(), row(service="api", requests=-1))), str)
    assert found.rows() == []


def test_there_is_a_largest_number_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has no place is counted; what has one still adds up."""
    monkeypatch.setattr(merge, "ROWS_LIMIT", 2)
    found = merged(*[body(*[row(service=name) for name in ("a", "b", "c")])] * 2)
    assert [(each["service"], each["requests"]) for each in found.rows()] == [("a", 20), ("b", 20)]
    assert found.left_out == 2
