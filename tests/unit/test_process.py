"""The shell of a daemon: signals, the loop's safety net, systemd, the lock, files that are whole or not at all."""

import errno
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from smartstack import process
from smartstack.errors import SmartStackError
from smartstack.logs import EventLog, configure
from smartstack.process import (
    Heartbeat,
    ProcessLock,
    Stopping,
    install_signals,
    notify,
    run_loop,
    write_atomically,
)
from smartstack.wake import Wake
from tests.support.eventually import eventually

log = EventLog("test")


@pytest.fixture
def stopping() -> Stopping:
    return Stopping()


@pytest.fixture
def signals() -> Iterator[None]:
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


class Cycle:
    """A cycle that plays a list: a number is returned, an exception raised; stops the loop at the end of it."""

    def __init__(self, stopping: Stopping, *plays: float | Exception) -> None:
        self.stopping = stopping
        self.plays = list(plays)
        self.moments: list[float] = []

    def __call__(self) -> float:
        self.moments.append(time.monotonic())
        play = self.plays.pop(0)
        if not self.plays:
            self.stopping.requested = True
        if isinstance(play, Exception):
            raise play
        return play

    def gaps(self) -> list[float]:
        return [later - earlier for earlier, later in zip(self.moments, self.moments[1:], strict=False)]


@pytest.mark.usefixtures("signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_to_stop_and_rings(number: signal.Signals) -> None:
    """SIGTERM and SIGINT set the flag and ring, so that a loop that waits ends at once."""
    wake = Wake()
    stopping = install_signals(wake)
    assert not stopping.requested
    os.kill(os.getpid(), number)
    assert wake.wait(5)
    assert stopping.requested


@pytest.mark.usefixtures("signals")
def test_hangup_asks_to_look_again() -> None:
    """SIGHUP asks for a whole cycle, rings for it and does not stop."""
    wake = Wake()
    asked: list[bool] = []
    stopping = install_signals(wake, lambda: asked.append(True))
    os.kill(os.getpid(), signal.SIGHUP)
    assert wake.wait(5)
    assert asked == [True]
    assert stopping.reloading
    assert not stopping.requested


def test_the_age_counts_from_the_last_beat() -> None:
    """The age is that of the last beat, and of the start before there was one."""
    now = [100.0]
    heartbeat = Heartbeat(clock=lambda: now[0])
    now[0] = 103.0
    assert heartbeat.age_seconds() == 3.0
    heartbeat.beat()
    now[0] = 104.5
    assert heartbeat.age_seconds() == 1.5


class Beating:
    """A heartbeat with a file and a clock that a test turns; the file is made old, so that a touch shows."""

    def __init__(self, file: Path) -> None:
        self.now = 100.0
        self.file = file
        self.heartbeat = Heartbeat(clock=lambda: self.now, file=file)

    def is_touched(self, after_seconds: float) -> bool:
        """Whether a beat after so many seconds touches the file."""
        if self.file.exists():
            os.utime(self.file, (0, 0))
        self.now += after_seconds
        self.heartbeat.beat()
        return self.file.exists() and time.time() - self.file.stat().st_mtime < 60


@pytest.fixture
def _umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.usefixtures("_umask")
def test_a_beat_makes_the_heartbeat_file(tmp_path: Path) -> None:
    """It is there after the first beat and not before, empty, and anybody may look at it, whatever the umask is."""
    beating = Beating(tmp_path / "heartbeat")
    assert not beating.file.exists()
    assert beating.is_touched(0.0)
    assert (beating.file.read_bytes(), stat.S_IMODE(beating.file.stat().st_mode)) == (b"", 0o644)
    assert beating.heartbeat.problem is None


def test_the_heartbeat_file_is_touched_once_a_second(tmp_path: Path) -> None:
    """A busy loop does not write a thousand times a second, and a loop that does not beat does not touch."""
    beating = Beating(tmp_path / "heartbeat")
    assert [beating.is_touched(seconds) for seconds in (0.0, 0.5, 0.4, 0.2, 0.9, 0.1, 60.0, 0.1)] == [
        True,
        False,
        False,
        True,
        False,
        True,
        True,
        False,
    ]


def test_a_file_that_was_there_keeps_its_content(tmp_path: Path) -> None:
    """Only its time changes, and whoever removes it gets a new one."""
    beating = Beating(tmp_path / "heartbeat")
    beating.file.write_text("mine")
    assert beating.is_touched(0.0)
    assert beating.file.read_text() == "mine"
    beating.file.unlink()
    assert beating.is_touched(1.0)


def test_a_file_that_cannot_be_touched_does_not_stop_the_loop(tmp_path: Path) -> None:
    """What is wrong is kept as a sentence, and the next beat tries again; the age is that of the last beat all the
    same."""
    beating = Beating(tmp_path / "gone" / "heartbeat")
    assert not beating.is_touched(5.0)
    assert beating.heartbeat.problem == (
        f"cannot touch {beating.file}: no such file or directory; make the directory first"
    )
    assert beating.heartbeat.age_seconds() == 0.0
    (tmp_path / "gone").mkdir()
    assert beating.is_touched(1.0)
    assert beating.heartbeat.problem is None


def test_a_directory_that_may_only_be_read_does_not_stop_the_loop() -> None:
    """The kernel's own refusal, met by a process without the right to write there."""
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o555)
        program = (
            "import os; from pathlib import Path; from smartstack.process import Heartbeat\n"
            f"heartbeat = Heartbeat(file=Path({place!r}) / 'heartbeat')\n"
            "os.geteuid() or os.setuid(65534)\n"
            "heartbeat.beat(); print(heartbeat.problem)"
        )
        ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.stdout == (
        f"cannot touch {place}/heartbeat: permission denied; give this user the permission to write there, or choose "
        "another directory\n"
    )


