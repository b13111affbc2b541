"""The `exec` check with real programs: well ones, ill ones and wild ones."""

import os
import signal
import sys
import time
import tracemalloc
from pathlib import Path

import pytest

from nerve.checks.exec import COMMAND, OUTPUT_LIMIT, ExecCheck
from smartstack.model import anchored
from tests.support.check_servers import outcome_of
from tests.support.eventually import eventually


def python(code: str) -> tuple[str, ...]:
    """A command that runs this, without the time that site-packages cost."""
    return (sys.executable, "-I", "-S", "-c", code)


@pytest.mark.parametrize(
    ("command", "passed", "reason"),
    [
        pytest.param(("true",), True, "exit 0", id="exit 0"),
        pytest.param(("false",), False, "exit 1", id="exit 1"),
        pytest.param(("echo", "all\nis well"), True, "is well", id="the last line of output is the reason"),
        pytest.param(("sh", "-c", "echo 17 left >&2; exit 3"), False, "exit 3: 17 left", id="standard error counts"),
        pytest.param(("echo", "$HOME; *"), True, "$HOME; *", id="no shell sees it"),
        pytest.param(("printf", r"\033[31m"), True, r"\x1b[31m", id="escapes are shown"),
        pytest.param(("sh", "-c", "kill -9 $$"), False, "ended by SIGKILL", id="a signal"),
        pytest.param(
            ("/no/such/program",), False, "cannot run /no/such/program: no such file or directory", id="no program"
        ),
        pytest.param(
            ("sh", "-c", "echo $SMARTSTACK_HOST $SMARTSTACK_PORT"), True, "127.0.0.1 1", id="it is told the address"
        ),
        pytest.param(("cat",), True, "exit 0", id="standard input is empty"),
    ],
)
def test_exec_judges_by_the_exit_code(command: tuple[str, ...], passed: bool, reason: str) -> None:
    """0 passes. The reason is the last line of output, whatever it holds, as printable text."""
    outcome = outcome_of(ExecCheck(command=command, timeout=10.0))
    assert (outcome.passed, outcome.reason) == (passed, reason)


def test_exec_reads_all_output_and_keeps_the_end() -> None:
    """A program that writes megabytes does not block, and costs a few KB."""
    outcome = outcome_of(ExecCheck(command=python("print('x' * 5_000_000); print('the end')"), timeout=10.0))
    assert outcome.reason == "the end"
    long_line = outcome_of(ExecCheck(command=python(f"print('x' * {2 * OUTPUT_LIMIT})"), timeout=10.0))
    assert len(long_line.reason) <= 200


def alive(pid_file: Path) -> bool:
    """Whether the process that wrote this file is there and no zombie."""
    status = Path(f"/proc/{pid_file.read_text().strip()}/stat")
    return status.exists() and status.read_text().rpartition(") ")[2][0] not in "ZX"


def test_exec_kills_the_whole_group_at_its_time_out(tmp_path: Path) -> None:
    """Not the program alone: what it started is gone too, even when that ignores SIGTERM."""
    pid_file = tmp_path / "pid"
    script = f"trap '' TERM; sh -c 'trap \"\" TERM; echo $$ > {pid_file}; echo ready; sleep 60; sleep 60' & wait"
    started = time.monotonic()
    outcome = outcome_of(ExecCheck(command=("sh", "-c", script), timeout=0.5))
    assert (outcome.passed, outcome.reason) == (False, "killed after 0.5s, last output: ready")
    assert time.monotonic() - started < 2
    eventually(lambda: not alive(pid_file))


def test_exec_does_not_wait_for_what_the_program_left_behind(tmp_path: Path) -> None:
    """A program that ended has ended, though its child keeps the pipe open; and that is ended then, as the host would
    fill with one more of them each second."""
    pid_file = tmp_path / "pid"
    started = time.monotonic()
    outcome = outcome_of(ExecCheck(command=("sh", "-c", f"sleep 60 & echo $! > {pid_file}; echo done"), timeout=4.0))
    assert (outcome.passed, outcome.reason) == (True, "done")
    assert time.monotonic() - started < 2
    eventually(lambda: not alive(pid_file))


@pytest.mark.parametrize("code", [0, 3])
def test_exec_waits_for_a_program_that_closed_its_output(code: int) -> None:
    """It is judged by how it ends, and not by when it says no more."""
    outcome = outcome_of(
        ExecCheck(command=("sh", "-c", f"echo said; exec >&- 2>&-; sleep 0.2; exit {code}"), timeout=5)
    )
    assert outcome.passed is (code == 0)
    assert outcome.reason == ("said" if code == 0 else "exit 3: said")
    silent = ("sh", "-c", "exec >&- 2>&-; exec sleep 60")
    assert outcome_of(ExecCheck(command=silent, timeout=0.2)).reason == "killed after 0.2s"


