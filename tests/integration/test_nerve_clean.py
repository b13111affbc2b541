"""`nerve clean` as a command, beside a nerve that runs and without one, on `file:` and on a real ZooKeeper."""

import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.security import READ_ACL_UNSAFE, make_digest_acl

from nerve.advertised import KEPT_FILE
from smartstack.forms import DirectoryUrl, ZooKeeperUrl
from smartstack.instance import Instance, encode
from tests.support.eventually import eventually
from tests.support.machine import Machine
from tests.support.zookeeper import ControlledServer

FOREIGN = encode(Instance(host="10.9.9.9", port=8080, name="elsewhere"))


@dataclass(frozen=True)
class Hand:
    """Somebody's hand in the machine's registry: puts nodes there that nobody holds, and sees what is there."""

    put: Callable[[str, str, bytes], None]
    names: Callable[[str], set[str]]


@pytest.fixture
def hand(any_machine: Machine, request: pytest.FixtureRequest) -> Hand:
    registry = any_machine.registry
    if isinstance(registry, ZooKeeperUrl):
        client = request.getfixturevalue("zookeeper_client")
        return Hand(
            put=lambda path, name, payload: client.create(f"{registry.root}/{path}/{name}", payload, makepath=True),
            names=lambda path: set(client.get_children(f"{registry.root}/{path}")),
        )
    root = Path(registry.path)

    def write(path: str, name: str, payload: bytes) -> None:
        (root / path).mkdir(parents=True, exist_ok=True)
        (root / path / f"{name}.json").write_bytes(payload)

    return Hand(put=write, names=lambda path: {file.name.removesuffix(".json") for file in (root / path).iterdir()})


@pytest.fixture
def machine(zookeeper_url: ZooKeeperUrl) -> Iterator[Machine]:
    """A machine on the shared ZooKeeper, with nothing announced and no nerve that runs."""
    made = Machine(zookeeper_url)
    made.announce()
    yield made
    made.close()


def clean(machine: Machine, *options: str) -> tuple[int, str, str]:
    """Run `nerve clean` with the machine's nerve.yaml: exit code, output, errors."""
    return machine.command("clean", "-c", str(machine.directory / "nerve.yaml"), *options)


def results(machine: Machine, *options: str) -> dict[str, str]:
    """What `nerve clean --json` made of each place, by the last two parts of its path."""
    code, output, errors = clean(machine, "--json", *options)
    assert code == 0, errors
    return {short(one["node"]): one["result"] for one in json.loads(output)["nodes"]}


def told(machine: Machine) -> tuple[str, str]:
    """What is told of the one node that is there: the result, and why, without the session's number."""
    [one] = json.loads(clean(machine, "--json")[1])["nodes"]
    return one["result"], one["why"].partition(" (session")[0]


def short(where: str) -> str:
    """A place's directory and node."""
    return "/".join(where.split("/")[-2:]).removesuffix(".json")


def ours(machine: Machine, port: int = 8080) -> bytes:
    """A registration of this machine."""
    return encode(Instance(host=machine.address, port=port, name="machine"))


def name(machine: Machine, port: int = 8080) -> str:
    """What nerve would call it."""
    return f"{machine.address}_{port:010d}"


def test_what_nobody_holds_goes_and_what_nerve_holds_stays(any_machine: Machine, hand: Hand) -> None:
    """Beside a nerve that runs: leftovers of this host go, in services that are not announced and not defined any more
    too. Everybody else's stay, and the service that is well never left."""
    machine = any_machine
    machine.serve("web")
    machine.announce("web")
    machine.nerve.start()
    eventually(lambda: machine.sees("web"))
    hand.put("services/web", "i-0abc_0000000007", ours(machine, 9000))
    hand.put("services/old", name(machine), ours(machine))
    hand.put("services/old", name(machine, 81), b"")
    hand.put("services/old", "10.9.9.9_0000008080", FOREIGN)
    hand.put("services/old", "garbage", b"\xff\n\x1b[2J")
    expected = {
        "old/garbage": "unclear",
        f"old/{name(machine, 81)}": "would go",
        f"old/{name(machine)}": "would go",
        f"web/{name(machine)}": "held",
        "web/i-0abc_0000000007": "would go",
    }
    for _again in range(2):
        assert results(machine, "--dry-run") == expected
    code, output, errors = clean(machine)
    assert (code, errors) == (0, "")
    *lines, total = output.splitlines()
    assert sorted(line.split()[0] for line in lines) == ["removed", "removed", "removed", "unclear"]
    assert total == (f"3 removed, 1 held by this host's nerve, in 2 directories (address {machine.address})")
    assert results(machine) == {"old/garbage": "unclear", f"web/{name(machine)}": "held"}
    assert hand.names("services/web") == {name(machine)}
    assert hand.names("services/old") == {"10.9.9.9_0000008080", "garbage"}
    assert machine.service("web")["registered"] is True
    assert machine.nerve.metric("nerve_transitions_total", service="web", to="up") == 1


