"""What stands in the registry is not trusted: hostile nodes are refused, counted, shown, and kept from HAProxy."""

import json
import os
from collections.abc import Mapping

from kazoo.client import KazooClient

from smartstack.forms import DirectoryUrl
from smartstack.registry.protocol import NodeId
from synapse.proxy import FEW_UNITS
from tests.support.clients import assert_none_failed
from tests.support.eventually import eventually
from tests.support.pair import Host

MARK = "evil"
"""Stands in every hostile value that has room for it; it may not be found in anything that HAProxy reads."""


def payload(**changes: object) -> bytes:
    """A registration that is good but for these keys."""
    return json.dumps({"host": "127.66.6.6", "port": 6666, **changes}).encode()


HOSTILE: Mapping[str, tuple[str, bytes]] = {
    "newline-in-host": ("not an IP address", payload(host="127.66.6.6\n    bind :6666")),
    "newline-in-name": ("name is not made of", payload(name="evil\nglobal")),
    "semicolon": ("not an IP address", payload(host="127.66.6.6; shutdown sessions evil")),
    "hash": ("not an IP address", payload(host="127.66.6.6 # evil")),
    "unix-socket": ("not an IP address", payload(host="unix@/tmp/evil")),
    "abstract-socket": ("not an IP address", payload(host="abns@evil")),
    "descriptor": ("not an IP address", payload(host="fd@0")),
    "host-name": ("not an IP address", payload(host="evil.example.com")),
    "variable-in-host": ("not an IP address", payload(host="${HOME}")),
    "variable-in-name": ("name is not made of", payload(name="${HOME}evil")),
    "quotes-in-name": ("name is not made of", payload(name='"evil')),
    "spaces-in-name": ("name is not made of", payload(name="evil name with spaces")),
    "every-address": ("not an address of one machine", payload(host="0.0.0.0")),
    "scoped-address": ("not an address of one machine", payload(host="fe80::1%evil")),
    "port-99999": ("not in 1 to 65535", payload(port=99999)),
    "port-zero": ("not in 1 to 65535", payload(port=0)),
    "port-of-many-digits": ("port is not", payload(port="9" * 60_000)),
    "port-is-true": ("port is not a whole number", payload(port=True)),
    "port-is-text": ("port is not a whole number", payload(port="80 evil")),
    "weight-too-large": ("not in 0 to 256", payload(weight=257)),
    "options-of-two-lines": ("not one line", payload(haproxy_server_options="check\nevil")),
    "labels-of-two-lines": ("is not text", payload(labels={"zone": "a\nevil"})),
    "too-many-labels": ("at most 64 keys", payload(labels={f"evil{number}": "x" for number in range(65)})),
    "invalid-utf-8": ("not UTF-8", b'{"host": "127.66.6.6", "port": 6666, "name": "\xff\xfeevil"}'),
    "not-json": ("not JSON", b"evil"),
    "not-an-object": ("not a JSON object", b'["127.66.6.6", 6666]'),
    "nothing": ("not JSON", b""),
    "nested-arrays": ("not JSON", b"[" * 60_000),
    "nested-objects": ("not JSON", b'{"host":' * 8_000),
    "large": ("over the limit", payload(name="evil" * 225_000)),
    "node name with spaces; and #": ("not an IP address", payload(host="evil")),
    "base64_20_eyJob3N0IjoiZXZpbCJ9_0000000001": ("not an IP address", payload()),
    "node-with-${HOME}": ("not an IP address", payload(host="evil")),
    'node-with-"quotes"': ("not an IP address", payload(host="evil")),
}
"""Node names with what the refusal says, and the data."""


def test_hostile_nodes_are_refused_and_the_others_serve(any_host: Host, zookeeper_client: KazooClient) -> None:
    """Every one is refused for its own reason, counted, and visible in /status; the good instances serve on, and one
    that joins later is taken; the file and the running HAProxy know nothing of them, and nothing was reloaded."""
    host = any_host
    host.serve("web", 3210)
    host.start()
    members, before, file = host.members("web"), host.haproxy(), host.haproxy_file()
    client = host.client(3210, keep_alive=False)
    with client:
        for node, (_, data) in HOSTILE.items():
            inject(host, zookeeper_client, node, data)
        eventually(lambda: refused(host).keys() == HOSTILE.keys())
        assert host.synapse.metric("synapse_refused_nodes", service="web") == len(HOSTILE)
        reasons = refused(host)
        unexpected = {node: reasons[node] for node, (reason, _) in HOSTILE.items() if reason not in reasons[node]}
        assert not unexpected
        assert all(reason.isprintable() and len(reason) < 200 for reason in reasons.values())
        assert host.told("web")["origin"] == "listing"
        assert host.members("web") == members
        assert host.haproxy_file() == file
        new = host.join("web", 4).address
        eventually(lambda: host.members("web") == {**members, new: FEW_UNITS})
        eventually(lambda: client.answers[new])
        eventually(lambda: new in host.haproxy_file(), message="the file follows what was changed at run time")
        assert_none_failed([client], at_least=20)
    for path in sorted(host.state.rglob("*")):
        assert path.is_dir() or MARK.encode() not in path.read_bytes(), f"{path} holds something of a hostile node"
    assert "127.66.6.6" not in host.haproxy_file() and "6666" not in host.haproxy_file()
    assert host.haproxy() == before
    assert host.synapse.metric("synapse_haproxy_reloads_total", result="done") == 0
    assert host.synapse.metric("synapse_runtime_commands_total", result="failed") == 0
    assert all(line.isprintable() for line in host.synapse.log().splitlines())


def test_files_that_are_no_registrations_are_refused(host: Host) -> None:
    """In a directory anything may lie: links, pipes, directories, names of two lines. None of it is followed, waited
    for or believed."""
    host.serve("web", 3210)
    host.start()
    members = host.members("web")
    directory = host.directory / "registry" / "services" / "web"
    static = payload(static=True)
    (directory / "two\nlines.json").write_bytes(static)
    (directory / "nobody-holds-it.json").write_bytes(payload())
    (directory / "directory.json").mkdir()
    os.mkfifo(directory / "pipe.json")
    (directory / "link.json").symlink_to(host.write("elsewhere.json", static.decode()))
    eventually(lambda: host.synapse.metric("synapse_refused_nodes", service="web") == 5)
    assert host.members("web") == members
    assert all(node.isprintable() for node in refused(host))


def refused(host: Host) -> dict[str, str]:
    """The refused nodes of the service as /status shows them, with why."""
    return {each["node"]: each["reason"] for each in host.told("web")["refused_nodes"]}


def inject(host: Host, client: KazooClient, node: str, data: bytes) -> None:
    """Put these very bytes into the registry, as somebody who lives and means harm."""
    if isinstance(host.registry, DirectoryUrl):
        host.writer.put(NodeId(path="services/web", node=node), data)
    else:
        client.create(f"{host.registry.root}/services/web/{node}", data)
