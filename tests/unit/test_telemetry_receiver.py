"""The feed's socket and its key, with real datagrams and real files."""

import os
import secrets
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from smartstack.forms import TcpAddress
from smartstack.logs import EventLog
from synapse.settings import Settings
from synapse.telemetry import receiver
from synapse.telemetry.line import Feed
from synapse.telemetry.receiver import Receiver
from synapse.telemetry.request import Request
from synapse.telemetry.station import KEY_FILE, Telemetry
from tests.golden.test_render import model
from tests.support.eventually import eventually

KEY = "0123456789abcdef"


def line(path: str = "/", key: str = KEY) -> bytes:
    """A line of HAProxy's."""
    head = f"S1\t{key}\thttp\tweb\tweb\ts1\t10.0.0.5\t80\t200\t5\t5\t0\t0\t--\t0\t1\t1"
    return f"{head}\t127.0.0.1\t9\t127.0.0.1\t3210\t-\t-\t-\tGET\t{path}\n".encode()


@dataclass
class Stand:
    """A receiver at an address of its own, what it gave its sink, and how often it said that something changed."""

    place: tuple[str, int]
    receiver: Receiver
    lock: threading.Lock
    paths: list[str]
    changes: list[str | None]

    def send(self, *datagrams: bytes) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for datagram in datagrams:
                sender.sendto(datagram, self.place)

    def heard(self, *paths: str) -> None:
        eventually(lambda: self.paths == list(paths), message=f"{self.paths} is {paths}")


class Sink:
    """Keeps the paths, and does what a test says at some."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.at: dict[str, Callable[[], object]] = {}

    def take(self, requests: Sequence[Request], now: float) -> None:
        for request in requests:
            self.paths.append(request.path)
            self.at.get(request.path, lambda: None)()

    def tick(self, now: float) -> None:
        """Nothing grows old here."""


def is_free(place: tuple[str, int]) -> bool:
    """Whether somebody else can have the address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        try:
            other.bind(place)
        except OSError:
            return False
        return True


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture
def stand(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stand]:
    """Not started."""
    monkeypatch.setattr(receiver, "RETRY_SECONDS", 0.05)
    place = f"127.{secrets.randbelow(200) + 20}.{secrets.randbelow(250) + 1}.77", 3200
    lock, changes = threading.Lock(), list[str | None]()
    feed = Feed(address=TcpAddress(*place), key=KEY)
    made = Receiver(feed, [sink], lock, EventLog("test"), changed=lambda: changes.append(made.problem))
    yield Stand(place, made, lock, sink.paths, changes)
    made.stop()


def test_what_is_forged_or_no_line_is_counted_and_not_believed(stand: Stand) -> None:
    """Whoever on this machine may send there: without the key it changes nothing but a count."""
    stand.receiver.start()
    stand.send(line("/1"), line("/evil", key="f" * 16), b"hello", b"", line("/2"))
    stand.heard("/1", "/2")
    counts = stand.receiver.counts
    assert (counts.received, counts.forged, counts.unparsed, counts.dropped) == (2, 1, 2, 0)


def test_what_comes_too_fast_is_dropped_and_counted(stand: Stand) -> None:
    """Nobody waits for a receiver that is held up: what does not fit is lost, to the last datagram counted."""
    stand.receiver.start()
    stand.send(line("/first"))
    stand.heard("/first")
    with stand.lock:
        stand.send(*[line("/" + "x" * 900)] * 20_000)
    counts = stand.receiver.counts
    eventually(lambda: counts.received + counts.dropped == 20_001, within=10)
    assert counts.dropped > 0
    stand.paths.clear()
    stand.send(line("/last"))
    stand.heard("/last")


def test_a_taken_address_is_tried_again(stand: Stand) -> None:
    """The problem is told once, goes away by itself, and is told as gone."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(stand.place)
        stand.receiver.start()
        assert "address already in use; stop what listens there" in str(stand.receiver.problem)
    eventually(lambda: stand.receiver.problem is None)
    assert len(stand.changes) == 2
    stand.send(line("/1"))
    stand.heard("/1")


def test_an_error_of_the_socket_ends_nothing(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """The socket is opened anew."""
    stand.receiver.start()
    failures = iter([OSError(5, "Input/output error")])
    real = stand.receiver._receive

    def fail_once() -> list[bytes]:
        for failure in failures:
            raise failure
        return real()

    monkeypatch.setattr(stand.receiver, "_receive", fail_once)
    eventually(lambda: stand.changes == ["cannot receive what HAProxy tells: input/output error", None])
    stand.send(line("/1"))
    stand.heard("/1")


def test_a_sink_that_fails_is_a_problem_that_everybody_sees(
    stand: Stand, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a mistake of ours: the feed ends, the address is free, and /status says so."""
    told: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", told.append)
    nothing: dict[str, str] = {}
    sink.at["/bad"] = lambda: nothing["no such key"]
    stand.receiver.start()
    stand.send(line("/bad"))
    eventually(lambda: stand.changes)
    assert "restart synapse" in str(stand.receiver.problem)
    assert [each.exc_type for each in eventually(lambda: told)] == [KeyError]
    eventually(lambda: is_free(stand.place))


# The key


def telemetry(directory: Path, *, writes: bool = True) -> Telemetry:
    """As a daemon makes it that keeps its state there."""
    settings: Settings = model(Settings, {"registry": "file:/r", "state_directory": str(directory)})
    return Telemetry(settings, EventLog("test"), lambda: None, writes=writes)


def key_of(made: Telemetry) -> str:
    assert made.feed is not None
    return made.feed.key


def test_the_key_is_made_once_and_is_a_secret(tmp_path: Path) -> None:
    """HAProxy goes on with it while synapse is started again."""
    key = key_of(telemetry(tmp_path))
    assert len(key) == 16
    assert (tmp_path / KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert key_of(telemetry(tmp_path)) == key


@pytest.mark.parametrize("content", ["", "hello", "0123456789ABCDEF", "0123456789abcdef x"])
def test_a_key_that_is_none_is_made_anew(tmp_path: Path, content: str) -> None:
    """What stands in the file goes into HAProxy's configuration, and must be a key."""
    (tmp_path / KEY_FILE).write_text(content)
    made = key_of(telemetry(tmp_path))
    assert made != content
    assert (tmp_path / KEY_FILE).read_text() == f"{made}\n"


def test_who_only_looks_leaves_no_key_behind(tmp_path: Path) -> None:
    """A dry run changes nothing."""
    telemetry(tmp_path, writes=False)
    assert os.listdir(tmp_path) == []


def test_a_key_that_cannot_be_kept_is_a_problem(tmp_path: Path) -> None:
    """The feed works all the same, until the next start."""
    (tmp_path / KEY_FILE).mkdir()
    made = telemetry(tmp_path)
    assert len(key_of(made)) == 16
    assert "telemetry.key" in made.problems[0]
