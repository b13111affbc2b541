"""Bugs of Airbnb's synapse that this one does not have; the numbers are those of docs and issues.

B12, B13, B16 and B17 are in the tests of sources and outputs, B1 to B5 and B19 in those of nerve.
"""

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from kazoo.client import KazooClient

import haproxy_templates
from smartstack.definition import ServiceDefinition
from smartstack.errors import ConfigError
from smartstack.forms import DirectoryUrl, ZooKeeperUrl
from smartstack.instance import encode, node_name
from smartstack.registry.protocol import NodeId
from smartstack.validation import validate
from smartstack.yaml_file import load
from synapse.proxy import Admin
from tests.support.clients import ask, assert_none_failed
from tests.support.eventually import eventually
from tests.support.pair import BACKEND_PORT, Host
from tests.support.session_thief import SessionThief
from tests.support.zookeeper import ZooKeeperServer


def reloads(host: Host) -> float:
    """Reloads so far, good and bad."""
    return host.synapse.metric("synapse_haproxy_reloads_total")


UNUSABLE = b'{"host": "no address", "port": 1, "static": true}'


def test_b6_nothing_in_the_registry_ends_the_following_of_a_service(
    any_host: Host, zookeeper_client: KazooClient
) -> None:
    """Upstream an exception in a watch's callback is swallowed, the watch is gone, and the service is stale for ever.
    Here neither data that nobody can read does that, nor a service whose directory is deleted and made again."""
    host = any_host
    host.serve("web", 3210)
    host.start()
    if isinstance(host.registry, DirectoryUrl):
        place = Path(host.registry.path) / "services" / "web"
        (place / "junk.json").write_bytes(UNUSABLE)
    else:
        zookeeper_client.create(f"{host.registry.root}/services/web/junk_0000000001", UNUSABLE)
    eventually(lambda: host.synapse.metric("synapse_refused_nodes", service="web") >= 1)
    for number in (4, 5):
        host.join("web", number)
        eventually(lambda number=number: host.instance(number).address in host.members("web"))  # type: ignore[misc]
    if isinstance(host.registry, DirectoryUrl):
        shutil.rmtree(place)
    else:
        zookeeper_client.delete(f"{host.registry.root}/services/web", recursive=True)
    eventually(lambda: host.told("web")["origin"] == "held back")
    assert ask(host.address, 3210)
    for number in (1, 2, 3, 4, 5, 6):
        host.join("web", number)
    eventually(lambda: host.told("web")["origin"] == "listing")
    eventually(lambda: host.instance(6).address in host.members("web"))


def test_b7_members_change_without_a_reload_whatever_is_on_disk(host: Host) -> None:
    """Upstream every update reloads HAProxy unless a state file is configured, because it is compared with that."""
    host.serve("web", 3210)
    host.start()
    before = host.haproxy()
    for name in ("last_good.json", "running.json"):
        (host.state / name).unlink(missing_ok=True)
    for number in (4, 5):
        host.join("web", number)
        eventually(lambda number=number: host.instance(number).address in host.members("web"))  # type: ignore[misc]
        host.leave("web", number)
        eventually(lambda number=number: host.instance(number).address not in host.members("web"))  # type: ignore[misc]
    assert host.haproxy() == before
    assert reloads(host) == 0


def test_b8_an_edit_is_one_reload_and_the_changes_after_it_are_none(host: Host) -> None:
    """Upstream each update after an edit reloads again, until a minute has gone by."""
    host.serve("web", 3210)
    host.start()
    host.define("web", 3210, balance="roundrobin")
    eventually(lambda: reloads(host) == 1)
    for weight in (3, 5, 7):
        host.join("web", 1, weight=weight)
        eventually(lambda weight=weight: host.members("web")[host.instance(1).address] == weight)  # type: ignore[misc]
    assert reloads(host) == 1


def test_b9_a_service_may_be_called_otherwise_in_the_registry(host: Host) -> None:
    """Upstream a backend whose name is not the service's has every server disabled at each update."""
    host.define("shop", 3210)
    definition = json.loads((host.services / "shop.yaml").read_text())
    host.write("services/shop.yaml", json.dumps({**definition, "registry_path": "services/web"}))
    for number in (1, 2):
        host.join("web", number)
    host.start()
    eventually(lambda: len(host.members("shop")) == 2)
    with host.client(3210, keep_alive=False) as client:
        host.join("web", 3)
        eventually(lambda: len(host.members("shop")) == 3)
        assert_none_failed([client], at_least=5)
    assert reloads(host) == 0


def test_b10_servers_that_are_not_ours_are_left_alone(host: Host) -> None:
    """Upstream any other server of the same HAProxy is disabled at each update."""
    text = (Path(haproxy_templates.__path__[0]) / "global.cfg.j2").read_text()
    theirs = f"\nbackend theirs\n    mode tcp\n    server mine {host.address}:{BACKEND_PORT}\n"
    host.write("templates/global.cfg.j2", text + theirs)
    host.settings["haproxy"] = {**host.settings["haproxy"], "templates": "templates"}
    host.serve("web", 3210)
    host.start()
    for number in (4, 5):
        host.join("web", number)
        eventually(lambda number=number: host.instance(number).address in host.members("web"))  # type: ignore[misc]
    [mine] = host.runtime.servers(["theirs"])["theirs"]
    assert (mine.name, mine.admin) == ("mine", Admin.READY)
    assert reloads(host) == 0


