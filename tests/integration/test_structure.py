"""What only a reload can change: services that come, go and change their options, one confirmed reload at most each."""

from functools import partial

from tests.support.clients import LoadClient, ask, assert_none_failed
from tests.support.eventually import eventually
from tests.support.pair import Host

CHANGES = 20
BALANCES = ("roundrobin", "random", "source", "leastconn")


def both(host: Host, *ports: int) -> list[LoadClient]:
    """A client of each kind on each of these ports, begun."""
    return [host.client(port, keep_alive=each, rate=60).__enter__() for port in ports for each in (False, True)]


def differs(host: Host, before: str) -> bool:
    """Whether the serving worker was started with another structure than that."""
    return host.structure() != before


def test_twenty_structural_changes_cost_no_request(host: Host) -> None:
    """Services are added and removed and options changed, twenty times: each is in the running HAProxy after one
    reload at most, and no client of an untouched service or of the changed one sees an error."""
    host.serve("web", 3210)
    host.serve("api", 3211)
    host.start()
    master, _ = host.haproxy()
    clients = both(host, 3210, 3211)
    for change in range(CHANGES):
        before = host.structure()
        kind, turn = change % 4, change // 4
        if kind in (0, 2):
            host.define("api", 3211, balance=BALANCES[change // 2 % 4], timeouts={"server": f"{20 + change}s"})
        elif kind == 1:
            host.serve("more", 3220 + turn)
        else:
            (host.services / "more.yaml").unlink()
        eventually(partial(differs, host, before), within=10, message=f"change {change}")
        if kind == 1:
            assert ask(host.address, 3220 + turn)
    assert_none_failed(clients, at_least=100)
    assert host.haproxy()[0] == master
    assert host.synapse.metric("synapse_haproxy_reloads_total", result="done") <= CHANGES
    assert host.synapse.metric("synapse_haproxy_reloads_total", result="failed") == 0
