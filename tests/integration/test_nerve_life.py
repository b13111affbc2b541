"""nerve's lives on a real ZooKeeper: it is stopped, killed, upgraded and edited, and whoever watches sees no gap."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from smartstack.forms import ZooKeeperUrl
from tests.support.eventually import eventually
from tests.support.machine import Machine
from tests.support.zookeeper_links import Recorder, changes, deletions, gaps

ROUNDS = 6
"""`make bench-nerve` does it ten times."""


@pytest.fixture
def recorder(zookeeper_url: ZooKeeperUrl) -> Iterator[Recorder]:
    """A second watcher, on everything below the root, that keeps every event."""
    made = Recorder(zookeeper_url)
    yield made
    made.stop()


@pytest.fixture
def machine(zookeeper_url: ZooKeeperUrl) -> Iterator[Machine]:
    """A machine with two services on the shared ZooKeeper, which leaves its nodes to its successor when it stops."""
    made = Machine(zookeeper_url)
    made.serve("web")
    made.serve("api", 8081)
    made.announce("web", "api", session_timeout="20s", on_stop="leave")
    made.nerve.start()
    eventually(lambda: made.sees("web", "api"))
    yield made
    made.close()


def owners(machine: Machine) -> set[str]:
    """The sessions that own the services' nodes, as nerve says."""
    services = machine.nerve.status()["services"].values()
    return {place["session"] for service in services for place in service["places"]}


def settled(machine: Machine) -> bool:
    """Whether both services are well, and registered by the nerve that runs."""
    services = machine.nerve.status()["services"]
    return all(one["registered"] and one["state"] == "up" for one in services.values()) and len(services) == 2


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGTERM, id="a restart with on_stop: leave"),
        pytest.param(signal.SIGKILL, id="kill -9"),
        pytest.param(signal.SIGUSR2, id="a hand-over by SIGUSR2"),
    ],
)
def test_a_restart_is_no_event_for_anybody(machine: Machine, recorder: Recorder, number: int) -> None:
    """The next nerve goes on with the session of the one before it: nothing is deleted, nothing is made anew, and the
    nodes are owned by a session that lives."""
    eventually(lambda: settled(machine))
    [session] = owners(machine)
    for _ in range(ROUNDS):
        machine.nerve.stop(number)
        machine.nerve.start()
        eventually(lambda: settled(machine))
    assert changes(recorder) == []
    assert owners(machine) == {session}


def test_a_successor_without_the_session_takes_over_in_one_step(machine: Machine, recorder: Recorder) -> None:
    """The state directory was lost with the host's disk, or the next nerve runs from another one: each node is replaced
    in one transaction, and outlives the session of the dead nerve."""
    machine.announce("web", "api", session_timeout="4s", on_stop="leave")
    machine.nerve.stop()
    machine.nerve.start()
    eventually(lambda: settled(machine))
    for _ in range(3):
        machine.nerve.kill()
        (machine.directory / "state" / "session.json").unlink()
        machine.nerve.start()
        eventually(lambda: settled(machine))
    assert gaps(recorder) == []
    assert deletions(recorder) == 6
    # The dead nerves' sessions end meanwhile, and must not take their successors' nodes with them.
    with pytest.raises(AssertionError):
        eventually(lambda: gaps(recorder), within=6.0)


def test_what_is_no_longer_announced_goes_after_a_restart_too(machine: Machine, recorder: Recorder) -> None:
    """The session lives on, and with it the node of a service that was taken out of nerve.yaml meanwhile: the next
    nerve knows of it and removes it, and touches nothing else."""
    eventually(lambda: settled(machine))
    machine.nerve.kill()
    machine.announce("api", session_timeout="20s", on_stop="leave")
    machine.nerve.start()
    eventually(lambda: machine.registered("web") == {"web": []})
    assert machine.sees("api")
    assert changes(recorder) == [("DELETED", f"services/web/{machine.address}_0000008080")]


def test_edits_leave_no_gap(machine: Machine, recorder: Recorder) -> None:
    """A weight, labels, a check: each edit replaces the node in one step; the other service is not touched at all."""
    eventually(lambda: settled(machine))
    for round_ in range(ROUNDS):
        machine.define("web", check={"type": "tcp", "interval": f"{50 + round_}ms", "timeout": "1s"})
        machine.announce("api", session_timeout="20s", announce={"web": {"weight": round_ + 1}, "api": {}})
        eventually(lambda weight=round_ + 1: machine.service("web")["weight"] == weight)  # type: ignore[misc]
        eventually(lambda: settled(machine))
    assert gaps(recorder) == []
    assert changes(recorder, "api/") == []
    assert deletions(recorder, "web/") == ROUNDS


def test_b4_an_edit_never_deletes_the_node_that_both_share(machine: Machine, recorder: Recorder) -> None:
    """The node has the same name before and after an edit of the checks, and the one who begins has it from the one who
    ends: it stays, and belongs to a session that lives. (Ruby's nerve put it, and its old watcher then deleted it.)"""
    eventually(lambda: settled(machine))
    for round_ in range(ROUNDS):
        machine.define("web", check={"type": "tcp", "interval": f"{70 + round_}ms", "timeout": "1s"})
        eventually(lambda edits=round_ + 1: machine.nerve.log().count("web was edited") == edits)  # type: ignore[misc]
        eventually(lambda: settled(machine))
    # The old check threads have ended by now, and took nothing with them.
    assert changes(recorder) == []
    assert len(owners(machine)) == 1
    assert machine.sees("web", "api")


def test_a_stop_takes_everything_back_unless_told_otherwise(machine: Machine) -> None:
    """`on_stop: deregister`, the default: from now on nobody sends anything here."""
    machine.announce("web", "api", session_timeout="20s", on_stop="deregister")
    machine.nerve.stop()
    machine.nerve.start()
    assert machine.nerve.stop() == 0
    eventually(lambda: machine.registered("web", "api") == {"web": [], "api": []}, within=1.0)


def test_a_session_of_another_boot_is_not_taken(machine: Machine, recorder: Recorder) -> None:
    """A state directory that was copied with a machine's image must not let two hosts fight for one session."""
    machine.nerve.kill()
    file = Path(machine.directory / "state" / "session.json")
    text = file.read_text()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert boot in text
    file.write_text(text.replace(boot, "0" * len(boot)))
    machine.nerve.start()
    eventually(lambda: settled(machine))
    assert gaps(recorder) == []
    assert deletions(recorder) == 2
