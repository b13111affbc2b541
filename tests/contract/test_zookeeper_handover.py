"""A session handed from one process to the next: what a second watcher sees of it, which should be nothing."""

import json
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient

from smartstack.errors import RegistryUnavailable
from smartstack.forms import ZooKeeperUrl
from smartstack.instance import encode
from smartstack.registry.options import Secret, ZooKeeperOptions
from smartstack.registry.protocol import HeldNode
from smartstack.registry.zookeeper import ZooKeeperWriter, session_file, wire
from smartstack.registry.zookeeper.client import Client
from tests.support.eventually import eventually
from tests.support.zookeeper import ControlledServer, ZooKeeperServer
from tests.support.zookeeper_child import SESSION_SECONDS, start_child
from tests.support.zookeeper_links import WEB, Links, Recorder, abandon, instance, mine, place, put


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the session is kept."""
    return tmp_path / "session.json"


@pytest.fixture
def watch(zookeeper_url: ZooKeeperUrl) -> Iterator[Callable[[], Recorder]]:
    """Begins to record; the root must be there by then."""
    made: list[Recorder] = []

    def begin() -> Recorder:
        made.append(Recorder(zookeeper_url))
        return made[-1]

    yield begin
    for recorder in made:
        recorder.stop()


@pytest.fixture
def writer(links: Links, zookeeper_url: ZooKeeperUrl, file: Path) -> Callable[[], ZooKeeperWriter]:
    """The writer of the next process: each with the same file."""
    return lambda: links.writer(zookeeper_url, session_timeout_seconds=SESSION_SECONDS, session_file=str(file))


def nodes(client: KazooClient, url: ZooKeeperUrl) -> dict[str, str]:
    """Each node of the service with its owner."""
    if client.exists(f"{url.root}/{WEB}") is None:
        return {}
    names = client.get_children(f"{url.root}/{WEB}")
    found = {name: client.exists(f"{url.root}/{WEB}/{name}") for name in names}
    return {name: f"{stat.ephemeralOwner & (1 << 64) - 1:#x}" for name, stat in found.items() if stat is not None}


def changes(client: KazooClient, url: ZooKeeperUrl) -> tuple[int, int]:
    """How often the list of names was changed, and the transaction of the last time."""
    stat = client.exists(f"{url.root}/{WEB}")
    return stat.cversion, stat.pzxid


def test_a_restart_is_seen_by_nobody(
    writer: Callable[[], ZooKeeperWriter], watch: Callable[[], Recorder], file: Path
) -> None:
    """The next process goes on with the session: its nodes are its own from the first look, and no watch hears of
    anything."""
    first = writer()
    for number in (1, 2, 3):
        put(first, number)
    recorder = watch()
    before = first.status().session
    first.stop(leave=True)
    assert first.status().detail == "stopped"
    second = writer()
    assert second.held([place(1), place(2)]) == mine(1) | mine(2) | mine(3)
    put(second, 1)
    assert second.status().session == before
    assert recorder.heard() == []
    second.remove(place(3))
    assert recorder.heard() == [("DELETED", f"{WEB}/{place(3).node}")]
    assert file.stat().st_mode & 0o777 == 0o600


def test_twenty_restarts_in_a_row_are_seen_by_nobody(
    writer: Callable[[], ZooKeeperWriter], watch: Callable[[], Recorder]
) -> None:
    """Sessions do not wear out, and no thread is left behind."""
    first = writer()
    put(first)
    recorder = watch()
    session = first.status().session
    first.stop(leave=True)
    threads = threading.active_count()
    for _ in range(20):
        again = writer()
        assert again.held([place()]) == mine()
        assert again.status().session == session
        again.stop(leave=True)
    assert recorder.heard() == []
    eventually(lambda: threading.active_count() <= threads)


def test_a_killed_process_is_followed_without_an_event(
    writer: Callable[[], ZooKeeperWriter], watch: Callable[[], Recorder], zookeeper_url: ZooKeeperUrl, file: Path
) -> None:
    """`kill -9` and a restart within the session time-out; what is not announced any more can be removed."""
    child, session = start_child(zookeeper_url, str(file), 1, 2)
    recorder = watch()
    child.send_signal(signal.SIGKILL)
    child.wait(5)
    child.communicate()
    after = writer()
    assert after.held([place(1)]) == mine(1) | mine(2)
    assert after.status().session == session
    assert recorder.heard() == []
    after.remove(place(2))
    assert after.held([]) == mine(1)


def test_without_the_file_a_killed_processs_nodes_are_taken_over_in_one_step(
    links: Links, watch: Callable[[], Recorder], zookeeper_url: ZooKeeperUrl, zookeeper_client: KazooClient, file: Path
) -> None:
    """Two events of one transaction: no reader sees the place empty."""
    child, _session = start_child(zookeeper_url, str(file), 1)
    recorder = watch()
    child.kill()
    child.communicate()
    count, _last = changes(zookeeper_client, zookeeper_url)
    after = links.writer(zookeeper_url, session_timeout_seconds=SESSION_SECONDS)
    assert after.held([place(1)]) == {place(1): HeldNode(payload=encode(instance(1)), mine=False)}
    put(after, 1)
    node = f"{WEB}/{place(1).node}"
    assert recorder.heard() == [("DELETED", node), ("CREATED", node)]
    made = zookeeper_client.exists(f"{zookeeper_url.root}/{node}").czxid
    assert changes(zookeeper_client, zookeeper_url) == (count + 2, made)


def test_a_session_that_expired_meanwhile_is_replaced(
    writer: Callable[[], ZooKeeperWriter], zookeeper: ZooKeeperServer, file: Path
) -> None:
    """The server says that it is over; the places are known all the same, and put again."""
    first = writer()
    put(first)
    session = first.status().session
    identity = first._link.identity
    assert identity is not None
    first.stop(leave=True)
    zookeeper.expire_session(identity.session, identity.password)
    second = writer()
    assert second.held([place()]) == {}
    put(second)
    assert second.held([]) == mine()
    assert second.status().session != session
    assert json.loads(file.read_text())["session"] != identity.session


def _other_boot(file: Path) -> None:
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "boot": "00000000-0000-0000-0000-000000000000"}))


def _other_registry(file: Path) -> None:
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "registry": "zookeeper://elsewhere:2181/x digest "}))


def _damaged(file: Path) -> None:
    file.write_text(file.read_text()[:-20])


def _open_to_all(file: Path) -> None:
    file.chmod(0o644)


def _link(file: Path) -> None:
    file.rename(file.with_suffix(".real"))
    file.symlink_to(file.with_suffix(".real"))


def _wrong_password(file: Path) -> None:
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "password": "00" * 16}))


@pytest.mark.parametrize(
    "case",
    [
        pytest.param((_other_boot, ""), id="another boot"),
        pytest.param((_other_registry, ""), id="another registry"),
        pytest.param((_wrong_password, ""), id="a password that the server does not know"),
        pytest.param((_damaged, "session.json is damaged"), id="damaged"),
        pytest.param((_open_to_all, "session.json may be read by others"), id="open to all"),
        pytest.param((_link, "session.json cannot be read"), id="a link"),
    ],
)
def test_a_file_that_is_no_good_is_as_good_as_none(
    writer: Callable[[], ZooKeeperWriter],
    zookeeper_client: KazooClient,
    zookeeper_url: ZooKeeperUrl,
    file: Path,
    case: tuple[Callable[[Path], None], str],
) -> None:
    """The session of before is left to its time-out, and its node is taken over in one step; what is suspicious is
    said. Afterwards the file is good again."""
    meddle, says = case
    first = writer()
    put(first)
    session = first.status().session
    first.stop(leave=True)
    meddle(file)
    count, _last = changes(zookeeper_client, zookeeper_url)
    second = writer()
    assert second.held([place()])[place()].mine is False
    put(second)
    assert changes(zookeeper_client, zookeeper_url)[0] == count + 2
    assert second.status().session != session
    detail = second.status().detail
    assert ("the session of before was not taken up" in detail and says in detail) if says else ";" not in detail
    assert file.stat().st_mode & 0o777 == 0o600
    assert not file.is_symlink()
    second.stop(leave=True)
    assert writer().held([]) == mine()


def test_another_user_does_not_take_the_session_up(links: Links, zookeeper_url: ZooKeeperUrl, file: Path) -> None:
    """Its nodes belong to the former identity."""
    first = links.writer(zookeeper_url, session_file=str(file))
    session = first.status().session
    first.held([])
    first.stop(leave=True)
    other = ZooKeeperOptions(user="nerve", password=Secret("x"))
    assert links.writer(zookeeper_url, session_file=str(file), options=other).status().session != session


def test_a_stop_ends_the_session_and_its_file(
    writer: Callable[[], ZooKeeperWriter], zookeeper_client: KazooClient, zookeeper_url: ZooKeeperUrl, file: Path
) -> None:
    """Nothing is left for a successor."""
    first = writer()
    put(first)
    assert file.exists()
    first.stop()
    assert not file.exists()
    assert nodes(zookeeper_client, zookeeper_url) == {}


def test_who_leaves_and_is_not_followed_is_gone_after_the_time_out(
    links: Links, zookeeper_client: KazooClient, zookeeper_url: ZooKeeperUrl
) -> None:
    """The nodes stay for the session time-out, and no longer."""
    first = links.writer(zookeeper_url, session_timeout_seconds=1)
    put(first)
    first.stop(leave=True)
    assert place().node in nodes(zookeeper_client, zookeeper_url)
    eventually(lambda: nodes(zookeeper_client, zookeeper_url) == {}, within=5)


def test_who_leaves_says_so_with_a_last_sign_of_life(links: Links, own_zookeeper: ControlledServer) -> None:
    """The time-out counts from what the server heard last: the successor gets all of it, not what a ping left over."""
    first = links.writer(ZooKeeperUrl(hosts=own_zookeeper.hosts, root=""), session_timeout_seconds=60)
    before = own_zookeeper.requests()
    first.stop(leave=True)
    assert own_zookeeper.requests() == before + 1


def test_a_connection_that_was_being_made_at_the_end_is_not_kept(
    links: Links, zookeeper_url: ZooKeeperUrl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would keep the session alive for nobody, or take it from the successor."""
    begun, may_go_on = threading.Event(), threading.Event()
    connect = Client._create_connection

    def slowly(client: Client, *arguments: Any, **options: Any) -> Any:
        begun.set()
        may_go_on.wait(10)
        return connect(client, *arguments, **options)

    monkeypatch.setattr(Client, "_create_connection", slowly)
    first = links.writer(zookeeper_url, connected=False)
    client = first._link._client
    assert client is not None
    assert begun.wait(5)
    thread = client._connection._connection_routine
    first.stop(leave=True)
    assert thread.is_alive()
    may_go_on.set()
    eventually(lambda: not thread.is_alive())


