"""Several ports of one service, with a real HAProxy: each is offered like a service of its own."""

import json
from typing import Any

from smartstack.instance import Instance, encode, node_name
from smartstack.registry.protocol import NodeId
from tests.support.clients import ask, assert_none_failed
from tests.support.eventually import eventually
from tests.support.pair import BACKEND_PORT, CHECK, Host

ADMIN_PORT, METRICS_PORT = 9090, 9100


def define(host: Host, **ports: tuple[int, int]) -> None:
    """`web` at 3210 with these further ports: where the instance listens, and where clients find it."""

    def endpoint(port: int, listen: int) -> dict[str, Any]:
        return {"port": port, "proxy": {"listen": f"{host.address}:{listen}"}}

    more = {name: endpoint(*numbers) for name, numbers in ports.items()}
    host.write("services/web.yaml", json.dumps({**endpoint(BACKEND_PORT, 3210), "check": CHECK, "ports": more}))


def join(host: Host, service: str, port: int) -> str:
    """Register one more port of the instance 1, behind which a server stands; its address."""
    instance = Instance(host=host.instance(1).host, port=port, name="host-1")
    host.backends.open(instance.host, instance.port)
    host.writer.put(NodeId(path=f"services/{service}", node=node_name(instance)), encode(instance))
    return instance.address


def test_each_port_has_its_own_proxy(host: Host) -> None:
    """Both ports are reached where the definition says. An edit adds a third, another one takes the second away, and no
    request to the others notices."""
    web, admin = host.join("web", 1).address, join(host, "web.admin", ADMIN_PORT)
    define(host, admin=(ADMIN_PORT, 3211))
    host.start()
    assert ask(host.address, 3210) == web
    assert ask(host.address, 3211) == admin
    assert host.told("web.admin")["listen"] == f"{host.address}:3211"

    with host.client(3210, keep_alive=False) as first, host.client(3211, keep_alive=False) as second:
        metrics = join(host, "web.metrics", METRICS_PORT)
        define(host, admin=(ADMIN_PORT, 3211), metrics=(METRICS_PORT, 3212))
        eventually(lambda: ask(host.address, 3212) == metrics)
    with host.client(3210, keep_alive=False) as third:
        define(host, metrics=(METRICS_PORT, 3212))
        eventually(lambda: host.synapse.status()["services"].keys() == {"web", "web.metrics"})
        eventually(lambda: refused(host, 3211))
        assert ask(host.address, 3212) == metrics
        assert_none_failed([first, second, third], at_least=10)
    assert set(first.answers) == set(third.answers) == {web}
    assert set(second.answers) == {admin}


def test_nerve_registers_each_port_and_synapse_offers_it(any_host: Host) -> None:
    """One definition for both daemons: announced by the service's name, each port is there while the service is well,
    comes and goes with its lines in the file, and leaves the others untouched."""
    host = any_host
    host.settings["resync_interval"] = "1h"
    instance = host.instance(1).host
    admin, metrics = (host.backends.open(instance, port) for port in (ADMIN_PORT, METRICS_PORT))
    define(host, admin=(ADMIN_PORT, 3211))
    nerve = host.nerve(1, {"web": {}}, run_directory="run-1", resync_interval="1h")
    nerve.start()
    host.start()
    eventually(lambda: ask(host.address, 3210) == f"{instance}:{BACKEND_PORT}")
    eventually(lambda: ask(host.address, 3211) == admin)
    with host.client(3210, keep_alive=False) as client:
        define(host, admin=(ADMIN_PORT, 3211), metrics=(METRICS_PORT, 3212))
        eventually(lambda: ask(host.address, 3212) == metrics)
        define(host, metrics=(METRICS_PORT, 3212))
        eventually(lambda: refused(host, 3211))
        eventually(lambda: nerve.status()["services"].keys() == {"web", "web.metrics"})
        assert_none_failed([client], at_least=10)

    def registered() -> dict[str, bool]:
        return {name: service["registered"] for name, service in nerve.status()["services"].items()}

    host.backends.close(instance, BACKEND_PORT)
    eventually(lambda: registered() == {"web": False, "web.metrics": False})
    host.backends.open(instance, BACKEND_PORT)
    eventually(lambda: registered() == {"web": True, "web.metrics": True})


def refused(host: Host, port: int) -> bool:
    """Whether nobody listens there."""
    try:
        ask(host.address, port)
    except AssertionError:
        return True
    return False


def test_a_port_is_used_by_its_name(host: Host) -> None:
    """`use` names what local clients call: the port without its service, if that is all they call."""
    host.settings["use"] = ["web.admin"]
    admin = join(host, "web.admin", ADMIN_PORT)
    define(host, admin=(ADMIN_PORT, 3211))
    host.start()
    assert ask(host.address, 3211) == admin
    assert host.synapse.status()["services"].keys() == {"web.admin"}
    assert refused(host, 3210)


def test_a_bad_port_leaves_the_service_and_its_ports_as_they_were(host: Host) -> None:
    """One wrong line about one port: everything of that service goes on, and the words are in /status."""
    host.join("web", 1)
    admin = join(host, "web.admin", ADMIN_PORT)
    define(host, admin=(ADMIN_PORT, 3211))
    host.start()
    before = host.haproxy()
    with host.client(3210, keep_alive=False) as first, host.client(3211, keep_alive=False) as second:
        define(host, admin=(ADMIN_PORT, 3210))
        said = "ports.admin.proxy.listen: is that of the service itself already"
        eventually(lambda: said in str(host.synapse.status()["problems"].get("web")))
        assert ask(host.address, 3211) == admin
        assert_none_failed([first, second], at_least=10)
    assert host.haproxy() == before


def test_a_port_of_a_broken_file_is_not_said_to_be_misspelt(host: Host) -> None:
    """What is wrong is the file of its service, which is told; a port that the file does not have is told as well."""
    host.settings["use"] = ["web", "web.admin"]
    host.write("services/web.yaml", "port: x")
    host.configure()
    host.synapse.start(until="/healthz")
    eventually(lambda: host.synapse.status().get("problems", {}).keys() == {"web"})
    define(host)
    eventually(lambda: "web.admin has no definition in" in str(host.synapse.status()["problems"].get("")))
