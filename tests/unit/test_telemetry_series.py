"""The last hour: what is counted when, that a gap is no quiet time, and that no load makes it grow past its limits."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from synapse.telemetry import query, tally
from synapse.telemetry.frames import DETAILS, By, Frame, read, write
from synapse.telemetry.query import Known, Present, Scope
from synapse.telemetry.request import Request
from synapse.telemetry.series import FRAMES, Series
from synapse.telemetry.templates import Templates
from tests.support.told import told

START = 1_000_000.0


def ticking(series: Series, since: float, until: float) -> None:
    """Synapse is there all that time."""
    now = since
    while now < until:
        now = min(until, now + 1.0)
        series.advance(now)


def rows(series: Series, by: By = "service", seconds: float = 60, **scope: Any) -> list[dict[str, Any]]:
    """What the admin address would answer."""
    wanted = Scope(by=by, **scope)
    return query.rows(series.window(seconds, query.counted_by(wanted)), wanted, Present())


def rates(series: Series, seconds: float = 3600) -> list[float | None]:
    """The curve of `web`."""
    return [point["rate"] for point in query.points(series.window(seconds, "service"), "web")]


def fill(series: Series, requests: Iterable[Request], now: float) -> None:
    series.add(list(requests), now)


def test_requests_are_counted_whole_and_by_instance_route_and_source() -> None:
    """One request is one in each kind of rows."""
    series = Series(START)
    series.templates = {"web": Templates(("/users/{id}",))}
    fill(
        series,
        [
            told(path="/users/1"),
            told(path="/users/2", host="10.0.0.2", source="cron", source_kind="process"),
            told(path="/", method="BREW", host="", port=0, status=503),
            told(service="db", mode="tcp", method="", path="", status=0, host="::1", port=5432),
        ],
        START,
    )
    assert [(row["service"], row["mode"], row["requests"]) for row in rows(series)] == [
        ("db", "tcp", 1),
        ("web", "http", 3),
    ]
    assert [(row["service"], row["instance"], row["requests"]) for row in rows(series, "instance")] == [
        ("db", "[::1]:5432", 1),
        ("web", "(none)", 1),
        ("web", "10.0.0.1:8080", 1),
        ("web", "10.0.0.2:8080", 1),
    ]
    assert [(row["method"], row["route"], row["requests"]) for row in rows(series, "route")] == [
        ("(other)", "(other)", 1),
        ("GET", "/users/{id}", 2),
    ]
    assert [(row["source"], row["source_kind"], row["requests"]) for row in rows(series, "source", service="web")] == [
        ("api", "header", 2),
        ("cron", "process", 1),
    ]
    assert [(row["service"], row["requests"]) for row in rows(series, source="cron")] == [("web", 1)]


def test_a_service_without_templates_has_one_route() -> None:
    """By method, and never by path."""
    series = Series(START)
    fill(series, [told(path=f"/{number}") for number in range(10)], START)
    assert [(row["method"], row["route"], row["requests"]) for row in rows(series, "route")] == [("GET", "(all)", 10)]


def test_a_window_is_the_frames_that_it_touches() -> None:
    """What is older does not count, what is in the frame at its beginning does, and rates are of all these seconds."""
    series = Series(START)
    for at in range(100):
        fill(series, [told()], START + at)
        series.advance(START + at + 1)
    [row] = rows(series, seconds=10)
    assert row["requests"] == 10  # at second 100 the frame of the tenth last second is whole
    assert row["rate"] == 1.0
    series.advance(START + 105)
    [row] = rows(series, seconds=10)
    assert row["requests"] == 10
    assert row["rate"] == round(10 / 15, 3)
    assert series.window(10, "service").covered == 15
    assert rows(series, seconds=60)[0]["requests"] == 60


def test_a_quiet_time_is_zero_and_a_gap_is_null() -> None:
    """While synapse is there, no request is a rate of 0. Where nobody said for more than 10 s what time it is, it was
    not there: that time has no rate, and is not covered."""
    series = Series(START)
    fill(series, [told()] * 10, START)
    ticking(series, START, START + 30)
    series.advance(START + 80)
    ticking(series, START + 80, START + 95)
    assert rates(series, 90) == [1.0, 0.0, 0.0, None, None, None, None, None, 0.0, 0.0]
    assert series.window(90, "service").covered == 45


def test_a_frame_that_is_covered_in_part_has_the_rate_of_that_part() -> None:
    """Five requests in five seconds are one a second, though a frame has ten."""
    series = Series(START + 5)
    fill(series, [told()] * 5, START + 6)
    ticking(series, START + 6, START + 12)
    assert rates(series, 10) == [1.0, 0.0]
    assert series.window(60, "service").covered == 7


def test_a_point_is_not_made_of_a_moment() -> None:
    """One request in the first tenth of a second is not ten a second: the frame of now is told of after a second."""
    series = Series(START)
    ticking(series, START, START + 10)
    fill(series, [told()], START + 10.1)
    assert rates(series, 10) == [0.0]
    series.advance(START + 11)
    assert rates(series, 10) == [0.0, 1.0]


def test_an_hour_is_kept() -> None:
    """And no more: memory and curve end there."""
    series = Series(START)
    for minute in range(90):
        fill(series, [told()], START + 60 * minute)
        ticking(series, START + 60 * minute, START + 60 * minute + 60)
    assert len(series.since(0)) == FRAMES
    assert sum(rate is None for rate in rates(series)) == 0
    assert rows(series, seconds=3600)[0]["requests"] == 60
    assert series.window(3600, "service").covered == 3600


@pytest.mark.parametrize("there", [-1e9, -3600.0, -11.0, -0.5, 3600.0, 1e9, 1e14])
def test_a_clock_that_jumps_breaks_nothing(there: float) -> None:
    """Whatever time it is said to be, requests are counted."""
    series = Series(START)
    fill(series, [told()], START)
    series.advance(START + there)
    fill(series, [told()], START + there)
    ticking(series, START + there, START + there + 5)
    assert rows(series)[0]["requests"] in (1, 2)
    assert rates(series)


@pytest.mark.parametrize("frames", [-1000, -1, 1, 1000])
def test_what_is_kept_moves_with_a_clock_that_is_set(frames: int) -> None:
    """What was a minute ago stays a minute ago."""
    series = Series(START)
    fill(series, [told()] * 20, START)
    ticking(series, START, START + 30)
    before = rates(series)
    series.shift(frames)
    assert rates(series) == before
    ticking(series, START + 30 + 10 * frames, START + 40 + 10 * frames)
    assert rates(series, 40) == [2.0, 0.0, 0.0, 0.0]


def restarted(frames: Iterable[Frame], now: float) -> Series:
    """Another process, which begins then with what was kept."""
    series = Series(now)
    series.restore(read(write(frames)))
    return series


def test_a_restart_goes_on_with_a_gap() -> None:
    """What was before is there, what comes is added, and what synapse missed is null."""
    series = Series(START)
    for at in range(20):
        fill(series, [told(total_ms=70)], START + at)
        series.advance(START + at + 1)
    series.finish()
    later = restarted(series.since(0), START + 50)
    fill(later, [told(host="10.0.0.2")] * 5, START + 55)
    ticking(later, START + 55, START + 60)
    assert rates(later, 60) == [1.0, 1.0, None, None, None, 0.5]
    assert [row["requests"] for row in rows(later, "instance")] == [20, 5]
    assert rows(later)[0]["p99_ms"] == pytest.approx(99.375, abs=0.01)


def test_two_parts_of_the_same_ten_seconds_are_one() -> None:
    """A restart that is quick: both processes counted in the same frame, and saved it again."""
    series = Series(START)
    fill(series, [told()] * 6, START + 2)
    ticking(series, START + 2, START + 3)
    series.finish()
    later = restarted(series.since(0), START + 5)
    fill(later, [told()] * 4, START + 7)
    ticking(later, START + 7, START + 15)
    [first, second] = query.points(later.window(10, "service"), "web")
    assert first["rate"] == 10 / 8
    assert second["rate"] == 0.0
    assert len(later.since(0)) == 1


@pytest.mark.parametrize("number", [-1, 0, 1, 400])
def test_frames_of_another_time_are_not_taken(number: int) -> None:
    """What is older than an hour, or not yet: the clock was set, or the file is an old one."""
    series = Series(START)
    strange = Frame(number=int(START // 10) - FRAMES - 5 + 10 * number, covered=10.0, groups={})
    taken = series.restore([strange, replace(strange, number=int(START // 10) + 1 + abs(number))])
    assert taken == int(number == 1)


# Limits


def test_too_many_labels_share_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit of a kind there is `(other)`: every request is counted in each kind, and how many share is
    told."""
    for name in ("INSTANCES_LIMIT", "ROUTES_LIMIT", "SOURCES_LIMIT"):
        monkeypatch.setattr(tally, name, 3)
    series = Series(START)
    series.templates = {"web": Templates(tuple(f"/{number}" for number in range(8)))}
    fill(
        series,
        [told(host=f"10.0.0.{number}", path=f"/{number}", source=f"s{number}") for number in range(8)] * 2,
        START,
    )
    for by in DETAILS:
        found = {row[by]: row["requests"] for row in rows(series, by)}
        assert len(found) == 4
        assert found["(other)"] == 10
        assert sum(found.values()) == 16
    assert series.limits().folded == 30