class _Cut(Exception):
    """The process ends here."""


@pytest.mark.parametrize(
    "cut",
    [
        pytest.param((number, before), id=f"{'before' if before else 'after'} write {number}")
        for number in range(10)
        for before in (True, False)
    ],
)
def test_wherever_a_process_is_cut_off_its_successor_knows_all_its_nodes(
    writer: Callable[[], ZooKeeperWriter],
    zookeeper_client: KazooClient,
    zookeeper_url: ZooKeeperUrl,
    monkeypatch: pytest.MonkeyPatch,
    cut: tuple[int, bool],
) -> None:
    """Every place stands in the file before it is put: no node of a session that lives on is forgotten. Each write of
    these steps is the last once, unheard by the server or unanswered."""
    cut_at, before = cut
    first = writer()
    ask, count = first._link.ask, 0

    def cutting(requests: Iterable[wire.Request]) -> Iterator[tuple[wire.Request, Any]]:
        nonlocal count
        batch = list(requests)
        count += any(request.type in (1, 2, 14) for request in batch)
        is_last = count > cut_at
        if is_last and before:
            raise _Cut
        answers = list(ask(batch))
        if is_last:
            raise _Cut
        yield from answers

    monkeypatch.setattr(first._link, "ask", cutting)
    with suppress(_Cut):
        put(first, 1)
        put(first, 2)
        first.held([place(1), place(2)])
        first.put(place(3), encode(instance(3)), instead_of=place(1))
        put(first, 2, weight=7)
        first.remove(place(2))
        put(first, 4)
    session = first.status().session
    abandon(first)
    second = writer()
    assert second.status().session == session
    owned = {name for name, owner in nodes(zookeeper_client, zookeeper_url).items() if owner == session}
    assert {each.node for each, there in second.held([]).items() if there.mine} == owned
    for each in second.held([]):
        second.remove(each)
    assert nodes(zookeeper_client, zookeeper_url) == {}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 64 KiB."""
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(path)], check=True)
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def test_on_a_full_disk_all_goes_on_but_the_hand_over(
    links: Links, zookeeper_url: ZooKeeperUrl, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To register is more important. The file is gone rather than wrong, and is back when there is room."""
    path = disk / "session.json"
    first = links.writer(zookeeper_url, session_file=str(path))
    put(first, 1)
    assert path.exists()
    filler = disk / "filler"
    with suppress(OSError):
        filler.write_bytes(b"x" * 100_000)
    put(first, 2)
    assert first.held([]) == mine(1) | mine(2)
    assert not path.exists()
    status = first.status()
    assert status.connected
    assert "session hand-over is off: cannot write" in status.detail
    assert "no space left on device" in status.detail
    filler.unlink()
    put(first, 3)
    assert not path.exists(), "it is not tried at each step"
    monkeypatch.setattr(session_file, "FRESH_SECONDS", 0.0)
    first.held([])
    assert first.status().detail.count(";") == 0
    first.stop(leave=True)
    second = links.writer(zookeeper_url, session_file=str(path))
    assert second.held([]) == mine(1) | mine(2) | mine(3)


