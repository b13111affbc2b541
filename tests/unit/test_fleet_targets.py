"""Whom Prometheus asks: a file in step with the fleet, as the registry says it is now."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from smartstack.forms import TcpAddress
from smartstack.logs import EventLog
from synapse.fleet.peer import Peer
from synapse.fleet.peers import Known
from synapse.fleet.target_file import TargetFile
from synapse.fleet.targets import target_groups, text
from tests.support.eventually import eventually

ONE = Peer(name="one", address=TcpAddress("10.0.0.5", 3201))
SIX = Peer(name="six", address=TcpAddress("fd00::6", 3201))


def group(address: str, job: str, host: str) -> dict[str, object]:
    return {"targets": [address], "labels": {"job": job, "host": host}}


@pytest.mark.parametrize(
    ("nerve_port", "nerves"),
    [
        pytest.param(None, [], id="nerves cannot be asked"),
        pytest.param(
            3199, [group("10.0.0.5:3199", "nerve", "one"), group("[fd00::6]:3199", "nerve", "six")], id="nerves too"
        ),
    ],
)
def test_every_daemon_is_a_target_with_its_hosts_name(nerve_port: int | None, nerves: list[dict[str, object]]) -> None:
    """Each synapse at the address that it announces; each nerve at its port of the same host."""
    synapses = [group("10.0.0.5:3201", "synapse", "one"), group("[fd00::6]:3201", "synapse", "six")]
    assert target_groups([ONE, SIX], nerve_port) == [*synapses, *nerves]
    assert json.loads(text([ONE, SIX], nerve_port)) == [*synapses, *nerves]


def test_the_same_fleet_is_the_same_file() -> None:
    """Also from an iterator: nothing is lost where peers are gone through twice."""
    assert text(iter([ONE, SIX]), 3199) == text([ONE, SIX], 3199)


class Registry:
    """Says who is announced."""

    def __init__(self, *peers: Peer) -> None:
        self.known = Known(peers=peers)

    def __call__(self) -> Known:
        return self.known


@pytest.fixture
def make(tmp_path: Path) -> Callable[[Registry], tuple[TargetFile, Path]]:
    """A file below a directory that is not there yet, kept in step with a registry."""

    def made(registry: Registry) -> tuple[TargetFile, Path]:
        path = tmp_path / "prometheus" / "targets.json"
        return TargetFile(str(path), None, registry, EventLog("test")), path

    return made


Make = Callable[[Registry], tuple[TargetFile, Path]]


def test_the_file_follows_the_fleet(make: Make) -> None:
    """With its directory made; one that says the same is not written again; and others may read it."""
    registry = Registry(ONE)
    target_file, path = make(registry)
    target_file.turn()
    assert json.loads(path.read_text()) == target_groups([ONE], None)
    assert path.stat().st_mode & 0o777 == 0o644
    before = path.stat().st_ino
    target_file.turn()
    assert path.stat().st_ino == before
    registry.known = Known(peers=(ONE, SIX))
    target_file.turn()
    assert json.loads(path.read_text()) == target_groups([ONE, SIX], None)
    registry.known = Known(peers=())
    target_file.turn()
    assert json.loads(path.read_text()) == []


def test_while_the_registry_is_away_the_file_stays(make: Make) -> None:
    """Unknown is not empty, nor is what was known before."""
    registry = Registry(ONE, SIX)
    target_file, path = make(registry)
    target_file.turn()
    for peers in ((), (ONE,)):
        registry.known = Known(peers=peers, problem="the registry is away")
        target_file.turn()
        assert json.loads(path.read_text()) == target_groups([ONE, SIX], None)


def test_what_cannot_be_written_is_said_and_tried_again(make: Make) -> None:
    """A file where the directory should be, until it is gone."""
    target_file, path = make(Registry(ONE))
    path.parent.write_text("in the way")
    target_file.turn()
    assert str(path.parent) in (target_file.problem or "")
    path.parent.unlink()
    target_file.turn()
    assert not target_file.problem
    assert path.exists()


def test_it_is_written_by_a_thread_of_its_own(make: Make) -> None:
    """From the start until the end, which does not wait for the next look."""
    target_file, path = make(Registry(ONE))
    target_file.start()
    eventually(path.exists)
    target_file.stop()
    assert path.exists()