def test_too_many_services_share_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Named `(other)`."""
    monkeypatch.setattr(tally, "SERVICES_LIMIT", 2)
    series = Series(START)
    fill(series, [told(service=name) for name in "abcd"], START)
    assert {row["service"]: row["requests"] for row in rows(series)} == {"a": 1, "b": 1, "(other)": 2}
    assert series.limits().folded == 2


def test_cells_are_limited_over_all_services(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the limits of each; the services themselves are still told apart."""
    monkeypatch.setattr(tally, "CELLS_LIMIT", 10)
    series = Series(START)
    fill(series, [told(service=f"s{number % 4}", host=f"10.0.0.{number}") for number in range(100)], START)
    assert series.limits().cells <= 10 + 4
    assert sum(row["requests"] for row in rows(series, "instance")) == 100
    assert [row["requests"] for row in rows(series)] == [25] * 4


def test_beyond_the_memory_the_oldest_details_go_first() -> None:
    """The services' own curves stay the hour; rows of details say that they cover less."""
    series = Series(START, kept_limit=700_000)
    for frame in range(FRAMES):
        now = START + 10 * frame
        fill(series, [told(host=f"10.{frame % 250}.0.{number}") for number in range(50)], now)
        ticking(series, now, now + 10)
    limits = series.limits()
    assert limits.bytes <= limits.bytes_limit
    assert None not in rates(series)
    assert rows(series, seconds=3600)[0]["requests"] == 50 * FRAMES
    whole, details = series.window(3600, "service"), series.window(3600, "instance")
    assert whole.covered == 3600
    assert 20 <= details.covered < 1800
    newest = rows(series, "instance", seconds=10)
    assert sum(row["requests"] for row in newest) == 50


