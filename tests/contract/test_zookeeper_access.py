"""Users and rights on a real ZooKeeper: digest, SASL, and the trial that finds a wrong password at once."""

import io
import logging
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoAuthError
from kazoo.security import OPEN_ACL_UNSAFE, READ_ACL_UNSAFE, Permissions, make_digest_acl

from smartstack.errors import RegistryRefused, RegistryUnavailable
from smartstack.forms import ZooKeeperUrl
from smartstack.instance import encode
from smartstack.registry import open_reader, open_writer
from smartstack.registry.options import Secret, ZooKeeperOptions
from smartstack.registry.protocol import HeldNode, Unknown
from smartstack.registry.zookeeper import ZooKeeperReader, ZooKeeperWriter, access, link, rights
from tests.support.eventually import eventually
from tests.support.zookeeper import ZooKeeperServer
from tests.support.zookeeper_links import WEB, Links, addresses, instance, mine, place, put
from tests.support.zookeeper_secure import SecureServer

PASSWORD = "s3cret-Kq7ZtmXw"
WRONG = "wr0ng-8Jh2LpVd"
NERVE = ZooKeeperOptions(user="nerve", password=Secret(PASSWORD))
CLOSED = [make_digest_acl("somebody", "else", all=True), *READ_ACL_UNSAFE]
STRANGER = ZooKeeperOptions(user="nerve", password=Secret(WRONG))


@pytest.fixture
def owner(zookeeper: ZooKeeperServer) -> Iterator[KazooClient]:
    """A client with nerve's rights."""
    client = zookeeper.client(auth_data=[("digest", f"nerve:{PASSWORD}")])
    yield client
    client.stop()
    client.close()


@pytest.fixture
def url(zookeeper: ZooKeeperServer, owner: KazooClient) -> Iterator[ZooKeeperUrl]:
    """A root of this test's own on the common server, not made yet; gone afterwards."""
    root = f"/access-{uuid.uuid4().hex[:12]}"
    yield ZooKeeperUrl(hosts=zookeeper.hosts, root=root)
    owner.delete(root, recursive=True)


@pytest.fixture
def again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was refused may be tried again with the next call."""
    monkeypatch.setattr(rights, "AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(link, "REFUSED_SECONDS", 0.0)


def refusal(writer: ZooKeeperWriter) -> str:
    """What is said when it asks what is held; it has to be refused."""
    with pytest.raises(RegistryRefused) as caught:
        writer.held([place()])
    return str(caught.value)


def test_what_nerve_makes_all_may_read_and_only_nerve_may_change(
    links: Links, url: ZooKeeperUrl, zookeeper_client: KazooClient
) -> None:
    """The node, and every directory that had to be made for it."""
    writer = links.writer(url, options=NERVE, session_timeout_seconds=30)
    put(writer)
    directory = f"{url.root}/{WEB}"
    node = f"{directory}/{place().node}"
    assert addresses(links.reader(url)) == ["10.0.0.1:8080"]
    for path in (url.root, f"{url.root}/services", directory, node):
        found = {(acl.id.scheme, acl.perms) for acl in zookeeper_client.get_acls(path)[0]}
        assert found == {("digest", Permissions.ALL), ("world", Permissions.READ)}, path
    attempts: list[Callable[[], object]] = [
        lambda: zookeeper_client.set(node, b"x"),
        lambda: zookeeper_client.delete(node),
        lambda: zookeeper_client.create(f"{directory}/x", b""),
        lambda: zookeeper_client.set_acls(directory, OPEN_ACL_UNSAFE),
    ]
    for attempt in attempts:
        with pytest.raises(NoAuthError):
            attempt()
    put(writer, weight=3)
    writer.remove(place())
    assert writer.held([place()]) == {}


def test_without_a_user_everything_is_open(links: Links, url: ZooKeeperUrl, zookeeper_client: KazooClient) -> None:
    """As in Airbnb's SmartStack."""
    put(links.writer(url))
    assert zookeeper_client.get_acls(f"{url.root}/{WEB}/{place().node}")[0] == OPEN_ACL_UNSAFE