def test_a_loop_that_hangs_stops_touching(tmp_path: Path, stopping: Stopping) -> None:
    """The loop beats while it waits, and a cycle that does not end leaves the file as old as it is."""
    file = tmp_path / "heartbeat"
    ages: list[bool] = []

    def cycle() -> float:
        if file.exists():
            os.utime(file, (0, 0))
            stopping.requested = True
        ages.append(file.exists() and file.stat().st_mtime > 0)
        return 0.0

    run_loop(cycle, Wake(), stopping, Heartbeat(clock=iter(range(100)).__next__, file=file), log)
    assert ages == [False, False]
    assert file.stat().st_mtime > 0


def test_the_loop_waits_as_long_as_the_cycle_says(stopping: Stopping) -> None:
    """When nobody rings, the next cycle comes after the seconds that the last one returned."""
    cycle = Cycle(stopping, 0.05, 0.0, 0.0)
    run_loop(cycle, Wake(), stopping, Heartbeat(), log)
    first, second = cycle.gaps()
    assert first >= 0.05
    assert second < first


def test_a_ring_ends_the_waiting(stopping: Stopping) -> None:
    """Somebody who rings gets a cycle at once."""
    wake = Wake()
    cycle = Cycle(stopping, 60.0, 0.0)
    ringer = threading.Timer(0.02, wake.ring)
    ringer.start()
    run_loop(cycle, wake, stopping, Heartbeat(), log)
    ringer.join()
    assert cycle.gaps()[0] < 30


def test_a_ring_during_a_cycle_is_answered_by_another(stopping: Stopping) -> None:
    """What is rung while a cycle runs may be newer than what that cycle read, so there is one more."""
    wake = Wake()
    runs = 0

    def cycle() -> float:
        nonlocal runs
        runs += 1
        if runs == 1:
            wake.ring()
            return 60.0
        stopping.requested = True
        return 0.0

    run_loop(cycle, wake, stopping, Heartbeat(), log)
    assert runs == 2


def test_a_stop_before_the_first_cycle_is_a_stop(stopping: Stopping) -> None:
    """Nothing is begun once a stop is asked for."""
    stopping.requested = True
    run_loop(Cycle(stopping), Wake(), stopping, Heartbeat(), log)


