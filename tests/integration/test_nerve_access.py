"""nerve at a ZooKeeper that wants to know who comes: TLS, digest and SASL, on real daemons. What nerve writes belongs
to nerve, all may read it, a wrong password is said in one sentence, and a right one is shown nowhere."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoAuthError

from smartstack.forms import ZooKeeperUrl
from tests.support.eventually import eventually
from tests.support.machine import Machine
from tests.support.pair import Host
from tests.support.zookeeper_secure import SecureServer

PASSWORD = "s3cret-Kq7ZtmXw"
WRONG = "wr0ng-8Jh2LpVd"
AGAIN_SECONDS = 10.0
"""How long a refusal stands before it is tried again."""


@pytest.fixture(scope="module")
def server() -> Iterator[SecureServer]:
    """A server with TLS on its second port and SASL users, for all tests here: each stays below its own root."""
    if not SecureServer.possible():
        pytest.fail("install Debian's libzookeeper-java, libnetty-java and a JRE for these tests", pytrace=False)
    made = SecureServer()
    made.with_tls(client_auth="none")
    made.with_users({"nerve": PASSWORD})
    made.start()
    yield made
    made.dispose()


class Secured:
    """A machine whose nerve comes by TLS as a user; it is read, and meddled with, at the plain port."""

    def __init__(self, server: SecureServer, auth: str, root: str) -> None:
        self.server = server
        self.auth = auth
        self.machine = Machine(ZooKeeperUrl(hosts=server.hosts, root=root))
        self.secure = str(ZooKeeperUrl(hosts=server.secure_hosts, root=root))
        self.node = f"{root}/services/web/{self.machine.address}_0000008080"
        self.password_file = self.machine.directory / "password"
        self.set_password(PASSWORD)

    def set_password(self, password: str) -> None:
        """What the password file holds from now on."""
        self.password_file.touch(0o600)
        self.password_file.write_text(f"{password}\n")

    def announce(self, **zookeeper: Any) -> str:
        """Announce `web`, which is well; the path of nerve.yaml."""
        options = {"user": "nerve", "password_file": str(self.password_file), "auth": self.auth, "tls": self.tls}
        self.machine.serve("web")
        zookeeper = {**options, **zookeeper}
        return str(self.machine.announce("web", registry=self.secure, session_timeout="20s", zookeeper=zookeeper))

    @property
    def tls(self) -> Mapping[str, str]:
        """What is believed."""
        return {"ca": self.server.authority.ca}

    def shown(self, path: str) -> str:
        """Everything that anybody is shown: log, admin address, command lines, and what is kept on disk."""
        nerve, machine = self.machine.nerve, self.machine
        said = [nerve.log(), *(nerve.get(each).text for each in ("/status", "/metrics", "/readyz", "/healthz"))]
        for arguments in (("status",), ("explain", "web")):
            command, *more = arguments
            said += map(str, machine.command(command, "-c", path, *more))
        kept = [each for each in machine.directory.rglob("*") if each.is_file() and each != self.password_file]
        said += [each.read_text(errors="replace") for each in kept if each.parent != machine.directory]
        return "\n".join(said)


@contextmanager
def secured(server: SecureServer, auth: str, root: str) -> Iterator[Secured]:
    """A machine of this root, gone afterwards."""
    made = Secured(server, auth, root)
    try:
        yield made
    finally:
        made.machine.close()


@contextmanager
def stranger(server: SecureServer, **options: Any) -> Iterator[KazooClient]:
    """Somebody else at the same ZooKeeper."""
    client = server.client(**options)
    try:
        yield client
    finally:
        client.stop()
        client.close()


@pytest.mark.parametrize("auth", ["digest", "sasl"])
def test_what_nerve_registers_all_may_read_and_nobody_else_may_change(server: SecureServer, auth: str) -> None:
    """By TLS, with the right password: registered; neither nobody nor the same user with another password may set,
    delete or add a node; and a restart goes on with the session."""
    with secured(server, auth, f"/rights-{auth}") as site:
        path = site.announce(password_file=str(site.password_file))
        machine = site.machine
        machine.nerve.start()
        eventually(lambda: machine.sees("web"))
        assert machine.service("web")["registered"]
        others: tuple[dict[str, Any], ...] = ({}, {"auth_data": [("digest", f"nerve:{WRONG}")]})
        for options in others:
            with stranger(server, **options) as other:
                assert other.get(site.node)[0].startswith(b'{"host"')
                with pytest.raises(NoAuthError):
                    other.set(site.node, b"mine")
                with pytest.raises(NoAuthError):
                    other.delete(site.node)
                with pytest.raises(NoAuthError):
                    other.create(f"{site.node.rpartition('/')[0]}/10.0.0.1_0000000001", b"x", ephemeral=True)
        session = machine.service("web")["places"][0]["session"]
        machine.nerve.kill()
        machine.nerve.start()
        eventually(lambda: machine.service("web")["registered"])
        assert machine.service("web")["places"][0]["session"] == session
        assert PASSWORD not in site.shown(path)


@pytest.mark.parametrize(
    ("auth", "says"),
    [
        ("digest", "in ZooKeeper as user nerve (digest): the password is wrong, or the tree belongs to somebody else"),
        ("sasl", "did not accept us as user nerve (sasl): wrong user or password"),
    ],
    ids=["digest", "sasl"],
)
def test_a_wrong_password_is_one_sentence_and_needs_no_restart(server: SecureServer, auth: str, says: str) -> None:
    """In the log, in `nerve status` and at /readyz, and neither secret is anywhere. The corrected file is enough: it is
    looked at again within ten seconds, by the nerve that runs."""
    root = f"/wrong-{auth}"
    with secured(server, auth, root) as site:
        machine = site.machine
        path = site.announce()
        machine.nerve.start()
        eventually(lambda: machine.sees("web"))
        assert machine.nerve.stop() == 0
        machine.nerve.log_file.unlink()

        site.set_password(WRONG)
        machine.nerve.start(until="/healthz")
        eventually(lambda: says in machine.nerve.log())
        ready = machine.nerve.get("/readyz")
        assert (ready.status_code, says in ready.text) == (503, True)
        _, out, _ = machine.command("status", "-c", path)
        assert says in out.splitlines()[0]
        assert out.startswith("registry  AWAY: ")
        assert machine.service("web")["state"] == "up"
        assert not machine.sees("web")
        turns = machine.nerve.metric("nerve_cycles_total")
        eventually(lambda: machine.nerve.metric("nerve_cycles_total") > turns + 2)
        lines = [line for line in machine.nerve.log().splitlines() if says in line]
        assert len(lines) == 1, lines
        assert "Traceback" not in machine.nerve.log()
        shown = site.shown(path)
        assert (WRONG in shown, PASSWORD in shown) == (False, False)

        pid = machine.nerve.pid
        site.set_password(PASSWORD)
        eventually(lambda: machine.sees("web"), within=AGAIN_SECONDS + 10)
        eventually(lambda: machine.nerve.get("/readyz").status_code == 200)
        assert machine.nerve.pid == pid
        assert (WRONG in machine.nerve.log(), PASSWORD in machine.nerve.log()) == (False, False)
        assert "the registry is connected" in machine.nerve.log()


def test_a_server_of_another_name_is_not_believed(server: SecureServer) -> None:
    """The certificate names localhost, the URL an address: one sentence says so, and no password was sent there."""
    with secured(server, "digest", "/name") as site:
        site.secure = str(ZooKeeperUrl(hosts=f"127.0.0.1:{server.secure_port}", root="/name"))
        path = site.announce()
        site.machine.nerve.start(until="/healthz")
        eventually(lambda: "certificate" in site.machine.nerve.get("/readyz").text)
        assert "certificate" in site.machine.command("status", "-c", path)[1].splitlines()[0]
        assert PASSWORD not in site.shown(path)


def test_a_password_file_that_everybody_may_read_is_refused_at_the_start(server: SecureServer) -> None:
    """One sentence and exit code 1, at once."""
    with secured(server, "digest", "/open") as site:
        site.announce()
        site.password_file.chmod(0o644)
        with pytest.raises(RuntimeError):
            site.machine.nerve.start()
        assert site.machine.nerve.wait() == 1
        assert "may be read by every user of this host: chmod o-r it" in site.machine.nerve.log()
        assert PASSWORD not in site.machine.nerve.log()


def test_a_secret_that_stands_in_a_wrong_file_is_not_shown(server: SecureServer) -> None:
    """The mistakes around a password name their place, and never what stands there."""
    with secured(server, "digest", "/mistake") as site:
        path = site.announce(password_file=None, password=f"{PASSWORD}\n{PASSWORD}", user=f"nerve:{PASSWORD}")
        code, out, errors = site.machine.command("check-config", "-c", path)
        assert code == 2
        assert "zookeeper.password" in errors and "zookeeper.user" in errors
        assert PASSWORD not in out + errors


def test_synapse_reads_the_same_tree_without_a_user(server: SecureServer) -> None:
    """The reading daemons of the fleet need no password: by TLS, as nobody, through HAProxy to the service."""
    root = "/pair"
    host = Host(ZooKeeperUrl(hosts=server.hosts, root=root))
    try:
        secure = str(ZooKeeperUrl(hosts=server.secure_hosts, root=root))
        tls = {"ca": server.authority.ca}
        host.define("web", 3210)
        word = Path(host.directory / "password")
        word.touch(0o600)
        word.write_text(PASSWORD)
        nerve = host.nerve(
            4,
            {"web": {}},
            registry=secure,
            zookeeper={"user": "nerve", "password_file": str(word), "tls": tls},
        )
        nerve.start()
        host.settings = {**host.settings, "registry": secure, "zookeeper": {"tls": tls}}
        host.start()
        address = nerve.status()["services"]["web"]["address"]
        with host.client(3210, keep_alive=False) as client:
            eventually(lambda: client.answers[address] > 5)
            assert not client.failures
        assert PASSWORD not in host.synapse.log() + nerve.log()
    finally:
        host.close()