@pytest.mark.parametrize(
    ("value", "command"),
    [
        pytest.param(["a", "b c"], ("a", "b c"), id="a list"),
        pytest.param("a 'b c' \"d\"", ("a", "b c", "d"), id="one text is split as a shell would"),
    ],
)
def test_a_command_may_be_a_list_or_one_text(value: object, command: tuple[str, ...]) -> None:
    """Both forms mean the same."""
    assert COMMAND.parse(value) == command


@pytest.mark.parametrize("value", ["", [], [1], "a 'b", {"a": "b"}, None, 5, [""], ["a\0b"]])
def test_what_is_no_command_is_refused(value: object) -> None:
    """Empty, not words, an open quote: refused when the file is read, and not when the check runs."""
    with pytest.raises(ValueError, match="must be a command"):
        COMMAND.parse(value)


def test_a_relative_program_is_made_absolute() -> None:
    """Against the directory of its definition; a bare name is looked up in PATH, and arguments stay as they are."""
    assert anchored(ExecCheck(command=("bin/check", "a/b")), "/etc/ss").command == ("/etc/ss/bin/check", "a/b")
    assert anchored(ExecCheck(command=("check", "a/b")), "/etc/ss").command == ("check", "a/b")


def test_exec_takes_100_megabytes_of_output_in_little_memory() -> None:
    """All is read, so that the program does not block, and a few KB are kept."""
    code = "import os\nfor _ in range(1600): os.write(1, b'x' * 65536)\nprint('; the end')"
    tracemalloc.start()
    try:
        outcome = outcome_of(ExecCheck(command=python(code), timeout=60.0))
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    assert outcome.passed


def test_exec_ends_a_program_that_never_stops_writing() -> None:
    """Output is not a sign of life that would put the time-out off."""
    started = time.monotonic()
    outcome = outcome_of(ExecCheck(command=("yes", "and on"), timeout=0.3))
    assert (outcome.passed, outcome.reason) == (False, "killed after 0.3s, last output: and on")
    assert time.monotonic() - started < 2


def test_exec_is_not_held_up_by_what_the_program_left_writing(tmp_path: Path) -> None:
    """A program that ended has ended, though its grandchild goes on writing into the same pipe without a pause."""
    pid_file = tmp_path / "pid"
    started = time.monotonic()
    outcome = outcome_of(ExecCheck(command=("sh", "-c", f"yes & echo $! > {pid_file}"), timeout=10.0))
    assert outcome.passed
    assert time.monotonic() - started < 5
    eventually(lambda: not alive(pid_file))


@pytest.mark.parametrize(
    ("ends", "passed", "within"),
    [pytest.param(True, True, 3.0, id="and ends"), pytest.param(False, False, 3.0, id="and hangs")],
)
def test_exec_is_not_held_up_by_a_daemon(ends: bool, passed: bool, within: float, tmp_path: Path) -> None:
    """A program that starts a daemon (forked twice, a session of its own, the pipe still open) is judged by itself.

    The daemon is out of reach of a process group: it lives on, also when the program is killed at the time-out.
    """
    pid_file = tmp_path / "pid"
    code = (
        "import os, sys, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        f"        open({str(pid_file)!r}, 'w').write(str(os.getpid()))\n"
        "        time.sleep(60)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        f"while not os.path.exists({str(pid_file)!r}) or not os.path.getsize({str(pid_file)!r}): time.sleep(0.01)\n"
        f"print('ready', flush=True); time.sleep({0 if ends else 60})\n"
    )
    started = time.monotonic()
    outcome = outcome_of(ExecCheck(command=python(code), timeout=1.0))
    assert outcome.passed is passed
    assert outcome.reason == ("ready" if ends else "killed after 1s, last output: ready")
    assert time.monotonic() - started < within
    assert alive(pid_file)
    os.kill(int(pid_file.read_text()), signal.SIGKILL)


def test_exec_that_forks_and_forks_is_ended_as_a_whole(tmp_path: Path) -> None:
    """All of its process group: none is left, however many there are."""
    script = f"for i in $(seq 50); do sh -c 'echo $$ > {tmp_path}/$0; exec sleep 60' $i & done; wait"
    outcome = outcome_of(ExecCheck(command=("sh", "-c", script), timeout=1.0))
    assert outcome.reason == "killed after 1s"
    started = list(tmp_path.iterdir())
    assert started
    eventually(lambda: not any(alive(file) for file in started if file.read_text()))


def test_exec_leaves_no_descriptor_and_no_zombie() -> None:
    """After passes, failures, time-outs and programs that are not there."""

    def counts() -> tuple[int, int]:
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        return len(os.listdir("/proc/self/fd")), len(children)

    before = counts()
    for command in (("true",), ("false",), ("sleep", "9"), ("/no/such/program",), ("sh", "-c", "sleep 9 & sleep 9")):
        outcome_of(ExecCheck(command=command, timeout=0.1))
    assert counts() == before
