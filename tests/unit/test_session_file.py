"""The session's file: what is in it is taken only when it is whole and its own."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartstack.registry.protocol import NodeId
from smartstack.registry.zookeeper import session_file
from smartstack.registry.zookeeper.session_file import Identity, Saved, SessionFile, decode, encode

REGISTRY = "zookeeper://zk1:2181/smartstack digest nerve"
BOOT = "4a1b"
SAVED = Saved(
    identity=Identity(-0x1234_5678_9ABC, bytes(range(16))),
    places=frozenset({NodeId(path="services/web", node="10.0.0.1:8080"), NodeId(path="/nerve/api", node="ü")}),
)

PLACES = st.frozensets(
    st.builds(
        lambda path, node: NodeId(path=path, node=node),
        st.text(st.characters(exclude_categories=["Cs"])),
        st.text(st.characters(exclude_categories=["Cs"])),
    ),
    max_size=5,
)


@given(
    session=st.integers(-(1 << 63), (1 << 63) - 1).filter(bool),
    password=st.binary(min_size=16, max_size=16),
    places=PLACES,
)
def test_what_was_written_is_read(session: int, password: bytes, places: frozenset[NodeId]) -> None:
    """Any session, any places."""
    saved = Saved(identity=Identity(session, password), places=places)
    assert decode(encode(saved, REGISTRY, BOOT), REGISTRY, BOOT) == saved


@given(st.binary(max_size=200))
def test_nonsense_is_refused_and_never_raised(content: bytes) -> None:
    """Whatever stands there, a daemon starts."""
    assert not isinstance(decode(content, REGISTRY, BOOT), Saved)


def changed(**changes: Any) -> bytes:
    """A good file with some keys changed."""
    return json.dumps(json.loads(encode(SAVED, REGISTRY, BOOT)) | changes).encode()


@pytest.mark.parametrize(
    ("content", "answer"),
    [
        pytest.param(b"", None, id="empty"),
        pytest.param(changed(boot="other"), None, id="of another boot"),
        pytest.param(changed(registry="other"), None, id="of another registry"),
        pytest.param(changed(format=2), "is of another version", id="of another version"),
        pytest.param(b"[]", "is of another version", id="a list"),
        pytest.param(b"{}", "is damaged", id="nothing in it"),
        pytest.param(encode(SAVED, REGISTRY, BOOT)[:-1], "is damaged", id="cut short"),
        pytest.param(b"[" * 100_000, "is damaged", id="too deep"),
        pytest.param(changed(session="1"), "is damaged", id="a session that is a text"),
        pytest.param(changed(session=True), "is damaged", id="a session that is true"),
        pytest.param(changed(session=1 << 63), "is damaged", id="a session that is too large"),
        pytest.param(changed(session=0), "is damaged", id="no session"),
        pytest.param(changed(password="xx"), "is damaged", id="a password that is not hexadecimal"),
        pytest.param(changed(password="00"), "is damaged", id="a short password"),
        pytest.param(changed(password=None), "is damaged", id="no password"),
        pytest.param(changed(places=5), "is damaged", id="places that are none"),
        pytest.param(changed(places=[["a"]]), "is damaged", id="half a place"),
        pytest.param(changed(places=[["a", 5]]), "is damaged", id="a place that is a number"),
        pytest.param(changed(places=[["a", ["b"]]]), "is damaged", id="a place in a place"),
        pytest.param(changed(places=[["a", "\ud800"]]), "is damaged", id="a place that cannot be sent"),
    ],
)
def test_what_is_not_whole_and_ours_is_not_taken(content: bytes, answer: str | None) -> None:
    """Silently when it is only of no use, with a reason when somebody should know."""
    assert decode(content, REGISTRY, BOOT) == answer


def test_a_secret_is_not_shown() -> None:
    """Neither in a representation nor in a text."""
    assert SAVED.identity.password.hex() not in repr(SAVED)
    assert "\\x0f" not in repr(SAVED)


def saved_file(tmp_path: Path) -> Path:
    """A file as a process leaves it."""
    path = tmp_path / "session.json"
    file = SessionFile(str(path), REGISTRY)
    assert file.save(SAVED)
    assert file.problem == ""
    return path


def test_the_next_process_finds_it(tmp_path: Path) -> None:
    """Readable by its owner only, nothing beside it."""
    path = saved_file(tmp_path)
    assert SessionFile(str(path), REGISTRY).load() == SAVED
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["session.json"]


@pytest.mark.parametrize(
    ("age", "is_found"),
    [(0, True), (session_file.OLDEST_SECONDS - 60, True), (session_file.OLDEST_SECONDS + 60, False), (-9999, True)],
)
def test_an_old_file_is_left_alone(tmp_path: Path, age: float, is_found: bool) -> None:
    """Its session cannot be alive, so the server is not asked; a clock that was set back does no harm."""
    path = saved_file(tmp_path)
    os.utime(path, (time.time() - age, time.time() - age))
    file = SessionFile(str(path), REGISTRY)
    assert (file.load() == SAVED) is is_found
    assert file.problem == ""


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610])
def test_a_file_for_others_is_suspicious(tmp_path: Path, mode: int) -> None:
    """Whoever could read it could have taken the session; whoever could write it could have given us theirs."""
    path = saved_file(tmp_path)
    path.chmod(mode)
    file = SessionFile(str(path), REGISTRY)
    assert file.load() is None
    assert file.problem == (
        f"the session of before was not taken up: {path} may be read by others, who could have taken the session: it "
        "must have mode 600"
    )


def test_another_users_file_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same; root's is."""
    path = saved_file(tmp_path)
    if os.geteuid() == 0:
        os.chown(path, 65534, 65534)
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    file = SessionFile(str(path), REGISTRY)
    assert file.load() is None
    assert "is not a file of this user" in file.problem


