"""haproxy.cfg on disk, as far as somebody else may have a hand in it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from synapse.configuration import ConfigurationFile
from synapse.haproxy import program
from synapse.haproxy.errors import ConfigurationRefused

GOOD = "global\n    maxconn 100\n"


@pytest.fixture
def file(tmp_path: Path) -> ConfigurationFile:
    """A file that synapse has written."""
    made = ConfigurationFile(str(tmp_path / "haproxy.cfg"), program.find("haproxy"))
    assert made.swap(GOOD)
    return made


def overwritten(path: Path) -> None:
    path.write_text("global\n    maxconn 200\n")


def replaced(path: Path) -> None:
    new = path.with_suffix(".new")
    new.write_text("global\n    maxconn 300\n")
    new.rename(path)


def not_text(path: Path) -> None:
    path.write_bytes(b"\xff\xfe")


@pytest.mark.parametrize("damage", [overwritten, replaced, not_text, Path.unlink])
def test_a_change_by_somebody_else_is_found_once_and_put_right(
    file: ConfigurationFile, damage: Callable[[Path], None]
) -> None:
    """It is said once, what was good is not forgotten, and the same text is written again."""
    path = Path(file.path)
    assert file.edited() is None
    damage(path)
    why = file.edited()
    assert why is not None
    assert why.startswith(file.path)
    assert file.foreign
    assert file.edited() is None
    assert file.content() == GOOD
    assert file.swap(GOOD)
    assert path.read_text() == GOOD
    assert not file.swap(GOOD), "there is nothing foreign any more"


def test_a_file_that_was_only_touched_was_not_changed(file: ConfigurationFile) -> None:
    """The time of a file says nothing; its text does."""
    os.utime(file.path, (1, 1))
    assert file.edited() is None
    Path(file.path).write_text(GOOD)
    assert file.edited() is None
    assert not file.foreign
    assert not file.swap(GOOD)


def test_whose_it_is_now_is_told(file: ConfigurationFile) -> None:
    """Where somebody else owns it; root can give files away."""
    overwritten(Path(file.path))
    if os.geteuid() == 0:
        os.chown(file.path, 65534, 65534)
    why = file.edited() or ""
    assert ("(it belongs to nobody now)" in why) is (os.geteuid() == 0)


def test_nothing_is_said_of_a_file_that_was_never_read(tmp_path: Path) -> None:
    """A synapse that only starts has nothing to compare with."""
    assert ConfigurationFile(str(tmp_path / "none.cfg"), "haproxy").edited() is None


def test_a_file_is_checked_with_the_files_of_the_operator(tmp_path: Path) -> None:
    """HAProxy runs with all of them, so what one has against another counts; its words name the file."""
    theirs = tmp_path / "theirs.cfg"
    theirs.write_text("defaults\n    mode http\n    timeout client 1s\nfrontend web\n    bind unix@/tmp/never\n")
    file = ConfigurationFile(str(tmp_path / "haproxy.cfg"), program.find("haproxy"), [str(theirs)], 0o640)
    file.check(GOOD)
    with pytest.raises(ConfigurationRefused, match=r"theirs\.cfg:4"):
        file.check("frontend web\n    mode http\n    timeout client 1s\n    bind unix@/tmp/never\n")
    file.swap(GOOD)
    assert os.stat(file.path).st_mode & 0o777 == 0o640
