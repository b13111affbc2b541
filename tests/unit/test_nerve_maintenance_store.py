"""What is drained survives a restart, and what cannot be kept does not take effect."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from nerve.maintenance_store import FILE, MaintenanceStore
from smartstack.errors import SmartStackError
from smartstack.maintenance import Maintenances, begin
from smartstack.maintenance_store import SIZE_LIMIT

DRAINS: Maintenances = begin({}, "web", reason="new disk", owner="alice", now=1000.0, until=None)
MORE = begin(DRAINS, "*", reason="new kernel", owner="bob", now=2000.0, until=3000.0)


def test_nothing_was_drained_yet(tmp_path: Path) -> None:
    """A first start finds nothing, and that is no problem."""
    store = MaintenanceStore(str(tmp_path))
    assert (store.load(), store.problem) == ({}, None)
    assert os.listdir(tmp_path) == []


def test_drains_survive_a_restart(tmp_path: Path) -> None:
    """What was saved is what the next nerve finds; only nerve's user may read who is working at what."""
    MaintenanceStore(str(tmp_path)).save(MORE)
    store = MaintenanceStore(str(tmp_path))
    assert (store.load(), store.problem) == (MORE, None)
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600


def test_what_is_there_already_is_not_written_again(tmp_path: Path) -> None:
    """The same drains are the same file: no write, also after a restart; other ones are."""
    store = MaintenanceStore(str(tmp_path))
    store.save(DRAINS)
    os.utime(tmp_path / FILE, ns=(1, 1))
    store.save(dict(DRAINS))
    again = MaintenanceStore(str(tmp_path))
    again.save(again.load())
    assert (tmp_path / FILE).stat().st_mtime_ns == 1
    again.save({})
    assert MaintenanceStore(str(tmp_path)).load() == {}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"{", "it is not JSON", id="cut off"),
        pytest.param(b"", "it is not JSON", id="empty"),
        pytest.param(b" " * (SIZE_LIMIT + 1), "it is larger than 4194304 bytes", id="without end"),
        pytest.param(
            b'{"format": 2, "maintenances": {}}',
            "it is of format 2, and this nerve reads format 1",
            id="a later format",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_put_aside(content: bytes, reason: str, tmp_path: Path) -> None:
    """Nothing is drained by it, the problem is one sentence, and the file is kept for somebody to look at; the next
    drain is saved as ever."""
    path = tmp_path / FILE
    path.write_bytes(content)
    store = MaintenanceStore(str(tmp_path))
    assert store.load() == {}
    assert store.problem == (
        f"cannot tell what was drained before this start, so nothing is: {path} cannot be used ({reason}); "
        "it is kept as maintenance.json.corrupt; drain again what should be"
    )
    assert (tmp_path / "maintenance.json.corrupt").read_bytes() == content
    assert not path.exists()
    store.save(DRAINS)
    assert MaintenanceStore(str(tmp_path)).load() == DRAINS


def test_a_file_that_cannot_be_read_is_put_aside(tmp_path: Path) -> None:
    """A directory in its place is as bad as a broken file."""
    (tmp_path / FILE).mkdir()
    store = MaintenanceStore(str(tmp_path))
    assert store.load() == {}
    assert store.problem is not None
    assert "(is a directory); it is kept as maintenance.json.corrupt" in store.problem


def test_a_file_that_cannot_be_put_aside(tmp_path: Path) -> None:
    """That is said too, and the file stays where it is."""
    (tmp_path / FILE).write_bytes(b"{")
    (tmp_path / "maintenance.json.corrupt").mkdir()
    store = MaintenanceStore(str(tmp_path))
    assert store.load() == {}
    assert store.problem is not None
    assert "it cannot be put aside as maintenance.json.corrupt (is a directory); drain again" in store.problem
    assert (tmp_path / FILE).read_bytes() == b"{"


def test_a_full_disk_changes_nothing(tmp_path: Path) -> None:
    """A real limit on the size of files: the drain is refused in one sentence, and the old file stays whole."""
    MaintenanceStore(str(tmp_path)).save(DRAINS)
    program = (
        "import resource, signal, sys\n"
        "from smartstack.maintenance import begin\n"
        "from nerve.maintenance_store import MaintenanceStore\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        f"store = MaintenanceStore({str(tmp_path)!r})\n"
        "store.save(begin(store.load(), 'api', reason='x' * 200, owner='', now=0.0, until=None))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (
        "SmartStackError: cannot change what is drained, and nothing was changed: cannot write "
        f"{tmp_path / FILE}: file too large" in ended.stderr
    )
    assert MaintenanceStore(str(tmp_path)).load() == DRAINS
    assert os.listdir(tmp_path) == [FILE]


def test_what_could_not_be_saved_is_tried_again(tmp_path: Path) -> None:
    """A save that failed is not taken for done: the same drains are written once there is room."""
    directory = tmp_path / "state"
    store = MaintenanceStore(str(directory))
    with pytest.raises(SmartStackError, match=r"^cannot change what is drained, and nothing was changed: cannot write"):
        store.save(DRAINS)
    directory.mkdir()
    store.save(DRAINS)
    assert MaintenanceStore(str(directory)).load() == DRAINS
