"""Surveyors on a real directory and on a real ZooKeeper: what they see, and that they remove exactly what they saw."""

import os
import tempfile
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from kazoo.client import KazooClient
from kazoo.security import OPEN_ACL_UNSAFE, READ_ACL_UNSAFE, make_digest_acl

from smartstack.errors import RegistryRefused, RegistryUnavailable
from smartstack.forms import DirectoryUrl, RegistryUrl, ZooKeeperUrl
from smartstack.instance import PAYLOAD_LIMIT, Instance, decode, encode, encoded_node_name, node_name
from smartstack.registry import open_surveyor, open_writer
from smartstack.registry.directory.layout import file_name, service_directory
from smartstack.registry.options import Secret, ZooKeeperOptions
from smartstack.registry.protocol import NodeId, RegistryWriter
from smartstack.registry.survey import Holder, Node, Survey, Surveyor
from smartstack.registry.zookeeper import survey as surveying
from smartstack.registry.zookeeper.link import WINDOW
from smartstack.registry.zookeeper.survey import ZooKeeperSurveyor
from tests.support.eventually import eventually
from tests.support.nobody import run_as_nobody
from tests.support.zookeeper import ControlledServer, ZooKeeperServer
from tests.support.zookeeper_links import Links, put

WEB = "services/web"
OURS = Instance(host="10.0.0.1", port=8080, name="host-1")
NAME = node_name(OURS)
HOSTILE = [b"", b"\xff\xfe", b"[" * 60_000, b"null", b'{"host":"10.0.0.1\\n","port":1}', b"{" * PAYLOAD_LIMIT]


class Ground(ABC):
    """One registry, and what others do to it."""

    url: RegistryUrl

    def __init__(self) -> None:
        self._ends: list[Surveyor | RegistryWriter] = []

    @abstractmethod
    def orphan(self, path: str, name: str, payload: bytes) -> None:
        """Put a node there that nobody holds."""

    @abstractmethod
    def names(self, path: str) -> set[str]:
        """The nodes that are there."""

    def surveyor(self) -> Surveyor:
        """A surveyor that is started."""
        made = open_surveyor(self.url)
        self._ends.append(made)
        made.start()
        return made

    def writer(self) -> RegistryWriter:
        """A writer that is connected: a nerve somewhere."""
        made = open_writer(self.url, session_timeout_seconds=4)
        self._ends.append(made)
        made.start(lambda: None)
        eventually(lambda: made.status().connected, within=10)
        return made

    def close(self) -> None:
        for end in self._ends:
            end.stop()


