"""The machine fails nerve: a full disk, a directory that may not be written, a token that others may read, a ZooKeeper
that never answers, no descriptor left, a nerve that was asleep. Whoever is well stays in use, and all of it is said."""

import os
import resource
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import pytest
import requests

from smartstack.forms import ZooKeeperUrl
from tests.support.eventually import eventually
from tests.support.machine import NERVE, Machine
from tests.support.pair import Daemon
from tests.support.zookeeper import ControlledServer

Fill = Callable[[], None]

ON_DISK = {"state_directory": "disk/state", "run_directory": "disk/run", "resync_interval": "1s"}


def begin(machine: Machine, *services: str, until: str = "/readyz", **settings: object) -> str:
    """Serve and announce these, start nerve; the path of nerve.yaml."""
    for number, name in enumerate(services):
        machine.serve(name, 8080 + number)
    path = machine.announce(*services, **settings)
    machine.nerve.start(until=until)
    return str(path)


def checked(machine: Machine, service: str = "web") -> float:
    """How many checks of a service have passed."""
    return machine.nerve.metric("nerve_check_total", service=service, check="http", result="passed")


def checks_go_on(machine: Machine) -> None:
    """Ten more pass, and the loop turns."""
    before = checked(machine)
    eventually(lambda: checked(machine) >= before + 10)
    assert machine.nerve.get("/healthz").text.strip() == "ok"


def one_sentence(done: tuple[int, str, str]) -> str:
    """What a command that failed has said: one line on standard error."""
    code, out, errors = done
    assert (code, out, errors.count("\n")) == (1, "", 1), done
    return errors


def goes_and_comes(machine: Machine, port: int, service: str, fill: Fill = lambda: None) -> None:
    """A service ends, and is out of use; it is back, and in use."""
    machine.backends.close(machine.address, port)
    eventually(lambda: not machine.sees(service))
    fill()
    machine.backends.open(machine.address, port)
    eventually(lambda: machine.sees(service))


# The disk


def mount(directory: Path, *options: str) -> bool:
    """Mount a file system in memory there; False where this user may not."""
    command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(directory)]
    return os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0


@contextmanager
def mounted(machine: Machine, name: str, *options: str) -> Iterator[Path]:
    """A directory of the machine with a file system of its own, where this user may mount one."""
    directory = machine.directory / name
    directory.mkdir(exist_ok=True)
    if mount(directory, *options):
        try:
            yield directory
        finally:
            machine.nerve.end()
            subprocess.run(["umount", "-l", str(directory)], check=True)
    else:
        yield directory


