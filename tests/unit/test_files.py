"""The file watch: what rings and what does not, through everything that can happen to a directory."""

import errno
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from watchdog.observers.inotify_c import InotifyFD

from smartstack import files
from smartstack.files import FileWatch
from tests.support.eventually import eventually
from tests.support.nobody import run_as_nobody
from tests.support.registries import Bell

QUIET_SECONDS = 0.15


@pytest.fixture
def bell() -> Bell:
    return Bell()


@pytest.fixture
def watch(bell: Bell) -> Iterator[FileWatch]:
    watch = FileWatch(bell.ring)
    yield watch
    watch.stop()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory some steps deep, with a file in it."""
    place = tmp_path / "a" / "b" / "c"
    place.mkdir(parents=True)
    (place / "x.yaml").write_text("x")
    return place


def settle(watch: FileWatch, bell: Bell) -> int:
    """Wait out what follows on a first ring, forget it, and return how often the bell rang so far."""
    eventually(lambda: bell.silent_for(QUIET_SECONDS))
    watch.take_changed()
    return bell.rings


def expect_ring(bell: Bell, rings: int) -> None:
    eventually(lambda: bell.rings > rings)


def changed(watch: FileWatch) -> set[str]:
    found = watch.take_changed()
    assert found is not None
    return set(found)


def rename_over(place: Path) -> None:
    (place / ".x.new").write_text("y")
    (place / ".x.new").rename(place / "x.yaml")


def swap_links(place: Path) -> None:
    """What the kubelet does with a config map: a new directory, and `..data` renamed to point to it."""
    (place / "..2").mkdir()
    (place / "..new").symlink_to("..2")
    (place / "..new").rename(place / "..data")


RINGING: dict[str, Callable[[Path], object]] = {
    "created": lambda place: (place / "y.yaml").touch(),
    "written in place": lambda place: (place / "x.yaml").write_text("y"),
    "appended": lambda place: (place / "x.yaml").open("a").write("y"),
    "replaced": rename_over,
    "removed": lambda place: (place / "x.yaml").unlink(),
    "renamed": lambda place: (place / "x.yaml").rename(place / "y.yaml"),
    "moved away": lambda place: (place / "x.yaml").rename(place.parent / "x.yaml"),
    "made unreadable": lambda place: (place / "x.yaml").chmod(0),
    "linked": lambda place: (place / "z.yaml").symlink_to("x.yaml"),
    "a config map swapped": swap_links,
    "a directory made in it": lambda place: (place / "d").mkdir(),
    "removed itself": shutil.rmtree,
    "moved away itself": lambda place: place.rename(place.parent / "old"),
    "moved away with its parent": lambda place: place.parent.rename(place.parent.parent / "old"),
    "removed with all above": lambda place: shutil.rmtree(place.parent.parent),
}


@pytest.mark.parametrize("change", RINGING.values(), ids=RINGING.keys())
def test_a_change_rings_and_is_told(
    watch: FileWatch, bell: Bell, place: Path, change: Callable[[Path], object]
) -> None:
    """Each kind of change in or of a watched directory rings and names that directory."""
    watch.watch([str(place), str(place.parent.parent.parent / "other")])
    rings = settle(watch, bell)
    change(place)
    expect_ring(bell, rings)
    assert changed(watch) == {str(place)}


SILENT: dict[str, Callable[[Path], object]] = {
    "read": lambda place: (place / "x.yaml").read_text(),
    "listed": lambda place: list(place.iterdir()),
    "asked for": lambda place: (place / "x.yaml").stat(),
    "a temporary file": lambda place: (place / ".x.new").write_text("y"),
    "beside it": lambda place: (place.parent / "y").write_text("y"),
    "far above it": lambda place: (place.parent.parent / "d").mkdir(),
}


@pytest.mark.parametrize("change", SILENT.values(), ids=SILENT.keys())
def test_what_is_no_change_does_not_ring(
    watch: FileWatch, bell: Bell, place: Path, change: Callable[[Path], object]
) -> None:
    """A loop that reads when it is rung comes to rest, and others' business near by does not wake it."""
    watch.watch([str(place)])
    rings = settle(watch, bell)
    change(place)
    (place / "end.yaml").symlink_to("nowhere")
    expect_ring(bell, rings)  # events keep their order: what came before this one would have rung
    assert settle(watch, bell) == rings + 1


def test_a_replaced_file_rings_once(watch: FileWatch, bell: Bell, place: Path) -> None:
    """Written under a hidden name and renamed: one event, nothing for the making."""
    watch.watch([str(place)])
    rings = settle(watch, bell)
    rename_over(place)
    expect_ring(bell, rings)
    assert settle(watch, bell) == rings + 1