class DirectoryGround(Ground):
    """`file:` in a temporary directory."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root
        self.root.mkdir()
        self._ticks = count(10**18)
        self.url = DirectoryUrl(str(root))

    def file(self, path: str, name: str) -> Path:
        return Path(service_directory(str(self.root), path), file_name(name))

    def orphan(self, path: str, name: str, payload: bytes) -> None:
        file = self.file(path, name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(payload)
        # The file system's clock ticks too coarsely to tell one file from the next.
        os.utime(file, ns=(next(self._ticks), next(self._ticks)))

    def names(self, path: str) -> set[str]:
        place = Path(service_directory(str(self.root), path))
        return {file.name.removesuffix(".json") for file in place.iterdir() if file.suffix == ".json"}


class ZooKeeperGround(Ground):
    """A root of its own on the common server."""

    def __init__(self, url: ZooKeeperUrl, client: KazooClient) -> None:
        super().__init__()
        self.url = url
        self.root = url.root
        self.client = client

    def orphan(self, path: str, name: str, payload: bytes) -> None:
        self.client.create(f"{self.root}/{path}/{name}", payload, makepath=True)

    def names(self, path: str) -> set[str]:
        return set(self.client.get_children(f"{self.root}/{path}"))


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[DirectoryGround]:
    made = DirectoryGround(tmp_path / "registry")
    yield made
    made.close()


@pytest.fixture
def tree(zookeeper_url: ZooKeeperUrl, zookeeper_client: KazooClient) -> Iterator[ZooKeeperGround]:
    made = ZooKeeperGround(zookeeper_url, zookeeper_client)
    yield made
    made.close()


@pytest.fixture(params=["directory", "tree"])
def ground(request: pytest.FixtureRequest) -> Ground:
    """Each kind of registry in turn."""
    made: Ground = request.getfixturevalue(request.param)
    return made


def look(surveyor: Surveyor, *directories: str) -> Survey:
    """Everything that is there."""
    return surveyor.survey(directories, ["services"], lambda name: True)


def only(surveyor: Surveyor) -> Node:
    """The one node that is there."""
    [node] = look(surveyor).nodes
    return node


def test_every_service_is_looked_into_and_so_is_every_place_that_is_named(ground: Ground) -> None:
    """Those below `services` by themselves, others by name; what is not there is empty."""
    for path in (WEB, "services/api", "nerve/web"):
        ground.orphan(path, NAME, encode(OURS))
    found = look(ground.surveyor(), WEB, "nerve/web", "nerve/absent")
    assert [node.where.split("/")[-3:-1] for node in found.nodes] == [
        ["nerve", "web"],
        ["services", "api"],
        ["services", "web"],
    ]
    assert found.looked_in == 4
    assert found.unread == ()
    assert found.saved_session is None


def test_a_registry_without_anything_is_empty(ground: Ground) -> None:
    """Nothing was ever registered there; that is no failure."""
    assert look(ground.surveyor(), WEB).nodes == ()


def test_who_holds_a_node_is_seen(ground: Ground) -> None:
    """A writer that lives, or nobody."""
    writer = ground.writer()
    writer.put(NodeId(path=WEB, node=NAME), encode(OURS))
    ground.orphan(WEB, "orphan", encode(OURS))
    held, orphan = look(ground.surveyor()).nodes
    assert (held.name, held.holder, held.session) == (NAME, Holder.ALIVE, writer.status().session)
    assert (orphan.name, orphan.holder, orphan.session) == ("orphan", Holder.NOBODY, None)
    assert decode(held.payload) == decode(orphan.payload) == OURS


def test_a_node_that_nobody_holds_is_removed_and_its_directory_stays(ground: Ground) -> None:
    """Empty directories of services are left alone; to remove it again is done already."""
    ground.orphan(WEB, NAME, encode(OURS))
    surveyor = ground.surveyor()
    node = only(surveyor)
    assert surveyor.remove(node)
    assert ground.names(WEB) == set()
    assert surveyor.remove(node)


def test_what_is_held_is_not_removed_whoever_asks(ground: Ground) -> None:
    """The last look is the surveyor's own, not its caller's."""
    ground.writer().put(NodeId(path=WEB, node=NAME), encode(OURS))
    surveyor = ground.surveyor()
    assert not surveyor.remove(only(surveyor))
    assert ground.names(WEB) == {NAME}


def test_a_node_that_became_somebodys_meanwhile_stays(ground: Ground) -> None:
    """A nerve came back and took its place over between the survey and the removal."""
    ground.orphan(WEB, NAME, encode(OURS))
    surveyor = ground.surveyor()
    node = only(surveyor)
    writer = ground.writer()
    place = NodeId(path=WEB, node=NAME)
    writer.put(place, encode(OURS))
    assert not surveyor.remove(node)
    assert writer.held([place])[place].mine


def test_a_node_that_was_made_again_stays(ground: Ground) -> None:
    """The same name, the same payload, nobody holds it, and yet it is not the one that was seen."""
    ground.orphan(WEB, NAME, encode(OURS))
    surveyor = ground.surveyor()
    node = only(surveyor)
    assert surveyor.remove(node)
    ground.orphan(WEB, NAME, encode(OURS))
    assert not surveyor.remove(node)
    assert ground.names(WEB) == {NAME}


def test_hostile_nodes_are_seen_as_they_are(ground: Ground) -> None:
    """No payload and no name raises anything, and each is what a reader would be given."""
    for number, payload in enumerate(HOSTILE):
        ground.orphan(WEB, f'{number} ";rm é', payload)
    encoded = encoded_node_name(OURS)
    assert encoded is not None
    ground.orphan(WEB, encoded, b"something else")
    *hostile, named = look(ground.surveyor()).nodes
    assert [node.payload for node in hostile] == HOSTILE
    assert named.payload == encode(OURS)


# ZooKeeper


def test_a_fleet_costs_one_read_for_each_node_that_has_to_be_looked_at(
    tree: ZooKeeperGround, zookeeper: ZooKeeperServer
) -> None:
    """More nodes of others than are asked for at a time: none is read whose payload is in its name, any other once."""
    fleet = [Instance(host=f"10.1.{number // 250}.{number % 250}", port=8080) for number in range(WINDOW + 100)]
    requests = [
        tree.client.create_async(f"{tree.root}/{WEB}/{node_name(one)}", encode(one), makepath=True) for one in fleet
    ]
    requests += [
        tree.client.create_async(f"{tree.root}/services/api/{encoded_node_name(one)}", b"", makepath=True)
        for one in fleet
    ]
    for request in requests:
        request.get(timeout=20)
    surveyor = tree.surveyor()
    look(surveyor, "services/absent")
    for worth, most in ((lambda name: name.startswith("10."), len(fleet)), (lambda name: False, 0)):
        before = zookeeper.requests()
        found = surveyor.survey([], ["services"], worth)
        asked = zookeeper.requests() - before
        assert len(found.nodes) == most
        # The lists of names: of `services`, `web` and `api`. The rest is for pings of whoever is connected.
        assert most + 3 <= asked <= most + 10


@pytest.mark.parametrize("taken_by", ["a nerve", "a hand", "a child"])
def test_between_the_last_look_and_the_removal_nothing_of_anybodys_can_be_lost(
    tree: ZooKeeperGround, monkeypatch: pytest.MonkeyPatch, taken_by: str
) -> None:
    """An ephemeral node has version 0, as the orphan had: a delete by version alone would take it. The step proves that
    nobody owns the node."""
    tree.orphan(WEB, NAME, encode(OURS))
    path = f"{tree.root}/{WEB}/{NAME}"
    surveyor = tree.surveyor()
    assert isinstance(surveyor, ZooKeeperSurveyor)
    node = only(surveyor)
    writer = tree.writer()
    made = surveyor._delete_of_nobody

    def late(node: Node) -> object:
        if taken_by == "a nerve":
            writer.put(NodeId(path=WEB, node=NAME), encode(OURS))
        elif taken_by == "a hand":
            tree.client.set(path, b"mine now")
        else:
            tree.client.create(f"{path}/below", b"")
        return made(node)

    monkeypatch.setattr(surveyor, "_delete_of_nobody", late)
    assert not surveyor.remove(node)
    assert tree.names(WEB) == {NAME}
    assert tree.client.get_children(path) == (["below"] if taken_by == "a child" else [])


def test_a_removal_shows_nothing_but_the_removal(tree: ZooKeeperGround, zookeeper_client: KazooClient) -> None:
    """The child that proves that nobody owns the node is never there: the directory changes once, by one node."""
    tree.orphan(WEB, NAME, encode(OURS))
    tree.orphan(WEB, "other", b"")
    before = zookeeper_client.exists(f"{tree.root}/{WEB}")
    surveyor = tree.surveyor()
    assert surveyor.remove(next(node for node in look(surveyor).nodes if node.name == NAME))
    after = zookeeper_client.exists(f"{tree.root}/{WEB}")
    assert after.cversion == before.cversion + 1
    assert tree.names(WEB) == {"other"}


def test_what_is_above_a_directory_or_has_children_is_no_leftover(tree: ZooKeeperGround) -> None:
    """A service's path may lie in another's directory: neither it nor what is above it is one of its nodes."""
    tree.orphan(f"{WEB}/more/inner", NAME, b"")
    tree.orphan(f"{WEB}/{NAME}", "below", b"")
    found = look(tree.surveyor(), f"{WEB}/more/inner")
    assert [(node.name, node.has_children) for node in found.nodes] == [(NAME, True), (NAME, False)]


def test_a_path_with_a_slash_is_where_it_says(tree: ZooKeeperGround, zookeeper_client: KazooClient) -> None:
    """A definition's `registry_path` leads out of the root."""
    elsewhere = f"/test-{uuid.uuid4().hex[:12]}"
    zookeeper_client.create(f"{elsewhere}/{NAME}", encode(OURS), makepath=True)
    surveyor = tree.surveyor()
    [node] = look(surveyor, elsewhere).nodes
    assert node.where == f"{elsewhere}/{NAME}"
    assert surveyor.remove(node)
    zookeeper_client.delete(elsewhere)