def test_an_open_tree_becomes_nerves_node_by_node(
    links: Links, url: ZooKeeperUrl, zookeeper_client: KazooClient
) -> None:
    """A fleet is given its passwords host by host: each takes over its own nodes, in one step."""
    before, after = links.writer(url), links.writer(url, options=NERVE)
    put(before)
    assert after.held([place()]) == {place(): HeldNode(payload=encode(instance()), mine=False)}
    put(after)
    assert after.held([place()]) == mine()
    assert zookeeper_client.get_acls(f"{url.root}/{WEB}/{place().node}")[0] != OPEN_ACL_UNSAFE


def test_a_wrong_password_is_found_before_anything_is_put(links: Links, url: ZooKeeperUrl) -> None:
    """ZooKeeper takes any password at the connect; the first look at what is held says what is wrong and what to do."""
    put(links.writer(url, options=NERVE))
    writer = links.writer(url, options=STRANGER)
    text = refusal(writer)
    assert text == (
        f"cannot write in {url.root}/{WEB} in ZooKeeper as user nerve (digest): the password is wrong, or the tree "
        "belongs to somebody else: correct it, or give this user the right"
    )
    status = writer.status()
    assert (status.connected, status.detail) == (False, text)


def test_a_missing_user_is_found_likewise(links: Links, url: ZooKeeperUrl) -> None:
    """And the advice is another."""
    put(links.writer(url, options=NERVE))
    assert "without a user: the tree belongs to somebody: give user and password" in refusal(links.writer(url))