def test_the_close_of_a_replaced_file_does_not_ring(watch: FileWatch, bell: Bell, place: Path) -> None:
    """Who holds what is not there any more is of no interest."""
    held = (place / "x.yaml").open("r+")
    watch.watch([str(place)])
    rename_over(place)
    rings = settle(watch, bell)
    held.close()
    (place / "end.yaml").symlink_to("nowhere")
    expect_ring(bell, rings)
    assert settle(watch, bell) == rings + 1


def test_the_first_answer_is_that_anything_may_have_changed(watch: FileWatch, bell: Bell, place: Path) -> None:
    """What happened before the watch is not known; afterwards only changes are told."""
    watch.watch([str(place)])
    assert watch.take_changed() is None
    assert watch.take_changed() == frozenset()


def test_a_directory_that_is_not_there_yet(watch: FileWatch, bell: Bell, tmp_path: Path) -> None:
    """It rings when the directory appears, with however many steps, and for what is put in at once."""
    place = tmp_path / "not" / "yet" / "there"
    watch.watch([str(place)])
    for _ in range(3):
        rings = settle(watch, bell)
        place.mkdir(parents=True)
        (place / "x.yaml").touch()
        expect_ring(bell, rings)
        rings = settle(watch, bell)
        (place / "x.yaml").write_text("y")
        expect_ring(bell, rings)
        rings = settle(watch, bell)
        shutil.rmtree(tmp_path / "not")
        expect_ring(bell, rings)


def test_a_directory_moved_away_is_not_watched_any_more(watch: FileWatch, bell: Bell, place: Path) -> None:
    """The path is watched, not what once was there; and what is there next is."""
    watch.watch([str(place)])
    rings = settle(watch, bell)
    old = place.parent.rename(place.parent.parent / "old")
    expect_ring(bell, rings)
    rings = settle(watch, bell)
    (old / "c" / "x.yaml").write_text("y")
    place.mkdir(parents=True)
    expect_ring(bell, rings)
    rings = settle(watch, bell)
    (old / "c" / "x.yaml").write_text("z")
    (place / "new.yaml").symlink_to("nowhere")
    expect_ring(bell, rings)
    assert settle(watch, bell) == rings + 1


def test_two_directories_that_change_places(watch: FileWatch, bell: Bell, tmp_path: Path) -> None:
    """After a swap each path stands for what is there now."""
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    watch.watch([str(one), str(two)])
    rings = settle(watch, bell)
    one.rename(tmp_path / "three")
    two.rename(one)
    (tmp_path / "three").rename(two)
    expect_ring(bell, rings)
    for place in (one, two):
        rings = settle(watch, bell)
        (place / "x.yaml").symlink_to("nowhere")
        expect_ring(bell, rings)
        assert changed(watch) == {str(place)}


@pytest.mark.parametrize("above", ["", "deep"], ids=["itself", "above it"])
def test_a_link_that_is_swapped(watch: FileWatch, bell: Bell, tmp_path: Path, above: str) -> None:
    """A path through a symbolic link follows it to wherever it points next."""
    for version in ("v1", "v2"):
        (tmp_path / version / above).mkdir(parents=True)
    (tmp_path / "current").symlink_to("v1")
    watch.watch([str(tmp_path / "current" / above)])
    rings = settle(watch, bell)
    (tmp_path / "v1" / above / "x.yaml").touch()
    expect_ring(bell, rings)
    rings = settle(watch, bell)
    (tmp_path / "next").symlink_to(tmp_path / "v2")
    (tmp_path / "next").rename(tmp_path / "current")
    expect_ring(bell, rings)
    rings = settle(watch, bell)
    (tmp_path / "v1" / above / "y.yaml").touch()
    (tmp_path / "v2" / above / "z.yaml").symlink_to("nowhere")
    expect_ring(bell, rings)
    assert settle(watch, bell) == rings + 1


def test_a_link_to_itself(watch: FileWatch, bell: Bell, tmp_path: Path) -> None:
    """A loop of links is a directory that is not there; once repaired it rings."""
    (tmp_path / "loop").symlink_to("loop")
    watch.watch([str(tmp_path / "loop")])
    rings = settle(watch, bell)
    (tmp_path / "loop").unlink()
    (tmp_path / "loop").mkdir()
    expect_ring(bell, rings)
    rings = settle(watch, bell)
    (tmp_path / "loop" / "x").touch()
    expect_ring(bell, rings)


def test_the_set_is_replaced(watch: FileWatch, bell: Bell, tmp_path: Path) -> None:
    """Watch names all that is wanted: what is left out falls silent, also where its parent stays."""
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    watch.watch([str(tmp_path), str(one)])
    watch.watch([str(tmp_path), str(two)])
    rings = settle(watch, bell)
    (one / "x").symlink_to("nowhere")
    (two / "x").symlink_to("nowhere")
    expect_ring(bell, rings)
    assert settle(watch, bell) == rings + 1
    watch.watch([])
    rings = settle(watch, bell)
    (two / "y").touch()
    (tmp_path / "y").touch()
    watch.watch([str(one)])
    (one / "z").symlink_to("nowhere")
    expect_ring(bell, rings)
    assert settle(watch, bell) == rings + 1