def test_nothing_to_do_is_done(any_machine: Machine, hand: Hand) -> None:
    """Exit code 0, and the directories of services stay, empty as they are."""
    machine = any_machine
    machine.announce()
    hand.put("services/web", name(machine), ours(machine))
    assert results(machine) == {f"web/{name(machine)}": "removed"}
    code, output, errors = clean(machine)
    assert (code, errors) == (0, "")
    assert output.startswith("0 removed, 0 held by this host's nerve, in 1 directory")
    assert hand.names("services/web") == set()


def test_every_place_of_every_definition_is_tidied_up(
    machine: Machine, zookeeper_client: KazooClient, zookeeper_url: ZooKeeperUrl
) -> None:
    """Paths of their own, further places, further registries, ports; none of it announced."""
    other = f"/test-{uuid.uuid4().hex[:12]}"
    machine.announce(registries={"other": {"url": f"zookeeper://{zookeeper_url.hosts}{other}"}})
    path = f"{zookeeper_url.root}/fleet"
    machine.define("web", registry_path=f"{path}/web", also_register=[{"registry": "other", "path": "moved/web"}])
    machine.define("api", 81, also_register=[{"path": f"{path}/api"}], ports={"admin": {"port": 82}})
    places = [f"{path}/web", f"{path}/api", f"{other}/moved/web", f"{other}/services/x"]
    places += [f"{zookeeper_url.root}/services/{service}" for service in ("api", "api.admin", "gone")]
    for place in places:
        zookeeper_client.create(f"{place}/{name(machine)}", ours(machine), makepath=True)
    code, output, errors = clean(machine)
    assert (code, errors) == (0, "")
    assert f"removed  registry other: {other}/moved/web/{name(machine)}: nobody holds it\n" in output
    assert [zookeeper_client.get_children(place) for place in places] == [[]] * len(places)
    zookeeper_client.delete(other, recursive=True)


def test_another_session_is_told_and_left_alone(machine: Machine, zookeeper_client: KazooClient) -> None:
    """Somebody else announces our address, or a killed nerve did: the node goes with its session, whose id is told."""
    place = f"services/web/{name(machine)}"
    assert isinstance(machine.registry, ZooKeeperUrl)
    zookeeper_client.create(f"{machine.registry.root}/{place}", ours(machine), ephemeral=True, makepath=True)
    session = f"{zookeeper_client.client_id[0]:#x}"
    code, output, errors = clean(machine)
    assert (code, errors) == (0, "")
    assert output.startswith(f"stays  {machine.registry.root}/{place}: session {session} holds it, which is not that")
    assert zookeeper_client.exists(f"{machine.registry.root}/{place}") is not None


def test_what_a_nerve_left_for_the_next_one_is_recognised(machine: Machine) -> None:
    """Who holds a node is known by the nerve that runs, then by its file; without either it is somebody's."""
    machine.serve("web")
    machine.announce("web", on_stop="leave", session_timeout="30s")
    machine.nerve.start()
    eventually(lambda: machine.sees("web"))
    assert told(machine) == ("held", "the nerve that runs here holds it")
    assert machine.nerve.stop() == 0
    assert told(machine) == ("held", "nerve's saved session holds it")
    (machine.directory / "state/session.json").unlink()
    result, why = told(machine)
    assert result == "stays"
    assert "not that of this host's nerve" in why


