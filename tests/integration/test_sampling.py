"""A service with more requests than are told of: a part of them stands for all, on the real HAProxy, which is never
reloaded for it."""

from tests.support.clients import LoadClient
from tests.support.eventually import eventually
from tests.support.pair import BACKEND_PORT, Host
from tests.support.scripted import Reply, Scripted
from tests.support.stage import PORT, QUIET, Client

LIMIT = 120
ENOUGH = 2000


def sampled(host: Host) -> float:
    """Which part of the requests for `web` is told of, as /status says it."""
    share: float = host.told("web")["sampled"]
    return share


def counted(host: Host, service: str = "web") -> float:
    """How many requests synapse counted."""
    return sum(host.synapse.metrics("request_total", service=service))


def right(host: Host, client: LoadClient) -> None:
    """What is counted from now on is what the client sends, although less is told."""
    lines, count, sent = host.synapse.metric("synapse_feed_lines_total"), counted(host), client.requests
    eventually(lambda: client.requests - sent > ENOUGH or None, within=40)
    sent, count = client.requests - sent, counted(host) - count
    assert 0.85 * sent < count < 1.15 * sent
    assert host.synapse.metric("synapse_feed_lines_total") - lines < 0.7 * sent


def test_a_part_is_told_and_counted_as_all_also_across_a_restart(host: Host) -> None:
    """Above the limit less than all is told, without a reload; the figures are those of all. HAProxy goes on while
    synapse is away, and the next one goes by what it finds; when it is quiet, all is told again."""
    host.settings["telemetry"] = {"sample_above": LIMIT}
    host.serve("web", PORT, **QUIET)
    host.start()
    before = host.haproxy()
    with host.client(PORT, keep_alive=True, rate=440) as client:
        eventually(lambda: sampled(host) < 1 or None)
        assert host.synapse.metric("synapse_feed_share", service="web") == sampled(host)
        right(host, client)
        host.synapse.stop()
        kept = dict(line.split() for line in (host.state / "haproxy.map").read_text().splitlines()[1:])
        assert int(kept["share/web"]) <= 500_000
        host.synapse.start()
        assert sampled(host) < 1
        eventually(lambda: counted(host) > 0 or None)
        right(host, client)
    assert client.failures == []
    eventually(lambda: sampled(host) == 1 or None, within=20)
    eventually(lambda: "share" not in host.runtime.ask(f"show map {host.state}/haproxy.map") or None)
    assert host.synapse.metric("synapse_feed_share", service="web") == 1
    assert host.haproxy() == before
    assert host.synapse.metric("synapse_haproxy_reloads_total") == 0


def test_failures_are_always_told(host: Host) -> None:
    """One by one, whether an instance failed or HAProxy had none, while of the good ones a part is told."""
    host.settings["telemetry"] = {"sample_above": 10}
    routes = [{"path": "/bad", "to": "bad"}, {"path": "/none", "to": "none"}]
    host.serve("web", PORT, routes=routes, **QUIET)
    for name in ("bad", "none"):
        host.define(name, PORT + 1 + (name == "none"), **QUIET)
    place = host.instance(9).host
    host.backends.close(place, BACKEND_PORT)
    actor = Scripted(place, BACKEND_PORT, lambda request: Reply(status=500))
    host.join("bad", 9)
    host.start()
    with host.client(PORT, keep_alive=True):
        eventually(lambda: sampled(host) < 0.5 or None)
        asking = Client(host)
        found = [asking.ask(target=target).status for target in ("/bad", "/none") * 15]
        asking.close()
        assert sorted(found) == [500] * 15 + [503] * 15
        assert sampled(host) < 0.5
        eventually(lambda: counted(host, "none") == 15 or None)
        assert counted(host, "bad") == 15
    actor.close()