def test_a_file_that_can_neither_be_written_nor_removed_costs_the_session(
    links: Links, zookeeper_url: ZooKeeperUrl, zookeeper_client: KazooClient, disk: Path
) -> None:
    """It names the session and would miss a place: so the session is left to its end, and another takes the nodes."""
    path = disk / "session.json"
    first = links.writer(zookeeper_url, session_file=str(path), session_timeout_seconds=2)
    put(first, 1)
    session = first.status().session
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(RegistryUnavailable, match="given up for another"):
        put(first, 2)

    def both_stand() -> bool:
        with suppress(RegistryUnavailable):
            first.held([place(1), place(2)])
            put(first, 1)
            put(first, 2)
            return first.held([]) == mine(1) | mine(2)
        return False

    assert eventually(both_stand, within=10)
    status = first.status()
    assert status.session != session
    assert set(nodes(zookeeper_client, zookeeper_url).values()) == {status.session}
    assert "the session was left, because its file could not be kept up to date" in status.detail
    assert "session hand-over is off" in status.detail
    abandon(first)
    second = links.writer(zookeeper_url, session_file=str(path), session_timeout_seconds=2)
    put(second, 1)
    eventually(lambda: list(nodes(zookeeper_client, zookeeper_url)) == [place(1).node], within=10)
    assert second.held([]) == mine(1)


