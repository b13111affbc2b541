"""A HAProxy of somebody else's that is not there, and commands that do not work: what is said."""

import os
import signal
from pathlib import Path

import pytest

from synapse.haproxy import external
from synapse.haproxy.errors import HAProxyAway, HAProxyError, NotOursToStart
from synapse.haproxy.external import Commands, ExternalHAProxy, run
from synapse.haproxy.runtime import Runtime


def nobody(directory: Path, master: str | None = None, commands: Commands = Commands()) -> ExternalHAProxy:  # noqa: B008
    """A HAProxy that is not running."""
    runtime = Runtime(str(directory / "haproxy.sock"), master)
    return ExternalHAProxy(runtime, str(directory / "haproxy.cfg"), commands, lambda: None)


def test_what_is_not_running_is_left_to_its_owner(tmp_path: Path) -> None:
    """It is not there, it is not started, nor is anything ended; what its owner should do is said."""
    process = nobody(tmp_path)
    assert process.observe() is None
    assert not process.running()
    with pytest.raises(NotOursToStart, match=r"start it with .*/haproxy\.cfg as one of its files, or give"):
        process.start("smartstack-1")
    process.stop()
    process.end_leftovers()


def test_without_a_master_socket_the_master_cannot_be_asked(tmp_path: Path) -> None:
    """That is an answer like that of a socket that is not there."""
    with pytest.raises(HAProxyAway, match="no master_socket is given") as raised:
        nobody(tmp_path).runtime.processes()
    assert raised.value.nobody_listens


def test_a_reload_by_a_socket_that_is_not_there(tmp_path: Path) -> None:
    """The path is said."""
    with pytest.raises(HAProxyAway, match=r"does not answer on .*/master\.sock: No such file"):
        nobody(tmp_path, master=str(tmp_path / "master.sock")).reload("smartstack-1")


COMMANDS: dict[str, tuple[list[str], str]] = {
    "not there": (["/nowhere/reload"], "cannot reload HAProxy: cannot run /nowhere/reload: no such file or directory"),
    "it fails": (
        ["sh", "-c", "echo one; echo two >&2; exit 4"],
        "cannot reload HAProxy: sh -c echo one; echo two >&2; exit 4 ended with 4: one two",
    ),
    "it fails without a word": (["false"], "cannot reload HAProxy: false ended with 1: without a word"),
    "it is killed": (
        ["sh", "-c", "kill -9 $$"],
        "cannot reload HAProxy: sh -c kill -9 $$ ended with -9: without a word",
    ),
}


@pytest.mark.parametrize(("command", "words"), COMMANDS.values(), ids=COMMANDS)
def test_a_command_that_fails_is_told_with_its_words(command: list[str], words: str) -> None:
    """What was run, how it ended, and what it said last."""
    with pytest.raises(HAProxyError) as raised:
        run("reload", command)
    assert str(raised.value) == words


def test_a_command_that_says_much_is_told_by_its_end() -> None:
    """The reason stands at the end, as a rule."""
    with pytest.raises(HAProxyError) as raised:
        run("start", ["sh", "-c", "seq 10000; exit 1"])
    assert str(raised.value).endswith(" 9999 10000")
    assert len(str(raised.value)) < 400


def test_a_command_has_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is ended, and that is said."""
    monkeypatch.setattr(external, "COMMAND_SECONDS", 0.2)
    with pytest.raises(HAProxyError, match=r"sleep 60 took longer than 0\.2 s"):
        run("reload", ["sleep", "60"])


def test_a_daemon_that_a_command_leaves_behind_holds_up_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It keeps the output of the command open; nobody waits for it."""
    monkeypatch.setattr(external, "COMMAND_SECONDS", 5.0)
    pid_file = tmp_path / "pid"
    run("start", ["sh", "-c", f"sleep 60 & echo $! > {pid_file}"])
    os.kill(int(pid_file.read_text()), signal.SIGKILL)
