"""The `file:` registry beyond the common contract: what lies on disk, who may be believed, and what can go wrong."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from watchdog.observers.inotify_c import InotifyFD

from smartstack.errors import RegistryError, RegistryRefused, RegistryUnavailable
from smartstack.files import FileWatch
from smartstack.forms import DirectoryUrl
from smartstack.instance import PAYLOAD_LIMIT, Instance, encode
from smartstack.registry import open_reader, open_writer
from smartstack.registry.directory import DirectoryReader, DirectoryWriter, changes, writer
from smartstack.registry.directory import reader as reading
from smartstack.registry.protocol import HeldNode, Listing, NodeId, Refused, Unknown
from tests.support.eventually import eventually
from tests.support.nobody import CHECKOUT, run_as_nobody
from tests.support.registries import Bell, DirectoryUnderTest

WEB = "services/web"
ONE = Instance(host="10.0.0.1", port=8080, name="one")
TWO = Instance(host="10.0.0.2", port=8080, name="two")
FIRST = NodeId(path=WEB, node="10.0.0.1_0000008080")
SECOND = NodeId(path=WEB, node="10.0.0.2_0000008080")
QUIET_SECONDS = 0.2


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[DirectoryUnderTest]:
    made = DirectoryUnderTest(tmp_path / "registry")
    yield made
    made.close()


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A directory that every user may reach, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        yield Path(place)


@contextmanager
def started(end: DirectoryReader | DirectoryWriter) -> Iterator[None]:
    end.start(lambda: None)
    yield
    end.stop()


def listing(reader: object, path: str = WEB) -> Listing:
    assert isinstance(reader, DirectoryReader)
    found = reader.read([path])[path]
    assert isinstance(found, Listing), found
    return found


def unknown(reader: object, path: str = WEB) -> Unknown:
    assert isinstance(reader, DirectoryReader)
    found = reader.read([path])[path]
    assert isinstance(found, Unknown), found
    return found


def instances(reader: object, path: str = WEB) -> list[Instance]:
    return [record.instance for record in listing(reader, path).records]


def by_hand(registry: DirectoryUnderTest, name: str, content: str | bytes) -> Path:
    """A file that somebody wrote, with nobody holding it."""
    file = registry.root / WEB / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


# --- what lies on disk


def test_one_file_holds_one_payload(registry: DirectoryUnderTest) -> None:
    """A node's file has the node's name and holds the payload byte for byte; absolute paths lie below the root too."""
    made = registry.make_writer()
    made.put(FIRST, encode(ONE))
    made.put(NodeId(path="/nerve/web", node="a"), encode(TWO))
    found = {
        str(file.relative_to(registry.root)): file.read_bytes() for file in registry.root.rglob("*") if file.is_file()
    }
    assert found == {f"{WEB}/10.0.0.1_0000008080.json": encode(ONE), "nerve/web/a.json": encode(TWO)}


def test_the_kind_is_chosen_by_the_url(tmp_path: Path) -> None:
    """A `file:` URL opens the directory kind, and kazoo is not even imported for it."""
    url = DirectoryUrl(str(tmp_path))
    assert isinstance(open_reader(url, session_timeout_seconds=1), DirectoryReader)
    assert isinstance(open_writer(url, session_timeout_seconds=1), DirectoryWriter)
    code = (
        "import sys; from smartstack.forms import DirectoryUrl; from smartstack.registry import open_reader;"
        "open_reader(DirectoryUrl('/'), session_timeout_seconds=1); print('kazoo' in sys.modules)"
    )
    child = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=CHECKOUT)
    assert child.stdout == "False\n"


UNFIT = {
    "a slash": "a/b",
    "nothing": "",
    "a leading dot": ".a",
    "a newline": "a\nb",
    "a NUL": "a\0b",
    "251 bytes": "x" * 251,
    "251 bytes in UTF-8": "ö" * 125 + "x",
}


@pytest.mark.parametrize("node", UNFIT.values(), ids=UNFIT.keys())
def test_a_name_that_no_file_can_have_is_refused(registry: DirectoryUnderTest, node: str) -> None:
    """Put says so in one sentence and writes nothing; held knows nothing of such a place."""
    made = registry.make_writer()
    with pytest.raises(RegistryRefused, match=r"^cannot register node .*name"):
        made.put(NodeId(path=WEB, node=node), encode(ONE))
    assert made.held([NodeId(path=WEB, node=node)]) == {}
    assert not any(registry.root.iterdir())


def test_the_longest_name(registry: DirectoryUnderTest) -> None:
    """250 bytes and the suffix are what a file may be called."""
    registry.make_writer().put(NodeId(path=WEB, node="x" * 250), encode(ONE))
    assert instances(registry.make_reader()) == [ONE]


@pytest.mark.parametrize("path", ["../outside", "services/../../outside", "", "/", "a/./b", "services/.hidden", "a\0b"])
def test_no_path_leads_out_of_the_registry(registry: DirectoryUnderTest, path: str) -> None:
    """A path of dots is refused for writing and Unknown for reading; others are read all the same."""
    with pytest.raises(RegistryRefused, match="no part of the path may start with a dot"):
        registry.make_writer().put(NodeId(path=path, node="a"), encode(ONE))
    reader = registry.make_reader()
    found = reader.read([path, WEB])
    assert isinstance(found[path], Unknown)
    assert found[WEB] == Listing()


# --- who is believed


def test_a_static_file_needs_no_owner(registry: DirectoryUnderTest) -> None:
    """A hand-written file with "static": true counts, is changed by editing it, and goes by removing it."""
    bell = Bell()
    reader = registry.make_reader(bell.ring)
    assert instances(reader) == []
    file = by_hand(registry, "db.json", '{\n  "static": true, "host": "10.0.0.1", "port": 8080, "name": "one"\n}\n')
    eventually(lambda: instances(reader) == [ONE])
    rings = bell.rings
    file.write_text('{"static": true, "host": "10.0.0.2", "port": 8080, "name": "two"}')
    eventually(lambda: bell.rings > rings and instances(reader) == [TWO])
    file.unlink()
    eventually(lambda: instances(reader) == [])


def test_a_leftover_counts_for_nothing(registry: DirectoryUnderTest) -> None:
    """What a dead writer left is neither an instance nor an error, for readers and for held."""
    by_hand(registry, f"{FIRST.node}.json", encode(ONE))
    assert listing(registry.make_reader()) == Listing()
    assert registry.make_writer().held([FIRST]) == {}


def test_a_hand_written_file_without_the_mark_is_refused_aloud(registry: DirectoryUnderTest) -> None:
    """Somebody forgot "static": true: the reader says what is missing, and nobody removes the file."""
    file = by_hand(registry, "db.json", encode(ONE) + b"\n")
    reader = registry.make_reader()
    why = 'nobody holds it, and it does not say "static": true'
    assert listing(reader) == Listing(refused=(Refused(node="db", reason=why),))
    made = registry.make_writer()
    assert made.held([NodeId(path=WEB, node="db")]) == {
        NodeId(path=WEB, node="db"): HeldNode(payload=encode(ONE) + b"\n", mine=False)
    }
    made.put(FIRST, encode(TWO))
    assert file.exists()


def test_leftovers_are_removed_by_the_next_writer(registry: DirectoryUnderTest) -> None:
    """A writer's first put into a directory clears it of dead registrations and half files, only of these."""
    dead = by_hand(registry, "dead.json", encode(TWO))
    half = by_hand(registry, ".1-1.new", b'{"ho')
    kept = [
        by_hand(registry, "static.json", b'{"static":true,"host":"10.0.0.9","port":1}'),
        by_hand(registry, "broken.json", b"{"),
        by_hand(registry, ".swp", b""),
        by_hand(registry, "README", encode(TWO)),
    ]
    other = registry.make_writer()
    other.put(SECOND, encode(TWO))
    registry.make_writer().put(FIRST, encode(ONE))
    assert (dead.exists(), half.exists()) == (False, False)
    assert all(file.exists() for file in kept)
    assert registry.place(WEB, SECOND.node).exists()