def test_beyond_even_that_the_oldest_frames_go() -> None:
    """The limit holds, whatever comes."""
    series = Series(START, kept_limit=20_000)
    for frame in range(100):
        now = START + 10 * frame
        fill(series, [told(service=f"service-{number}") for number in range(20)], now)
        ticking(series, now, now + 10)
        assert series.limits().bytes <= 20_000
    assert 1 <= len(series.since(0)) < 100


def test_labels_that_stay_are_in_memory_once() -> None:
    """A frame does not cost its keys again where the one before had them."""
    series = Series(START)
    for frame in range(3):
        now = START + 10 * frame
        fill(series, [told(host=f"10.0.0.{number}") for number in range(2 + frame // 2)], now)
        ticking(series, now, now + 10)
    first, second, third = series.since(0)
    assert first.groups["instance"].keys is second.groups["instance"].keys
    assert third.groups["instance"].keys[0] is first.groups["instance"].keys[0]


def test_services_that_nobody_asks_have_rows() -> None:
    """With the zeros that are known, and nulls for what is not; and so have instances."""
    present = Present(known={"web": Known(mode="http", instances=("10.0.0.9:80",))}, connections={"web": 3})
    window = Series(START).window(60, "service")
    [row] = query.rows(window, Scope(), present)
    assert (row["service"], row["requests"], row["success_rate"], row["connections"]) == ("web", 0, None, 3)
    [row] = query.rows(window, Scope(by="instance"), present)
    assert (row["instance"], row["requests"], row["mode"], row["connections"]) == ("10.0.0.9:80", 0, "http", None)
    assert query.rows(window, Scope(source="api"), present) == []


def test_edges_say_where_the_caller_is() -> None:
    """On this host."""
    series = Series(START)
    fill(series, [told()] * 3, START)
    [edge] = query.edges(series.window(60, "source"), "here", Present())
    assert [edge[name] for name in ("source", "source_kind", "host", "service", "requests")] == [
        "api",
        "header",
        "here",
        "web",
        3,
    ]
    assert "buckets" not in edge
    [edge] = query.edges(series.window(60, "source"), "here", Present(), buckets=True)
    assert sum(edge["buckets"]) == 3
