"""`smartstack demo` as a newcomer runs it: the tour on both registries, Ctrl-C, and what may stand in its way."""

import contextlib
import os
import random
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.eventually import eventually

PROGRAM = Path(sys.executable).parent / "smartstack"
MARK = "SMARTSTACK_DEMO_TEST"
"""Whatever a demo starts inherits this variable, and is known by it."""

START_SECONDS = 40.0
PROCESSES = 5 + 3 + 1 + 2
"""Instances, nerves, synapse, HAProxy's master and worker."""


class Demo:
    """A demo as a child process, in a session of its own as a terminal would give it, with ports of its own."""

    def __init__(self) -> None:
        self.mark = secrets.token_hex(8)
        self.temporary = Path(tempfile.mkdtemp(prefix="d-"))
        self.port_base = random.randrange(11_000, 27_000, 20)  # below the ports that the kernel gives away
        self._output = self.temporary.with_suffix(".out")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str) -> None:
        """Run `smartstack demo` with these arguments."""
        environment = {**os.environ, MARK: self.mark, "TMPDIR": str(self.temporary)}
        command = [str(PROGRAM), "demo", "--port-base", str(self.port_base), *arguments]
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, env=environment
            )

    @property
    def output(self) -> str:
        """What it has printed."""
        return self._output.read_text()

    def says(self, words: str, within: float = START_SECONDS) -> None:
        """Wait until it has printed this."""

        def said() -> bool:
            assert self._process is not None
            if words not in self.output and self._process.poll() is not None:
                raise RuntimeError(f"the demo ended without saying {words!r}: {self.output}")
            return words in self.output

        eventually(said, within=within, message=f"it says {words!r}")

    def press_ctrl_c(self) -> None:
        """Signal the terminal's foreground processes."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGINT)

    def wait(self, seconds: float = 150.0) -> int:
        """Its exit code."""
        assert self._process is not None
        return self._process.wait(seconds)

    def processes(self, *words: str) -> list[int]:
        """What it started and what lives of that: those with all of these words in their command line."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                ours = f"{MARK}={self.mark}".encode() in (entry / "environ").read_bytes().split(b"\0")
                if ours and line and all(word in line for word in words):
                    found.append(int(entry.name))
        return found

    def close(self) -> None:
        """Leave nothing behind, whatever happened."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
        shutil.rmtree(self.temporary)
        self._output.unlink(missing_ok=True)


@pytest.fixture
def demo() -> Iterator[Demo]:
    """A demo that was not started yet."""
    made = Demo()
    yield made
    made.close()


STEPS = [
    "kill -9 web on host2",
    "start it again",
    "write services/hello.yaml",
    "break services/hello.yaml",
    "restart synapse",
    "repair services/hello.yaml",
    "kill -9 nerve on host1",
    "start nerve again",
    "drain web on host3, restart it",
    "make web on host2 slow",
    "make it quick again",
    "ask synapse what it saw",
]


def steps(output: str) -> list[tuple[str, str]]:
    """What the tour says of each step that happened: its title, and all that follows its time."""
    told = re.findall(r"^(\d+)\. (.*?)  +\d+\.\d\d s  (.*)$", output, re.MULTILINE)
    assert [int(number) for number, _, _ in told] == list(range(1, len(told) + 1))
    return [(title, what) for _, title, what in told]


@pytest.mark.timeout(240)
def test_the_tour_breaks_things_and_loses_no_request(demo: Demo) -> None:
    """On ZooKeeper: every step happens, no request fails, and neither a process nor a file is left."""
    demo.start("--tour", "--registry", "zookeeper")

    assert demo.wait() == 0, demo.output
    assert re.search(r"^tour: \d{4,} requests, 0 failed$", demo.output.strip().splitlines()[-1]), demo.output
    assert [title for title, _ in steps(demo.output)] == STEPS
    assert demo.processes() == []
    assert list(demo.temporary.iterdir()) == []


@pytest.mark.timeout(240)
def test_the_tour_fails_when_requests_fail(demo: Demo) -> None:
    """On the directory no request fails either, until HAProxy is killed under the last step. That is a failure that
    the tour sees: it exits with 1, says when and why, and keeps the logs."""
    demo.start("--tour", "--registry", "file")
    demo.says(f"10. {STEPS[9]}", within=100)
    haproxy = demo.processes("haproxy.cfg")
    demo.says(f"11. {STEPS[10]}", within=100)
    for pid in haproxy:
        os.kill(pid, signal.SIGKILL)

    assert demo.wait() == 1, demo.output
    told = steps(demo.output)
    assert [title for title, _ in told] == STEPS
    assert [title for title, what in told if what.endswith(" FAILED")] == STEPS[-1:]
    last = re.fullmatch(r"tour: \d+ requests, (\d+) failed", demo.output.strip().splitlines()[-1])
    assert last is not None, demo.output
    assert int(last[1]) > 0
    assert re.search(r"^failed: \d\d:\d\d:\d\d\.\d{3} (web|api|hello): \w+", demo.output, re.MULTILINE), demo.output
    assert demo.processes() == []
    assert list(demo.temporary.glob("*/logs/synapse.log"))


@pytest.mark.timeout(240)
@pytest.mark.parametrize("registry", ["file", "zookeeper"])
def test_ctrl_c_ends_what_the_demo_started_and_nothing_else(demo: Demo, registry: str) -> None:
    """All that it started is gone within seconds, its files too; an instance and a HAProxy of others live on."""
    with contextlib.ExitStack() as bystanders:
        others = [bystanders.enter_context(_service("127.0.0.14")), bystanders.enter_context(_haproxy())]
        demo.start("--registry", registry)
        demo.says("Ctrl-C ends everything")
        demo.says(" ok, 0 failed | web host1 ", within=15)
        assert len(demo.processes("haproxy.cfg")) == 2
        assert len(demo.processes()) == 1 + PROCESSES + (registry == "zookeeper")

        demo.press_ctrl_c()

        assert demo.wait(15) == 0, demo.output
        assert demo.output.endswith("everything is stopped\n")
        assert demo.processes() == []
        assert list(demo.temporary.iterdir()) == []
        assert [other.poll() for other in others] == [None, None]


def test_ctrl_c_in_the_middle_of_the_start_leaves_nothing(demo: Demo) -> None:
    """However early somebody changes their mind, what was started by then is ended."""
    demo.start()
    eventually(lambda: len(demo.processes("run -c")) > 1, within=START_SECONDS)
    demo.press_ctrl_c()

    assert demo.wait(30) == 0, demo.output
    assert demo.processes() == []
    assert list(demo.temporary.iterdir()) == []


def test_what_was_killed_is_started_again(demo: Demo) -> None:
    """A visitor may kill an instance: the demo says so, says that it left, and starts it again."""
    demo.start()
    demo.says("Ctrl-C ends everything")
    (victim,) = demo.processes("smartstack.demo.service web host2")
    os.kill(victim, signal.SIGKILL)

    demo.says("web on host2 was ended by SIGKILL", within=15)
    demo.says(f"web: 127.0.0.12:{8080 + demo.port_base - 3210} left, 2 serve", within=15)
    demo.says("web on host2 is started again", within=15)
    demo.says(f"web: 127.0.0.12:{8080 + demo.port_base - 3210} came, 3 serve", within=15)
    demo.press_ctrl_c()
    assert demo.wait(15) == 0
    assert demo.processes() == []


def test_with_a_directory_the_files_stay(demo: Demo) -> None:
    """A visitor who names a directory finds the YAML files and the logs there afterwards."""
    directory = demo.temporary / "mine"
    demo.start("--directory", str(directory))
    demo.says("Ctrl-C ends everything")
    demo.press_ctrl_c()

    assert demo.wait(15) == 0
    names = {path.name for path in directory.iterdir()}
    assert names >= {"services", "synapse.yaml", "nerve-host1.yaml", "nerve-host3.yaml", "logs", "registry"}
    assert "synapse" in (directory / "logs" / "synapse.log").read_text()


def test_a_taken_port_is_one_sentence(demo: Demo) -> None:
    """A port that somebody has, such as an earlier demo: which one, who, and how to choose others; exit code 1."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", demo.port_base))
        taken.listen()
        demo.start()
        assert demo.wait(30) == 1

    assert re.fullmatch(
        rf"port {demo.port_base} of 127\.0\.0\.1 is taken by \S+ \(pid {os.getpid()}\): end what uses it, or choose "
        rf"other ports with --port-base, such as --port-base {demo.port_base + 1000}",
        demo.output.strip().splitlines()[-1],
    ), demo.output
    assert demo.processes() == []
    assert list(demo.temporary.iterdir()) == []