@contextmanager
def disk_full(machine: Machine, disk: Path) -> Iterator[Fill]:
    """No byte can be written there; what is yielded takes up what has become free since. Where no file system could
    be mounted, nerve may write no file at all."""
    if not disk.is_mount():
        limits = resource.prlimit(machine.nerve.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(machine.nerve.pid, resource.RLIMIT_FSIZE, (0, limits[1]))
        yield lambda: None
        resource.prlimit(machine.nerve.pid, resource.RLIMIT_FSIZE, limits)
        return
    filler = disk / "filler"

    def fill() -> None:
        with filler.open("ab", buffering=0) as file, suppress(OSError):
            while True:
                file.write(b"x" * 4096)

    fill()
    yield fill
    filler.unlink()


def held_though_deleted(pid: int) -> list[str]:
    """Files that a process has open and that have no name any more: their room becomes free a moment later."""
    links = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            links.append(os.readlink(descriptor))
    return [link for link in links if link.endswith("(deleted)")]


@pytest.fixture
def small_disk(zookeeper_url: ZooKeeperUrl) -> Iterator[Machine]:
    """A machine whose state and run directories are on a disk of a megabyte, `disk`, and whose registry is not."""
    machine = Machine(zookeeper_url)
    with mounted(machine, "disk", "size=1m"):
        yield machine
        machine.nerve.end()
    machine.close()


def test_a_full_disk_takes_nothing_out(small_disk: Machine) -> None:
    """What is in use stays, and what goes, comes or is new is published. A drain, which the next nerve must know of,
    is refused and changes nothing; that hand-over and the copies of definitions are off is said. With room again all
    goes on without a restart."""
    machine, disk = small_disk, small_disk.directory / "disk"
    path = begin(machine, "web", "api", **ON_DISK)
    eventually(lambda: machine.sees("web", "api"))
    with disk_full(machine, disk) as fill:
        goes_and_comes(machine, 8081, "api", fill)
        fill()
        machine.serve("late", 8082)
        machine.announce("web", "api", "late", **ON_DISK)
        eventually(lambda: machine.sees("late"))
        said = eventually(lambda: machine.nerve.status()["problems"].get("", [""])[0])
        assert "the last good definitions cannot be kept for the next start: cannot write" in said
        refused = one_sentence(machine.command("drain", "web", "-c", path, "--reason", "deploy"))
        assert refused.startswith("cannot change what is drained, and nothing was changed: cannot write ")
        assert machine.service("web")["maintenance"] is None
        assert machine.service("web")["weight"] is None
        status = machine.command("status", "-c", path)[1]
        assert "session hand-over is off: cannot write" in status
        assert said in status
        assert machine.sees("web", "api", "late")
        checks_go_on(machine)
    eventually(lambda: not machine.nerve.status()["problems"])
    assert (disk / "state/definitions/late.yaml").exists()
    assert machine.command("drain", "web", "-c", path, "--reason", "deploy") == (0, "in maintenance: web\n", "")


def test_nerve_starts_on_a_full_disk(small_disk: Machine) -> None:
    """With nothing in its directories: it registers all the same. Only the token is not there, and so no action; that
    takes another start when there is room, which nobody sees."""
    machine, disk = small_disk, small_disk.directory / "disk"
    if not disk.is_mount():
        program = machine.write("limited", f'#!/bin/sh\nulimit -S -f 0\nexec {NERVE} "$@"\n')
        program.chmod(0o755)
        machine.nerve = Daemon("nerve", machine.directory / "nerve.yaml", machine.admin, program=str(program))
    with disk_full(machine, disk) if disk.is_mount() else nullcontext():
        path = begin(machine, "web", **ON_DISK)
        eventually(lambda: machine.sees("web"))
        goes_and_comes(machine, 8080, "web")
        why = "there is no token: cannot write "
        assert f"actions   cannot be asked for: {why}" in machine.command("status", "-c", path)[1]
        refused = one_sentence(machine.command("drain", "web", "-c", path, "--reason", "deploy"))
        assert refused.startswith(f"refused: {why}")
        assert refused.endswith("; then restart the daemon\n")
    machine.nerve.stop(signal.SIGUSR2)
    machine.nerve = Daemon("nerve", machine.directory / "nerve.yaml", machine.admin)
    machine.nerve.start()
    assert machine.command("drain", "web", "-c", path, "--reason", "deploy")[0] == 0
    assert machine.nerve.status()["actions_problem"] is None


def test_a_registry_on_a_full_disk_lets_go_of_the_dead(machine: Machine) -> None:
    """`file:`, the disk of the registry is full: who ends leaves it, who comes back is told why he cannot be in it,
    and is as soon as there is room."""
    with mounted(machine, "registry", "size=1m") as disk:
        path = begin(machine, "web", "api", resync_interval="1s")
        eventually(lambda: machine.sees("web", "api"))
        with disk_full(machine, disk) as fill:
            machine.backends.close(machine.address, 8081)
            eventually(lambda: not machine.sees("api") and not held_though_deleted(machine.nerve.pid))
            fill()
            machine.backends.open(machine.address, 8081)
            error = eventually(lambda: machine.service("api")["error"])
            assert error in machine.command("status", "-c", path)[1]
            assert machine.sees("web")
            checks_go_on(machine)
        eventually(lambda: machine.sees("api"))
        machine.nerve.stop()


# The run directory


@contextmanager
def read_only(machine: Machine, name: str) -> Iterator[Path]:
    """A directory that the daemon's user may not write in."""
    with mounted(machine, name, "ro") as directory:
        if directory.is_mount():
            yield directory
            subprocess.run(["mount", "-o", "remount,rw", str(directory)], check=True)
        else:
            directory.chmod(0o555)
            yield directory
            directory.chmod(0o755)
        machine.nerve.end()


def test_a_run_directory_that_cannot_be_written_costs_the_actions_only(machine: Machine) -> None:
    """nerve runs, and whoever asks for an action reads why there is none and what to do."""
    with read_only(machine, "run") as directory:
        path = begin(machine, "web")
        eventually(lambda: machine.sees("web"))
        goes_and_comes(machine, 8080, "web")
        why = f"there is no token: cannot write {directory}/token: "
        assert f"actions   cannot be asked for: {why}" in machine.command("status", "-c", path)[1]
        refused = one_sentence(machine.command("drain", "web", "-c", path, "--reason", "deploy"))
        assert refused.startswith(f"refused: {why}")
        assert "choose" in refused
        assert refused.endswith("; then restart the daemon\n")
        with requests.Session() as session:
            session.trust_env = False
            answer = session.post(f"http://{machine.admin}/drain", json={"all": True, "reason": "deploy"}, timeout=5)
        assert (answer.status_code, f"{answer.text.strip()}\n") == (503, refused)
        checks_go_on(machine)
        assert machine.service("web")["maintenance"] is None


def open_to_others(token: Path) -> Callable[[], object]:
    """Somebody made the file readable for all; and takes it back."""
    token.chmod(0o644)
    return lambda: token.chmod(0o600)


def removed(token: Path) -> Callable[[], object]:
    """Somebody cleaned up."""
    token.unlink()
    return lambda: None


def replaced(token: Path) -> Callable[[], object]:
    """Somebody restored a copy."""
    copy = token.with_name("copy")
    copy.write_bytes(token.read_bytes())
    copy.chmod(0o600)
    copy.rename(token)
    return lambda: None


def emptied(token: Path) -> Callable[[], object]:
    """Somebody truncated it."""
    token.write_text("")
    return lambda: None


@pytest.mark.parametrize(
    ("fault", "sentence", "heals"),
    [
        pytest.param(
            open_to_others,
            "is open to others (mode 0644): chmod 600 it, and restart the daemon if others may have read it",
            True,
            id="open to others",
        ),
        pytest.param(removed, "was removed: restart the daemon, which writes a new one", False, id="removed"),
        pytest.param(replaced, "was replaced: restart the daemon, which writes a new one", False, id="replaced"),
        pytest.param(emptied, "was changed: restart the daemon, which writes a new one", False, id="emptied"),
    ],
)
def test_a_token_that_is_not_as_it_was_written_opens_nothing(
    fault: Callable[[Path], Callable[[], object]], sentence: str, heals: bool, machine: Machine
) -> None:
    """The command says what is wrong with it and what to do, /status too; a right mode heals, and else a restart."""
    path = begin(machine, "web", resync_interval="1s")
    token = machine.directory / "run/token"
    drain = ("drain", "web", "-c", path, "--reason", "deploy")
    heal = fault(token)
    assert one_sentence(machine.command(*drain)) == f"refused: {token} {sentence}\n"
    eventually(lambda: machine.nerve.status()["actions_problem"] == f"{token} {sentence}")
    assert machine.service("web")["maintenance"] is None
    heal()
    if not heals:
        machine.nerve.kill()
        machine.nerve.start()
    assert machine.command(*drain) == (0, "in maintenance: web\n", "")
    assert token.stat().st_mode & 0o777 == 0o600


def test_a_token_of_before_is_replaced_at_the_start(machine: Machine) -> None:
    """Whatever its mode was, and whoever may have read it: its word opens nothing any more."""
    token = machine.directory / "run/token"
    token.parent.mkdir()
    token.write_text("known\n")
    token.chmod(0o644)
    path = begin(machine, "web")
    assert token.stat().st_mode & 0o777 == 0o600
    assert token.read_text() != "known\n"
    assert machine.command("drain", "web", "-c", path, "--reason", "deploy")[0] == 0


# ZooKeeper


@contextmanager
def silent_server() -> Iterator[str]:
    """Accepts every connection and says nothing; where it listens."""
    taken: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    taken.append(listener.accept()[0])

        threading.Thread(target=accept, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
    for connection in taken:
        connection.close()


UNTOLD = "not told to the registry yet: web; it is kept, and told as soon as it can be (nerve status)\n"


def is_patient(machine: Machine, path: str) -> None:
    """The registry is away, and everything else goes on."""
    eventually(lambda: machine.service("web")["state"] == "up")
    checks_go_on(machine)
    eventually(lambda: "registry  AWAY: " in machine.command("status", "-c", path)[1])
    assert machine.service("web")["registered"] is None
    done = machine.command("drain", "web", "-c", path, "--reason", "deploy")
    assert done == (0, "in maintenance: web\n", UNTOLD)
    assert machine.service("web")["maintenance"]["reason"] == "deploy"
    machine.backends.close(machine.address, 8080)
    eventually(lambda: machine.service("web")["state"] == "down")
    machine.backends.open(machine.address, 8080)
    eventually(lambda: machine.service("web")["state"] == "up")


def is_not_ready(machine: Machine) -> None:
    """/readyz says what is missing."""
    answer = machine.nerve.get("/readyz")
    assert answer.status_code == 503
    eventually(lambda: "the registry was not reached yet: connecting to" in machine.nerve.get("/readyz").text)


@pytest.mark.parametrize("session_timeout", ["1s", "10s"])
def test_a_zookeeper_that_accepts_and_says_nothing_holds_nothing_up(session_timeout: str) -> None:
    """nerve starts, checks, says what is missing, keeps a drain and says that nobody was told of it, and stops."""
    with silent_server() as hosts:
        machine = Machine(ZooKeeperUrl(hosts=hosts, root="/smartstack"))
        try:
            path = begin(machine, "web", until="/healthz", session_timeout=session_timeout)
            is_not_ready(machine)
            is_patient(machine, path)
            assert machine.nerve.stop(within=5) == 0
        finally:
            machine.close()


@pytest.mark.parametrize("reached", [False, True], ids=["before the start", "later"])
def test_a_zookeeper_that_hangs_is_told_everything_when_it_goes_on(
    reached: bool, fragile_machine: Machine, own_zookeeper: ControlledServer
) -> None:
    """It was stopped in its tracks, before nerve came or afterwards: within two seconds of its answering again the
    registry has all that was decided meanwhile."""
    machine = fragile_machine
    if reached:
        path = begin(machine, "web", session_timeout="4s")
        eventually(lambda: machine.sees("web"))
        own_zookeeper.suspend()
        # Nothing changed, so nothing was asked of it: its silence is noticed with the session's next ping.
        eventually(lambda: machine.nerve.status()["registry_error"], within=10)
    else:
        own_zookeeper.suspend()
        path = begin(machine, "web", until="/healthz", session_timeout="4s")
        is_not_ready(machine)
    is_patient(machine, path)
    own_zookeeper.resume()
    eventually(lambda: machine.service("web")["registered"], within=2)
    assert '"weight":0' in machine.service("web")["payload"].replace(" ", "")
    assert machine.nerve.get("/readyz").status_code == 200
    assert machine.nerve.stop(within=5) == 0


# nerve itself


def test_a_nerve_that_was_asleep_is_back_with_its_new_session(zookeeper_url: ZooKeeperUrl) -> None:
    """Suspended for longer than its session lasts (a laptop's lid, a paused machine): its nodes went meanwhile, and
    are there again within two seconds of the session that it gets."""
    machine = Machine(zookeeper_url)
    try:
        begin(machine, "web", "api")
        eventually(lambda: machine.sees("web", "api"))
        session = machine.nerve.status()["registry"]["session"]
        machine.nerve.suspend()
        eventually(lambda: not machine.sees("web") and not machine.sees("api"))
        machine.nerve.send(signal.SIGCONT)
        eventually(lambda: machine.nerve.status()["registry"]["session"] != session)
        eventually(lambda: machine.sees("web", "api"), within=2)
        checks_go_on(machine)
    finally:
        machine.close()


def test_a_nerve_without_descriptors_fails_its_checks_and_heals(zookeeper_url: ZooKeeperUrl) -> None:
    """None is left at all: each kind of check fails and says so, and the session ends, as kazoo needs one for each
    wait. Nothing else ends, and whoever asks costs nothing; with descriptors again everything is as before."""
    machine = Machine(zookeeper_url)
    try:
        machine.define("script", 8083, check={"type": "exec", "command": "true", "interval": "50ms"})
        path = begin(machine, "web")
        machine.announce("web", "script")
        eventually(lambda: machine.sees("web", "script"))
        limits = resource.prlimit(machine.nerve.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(machine.nerve.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
        eventually(lambda: not machine.sees("web") and not machine.sees("script"))
        lines = machine.nerve.log().count("\n")
        with pytest.raises(AssertionError, match="does not answer"):
            machine.nerve.get("/healthz", 1.0)
        assert machine.nerve.running
        assert machine.nerve.log().count("\n") - lines < 10
        resource.prlimit(machine.nerve.pid, resource.RLIMIT_NOFILE, limits)
        eventually(lambda: machine.sees("web", "script"))
        checks_go_on(machine)
        assert machine.command("drain", "web", "-c", path, "--reason", "deploy")[0] == 0
        for service in ("web", "script"):
            assert f'event="{service} is down: ' in machine.nerve.log()
        assert machine.nerve.log().count("too many open files") >= 2
        assert "Traceback" not in machine.nerve.log()
    finally:
        machine.close()