def test_leftovers_are_removed_now_and_then(registry: DirectoryUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what dies while a writer runs goes some day, where that writer has something itself."""
    made = registry.make_writer()
    made.put(FIRST, encode(ONE))
    dead = by_hand(registry, "dead.json", encode(TWO))
    made.held([])
    assert dead.exists()
    monkeypatch.setattr(writer, "SWEEP_SECONDS", 0.0)
    eventually(lambda: made.held([]) and not dead.exists())
    assert registry.place(WEB, FIRST.node).exists()


CHILD = """
import sys, time
from smartstack.forms import DirectoryUrl
from smartstack.instance import Instance, encode
from smartstack.registry.directory import DirectoryWriter
from smartstack.registry.protocol import NodeId
writer = DirectoryWriter(DirectoryUrl(sys.argv[1]))
writer.start(lambda: None)
for port in range(1, 1 + int(sys.argv[2])):
    payload = encode(Instance(host="10.0.0.7", port=port))
    writer.put(NodeId(path="services/web", node=f"10.0.0.7_{port:010d}"), payload)
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def child_writer(root: Path, nodes: int) -> Iterator[subprocess.Popen[str]]:
    """A process of its own that has put so many nodes and holds them."""
    command = [sys.executable, "-c", CHILD, str(root), str(nodes)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        yield child
    finally:
        child.kill()
        child.communicate()


def test_kill_9_is_seen(registry: DirectoryUnderTest) -> None:
    """The kernel tells of the death of a process by closing its files: a ring, and all its nodes are gone."""
    bell = Bell()
    reader = registry.make_reader(bell.ring)
    registry.make_writer().put(FIRST, encode(ONE))
    with child_writer(registry.root, 20) as child:
        eventually(lambda: len(instances(reader)) == 21)
        eventually(lambda: bell.silent_for(QUIET_SECONDS))
        rings = bell.rings
        child.send_signal(signal.SIGKILL)
        eventually(lambda: bell.rings > rings and instances(reader) == [ONE])


def test_a_stopped_process_keeps_its_nodes(registry: DirectoryUnderTest) -> None:
    """SIGSTOP is not death: as long as the process may go on its registrations stand."""
    reader = registry.make_reader()
    with child_writer(registry.root, 1) as child:
        eventually(lambda: len(instances(reader)) == 1)
        child.send_signal(signal.SIGSTOP)
        by_hand(registry, "static.json", b'{"static":true,"host":"10.0.0.9","port":1}')
        eventually(lambda: len(instances(reader)) == 2)


# --- hostile files


def make_pipe(directory: Path) -> None:
    os.mkfifo(directory / "pipe.json")


def make_link(directory: Path) -> None:
    (directory / "elsewhere").write_bytes(b'{"static":true,"host":"10.0.0.9","port":1}')
    (directory / "link.json").symlink_to("elsewhere")


def make_sparse(directory: Path) -> None:
    (directory / "sparse.json").touch()
    os.truncate(directory / "sparse.json", 1 << 40)


HOSTILE: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "a pipe": (make_pipe, "pipe", "not a regular file"),
    "a directory": (lambda place: (place / "dir.json").mkdir(), "dir", "not a regular file"),
    "a link": (make_link, "link", "not a regular file"),
    "a dangling link": (lambda place: (place / "gone.json").symlink_to("x"), "gone", "not a regular file"),
    "a link to a device": (lambda place: (place / "zero.json").symlink_to("/dev/zero"), "zero", "not a regular file"),
    "a name of two lines": (
        lambda place: (place / "a\nserver evil.json").write_bytes(b'{"static":true,"host":"10.0.0.9","port":1}'),
        r"a\nserver evil",
        "its name is not printable",
    ),
    "a name that is not UTF-8": (
        lambda place: Path(os.fsdecode(bytes(place) + b"/\xff.json")).write_bytes(b'{"static":true}'),
        r"\udcff",
        "its name is not printable",
    ),
    "a huge file": (
        lambda place: (place / "huge.json").write_bytes(b" " * 10_000_000),
        "huge",
        f"payload is over the limit of {PAYLOAD_LIMIT} bytes",
    ),
    "a file without end": (
        make_sparse,
        "sparse",
        f"payload is over the limit of {PAYLOAD_LIMIT} bytes",
    ),
    "not UTF-8": (lambda place: (place / "x.json").write_bytes(b"\xff"), "x", "payload is not UTF-8"),
    "nested": (lambda place: (place / "x.json").write_bytes(b"[" * 60_000), "x", "payload is not JSON"),
    "empty": (lambda place: (place / "x.json").touch(), "x", "payload is not JSON"),
    "static without a host": (
        lambda place: (place / "x.json").write_bytes(b'{"static":true,"port":1}'),
        "x",
        "host is missing",
    ),
}


@pytest.mark.parametrize(("make", "node", "reason"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_file_is_refused_alone(
    registry: DirectoryUnderTest, make: Callable[[Path], object], node: str, reason: str
) -> None:
    """Whatever stands there is a value with a reason: nothing hangs, nothing crashes, the others stay."""
    reader, made = registry.make_reader(), registry.make_writer()
    made.put(FIRST, encode(ONE))
    make(registry.root / WEB)
    found = eventually(lambda: [found for found in [listing(reader)] if found.refused])[0]
    assert found.refused == (Refused(node=node, reason=reason),)
    assert [record.instance for record in found.records] == [ONE]
    made.held([NodeId(path=WEB, node="pipe"), NodeId(path=WEB, node="dir"), NodeId(path=WEB, node="zero")])
    registry.make_writer().put(SECOND, encode(TWO))


def test_what_is_none_of_ours_is_passed_over(registry: DirectoryUnderTest) -> None:
    """Other files, hidden files and directories of deeper services are no nodes."""
    reader = registry.make_reader()
    by_hand(registry, "README.txt", "hello")
    by_hand(registry, ".hidden.json", "{")
    (registry.root / WEB / "deeper").mkdir()
    assert listing(reader) == Listing()


def test_a_pipe_in_our_place_is_replaced(registry: DirectoryUnderTest) -> None:
    """What stands in a place of ours is reported as foreign, without waiting for it, and put takes the place."""
    (registry.root / WEB).mkdir(parents=True)
    os.mkfifo(registry.place(WEB, FIRST.node))
    made = registry.make_writer()
    assert made.held([FIRST]) == {FIRST: HeldNode(payload=b"", mine=False)}
    made.put(FIRST, encode(ONE))
    assert instances(registry.make_reader()) == [ONE]


UNREADABLE = """
root, path = sys.argv[1:]
reader = DirectoryReader(DirectoryUrl(root))
reader.start(lambda: None)
print(reader.read([path])[path])
"""
READER_IMPORTS = (
    "from smartstack.registry.directory import DirectoryReader, DirectoryWriter; "
    "from smartstack.forms import DirectoryUrl; from smartstack.registry.protocol import NodeId; "
    "from smartstack.errors import RegistryError; import encodings.unicode_escape, resource"
)


def test_an_unreadable_file_is_refused(open_place: Path) -> None:
    """One file that may not be read does not hide the others."""
    static = b'{"static":true,"host":"10.0.0.9","port":1}'
    (open_place / "web").mkdir()
    (open_place / "web" / "a.json").write_bytes(static)
    (open_place / "web" / "b.json").write_bytes(static)
    (open_place / "web" / "a.json").chmod(0)
    (said,) = run_as_nobody(READER_IMPORTS, UNREADABLE, open_place, "web")
    assert "Refused(node='a', reason='permission denied')" in said
    assert "Record(node='b'" in said


def test_an_unreadable_service_is_unknown(open_place: Path) -> None:
    """A directory that may not be read is not empty."""
    (open_place / "web").mkdir()
    (open_place / "web").chmod(0)
    (said,) = run_as_nobody(READER_IMPORTS, UNREADABLE, open_place, "web")
    assert said.startswith(f"Unknown(reason='{open_place}/web cannot be read: Permission denied'")


# --- a registry that is not there


def test_a_missing_root_is_unknown(tmp_path: Path) -> None:
    """Before anybody made the registry nothing is known; the same object says so, until it is there."""
    bell, root = Bell(), tmp_path / "some" / "where"
    reader, made = DirectoryReader(DirectoryUrl(str(root))), DirectoryWriter(DirectoryUrl(str(root)))
    with started(made):
        made.stop()
    shutil.rmtree(tmp_path / "some")
    reader.start(bell.ring)
    assert unknown(reader).reason == f"registry directory {root} does not exist"
    assert reader.read([WEB])[WEB] is reader.read([WEB])[WEB]
    assert (reader.status().connected, reader.status().detail) == (False, unknown(reader).reason)
    rings = bell.rings
    with started(made):
        made.put(FIRST, encode(ONE))
        eventually(lambda: bell.rings > rings and instances(reader) == [ONE])
        assert reader.status().connected
    reader.stop()


def test_a_wiped_registry_heals(registry: DirectoryUnderTest) -> None:
    """Root gone: Unknown for readers, nothing held for the writer, which makes everything again; both are rung."""
    reader_bell, writer_bell = Bell(), Bell()
    reader, made = registry.make_reader(reader_bell.ring), registry.make_writer(writer_bell.ring)
    made.put(FIRST, encode(ONE))
    assert instances(reader) == [ONE]
    eventually(lambda: reader_bell.silent_for(QUIET_SECONDS) and writer_bell.silent_for(QUIET_SECONDS))
    rings = reader_bell.rings, writer_bell.rings
    shutil.rmtree(registry.root)
    eventually(lambda: reader_bell.rings > rings[0] and writer_bell.rings > rings[1])
    assert unknown(reader).reason == f"registry directory {registry.root} does not exist"
    assert made.held([FIRST]) == {}
    made.put(FIRST, encode(ONE))
    eventually(lambda: instances(reader) == [ONE])
    assert made.held([]) == {FIRST: HeldNode(payload=encode(ONE), mine=True)}
    assert reader.status().counters["reconnects"] == 1


def test_a_registry_moved_away_counts_as_gone(registry: DirectoryUnderTest) -> None:
    """Paths are what counts: a renamed root is a missing root, and its writer starts anew at the path."""
    reader, made = registry.make_reader(), registry.make_writer()
    made.put(FIRST, encode(ONE))
    assert instances(reader) == [ONE]
    registry.root.rename(registry.root.with_name("old"))
    eventually(lambda: unknown(reader))
    assert made.held([FIRST]) == {}
    made.put(FIRST, encode(TWO))
    eventually(lambda: instances(reader) == [TWO])


def test_a_service_that_is_a_file_is_unknown(registry: DirectoryUnderTest) -> None:
    """What is not a directory cannot be listed; it heals when it is one."""
    reader = registry.make_reader()
    (registry.root / "services").mkdir()
    (registry.root / WEB).write_text("")
    assert unknown(reader).reason == f"{registry.root}/{WEB} cannot be read: Not a directory"
    with pytest.raises(RegistryRefused, match="move away the file that stands where a directory should be"):
        registry.make_writer().put(FIRST, encode(ONE))
    (registry.root / WEB).unlink()
    registry.make_writer().put(FIRST, encode(ONE))
    eventually(lambda: instances(reader) == [ONE])


def test_a_root_that_is_a_file_is_refused_at_start(tmp_path: Path) -> None:
    """One sentence that names the path, for both ends."""
    (tmp_path / "file").write_text("")
    url = DirectoryUrl(str(tmp_path / "file"))
    with pytest.raises(RegistryRefused, match=r"^cannot read the registry: .*/file is not a directory$"):
        DirectoryReader(url).start(lambda: None)
    with pytest.raises(RegistryRefused, match=r"^cannot keep a registry in .*/file: File exists; move away the file"):
        DirectoryWriter(url).start(lambda: None)


START = """
for kind in (DirectoryReader, DirectoryWriter):
    try:
        kind(DirectoryUrl(sys.argv[1])).start(lambda: None)
        print("started")
    except RegistryError as error:
        print(error)
"""


def test_a_root_without_permission_is_refused_at_start(open_place: Path) -> None:
    """The sentence says which directory, and who needs the right."""
    user = os.geteuid() or 65534
    (open_place / "closed").mkdir(mode=0)
    open_place.chmod(0o555)
    assert run_as_nobody(READER_IMPORTS, START, open_place / "closed") == [
        f"cannot read the registry: {open_place}/closed: Permission denied; let user id {user} read that directory",
        f"cannot keep a registry in {open_place}/closed: Permission denied; let user id {user} write there",
    ]
    assert run_as_nobody(READER_IMPORTS, START, open_place / "new") == [
        "started",
        f"cannot keep a registry in {open_place}/new: Permission denied; let user id {user} write there",
    ]
    open_place.chmod(0o755)
    (open_place / "closed").chmod(0o700)


FULL_DISK = """
root = sys.argv[1]
writer, reader = DirectoryWriter(DirectoryUrl(root)), DirectoryReader(DirectoryUrl(root))
writer.start(lambda: None)
reader.start(lambda: None)
node = NodeId(path="web", node="a")
writer.put(node, b'{"host":"10.0.0.1","port":1}')
resource.setrlimit(resource.RLIMIT_FSIZE, (40, 40))
try:
    writer.put(node, b'{"host":"10.0.0.1","port":1,"name":"more-than-forty-bytes"}')
except RegistryError as error:
    print(type(error).__name__, error)
print(writer.status().connected, writer.held([])[node].payload.decode())
print(reader.read(["web"])["web"].records[0].instance.address, os.listdir(root + "/web"))
"""


def test_a_full_disk_leaves_what_is_there(open_place: Path) -> None:
    """A payload that does not fit is refused in one sentence, the old file stays whole, no half file stays."""
    (open_place / "registry").mkdir(mode=0o777)
    (open_place / "registry").chmod(0o777)
    root = open_place / "registry"
    assert run_as_nobody(READER_IMPORTS, FULL_DISK, root) == [
        f"RegistryRefused cannot register a in {root}/web: File too large; raise this process's limit of file sizes",
        'False {"host":"10.0.0.1","port":1}',
        "10.0.0.1:1 ['a.json']",
    ]


def test_a_writer_that_hangs_blocks_nobody_for_ever(
    registry: DirectoryUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory that another keeps locked is unavailable: put gives up after a while and works afterwards."""
    monkeypatch.setattr(changes, "LOCK_SECONDS", 0.05)
    made = registry.make_writer()
    made.put(FIRST, encode(ONE))
    hanging = os.open(registry.root / WEB, os.O_RDONLY)
    fcntl.flock(hanging, fcntl.LOCK_EX)
    with pytest.raises(RegistryUnavailable, match=r"another process has held its lock for 0\.05 s"):
        made.put(FIRST, encode(TWO))
    assert made.held([]) == {FIRST: HeldNode(payload=encode(ONE), mine=True)}
    assert instances(registry.make_reader()) == [ONE]
    os.close(hanging)
    made.put(FIRST, encode(TWO))
    assert instances(registry.make_reader()) == [TWO]


def test_a_payload_edited_by_hand_is_seen_and_put_right(registry: DirectoryUnderTest) -> None:
    """Held tells what stands there, not what was once written, so the next cycle writes it again."""
    bell = Bell()
    made = registry.make_writer(bell.ring)
    made.put(FIRST, encode(ONE))
    eventually(lambda: bell.silent_for(QUIET_SECONDS))
    rings = bell.rings
    registry.place(WEB, FIRST.node).write_bytes(encode(TWO))
    eventually(lambda: bell.rings > rings)
    assert made.held([]) == {FIRST: HeldNode(payload=encode(TWO), mine=True)}
    made.put(FIRST, encode(ONE))
    assert made.held([]) == {FIRST: HeldNode(payload=encode(ONE), mine=True)}
    assert instances(registry.make_reader()) == [ONE]


# --- what it costs, and what happens without events


def test_one_change_costs_one_look(registry: DirectoryUnderTest) -> None:
    """Of a hundred services only the changed one is looked at, and an idle read looks at none."""
    paths = [f"services/s{index}" for index in range(100)]
    bell = Bell()
    reader, made = registry.make_reader(bell.ring), registry.make_writer()
    for path in paths:
        made.put(NodeId(path=path, node="a"), encode(ONE))
    before = reader.read(paths)
    eventually(lambda: bell.silent_for(QUIET_SECONDS))
    before = reader.read(paths)
    looks = reader.status().counters["requests"]
    reader.read(paths)
    assert reader.status().counters["requests"] == looks
    rings = bell.rings
    made.put(NodeId(path=paths[42], node="a"), encode(TWO))
    eventually(lambda: bell.rings > rings)
    after = reader.read(paths)
    assert reader.status().counters["requests"] == looks + 1
    assert [path for path in paths if after[path] is not before[path]] == [paths[42]]


def test_a_lost_event_is_made_up_for(registry: DirectoryUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Now and then everything is looked at, rung or not."""
    monkeypatch.setattr(FileWatch, "take_changed", lambda _watch: frozenset())
    reader = DirectoryReader(registry.url, full_pass_seconds=0.5)
    with started(reader):
        made = registry.make_writer()
        made.put(FIRST, encode(ONE))
        assert instances(reader) == [ONE]
        made.put(SECOND, encode(TWO))
        assert instances(reader) == [ONE]
        eventually(lambda: instances(reader) == [ONE, TWO])


def test_without_watches_everything_is_still_seen(
    registry: DirectoryUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No watch to be had: slower, but every change and every death is seen, and the status says why it is slow."""

    def refuse(*_arguments: object) -> int:
        raise OSError(28, "inotify watch limit reached")

    monkeypatch.setattr(InotifyFD, "add_callback", refuse)
    bell = Bell()
    reader, doomed, other = registry.make_reader(bell.ring), registry.make_writer(), registry.make_writer()
    doomed.put(FIRST, encode(ONE))
    other.put(SECOND, encode(TWO))
    assert instances(reader) == [ONE, TWO]
    assert "files cannot be watched (inotify watch limit reached)" in reader.status().detail
    rings = bell.rings
    registry.kill(doomed)
    eventually(lambda: bell.rings > rings)
    assert instances(reader) == [TWO]


def test_a_file_edited_twice_in_one_tick_is_read_twice(
    registry: DirectoryUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two edits of equal length within one tick of a file system's clock look alike; a young file is not trusted."""
    stamps: dict[int, os.stat_result] = {}
    real = os.fstat
    monkeypatch.setattr(os, "fstat", lambda descriptor: stamps.setdefault(real(descriptor).st_ino, real(descriptor)))
    monkeypatch.setattr(reading, "_SETTLED_NS", 60_000_000_000)
    reader = registry.make_reader()
    file = by_hand(registry, "db.json", '{"static": true, "host": "10.0.0.1", "port": 8080, "name": "one"}')
    assert instances(reader) == [ONE]
    file.write_text('{"static": true, "host": "10.0.0.2", "port": 8080, "name": "two"}')
    eventually(lambda: instances(reader) == [TWO])


def test_a_node_that_moves_while_the_directory_is_read(
    registry: DirectoryUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Listed under its old name and gone before it is opened: the directory is read again, and finds it."""
    reader, made = registry.make_reader(), registry.make_writer()
    made.put(FIRST, encode(ONE))
    real, listed = os.listdir, list[bool]()

    def list_then_swap(directory: int) -> list[str]:
        names = real(directory)
        if not listed:
            listed.append(True)
            made.put(SECOND, encode(ONE), instead_of=FIRST)
        return names

    monkeypatch.setattr(os, "listdir", list_then_swap)
    assert [record.node for record in listing(reader).records] == [SECOND.node]
    assert listed


def test_a_root_that_goes_while_it_is_read(registry: DirectoryUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that is missing because everything is missing is not empty."""
    reader = registry.make_reader()

    def wipe(*_arguments: object) -> dict[str, object]:
        shutil.rmtree(registry.root)
        raise FileNotFoundError

    monkeypatch.setattr(reading, "_scan", wipe)
    assert unknown(reader).reason.endswith(f"registry directory {registry.root} does not exist")


def test_a_file_that_says_nothing_new_changes_nothing(registry: DirectoryUnderTest) -> None:
    """Looked at again for whatever reason, a service of the same content keeps its very listing."""
    bell = Bell()
    reader, made = registry.make_reader(bell.ring), registry.make_writer()
    made.put(FIRST, encode(ONE))
    before = listing(reader)
    looks, rings = reader.status().counters["requests"], bell.rings
    by_hand(registry, "README", "hello")
    eventually(lambda: bell.rings > rings and listing(reader) and reader.status().counters["requests"] > looks)
    assert listing(reader) is before


def test_stop_removes_the_files(registry: DirectoryUnderTest) -> None:
    """Also what nobody would believe any more is not left lying about, and no descriptor stays open."""
    descriptors = len(os.listdir("/proc/self/fd"))
    made = registry.make_writer()
    made.put(FIRST, encode(ONE))
    made.put(SECOND, encode(TWO))
    made.put(SECOND, encode(ONE))
    made.stop()
    assert list((registry.root / WEB).iterdir()) == []
    eventually(lambda: len(os.listdir("/proc/self/fd")) == descriptors)


def test_the_ends_tell_of_their_link(registry: DirectoryUnderTest) -> None:
    """A failure stands in the status until something succeeds."""
    made = registry.make_writer()
    assert made.status().connected
    (registry.root / "services").write_text("")
    with pytest.raises(RegistryError):
        made.put(FIRST, encode(ONE))
    assert not made.status().connected
    assert "move away the file" in made.status().detail
    (registry.root / "services").unlink()
    made.put(FIRST, encode(ONE))
    assert (made.status().connected, made.status().detail) == (True, f"writing to {registry.root}")
    assert json.loads(registry.place(WEB, FIRST.node).read_bytes())["port"] == 8080