def test_the_address_that_the_last_nerve_announced_counts_too(
    machine: Machine, zookeeper_client: KazooClient, zookeeper_url: ZooKeeperUrl
) -> None:
    """The host moved, and what it left was left under its old address."""
    state = machine.directory / "state"
    state.mkdir()
    kept = {"host": "old.example", "registry": str(machine.registry), "address": "10.7.7.7"}
    (state / KEPT_FILE).write_text(json.dumps(kept))
    for address in ("10.7.7.7", "10.7.7.8", machine.address):
        payload = encode(Instance(host=address, port=80))
        zookeeper_client.create(f"{zookeeper_url.root}/services/web/{address}_x", payload, makepath=True)
    assert results(machine) == {"web/10.7.7.7_x": "removed", f"web/{machine.address}_x": "removed"}
    assert sorted(os.listdir(state)) == [KEPT_FILE]


def test_what_belongs_to_somebody_is_a_failure_and_the_rest_goes(
    machine: Machine, zookeeper_client: KazooClient, zookeeper_url: ZooKeeperUrl
) -> None:
    """Exit code 1, with one sentence for what could not be removed."""
    zookeeper_client.add_auth("digest", "somebody:else")
    for service in ("a", "b"):
        path = f"{zookeeper_url.root}/services/{service}/{name(machine)}"
        zookeeper_client.create(path, ours(machine), makepath=True)
    closed = f"{zookeeper_url.root}/services/a"
    zookeeper_client.set_acls(closed, [make_digest_acl("somebody", "else", all=True), *READ_ACL_UNSAFE])
    code, output, errors = clean(machine)
    assert code == 1
    assert [line.split()[0] for line in output.splitlines()] == ["failed", "removed", "1"]
    assert errors == (
        f"cannot remove {closed}/{name(machine)} in ZooKeeper: no permission; run this with the user that the node "
        "belongs to\n"
    )


def test_a_registry_that_is_away_is_one_sentence_and_the_others_are_tidied_up(
    own_zookeeper: ControlledServer,
) -> None:
    """Exit code 1 after a few seconds, whether nobody listens or nobody answers."""
    machine = Machine()
    machine.announce(registries={"away": {"url": f"zookeeper://{own_zookeeper.hosts}/x"}})
    assert isinstance(machine.registry, DirectoryUrl)
    place = Path(machine.registry.path) / "services/web"
    place.mkdir(parents=True)
    for fault in (own_zookeeper.suspend, own_zookeeper.kill):
        fault()
        (place / f"{name(machine)}.json").write_bytes(ours(machine))
        began = time.monotonic()
        code, output, errors = clean(machine)
        assert time.monotonic() - began < 20
        assert code == 1
        assert output.startswith("removed  ")
        [sentence] = errors.splitlines()
        assert sentence.startswith("registry away: cannot see what is registered, ZooKeeper did not answer within 4 s")
    machine.close()


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        pytest.param({"registry": "nowhere"}, "registry:", id="a wrong registry"),
        pytest.param({"host": "no.such.host.invalid"}, "host:", id="a host that nobody knows"),
    ],
)
def test_a_wrong_configuration_removes_nothing(machine: Machine, settings: dict[str, Any], key: str) -> None:
    """Exit code 2, with the problem and its place."""
    machine.announce(**settings)
    code, output, errors = clean(machine)
    assert (code, output) == (2, "")
    assert key in errors


def test_a_wrong_definition_is_told_and_does_not_stop_the_rest(machine: Machine, zookeeper_client: KazooClient) -> None:
    """Where its service may stand besides the usual place is not known."""
    assert isinstance(machine.registry, ZooKeeperUrl)
    machine.write("services/bad.yaml", "port: many\n")
    path = f"{machine.registry.root}/services/bad/{name(machine)}"
    zookeeper_client.create(path, ours(machine), makepath=True)
    code, output, errors = clean(machine)
    assert code == 0
    assert "removed" in output
    assert "bad.yaml:1:7: port: must be" in errors
    assert errors.endswith("(its places in registries are not looked at)\n")
    assert zookeeper_client.exists(path) is None