JUNK = (b'{"haproxy": "junk"}', b"{}", b'{"haproxy": {"frontend": ["bind *:1"]}}', b"\xff", b"")


def test_b11_what_stands_in_the_services_own_node_is_nobodys_configuration(
    zookeeper_url: ZooKeeperUrl, zookeeper_client: KazooClient
) -> None:
    """Upstream takes the data of the parent for configuration: some of it ends the process, some lets the service
    vanish. Configuration is what stands in the definition; whoever may write in the registry writes none of it."""
    host = Host(zookeeper_url)
    try:
        host.serve("web", 3210)
        host.start()
        before = host.haproxy_file()
        for number, data in enumerate(JUNK, start=4):
            zookeeper_client.set(f"{zookeeper_url.root}/services/web", data)
            host.join("web", number)
            eventually(lambda number=number: host.instance(number).address in host.members("web"))  # type: ignore[misc]
        frontend = before.partition("frontend web")[2].partition("backend web")[0]
        assert frontend in host.haproxy_file()
        assert host.synapse.running
    finally:
        host.close()


def test_b14_a_file_that_would_say_the_same_is_not_written(host: Host) -> None:
    """Upstream writes the time into the file, which therefore differs from itself at every look."""
    host.serve("web", 3210)
    host.start()
    file = host.state / "haproxy.cfg"
    eventually(lambda: host.instance(3).address in host.haproxy_file())
    before = file.stat()
    for _ in range(3):
        cycles = host.synapse.metric("synapse_cycles_total")
        host.synapse.send(signal.SIGHUP)
        eventually(lambda cycles=cycles: host.synapse.metric("synapse_cycles_total") > cycles)  # type: ignore[misc]
    after = file.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


MODERN = """\
http-after-response set-header X-Modern yes
http-response set-header X-Percent "100%%"
http-check expect status 200-399
"""


def test_b15_and_b21_lines_of_this_decade_and_percent_signs(host: Host) -> None:
    """Upstream drops what HAProxy 1.6 did not know, and a literal `%` ends the process. Here HAProxy is asked."""
    host.serve("web", 3210, raw={"backend": MODERN})
    instance = host.instance(4)
    payload = json.loads(encode(instance)) | {"haproxy_server_options": "weight 50% %d %s"}
    host.writer.put(NodeId(path="services/web", node=node_name(instance)), json.dumps(payload).encode())
    host.start()
    eventually(lambda: instance.address in host.members("web"))
    for line in MODERN.splitlines():
        assert f"    {line}\n" in host.haproxy_file()
    assert "%d" not in host.haproxy_file()
    assert ask(host.address, 3210)


@pytest.fixture
def thief(zookeeper: ZooKeeperServer) -> Iterator[SessionThief]:
    """Between synapse and the server."""
    relay = SessionThief(zookeeper.host, zookeeper.port)
    yield relay
    relay.stop()


def test_b18_a_session_that_expired_ends_nothing(
    zookeeper: ZooKeeperServer, zookeeper_url: ZooKeeperUrl, thief: SessionThief
) -> None:
    """Upstream the process ends, and its restart reloads HAProxy. Here another session reads everything again."""
    host = Host(zookeeper_url)
    try:
        host.settings["registry"] = f"zookeeper://{thief.hosts}{zookeeper_url.root}"
        host.serve("web", 3210)
        host.start()
        pid, haproxy, session = host.synapse.pid, host.haproxy(), host.synapse.status()["registry"]["session"]
        with host.client(3210, keep_alive=True) as client:
            zookeeper.expire_session(*thief.sessions[-1])
            eventually(lambda: host.synapse.status()["registry"]["session"] not in (None, session), within=15)
            host.join("web", 4)
            eventually(lambda: client.answers[host.instance(4).address], within=10)
            assert_none_failed([client], at_least=20)
        assert host.synapse.running
        assert (host.synapse.pid, host.haproxy()) == (pid, haproxy)
        assert reloads(host) == 0
    finally:
        host.close()


def test_b20_a_text_where_a_list_is_wanted_is_told_with_its_place() -> None:
    """Upstream's README shows texts where the program needs lists, and it ends with a TypeError."""
    text = b"port: 80\nproxy:\n  listen: 3210\n  retry_on: connection\n  routes: /api\n"
    with pytest.raises(ConfigError) as raised:
        validate(ServiceDefinition, load(text, "web.yaml", {}), path="web.yaml")
    assert [str(problem) for problem in raised.value.problems] == [
        "web.yaml:4:13: proxy.retry_on: must be a list, got connection",
        "web.yaml:5:11: proxy.routes: must be a list, got /api",
    ]
    both = (b"port: 80\nproxy: {listen: 3210}\n", b"port: 80\nproxy: {listen: [3210]}\n")
    one, other = (validate(ServiceDefinition, load(each, "web.yaml", {}), path="web.yaml") for each in both)
    assert one == other