def test_a_closed_file_rings_again_a_moment_later(
    watch: FileWatch, bell: Bell, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel tells of a close before it drops the locks of the closer; a second ring finds them dropped."""
    monkeypatch.setattr(files, "ECHO_SECONDS", 0.5)
    held = (place / "x.yaml").open("r+")
    watch.watch([str(place)])
    rings = settle(watch, bell)
    held.close()
    eventually(lambda: bell.rings == rings + 1)
    assert changed(watch) == {str(place)}
    eventually(lambda: bell.rings == rings + 2)
    assert changed(watch) == {str(place)}


def test_a_thousand_directories_cost_one_thread(watch: FileWatch, bell: Bell, tmp_path: Path) -> None:
    """Neither threads nor descriptors grow with the number of directories."""
    places = [tmp_path / f"s{index}" for index in range(1000)]
    for place in places:
        place.mkdir()
    threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
    watch.watch([str(place) for place in places])
    assert threading.active_count() - threads <= 1
    assert len(os.listdir("/proc/self/fd")) - descriptors <= 3
    rings = settle(watch, bell)
    (places[577] / "x").symlink_to("nowhere")
    expect_ring(bell, rings)
    assert changed(watch) == {str(places[577])}


def test_lost_events_are_told(tmp_path: Path) -> None:
    """When the kernel throws events away, anything may have changed, and the watch goes on."""
    blocked, goes_on, bell = threading.Event(), threading.Event(), Bell()

    def ring() -> None:
        blocked.set()
        goes_on.wait(timeout=30)
        bell.ring()

    watch = FileWatch(ring)
    try:
        watch.watch([str(tmp_path), str(tmp_path / "later")])
        watch.take_changed()
        (tmp_path / "first").touch()
        assert blocked.wait(timeout=5)
        limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
        for index in range(limit + 10):
            os.symlink("nowhere", tmp_path / f"l{index}")
        (tmp_path / "later").mkdir()
        goes_on.set()
        eventually(lambda: watch.take_changed() is None, within=20)
        rings = settle(watch, bell)
        (tmp_path / "later" / "x").touch()
        expect_ring(bell, rings)
    finally:
        goes_on.set()
        watch.stop()


NO_INSTANCES = """
taken = []
try:
    while True:
        taken.append(InotifyFD())
except OSError:
    pass
rang = threading.Event()
watch = FileWatch(rang.set)
watch.watch(["/"])
print(watch.blind)
rang.clear()
print(rang.wait(10), watch.take_changed(), watch.take_changed())
"""


def test_without_inotify_it_rings_every_second() -> None:
    """Where the kernel gives no inotify instance any more, the bell ticks and anything may have changed."""
    imports = (
        "import threading; from watchdog.observers.inotify_c import InotifyFD; from smartstack.files import FileWatch"
    )
    assert run_as_nobody(imports, NO_INSTANCES) == [
        "files cannot be watched (inotify instance limit reached); looking every 1 s instead",
        "True None None",
    ]


def test_it_sees_again_when_there_are_watches_again(
    watch: FileWatch, bell: Bell, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Running out of watches later on makes it tick; it tries again, and is told by events again."""
    monkeypatch.setattr(files, "TICK_SECONDS", 0.02)
    monkeypatch.setattr(files, "RETRY_TICKS", 3)
    watch.watch([str(place)])
    settle(watch, bell)
    with monkeypatch.context() as patch:

        def refuse(*_arguments: object) -> int:
            raise OSError(errno.ENOSPC, "inotify watch limit reached")

        patch.setattr(InotifyFD, "add_callback", refuse)
        place.rename(place.parent / "old")
        place.mkdir()
        eventually(lambda: watch.blind is not None)
        rings = bell.rings
        eventually(lambda: bell.rings > rings + 10)
        assert watch.take_changed() is None
    eventually(lambda: watch.blind is None)
    rings = settle(watch, bell)
    (place / "y.yaml").symlink_to("nowhere")
    expect_ring(bell, rings)
    assert changed(watch) == {str(place)}


def test_stop_leaves_nothing(bell: Bell, place: Path) -> None:
    """No thread, no descriptor, no ring, however often it is stopped."""
    threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
    watch = FileWatch(bell.ring)
    watch.watch([str(place)])
    (place / "x.yaml").write_text("y")
    eventually(lambda: bell.rings)
    watch.stop()
    watch.stop()
    watch.watch(["/"])
    rings = bell.rings
    (place / "x.yaml").write_text("z")
    eventually(lambda: (threading.active_count(), len(os.listdir("/proc/self/fd"))) == (threads, descriptors))
    eventually(lambda: bell.silent_for(QUIET_SECONDS))
    assert bell.rings == rings