def test_the_session_that_nerve_left_is_recognised(
    tree: ZooKeeperGround, links: Links, zookeeper_url: ZooKeeperUrl, tmp_path: Path
) -> None:
    """It is read from nerve's file and left there, for the next nerve."""
    file = tmp_path / "session.json"
    writer = links.writer(zookeeper_url, session_file=str(file))
    put(writer)
    writer.stop(leave=True)
    kept = file.read_bytes()
    surveyor = ZooKeeperSurveyor(zookeeper_url, session_file=str(file))
    surveyor.start()
    found = look(surveyor)
    surveyor.stop()
    [node] = found.nodes
    assert node.session is not None
    assert node.session == found.saved_session
    assert file.read_bytes() == kept


def test_what_may_not_be_read_is_told_and_the_rest_is_seen(tree: ZooKeeperGround) -> None:
    """A directory that is closed to us does not hide the others, and neither does a node."""
    closed = [make_digest_acl("somebody", "else", all=True)]
    tree.client.add_auth("digest", "somebody:else")
    tree.orphan(WEB, NAME, encode(OURS))
    tree.orphan(WEB, "closed", b"")
    tree.orphan("services/api", NAME, b"")
    tree.client.set_acls(f"{tree.root}/{WEB}/closed", closed)
    tree.client.set_acls(f"{tree.root}/services/api", closed)
    found = look(tree.surveyor())
    assert [node.name for node in found.nodes] == [NAME]
    assert [(one.where.removeprefix(tree.root), one.name, one.reason) for one in found.unread] == [
        ("/services/api", None, "no permission"),
        ("/services/web/closed", "closed", "no permission"),
    ]


