"""Who the members of a service are changes at run time: no reload, no new process, no request that fails."""

from collections import deque
from functools import partial

from synapse.proxy import DEFAULT_WEIGHT
from tests.support.clients import assert_none_failed
from tests.support.eventually import eventually
from tests.support.pair import Host

CHANGES = 200


def has_members(host: Host, expected: dict[str, int]) -> bool:
    """Whether HAProxy has exactly these addresses with these weights."""
    members = host.members("web")
    assert members == expected
    return True


def test_two_hundred_changes_of_members_cost_no_request_and_no_reload(any_host: Host) -> None:
    """Joins, leaves and weights go into the running HAProxy, each within the second: its master and its worker stay
    the same processes, nothing is reloaded, and neither kind of client sees an error."""
    any_host.serve("web", 3210, instances=4, balance="leastconn")
    any_host.start()
    present, absent = deque([1, 2, 3, 4]), deque([5, 6])
    weights = dict.fromkeys(present, DEFAULT_WEIGHT)
    address = {number: any_host.instance(number).address for number in (*present, *absent)}
    before = any_host.haproxy()
    clients = [any_host.client(3210, keep_alive=keep_alive) for keep_alive in (False, True)]
    with clients[0], clients[1]:
        for change in range(CHANGES):
            if change % 3 == 0:
                present.append(absent.popleft())
            if change % 3 == 1:
                absent.append(present.popleft())
                del weights[absent[-1]]
                any_host.leave("web", absent[-1])
            else:
                weights[present[-1]] = 10 + change
                any_host.join("web", present[-1], weight=10 + change)
            expected = {address[number]: weight for number, weight in weights.items()}
            eventually(partial(has_members, any_host, expected), message=f"change {change}")
        last = clients[0].requests
        eventually(lambda: clients[0].requests > last + 50)
        assert_none_failed(clients, at_least=300)
    assert set(clients[0].answers) == set(address.values()), "every instance that joined was sent requests"
    assert clients[1].connections < clients[1].requests / 10, "the keep-alive client kept its connections"
    assert any_host.haproxy() == before
    assert any_host.synapse.metric("synapse_haproxy_reloads_total", result="done") == 0
    assert any_host.synapse.metric("synapse_haproxy_reloads_total", result="failed") == 0
    assert any_host.synapse.metric("synapse_runtime_commands_total", result="failed") == 0