def test_the_loop_beats_while_it_waits(stopping: Stopping, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that has nothing to do for a long time is still alive, and seen to be."""
    monkeypatch.setattr(process, "BEAT_SECONDS", 0.01)
    wake = Wake()
    heartbeat = Heartbeat()
    beats = 0
    beat = heartbeat.beat

    def counting_beat() -> None:
        nonlocal beats
        beats += 1
        beat()
        if beats == 5:
            stopping.requested = True

    monkeypatch.setattr(heartbeat, "beat", counting_beat)
    run_loop(lambda: 60.0, wake, stopping, heartbeat, log)
    assert beats == 5


def test_a_cycle_that_raises_is_tried_again(stopping: Stopping, capfd: pytest.CaptureFixture[str]) -> None:
    """A defect in one cycle ends neither the loop nor its heartbeat; /healthz can tell what it was."""
    configure("info", "json")
    heartbeat = Heartbeat()
    cycle = Cycle(stopping, ZeroDivisionError("no\nsuch thing"), OSError("the last"))
    run_loop(cycle, Wake(), stopping, heartbeat, log)
    assert len(cycle.moments) == 2
    assert heartbeat.failure == "OSError: the last"
    first = json.loads(capfd.readouterr().err.splitlines()[0])
    assert first["level"] == "error"
    assert first["traceback"].startswith("Traceback") and "ZeroDivisionError: no\nsuch thing" in first["traceback"]


def test_the_same_failure_is_told_once(stopping: Stopping, capfd: pytest.CaptureFixture[str]) -> None:
    """A failure that repeats fills no disk; another text is another failure."""
    configure("info", "json")
    plays: list[float | Exception] = [ValueError("a"), ValueError("a"), 0.0, ValueError("a"), ValueError("b"), 0.0]
    run_loop(Cycle(stopping, *plays), Wake(), stopping, Heartbeat(), log)
    last_lines = [json.loads(line)["traceback"].splitlines()[-1] for line in capfd.readouterr().err.splitlines()]
    assert last_lines == ["ValueError: a", "ValueError: b"]


def test_a_cycle_that_works_again_forgets_the_failure(stopping: Stopping) -> None:
    """After a cycle that went through, nothing is said to be wrong."""
    heartbeat = Heartbeat()
    run_loop(Cycle(stopping, ValueError("a"), 0.0), Wake(), stopping, heartbeat, log)
    assert heartbeat.failure is None


def test_retries_double_and_a_success_starts_them_over(stopping: Stopping, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pauses after failures double from 0.1 s to 5 s, and are 0.1 s again after a success."""
    pauses: list[float] = []
    monkeypatch.setattr(process, "_wait", lambda *parts, seconds, **options: pauses.append(seconds))
    failures = [ValueError("a")] * 8
    run_loop(Cycle(stopping, *failures, 7.0, ValueError("a"), 0.0), Wake(), stopping, Heartbeat(), log)
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 7.0, 0.1, 0.0]


def test_rings_do_not_shorten_the_pause_after_a_failure(stopping: Stopping) -> None:
    """A cycle that rings its own bell and then fails does not spin."""
    wake = Wake()
    moments: list[float] = []

    def cycle() -> float:
        moments.append(time.monotonic())
        wake.ring()
        if len(moments) == 3:
            stopping.requested = True
        raise ValueError("a")

    run_loop(cycle, wake, stopping, Heartbeat(), log)
    assert moments[2] - moments[0] >= 0.3


def test_a_stop_shortens_the_pause_after_a_failure(stopping: Stopping, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop is a stop, also while the loop pauses."""
    monkeypatch.setattr(process, "FIRST_RETRY_SECONDS", 60.0)
    wake = Wake()

    def stop() -> None:
        stopping.requested = True
        wake.ring()

    def cycle() -> float:
        threading.Timer(0.02, stop).start()
        raise ValueError("a")

    run_loop(cycle, wake, stopping, Heartbeat(), log)


def test_an_interrupt_is_not_caught(stopping: Stopping) -> None:
    """What ends a process on purpose passes through the safety net."""

    def cycle() -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_loop(cycle, Wake(), stopping, Heartbeat(), log)


class Systemd:
    """The socket on which systemd would listen."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(5)

    def heard(self, count: int) -> list[str]:
        return [self.socket.recv(1000).decode() for _ in range(count)]


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Systemd]:
    """Both kinds of address that systemd may give."""
    with tempfile.TemporaryDirectory() as directory:
        name = f"{directory}/notify"
        systemd = Systemd(name if request.param == "path" else "\0" + name)
        monkeypatch.setenv("NOTIFY_SOCKET", name if request.param == "path" else "@" + name)
        yield systemd
        systemd.socket.close()