def test_what_may_not_be_removed_is_refused_in_a_sentence(tree: ZooKeeperGround) -> None:
    """A tree that belongs to somebody can be looked at, and stays."""
    tree.client.add_auth("digest", "somebody:else")
    tree.orphan(WEB, NAME, encode(OURS))
    tree.client.set_acls(f"{tree.root}/{WEB}", [make_digest_acl("somebody", "else", all=True), *READ_ACL_UNSAFE])
    surveyor = tree.surveyor()
    node = only(surveyor)
    with pytest.raises(RegistryRefused, match=f"cannot remove {node.where} in ZooKeeper: no permission; run this with"):
        surveyor.remove(node)
    assert tree.names(WEB) == {NAME}


def test_a_node_of_the_user_is_removed_with_the_user(tree: ZooKeeperGround, zookeeper: ZooKeeperServer) -> None:
    """What nerve made with a user, only that user tidies up."""
    owner = zookeeper.client(auth_data=[("digest", "nerve:s3cret-Kq7Z")])
    acl = [make_digest_acl("nerve", "s3cret-Kq7Z", all=True), *READ_ACL_UNSAFE]
    tree.orphan(WEB, "other", b"")
    owner.create(f"{tree.root}/{WEB}/{NAME}", encode(OURS), acl=acl)
    owner.set_acls(f"{tree.root}/{WEB}", acl)
    assert isinstance(tree.url, ZooKeeperUrl)
    surveyor = ZooKeeperSurveyor(tree.url, options=ZooKeeperOptions(user="nerve", password=Secret("s3cret-Kq7Z")))
    surveyor.start()
    assert surveyor.remove(next(node for node in look(surveyor).nodes if node.name == NAME))
    surveyor.stop()
    owner.set_acls(f"{tree.root}/{WEB}", OPEN_ACL_UNSAFE)
    owner.stop()
    owner.close()