def test_no_directory_for_the_file_is_said_and_holds_nothing_up(
    links: Links, zookeeper_url: ZooKeeperUrl, tmp_path: Path
) -> None:
    """The same for whatever keeps it from being written."""
    first = links.writer(zookeeper_url, session_file=str(tmp_path / "missing" / "session.json"))
    put(first)
    assert first.held([]) == mine()
    assert "session hand-over is off: cannot write" in first.status().detail


def test_two_on_one_session_part(
    links: Links, zookeeper_url: ZooKeeperUrl, zookeeper_client: KazooClient, tmp_path: Path
) -> None:
    """They throw each other out again and again; the one that took the session up notices and gets one of its own."""
    one, other = str(tmp_path / "one"), str(tmp_path / "other")
    first = links.writer(zookeeper_url, session_file=one, session_timeout_seconds=SESSION_SECONDS)
    put(first)
    session = first.status().session
    shutil.copy2(one, other)
    second = links.writer(zookeeper_url, session_file=other, session_timeout_seconds=SESSION_SECONDS, connected=False)

    def parted() -> bool:
        with suppress(RegistryUnavailable):
            second.held([place()])
        with suppress(RegistryUnavailable):
            first.held([place()])
        return {first.status().connected, second.status().connected} == {True} and (
            first.status().session != second.status().session
        )

    eventually(parted, within=15)
    assert first.status().session == session
    assert "used by another process too" in second.status().detail
    put(second, 2)
    assert first.held([place()]) == mine()
    losses = first.status().counters["reconnects"]
    recorder = Recorder(zookeeper_url)
    put(second, 2, weight=1)
    assert len(recorder.heard()) == 2
    recorder.stop()
    assert first.status().counters["reconnects"] == losses
    assert set(nodes(zookeeper_client, zookeeper_url)) == {place(1).node, place(2).node}