def test_a_fifo_holds_nobody_up(tmp_path: Path) -> None:
    """Nor does anything else that is not a file."""
    path = tmp_path / "session.json"
    os.mkfifo(path)
    file = SessionFile(str(path), REGISTRY)
    assert file.load() is None
    assert "is not a file of this user" in file.problem


def test_it_is_written_only_when_something_is_missing_in_it(tmp_path: Path) -> None:
    """Fewer places are covered by the file as it is, unless it is to be exact."""
    path = saved_file(tmp_path)
    file = SessionFile(str(path), REGISTRY)
    file.load()
    before = path.stat().st_ino
    fewer = Saved(identity=SAVED.identity, places=frozenset())
    assert file.save(SAVED)
    assert file.save(fewer)
    assert path.stat().st_ino == before
    assert file.save(fewer, exact=True)
    assert SessionFile(str(path), REGISTRY).load() == fewer


def test_it_is_kept_young_and_made_again_when_somebody_removed_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Touched once a minute at most."""
    path = saved_file(tmp_path)
    file = SessionFile(str(path), REGISTRY)
    file.load()
    os.utime(path, (1, 1))
    file.touch()
    assert path.stat().st_mtime > 1
    os.utime(path, (1, 1))
    file.touch()
    assert path.stat().st_mtime == 1
    monkeypatch.setattr(session_file, "FRESH_SECONDS", 0.0)
    path.unlink()
    file.touch()
    assert file.save(SAVED)
    assert path.exists()


def test_a_machine_whose_boot_has_no_id_hands_nothing_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session of before a reboot could not be told from one of now."""
    path = saved_file(tmp_path)
    monkeypatch.setattr(session_file, "_BOOT_ID", str(tmp_path / "missing"))
    file = SessionFile(str(path), REGISTRY)
    assert file.load() is None
    assert file.save(SAVED)
    assert "session hand-over is off: cannot tell this boot from others" in file.problem