def test_a_zookeeper_that_is_away_is_waited_for_a_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens: one sentence that says so and whom was asked."""
    monkeypatch.setattr(surveying, "CONNECT_SECONDS", 0.5)
    surveyor = ZooKeeperSurveyor(ZooKeeperUrl(hosts="127.0.0.1:1", root="/x"))
    surveyor.start()
    with pytest.raises(RegistryUnavailable, match=r"ZooKeeper did not answer within 0\.5 s: .*127\.0\.0\.1:1"):
        look(surveyor)
    surveyor.stop()


def test_a_zookeeper_that_hangs_is_away_too(own_zookeeper: ControlledServer) -> None:
    """It takes connections and answers nothing, at the connect or in the middle: seconds, not minutes."""
    assert 0 < surveying.CONNECT_SECONDS <= 5
    url = ZooKeeperUrl(hosts=own_zookeeper.hosts, root="/x")
    connected, late = ZooKeeperSurveyor(url), ZooKeeperSurveyor(url)
    connected.start()
    look(connected)
    own_zookeeper.suspend()
    late.start()
    began = time.monotonic()
    for surveyor in (connected, late):
        with pytest.raises(RegistryUnavailable, match=r"did not answer|during a request"):
            look(surveyor)
        surveyor.stop()
    assert time.monotonic() - began < 30
    own_zookeeper.resume()


# file:


def test_a_file_that_a_hand_wrote_says_so_itself(directory: DirectoryGround) -> None:
    """With `"static": true` it has no owner and needs none."""
    directory.orphan(WEB, NAME, b'{"host":"10.0.0.1","port":8080,"static":true}\n')
    surveyor = directory.surveyor()
    node = only(surveyor)
    assert node.holder is Holder.HAND
    assert not surveyor.remove(node)


def test_a_file_that_was_edited_in_place_stays(directory: DirectoryGround) -> None:
    """The very same file, which says something else by now."""
    directory.orphan(WEB, NAME, encode(OURS))
    surveyor = directory.surveyor()
    node = only(surveyor)
    file = directory.file(WEB, NAME)
    before = file.stat()
    with file.open("r+b") as opened:
        opened.write(b'{"static":true}')
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not surveyor.remove(node)
    assert file.exists()


def test_what_is_no_file_of_the_registry_is_left_alone(directory: DirectoryGround, tmp_path: Path) -> None:
    """Pipes, links, directories and other files are never opened for long, never followed and never removed."""
    place = directory.root / WEB
    place.mkdir(parents=True)
    (tmp_path / "target").write_bytes(encode(OURS))
    (place / f"{NAME}.json").symlink_to(tmp_path / "target")
    os.mkfifo(place / "pipe.json")
    (place / "inner.json").mkdir()
    (place / "README").write_text("x")
    (place / ".hidden.json").write_text("x")
    (place / "long.json").write_bytes(b'{"static":true}' + b" " * PAYLOAD_LIMIT)
    found = look(directory.surveyor())
    assert found.nodes == ()
    assert {one.name: one.reason for one in found.unread} == {
        NAME: "not a regular file",
        "pipe": "not a regular file",
        "inner": "not a regular file",
        "long": f"it holds more than {PAYLOAD_LIMIT} bytes",
    }


def test_a_directory_that_is_not_there_is_a_registry_that_is_away(tmp_path: Path) -> None:
    """Nothing is known then; it is not the same as nothing registered."""
    surveyor = open_surveyor(DirectoryUrl(str(tmp_path / "absent")))
    surveyor.start()
    with pytest.raises(RegistryUnavailable, match="absent: no such file or directory"):
        look(surveyor)


def test_a_path_that_leads_out_of_the_directory_is_told(directory: DirectoryGround) -> None:
    """Definitions are the fleet's, and may be wrong for a directory."""
    [one] = look(directory.surveyor(), "../elsewhere").unread
    assert (one.where, one.name) == ("../elsewhere", None)


IMPORTS = """\
import encodings.unicode_escape
from smartstack.errors import RegistryRefused
from smartstack.forms import DirectoryUrl
from smartstack.registry.directory.survey import DirectorySurveyor
"""
REMOVE = """\
surveyor = DirectorySurveyor(DirectoryUrl(sys.argv[1]))
found = surveyor.survey([], ["services"], lambda name: True)
print([(one.where, one.name, one.reason) for one in found.unread])
[node] = found.nodes
try:
    print(surveyor.remove(node))
except RegistryRefused as refusal:
    print(refusal)
"""


def test_a_user_without_the_right_is_told() -> None:
    """What may not be read is told, what may not be removed is a sentence that names the user."""
    with tempfile.TemporaryDirectory() as place:
        web, api = Path(place, "services/web"), Path(place, "services/api")
        web.mkdir(parents=True)
        api.mkdir(mode=0)
        for directory in (place, web.parent, web):
            os.chmod(directory, 0o755)
        (web / f"{NAME}.json").write_bytes(encode(OURS))
        unread, refusal = run_as_nobody(IMPORTS, REMOVE, place)
        assert unread == str([(str(api), None, "permission denied")])
        user = os.geteuid() or 65534
        where = web / f"{NAME}.json"
        assert refusal == f"cannot remove {where}: permission denied; let user id {user} write there"
        assert where.exists()