def test_a_refusal_costs_nothing_until_it_is_tried_again(
    links: Links, url: ZooKeeperUrl, owner: KazooClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop that asks in every turn does not burden the servers; when the right is given all goes on by itself."""
    put(links.writer(url, options=NERVE))
    writer = links.writer(url, options=STRANGER)
    refusal(writer)
    sent = writer.status().counters["requests"]
    for _ in range(20):
        refusal(writer)
    assert writer.status().counters["requests"] == sent
    monkeypatch.setattr(rights, "AGAIN_SECONDS", 0.0)
    writer._rights._again_at = 0.0
    owner.set_acls(f"{url.root}/{WEB}", OPEN_ACL_UNSAFE)
    assert place() in writer.held([place()])
    assert writer.status().connected
    assert writer.status().detail.startswith("connected to ZooKeeper at")


def test_the_trial_leaves_no_trace_and_no_watch_hears_of_it(
    links: Links, url: ZooKeeperUrl, owner: KazooClient
) -> None:
    """It is a step that is bound to fail."""
    put(links.writer(url, options=NERVE))
    directory = f"{url.root}/{WEB}"
    heard: list[object] = []
    before = owner.get(directory, watch=heard.append)[1]
    owner.get_children(directory, watch=heard.append)
    reader = links.reader(url)
    assert len(addresses(reader)) == 1
    writer = links.writer(url, options=NERVE)
    writer.held([place()])
    sent = writer.status().counters["requests"]
    assert sent >= 2
    assert owner.get(directory)[1] == before
    assert owner.get_children(directory) == [place().node]
    assert heard == []
    assert reader.status().counters["events"] == 0


def test_a_place_that_is_closed_holds_nothing_else_up(links: Links, url: ZooKeeperUrl, owner: KazooClient) -> None:
    """Some places are noted in the status, and a put there is refused by itself; the others go on."""
    owner.create(url.root, b"", acl=OPEN_ACL_UNSAFE)
    owner.create(f"{url.root}/closed", b"", acl=CLOSED)
    writer = links.writer(url, options=NERVE)
    closed = replace(place(2), path="closed")
    assert writer.held([place(1), closed]) == {}
    assert writer.status().connected
    assert writer.status().detail.endswith(f"writing in {url.root}/closed is not allowed as user nerve (digest)")
    put(writer, 1)
    with pytest.raises(RegistryRefused, match="no permission"):
        writer.put(closed, b"{}")
    assert writer.held([place(1), closed]) == mine(1)


def test_what_is_held_can_be_removed_though_nothing_else_may_be_written(
    links: Links, url: ZooKeeperUrl, owner: KazooClient
) -> None:
    """A refused trial holds up no removal: the right may have been taken away while we have nodes."""
    writer = links.writer(url, options=NERVE)
    put(writer)
    owner.create(f"{url.root}/closed", b"", acl=CLOSED)
    writer._rights._tried_in = None
    assert writer.held([replace(place(2), path="closed")]) == mine()
    assert not writer.status().connected
    writer.remove(place())
    assert owner.get_children(f"{url.root}/{WEB}") == []


@pytest.mark.parametrize("opener", [open_reader, open_writer])
@pytest.mark.parametrize(
    ("content", "mode", "says"),
    [
        pytest.param(None, 0, "cannot be read: no such file", id="missing"),
        pytest.param(b"secret\n", 0o604, "may be read by every user of this host: chmod o-r it", id="open to all"),
        pytest.param(b"", 0o600, "must hold the password and nothing else", id="empty"),
        pytest.param(b"\n", 0o600, "must hold the password and nothing else", id="an empty line"),
        pytest.param(b"one\ntwo\n", 0o600, "must hold the password and nothing else", id="two lines"),
        pytest.param(b"\xff\xfe", 0o600, "as one line of UTF-8", id="not UTF-8"),
        pytest.param(b"x" * 5000, 0o600, "must hold the password and nothing else", id="some other file"),
    ],
)
def test_a_password_file_that_cannot_be_right_is_named_at_once(
    tmp_path: Path, content: bytes | None, mode: int, says: str, opener: object
) -> None:
    """When the registry is opened, in one sentence; what is in the file is never shown."""
    path = tmp_path / "password"
    if content is not None:
        path.write_bytes(content)
        path.chmod(mode)
    options = ZooKeeperOptions(user="nerve", password_file=str(path))
    with pytest.raises(RegistryRefused, match=says) as caught:
        (open_writer if opener is open_writer else open_reader)(
            ZooKeeperUrl(hosts="127.0.0.1:1", root=""), session_timeout_seconds=4, options=options
        )
    assert str(path) in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n"])
def test_a_password_file_may_end_with_a_line_end(tmp_path: Path, ending: bytes) -> None:
    """Editors and `echo` write one."""
    path = tmp_path / "password"
    path.write_bytes(PASSWORD.encode() + ending)
    path.chmod(0o640)
    assert access.read(ZooKeeperOptions(user="nerve", password_file=str(path))).rights == access.read(NERVE).rights


def sasl(options: ZooKeeperOptions) -> ZooKeeperOptions:
    """The same user and password, by SASL."""
    return replace(options, auth="sasl")


def test_sasl_proves_the_user_again_at_every_connect(links: Links, secure_zookeeper: SecureServer) -> None:
    """And what is written belongs to that user."""
    secure_zookeeper.with_users({"nerve": PASSWORD})
    secure_zookeeper.start()
    url = ZooKeeperUrl(hosts=secure_zookeeper.hosts, root="/smartstack")
    writer = links.writer(url, options=sasl(NERVE), session_timeout_seconds=10)
    put(writer)
    assert addresses(links.reader(url)) == ["10.0.0.1:8080"]
    assert "without a user" in refusal(links.writer(url))
    secure_zookeeper.restart()
    eventually(lambda: writer.status().connected, within=10)
    put(writer, 2)
    assert writer.held([]) == mine(1) | mine(2)


@pytest.mark.usefixtures("again_at_once")
def test_a_wrong_sasl_password_is_said_and_a_corrected_file_is_enough(
    links: Links, secure_zookeeper: SecureServer, tmp_path: Path
) -> None:
    """kazoo gives up for ever, and says before that it was connected: neither is passed on."""
    secure_zookeeper.with_users({"nerve": PASSWORD})
    secure_zookeeper.start()
    path = tmp_path / "password"
    path.write_text(WRONG)
    path.chmod(0o600)
    url = ZooKeeperUrl(hosts=secure_zookeeper.hosts, root="/smartstack")
    options = ZooKeeperOptions(user="nerve", password_file=str(path), auth="sasl")
    writer = links.writer(url, options=options, session_timeout_seconds=1, connected=False)
    says = "did not accept us as user nerve (sasl): wrong user or password"
    eventually(lambda: says in writer.status().detail)
    assert says in refusal(writer)
    assert writer.status().counters["sessions"] == 0
    path.unlink()
    eventually(lambda: "password_file" in refusal(writer))
    path.write_text(PASSWORD)
    path.chmod(0o600)

    def asks_again() -> bool:
        try:
            writer.held([place()])
        except (RegistryRefused, RegistryUnavailable):
            return False
        return True

    eventually(asks_again, within=10)
    put(writer)
    assert "accept" not in writer.status().detail


def test_a_refused_login_is_not_tried_again_and_again(links: Links, secure_zookeeper: SecureServer) -> None:
    """One attempt in ten seconds, however often the loop asks; the reader's answer says why nothing is known."""
    secure_zookeeper.with_users({"nerve": PASSWORD})
    secure_zookeeper.start()
    url = ZooKeeperUrl(hosts=secure_zookeeper.hosts, root="/smartstack")
    reader = ZooKeeperReader(url, session_timeout_seconds=1, options=sasl(STRANGER))
    reader.start(lambda: None)
    try:
        eventually(lambda: "did not accept us" in reader.status().detail)
        reader_link = reader._link
        first = reader_link._client
        assert first is not None
        eventually(lambda: first.dead)
        for earlier, is_tried_again in ((8.0, False), (3.0, True)):
            reader_link._made_at -= earlier
            answer = reader.read([WEB])[WEB]
            assert isinstance(answer, Unknown)
            assert "did not accept us as user nerve (sasl)" in answer.reason
            assert (reader_link._client is not first) is is_tried_again
    finally:
        reader.stop()


def test_sasl_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """An optional extra that is missing is said at the start, with what to install."""
    monkeypatch.setattr(access, "PURESASL_AVAILABLE", False)
    with pytest.raises(RegistryRefused, match=r"pure-sasl is not installed \(pip install 'smartstack-py\[sasl\]'\)"):
        ZooKeeperWriter(ZooKeeperUrl(hosts="127.0.0.1:1", root=""), options=sasl(NERVE))


def test_servers_that_take_nobody_without_sasl_say_so(links: Links, secure_zookeeper: SecureServer) -> None:
    """The sentence names the cure."""
    secure_zookeeper.with_users({"nerve": PASSWORD})
    secure_zookeeper.properties += ("zookeeper.sessionRequireClientSASLAuth=true",)
    secure_zookeeper.start()
    url = ZooKeeperUrl(hosts=secure_zookeeper.hosts, root="/smartstack")
    writer = links.writer(url, connected=False)

    def says_it() -> bool:
        try:
            writer.held([place()])
        except RegistryRefused as error:
            return "takes only clients that log in with sasl; give user and password" in str(error)
        except RegistryUnavailable:
            pass
        return False

    eventually(says_it, within=10)
    put(links.writer(url, options=sasl(NERVE)))


def test_no_secret_is_shown_anywhere(
    links: Links,
    url: ZooKeeperUrl,
    secure_zookeeper: SecureServer,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Not in logs of any level, not on the terminal, not in status, errors and representations."""
    output = io.StringIO()
    handler = logging.StreamHandler(output)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(1)
    shown: list[object] = []
    try:
        secure_zookeeper.with_users({"nerve": PASSWORD})
        secure_zookeeper.start()
        secure = ZooKeeperUrl(hosts=secure_zookeeper.hosts, root="")
        good = links.writer(url, options=NERVE, session_file=str(tmp_path / "session"))
        put(good)
        bad = links.writer(url, options=STRANGER)
        shown += [refusal(bad), bad.status(), good.status(), NERVE, repr(STRANGER), good, vars(good), vars(good._link)]
        put(links.writer(secure, options=sasl(NERVE)))
        refused = links.writer(secure, options=sasl(STRANGER), connected=False)
        eventually(lambda: "did not accept us" in refused.status().detail)
        shown += [refused.status(), refusal(refused), access.read(NERVE), access.read(sasl(NERVE))]
        assert good._link.identity is not None
        password = good._link.identity.password
        shown.append(good._file.load() if good._file is not None else None)
        links.stop()
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    terminal = capfd.readouterr()
    text = "\n".join([output.getvalue(), terminal.out, terminal.err, *map(str, shown), *map(repr, shown)])
    assert "as user nerve" in text
    for secret in (PASSWORD, WRONG, password.hex(), repr(password)[2:-1]):
        assert secret not in text