def test_a_directory_in_use_is_left_alone(demo: Demo) -> None:
    """Files of others are never written over: a directory that is not empty is refused with exit code 1."""
    (demo.temporary / "services").mkdir()
    demo.start("--directory", str(demo.temporary))

    assert demo.wait(30) == 1
    assert demo.output == f"{demo.temporary} is not empty: give the demo a new directory, or an empty one\n"
    assert [path.name for path in demo.temporary.iterdir()] == ["services"]


def test_a_program_that_does_not_start_is_named_with_its_reason(demo: Demo) -> None:
    """A synapse that finds no HAProxy ends at once: the demo says so in its words, and ends all the rest."""
    directory = demo.temporary / "bin"
    directory.mkdir()
    (directory / "haproxy").write_text("#!/bin/sh\necho 'HAProxy version 1.8.4'\n")
    (directory / "haproxy").chmod(0o755)
    path = os.environ["PATH"]
    try:
        os.environ["PATH"] = f"{directory}:{path}"
        demo.start()
    finally:
        os.environ["PATH"] = path

    assert demo.wait(60) == 1
    assert re.search(r"^synapse ended with exit code 1: .*HAProxy 1\.8: synapse needs 2\.4", demo.output, re.MULTILINE)
    assert "Traceback" not in demo.output
    assert demo.processes() == []


@contextlib.contextmanager
def _service(address: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "smartstack.demo.service", "web", "host4", address, "18080"]
    with _ended(subprocess.Popen(command)) as process:
        yield process


@contextlib.contextmanager
def _haproxy() -> Iterator[subprocess.Popen[bytes]]:
    with tempfile.NamedTemporaryFile("w", suffix="haproxy.cfg") as file:
        file.write("defaults\n mode tcp\n timeout connect 1s\n timeout client 1s\n timeout server 1s\n")
        file.write("listen other\n bind 127.0.0.14:18081\n")
        file.flush()
        search = f"{os.environ.get('PATH', '')}:/usr/sbin"
        binary = shutil.which("haproxy", path=search)
        assert binary is not None
        with _ended(subprocess.Popen([binary, "-W", "-f", file.name])) as process:
            yield process


@contextlib.contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    try:
        yield process
    finally:
        process.terminate()
        process.wait(10)
