"""The last hour, for any story of requests, clocks and restarts; and files of it, whatever is in them."""

import zlib
from collections.abc import Sequence
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synapse.telemetry import query
from synapse.telemetry.cells import requests as requests_of
from synapse.telemetry.frames import By, cells_of, read, write
from synapse.telemetry.query import Present, Scope
from synapse.telemetry.request import Request
from synapse.telemetry.series import FRAMES, Series
from tests.support.told import told

requests = st.builds(
    told,
    service=st.sampled_from("abc"),
    host=st.sampled_from(["", "10.0.0.1", "10.0.0.2", "::1"]),
    source=st.sampled_from(["x", "y", ""]),
    method=st.sampled_from(["GET", "POST", "ODD"]),
    mode=st.sampled_from(["http", "tcp"]),
    status=st.integers(0, 999),
    total_ms=st.integers(-1, 10**7),
    termination=st.sampled_from(["--", "CD", "SC", "sH"]),
    share=st.sampled_from([1.0, 0.5, 0.1]),
)
steps = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.1, 1.0, 9.9, 10.0, 10.1, 25.0, 3700.0, -5.0, -4000.0]), st.lists(requests, max_size=3)
    ),
    max_size=25,
)


def played(series: Series, story: Sequence[tuple[float, list[Request]]], now: float) -> float:
    for later, batch in story:
        now += later
        series.add(batch, now)
    return now


@given(steps, st.integers(5_000, 2_000_000))
def test_no_story_breaks_it(story: list[tuple[float, list[Request]]], start: int) -> None:
    """Every kind of rows counts the same requests, no more time is covered than there is, and the curve is as long as
    the window."""
    series = Series(float(start))
    played(series, story, float(start))
    window = series.window(3600, "service")
    assert len(series.since(0)) <= FRAMES
    assert all(0 <= part.covered <= 10.0001 for part in window.parts)
    total = sum(row["requests"] for row in query.rows(window, Scope(), Present()))
    kinds: tuple[By, ...] = ("instance", "source")
    for by in kinds:
        rows = query.rows(series.window(3600, by), Scope(by=by), Present())
        assert sum(row["requests"] for row in rows) == pytest.approx(total, abs=len(rows))
    assert window.last - window.first <= len(query.points(window, "a")) <= window.last - window.first + 1


@given(steps, steps, st.floats(0, 100))
def test_what_is_kept_comes_back(
    before: list[tuple[float, list[Request]]], after: list[tuple[float, list[Request]]], away: float
) -> None:
    """A restart adds nothing and loses nothing of the last hour."""
    series = Series(1_000_000.0)
    now = played(series, before, 1_000_000.0)
    series.finish()
    later = Series(now + away)
    later.restore(read(write(series.since(0))))
    alone = Series(now + away)
    for each in (later, alone):
        played(each, after, now + away)
    kept = {frame.number for frame in series.since(0)}

    def counted(one: Series) -> float:
        parts = one.window(3600, "service").parts
        return sum(requests_of(cell) for part in parts for _, cell in cells_of(part.counted))

    def of_before(one: Series) -> float:
        first = later.window(3600, "service").first
        parts = [part for part in one.window(36_000, "service").parts if part.number >= first]
        return sum(requests_of(cell) for part in parts for _, cell in cells_of(part.counted))

    if all(number <= int((now + away) // 10) for number in kept):
        assert counted(later) == pytest.approx(counted(alone) + of_before(series))


@given(st.binary(max_size=400) | st.binary(max_size=400).map(lambda data: zlib.compress(data, 1)))
def test_garbage_is_told_of(data: bytes) -> None:
    """What was not written by us is a `ValueError`, never another one."""
    with pytest.raises(ValueError, match=r"\w"):
        read(data)


@given(st.data())
def test_a_file_that_was_changed_is_frames_or_told_of(data: st.DataObject) -> None:
    """Whatever byte of the text is another one, nothing else happens, and what is taken can be shown."""
    series = Series(1_000_000.0)
    series.add([told(), told(host="10.0.0.2")], 1_000_000.0)
    series.advance(1_000_010.0)
    text = bytearray(zlib.decompress(write(series.since(0))))
    for _ in range(data.draw(st.integers(1, 3))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    try:
        frames = read(zlib.compress(bytes(text)))
    except ValueError:
        return
    other = Series(1_000_010.0)
    other.restore(frames)
    for by in get_args(By):
        query.rows(other.window(60, by), Scope(by=by), Present())