def test_systemd_hears_that_the_loop_is_ready_alive_and_stopping(
    systemd: Systemd, stopping: Stopping, monkeypatch: pytest.MonkeyPatch
) -> None:
    """READY=1 after the first cycle that went through, WATCHDOG=1 with each beat, STOPPING=1 at the end."""
    monkeypatch.setenv("WATCHDOG_USEC", "60000000")
    monkeypatch.setattr(process, "FIRST_RETRY_SECONDS", 0.01)
    run_loop(Cycle(stopping, ValueError("a"), 0.0, 0.0), Wake(), stopping, Heartbeat(), log)
    assert systemd.heard(5) == ["WATCHDOG=1", "READY=1", "WATCHDOG=1", "WATCHDOG=1", "STOPPING=1"]


def test_systemd_hears_of_a_reload(systemd: Systemd, stopping: Stopping, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cycle that answers a SIGHUP stands between RELOADING=1, with the time, and READY=1, which waits for a cycle
    that goes through."""
    monkeypatch.setattr(process, "FIRST_RETRY_SECONDS", 0.01)
    cycle = Cycle(stopping, 0.0, ValueError("a"), 0.0)
    before = time.monotonic_ns() // 1000

    def ask() -> float:
        stopping.reloading = len(cycle.moments) == 0
        return cycle()

    run_loop(ask, Wake(), stopping, Heartbeat(), log)
    ready, reloading, again, end = systemd.heard(4)
    assert (ready, again, end) == ("READY=1", "READY=1", "STOPPING=1")
    words, _, microseconds = reloading.partition("\nMONOTONIC_USEC=")
    assert words == "RELOADING=1"
    assert before <= int(microseconds) <= time.monotonic_ns() // 1000


class RecordingWake(Wake):
    """Notes for how long it was waited, waits for nothing, and stops the loop after some waits."""

    def __init__(self, stopping: Stopping, waits: int) -> None:
        super().__init__()
        self.waits: list[float] = []
        self._stopping = stopping
        self._most = waits

    def wait(self, timeout_seconds: float) -> bool:
        self.waits.append(timeout_seconds)
        self._stopping.requested = len(self.waits) == self._most
        return False


@pytest.mark.parametrize(
    ("microseconds", "seconds"),
    [
        pytest.param("20000", 0.01, id="half of what systemd asks"),
        pytest.param("60000000", 5.0, id="never less often than every five seconds"),
        pytest.param("", 5.0, id="nothing asked"),
        pytest.param("soon", 5.0, id="nonsense"),
    ],
)
def test_the_loop_beats_twice_as_often_as_systemd_asks(
    microseconds: str, seconds: float, stopping: Stopping, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop that waits for a minute wakes up in time to be seen alive, and does not end its waiting for it."""
    monkeypatch.setenv("WATCHDOG_USEC", microseconds)
    wake = RecordingWake(stopping, waits=3)
    cycles = 0

    def cycle() -> float:
        nonlocal cycles
        cycles += 1
        return 60.0

    run_loop(cycle, wake, stopping, Heartbeat(), log)
    assert (wake.waits, cycles) == ([seconds] * 3, 1)


def test_without_a_watchdog_systemd_hears_of_no_beat(systemd: Systemd, stopping: Stopping) -> None:
    """WATCHDOG=1 is sent only where systemd asked for it."""
    run_loop(Cycle(stopping, 0.0, 0.0), Wake(), stopping, Heartbeat(), log)
    assert systemd.heard(2) == ["READY=1", "STOPPING=1"]


@pytest.mark.parametrize("address", ["", "/no/such/socket", "relative", "@no-such-socket"])
def test_notify_without_a_listener_is_quiet(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody listens, or the variable holds nonsense, nothing happens."""
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    notify("READY=1")


def test_notify_never_waits(systemd: Systemd) -> None:
    """A listener that does not read fills its queue; the loop goes on."""
    for _ in range(10_000):
        notify("WATCHDOG=1")


def holder(path: Path) -> subprocess.Popen[bytes]:
    """Another process that holds the lock until its standard input is closed."""
    program = (
        "import sys; from smartstack.process import ProcessLock\n"
        f"with ProcessLock({str(path)!r}):\n print('held', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == b"held\n"
    return child


def test_a_second_process_is_refused_and_told_who_has_it(tmp_path: Path) -> None:
    """The sentence names the program, its pid and the directory."""
    path = tmp_path / "synapse.lock"
    child = holder(path)
    try:
        with pytest.raises(SmartStackError) as caught, ProcessLock(path):
            pass
    finally:
        child.communicate()
    assert str(caught.value) == (
        f"another synapse (pid {child.pid}) already runs with {tmp_path}: "
        "stop it, or give this one a directory of its own"
    )
    with ProcessLock(path):
        assert path.read_text() == f"{os.getpid()}\n"


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    """kill -9 leaves the file with a stale pid, and no lock."""
    path = tmp_path / "nerve.lock"
    child = holder(path)
    child.kill()
    child.communicate()
    with ProcessLock(path):
        assert path.read_text() == f"{os.getpid()}\n"


def test_the_pid_replaces_whatever_the_file_held(tmp_path: Path) -> None:
    """A longer text from before does not stay behind the pid."""
    path = tmp_path / "nerve.lock"
    path.write_text("1234567890123\n")
    with ProcessLock(path):
        assert path.read_text() == f"{os.getpid()}\n"


def test_a_full_disk_does_not_keep_anybody_from_the_lock(tmp_path: Path) -> None:
    """Where the pid cannot be written the lock is held all the same, and who is refused hears of an unknown pid."""
    path = tmp_path / "nerve.lock"
    program = (
        "import resource, sys; from smartstack.process import ProcessLock\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        f"with ProcessLock({str(path)!r}):\n print('held', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None and child.stdout.readline() == b"held\n"
        with pytest.raises(SmartStackError, match=r"^another nerve \(pid unknown\) already runs"), ProcessLock(path):
            pass
    finally:
        child.communicate()


def test_a_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    """HAProxy outlives synapse: the next synapse must find the lock free all the same."""
    path = tmp_path / "synapse.lock"
    with ProcessLock(path):
        program = [sys.executable, "-c", "print('up', flush=True); input()"]
        child = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False)
        # The kernel closes the child's copies a moment after it lets the parent go on.
        assert child.stdout is not None and child.stdout.readline() == b"up\n"
    try:
        with ProcessLock(path):
            assert child.poll() is None, "the child ended before it was asked to"
    finally:
        child.communicate(b"\n")


def test_the_file_stays_and_the_same_process_may_lock_again(tmp_path: Path) -> None:
    """The file is never removed, as that would let two processes lock two files of one name."""
    path = tmp_path / "run" / "synapse.lock"
    lock = ProcessLock(path)
    for _ in range(2):
        with lock:
            inode = path.stat().st_ino
        assert path.stat().st_ino == inode


def test_a_lock_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    """A path that cannot be a directory is said, with the path."""
    (tmp_path / "file").touch()
    with (
        pytest.raises(SmartStackError, match=r"^cannot lock .*/file/synapse\.lock: .*"),
        ProcessLock(tmp_path / "file" / "synapse.lock"),
    ):
        pass


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    """The new content is there with the mode that was asked for, and nothing else is left in the directory."""
    path = tmp_path / "haproxy.cfg"
    path.write_bytes(b"old")
    write_atomically(path, b"new", mode=0o600)
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    write_atomically(path, b"newer")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert os.listdir(tmp_path) == ["haproxy.cfg"]


def test_content_and_name_are_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is synchronized before the switch and the directory after it: power may fail at any time."""
    synchronized: list[tuple[bool, bool]] = []
    path = tmp_path / "file"

    def fsync(descriptor: int) -> None:
        synchronized.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), path.exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    write_atomically(path, b"new")
    assert synchronized == [(False, False), (True, True)]


def test_a_reader_never_sees_a_part(tmp_path: Path) -> None:
    """While a file is replaced again and again, every read finds one of the contents as a whole."""
    path = tmp_path / "file"
    contents = {letter * 200_000 for letter in (b"a", b"b")}
    write_atomically(path, b"a" * 200_000)
    ended = threading.Event()

    def write() -> None:
        for _ in range(30):
            for content in sorted(contents):
                write_atomically(path, content)
        ended.set()

    writer = threading.Thread(target=write)
    writer.start()
    reads = 0
    while not ended.is_set():
        assert path.read_bytes() in contents
        reads += 1
    writer.join()
    assert reads > 0


def refusing(number: int) -> Callable[..., None]:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.mark.parametrize("step", ["fchmod", "fsync", "rename"])
def test_a_failure_at_any_step_leaves_the_old_file_alone(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it fails before the switch, the old content stays and no temporary file does."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, step, refusing(errno.EIO))
    with pytest.raises(SmartStackError, match=r"^cannot write .*/file: input/output error$"):
        write_atomically(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        pytest.param(errno.ENOSPC, "no space left on device; free some space", id="disk full"),
        pytest.param(
            errno.EROFS, "read-only file system; choose a directory that may be written", id="read-only file system"
        ),
        pytest.param(
            errno.EACCES,
            "permission denied; give this user the permission to write there, or choose another directory",
            id="no permission",
        ),
    ],
)
def test_a_failure_says_what_to_do(number: int, advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence names the file, the reason, and what the reader can do."""
    monkeypatch.setattr(tempfile, "mkstemp", refusing(number))
    with pytest.raises(SmartStackError) as caught:
        write_atomically(tmp_path / "file", b"new")
    assert str(caught.value) == f"cannot write {tmp_path / 'file'}: {advice}"


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    """A real limit on the size of a file stops the write in the middle; the old content stays whole."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    program = (
        "import resource, signal, sys\n"
        "from smartstack.process import write_atomically\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        f"write_atomically({str(path)!r}, b'x' * 100_000)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert f"SmartStackError: cannot write {path}: file too large" in ended.stderr
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_no_directory_to_write_in_is_one_sentence(tmp_path: Path) -> None:
    """A directory that is not there is said, and what to do about it."""
    with pytest.raises(SmartStackError, match=r"no such file or directory; make the directory first$"):
        write_atomically(tmp_path / "gone" / "file", b"new")


def test_a_daemon_ends_on_a_signal(tmp_path: Path) -> None:
    """The whole of it in a process of its own: a loop that waits for a minute ends at SIGTERM, with exit code 0."""
    program = (
        "from smartstack.process import *; from smartstack.wake import Wake; from smartstack.logs import EventLog\n"
        "wake = Wake(); stopping = install_signals(wake)\n"
        "def cycle():\n print('turn', flush=True); return 60.0\n"
        "run_loop(cycle, wake, stopping, Heartbeat(), EventLog('test'))"
    )
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"turn\n"
    child.send_signal(signal.SIGHUP)
    assert child.stdout.readline() == b"turn\n", "SIGHUP did not turn the loop"
    child.send_signal(signal.SIGTERM)
    assert eventually(lambda: child.poll() is not None)
    child.communicate()
    assert child.returncode == 0


_HEAPS = """
import sys, threading
from smartstack import process
getattr(process, sys.argv[1])()
met = threading.Barrier(21)
def work():
    kept = [b"x" * 3000 for _ in range(50)]
    met.wait()
    met.wait()
for _ in range(20):
    threading.Thread(target=work).start()
met.wait()
for line in open("/proc/self/maps"):
    words = line.split()
    begin, end = (int(each, 16) for each in words[0].split("-"))
    if len(words) == 5 and words[1] == "---p" and end - begin > 32 << 20:
        print("a heap of its own")
met.wait()
"""
"""glibc reserves 64 MB of addresses for each heap, and most of it has no rights."""


@pytest.mark.parametrize(
    ("called", "many"),
    [pytest.param("share_one_heap", False, id="asked for"), pytest.param("Stopping", True, id="as it is otherwise")],
)
def test_threads_share_one_heap(called: str, many: bool) -> None:
    """A heap for each of a hundred threads is memory for nothing, where threads take turns anyway."""
    done = subprocess.run([sys.executable, "-c", _HEAPS, called], capture_output=True, text=True, check=True)
    assert ("a heap of its own" in done.stdout) is many
