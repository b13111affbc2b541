"""The history on disk: it goes on after a restart, whatever the clock or the disk does."""

import logging
import threading
from pathlib import Path

import pytest

from smartstack.logs import EventLog
from synapse.telemetry import query
from synapse.telemetry.history import History
from synapse.telemetry.query import Present, Scope
from tests.support.eventually import eventually
from tests.support.told import told


class World:
    """A machine whose clocks a test sets."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.up = 50.0
        self.wall = 1_000_000.0
        self.history = self.process()

    def process(self) -> History:
        """A synapse that starts now."""
        self.history = History(
            self.directory, threading.Lock(), EventLog("test"), clock=lambda: self.up, wall=lambda: self.wall
        )
        return self.history

    def tick(self, seconds: int, requests: int = 0) -> None:
        """So much time passes, with so many requests each second."""
        for _ in range(seconds):
            self.history.take([told()] * requests, 0.0)
            self.up += 1
            self.wall += 1
            self.history.tick(0.0)

    def away(self, seconds: float) -> None:
        """Time passes, and no synapse is there."""
        self.up += seconds
        self.wall += seconds

    def stop(self) -> None:
        """As `stop`, without its thread."""
        with self.history._lock:
            self.history._series.finish()
        self.history.save(everything=True)

    def rates(self, seconds: float) -> list[float | None]:
        return [each["rate"] for each in query.points(self.history.window(seconds, "service"), "web")]

    def files(self) -> list[str]:
        return sorted(path.name for path in self.directory.iterdir())


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "telemetry")


def test_a_restart_loses_nothing_and_shows_the_gap(world: World) -> None:
    """Also of the last seconds; a time without synapse has no rate."""
    world.tick(25, 2)
    world.stop()
    world.away(35)
    world.process()
    assert world.history.load() == 3
    world.tick(20, 1)
    assert world.rates(80) == [2.0, 2.0, 2.0, None, None, None, 1.0, 1.0]
    [row] = query.rows(world.history.window(3600, "service"), Scope(), Present())
    assert row["requests"] == 70


def test_each_minute_is_written_once(world: World) -> None:
    """The disk gets what is new, and what is older than an hour is removed."""
    world.tick(65, 1)
    world.history.save()
    first = world.files()
    assert first == ["100005.frames"]
    written = (world.directory / first[0]).stat().st_mtime_ns
    world.tick(60)
    world.history.save()
    assert (world.directory / first[0]).stat().st_mtime_ns == written
    assert world.files() == ["100005.frames", "100011.frames"]
    world.history.save()
    assert len(world.files()) == 2
    world.tick(3600)
    world.history.save()
    assert len(world.files()) == 60
    assert "100005.frames" not in world.files()


def test_a_quick_restart_writes_the_ten_seconds_again(world: World) -> None:
    """Both processes counted in them; the later file has all of it."""
    world.tick(3, 1)
    world.stop()
    world.process()
    world.history.load()
    world.tick(3, 1)
    world.history.save()
    world.tick(10)
    world.stop()
    world.away(60)
    world.process()
    world.history.load()
    [row] = query.rows(world.history.window(3600, "service"), Scope(), Present())
    assert row["requests"] == 6


def test_what_nobody_hears_is_a_gap_while_it_lasts(world: World) -> None:
    """Where the feed's address is taken, what was known before is not taken for the last minute."""
    world.tick(60, 2)
    world.away(30)
    assert world.rates(60) == [2.0, 2.0, 2.0, None, None, None]
    world.away(600)
    assert world.rates(60) == [None] * 6
    assert world.history.window(60, "service").covered == 0


@pytest.mark.parametrize("seconds", [-86_400.0, -600.0, -5.0, 5.0, 600.0, 86_400.0])
def test_a_clock_that_is_set_moves_the_history_along(world: World, seconds: float) -> None:
    """Also on disk: after a restart everything is still as old as it is."""
    world.tick(30, 1)
    world.history.save()
    world.wall += seconds
    world.tick(1)
    before = world.rates(40)
    assert before.count(1.0) == 3
    world.history.save()
    world.stop()
    world.process()
    world.history.load()
    after = [rate for rate in world.rates(60) if rate is not None]
    assert after[:3] == [1.0, 1.0, 1.0]
    assert sum(rate is not None and rate > 0 for rate in world.rates(3600)) == 3


def test_a_machine_that_sleeps_makes_a_gap(world: World) -> None:
    """Its clock goes on, and synapse does not."""
    world.tick(20, 1)
    world.away(300)
    world.tick(10, 1)
    assert world.rates(330).count(None) >= 29


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"garbage", id="garbage"),
        pytest.param(b"x" * (9 << 20), id="too long"),
    ],
)
def test_a_file_that_cannot_be_read_is_left_aside(
    world: World, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """With a line in the log that names it; the others are taken."""
    world.tick(60, 1)
    world.stop()
    bad = world.directory / "99999.frames"
    bad.write_bytes(content)
    (world.directory / "notes.txt").write_text("somebody's")
    world.process()
    with caplog.at_level(logging.WARNING):
        assert world.history.load() == 6
    assert [record.getMessage() for record in caplog.records] == ["a file of the history of requests is left aside"]


def test_what_is_cut_off_is_left_aside(world: World) -> None:
    """A full disk, or a machine that lost its power."""
    world.tick(60, 1)
    world.stop()
    for path in world.directory.iterdir():
        path.write_bytes(path.read_bytes()[:-20])
    world.process()
    assert world.history.load() == 0


def test_a_disk_that_fails_is_a_problem_until_it_does_not(world: World) -> None:
    """Everything else goes on, and nothing is lost that can be written later."""
    world.directory.write_text("in the way")
    world.tick(30, 1)
    world.history.save()
    assert "not kept on disk" in str(world.history.problem)
    world.directory.unlink()
    world.history.save()
    assert world.history.problem is None
    world.process()
    assert world.history.load() == 3


def test_the_thread_takes_up_what_was_and_stop_keeps_what_is(tmp_path: Path) -> None:
    """With the real clocks; stopping twice is as once, and without `writes` there is no file."""
    lock = threading.Lock()
    first = History(tmp_path / "t", lock, EventLog("test"))
    first.start()
    with lock:
        first.take([told()] * 5, 0.0)
        first.tick(0.0)
    first.stop()
    first.stop()
    second = History(tmp_path / "t", lock, EventLog("test"))
    second.start()
    rows = eventually(lambda: query.rows(second.window(60, "service"), Scope(), Present()))
    assert rows[0]["requests"] == 5
    second.stop()
    third = History(tmp_path / "u", lock, EventLog("test"), writes=False)
    third.start()
    third.stop()
    assert not (tmp_path / "u").exists()


def test_routes_are_named_by_the_definitions_as_they_are_now(world: World) -> None:
    """From the moment that they change; those of others are not compiled again."""
    world.history.know({"web": ("/a/{x}",), "api": ("/b",)})
    kept = world.history._series.templates["api"]
    world.history.take([told(path="/a/1")], 0.0)
    world.history.know({"web": ("/{any}/1",), "api": ("/b",)})
    world.history.take([told(path="/a/1")], 0.0)
    world.history.know({})
    world.history.take([told(path="/a/1")], 0.0)
    rows = query.rows(world.history.window(60, "route"), Scope(by="route"), Present())
    assert [row["route"] for row in rows] == ["(all)", "/a/{x}", "/{any}/1"]
    world.history.know({"web": ("/c",), "api": ("/b",)})
    assert world.history._series.templates["api"] is not kept  # it was gone in between
