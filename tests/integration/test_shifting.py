"""Shares of a service's requests go elsewhere, and change while clients talk: on the real HAProxy, which is never
reloaded for it."""

import json
from collections import Counter
from typing import Any

from smartstack.instance import encode, node_name
from smartstack.registry.protocol import NodeId
from synapse.cli import cli
from synapse.haproxy.maps import LiveMap
from synapse.live_map import CALLER_KEY
from synapse.switches import Live
from tests.support.commands import run_here
from tests.support.eventually import eventually
from tests.support.pair import BACKEND_PORT, CHECK, Host
from tests.support.stage import PORT, Client

USERS = [f"user-{number}" for number in range(500)]
SUBSET = {"canary": {"where": {"version": "canary"}}}


def synapse(host: Host, *arguments: str, code: int = 0) -> str:
    """What a subcommand with this host's configuration prints, or says when it fails."""
    ended, output, errors = run_here(cli, *arguments, "-c", str(host.directory / "synapse.yaml"))
    assert ended == code, errors
    return output if code == 0 else errors


def define(host: Host, *, subsets: Any = SUBSET, **proxy: Any) -> None:
    """Write the definition of `web`."""
    proxy = {"listen": f"{host.address}:{PORT}", **proxy}
    content = {"port": BACKEND_PORT, "check": CHECK, "proxy": proxy, "subsets": subsets}
    host.write("services/web.yaml", json.dumps(content))


def join(host: Host, number: int, version: str = "stable") -> str:
    """Register an instance of `web` with a label; its address."""
    made = host.instance(number)
    node = NodeId(path="services/web", node=node_name(made))
    labelled = type(made)(host=made.host, port=made.port, name=made.name, labels=(("version", version),))
    host.writer.put(node, encode(labelled))
    return made.address


def answers(host: Host, count: int = 500, target: str = "/", **headers: str) -> Counter[str]:
    """Who answers so many requests, all of which must be answered well."""
    client = Client(host)
    found: Counter[str] = Counter()
    for _ in range(count):
        answer = client.ask("GET", target, **headers)
        assert answer.status == 200, answer
        found[answer.text] += 1
    client.close()
    return found


def owners(host: Host, users: list[str] = USERS) -> dict[str, str]:
    """Who answers each user."""
    client = Client(host)
    found = {user: client.ask(x_user=user).text for user in users}
    client.close()
    return found


def staged(host: Host, **proxy: Any) -> tuple[str, str, tuple[int, int]]:
    """`web` with two instances, of which one is a canary; their addresses, and the processes of HAProxy."""
    stable, canary = join(host, 1), join(host, 2, "canary")
    define(host, **{"split": [{"to": "web.canary", "percent": "20 %"}], **proxy})
    host.start()
    eventually(lambda: set(host.members("web.canary")) == {canary} or None)
    return stable, canary, host.haproxy()


def unchanged(host: Host, before: tuple[int, int]) -> None:
    """HAProxy runs in the same processes and was not asked to reload."""
    assert host.haproxy() == before
    assert host.synapse.metric("synapse_haproxy_reloads_total") == 0


def shown_map(host: Host) -> dict[str, str]:
    """The live map that HAProxy shows, but for what callers are called."""
    answer = host.runtime.ask("show map")
    [number] = [line.split()[0] for line in answer.splitlines() if f"({host.state}/haproxy.map)" in line]
    lines = (line.split()[1:3] for line in host.runtime.ask(f"show map #{number}").splitlines() if line)
    return {key: value for key, value in lines if key != CALLER_KEY}


def test_a_share_changes_by_command_and_by_edit_without_a_reload(host: Host) -> None:
    """Each share is met: the definition's, an operator's, which survives a restart and stands until it is cleared, and
    that of an edit."""
    host.instance(3)
    host.define("web-next", PORT + 1)
    host.join("web-next", 3)
    _, _, before = staged(host, split=[{"to": "web-next", "percent": "20 %"}])
    other = host.instance(3).address
    assert 55 <= answers(host)[other] <= 145
    told = synapse(host, "split", "web", "web-next=50").splitlines()
    assert [line.split(maxsplit=3) for line in told[1:]] == [
        ["web-next", "50", "%", "an operator, here; the definition says 20 %"],
        ["web", "50", "%", "what is left"],
    ]
    assert 190 <= answers(host)[other] <= 310
    host.synapse.stop()
    host.synapse.start()
    assert 190 <= answers(host)[other] <= 310
    shown = json.loads(synapse(host, "split", "web", "--json"))
    assert shown == [{"to": "web-next", "percent": 50.0, "defined": 20.0, "ordered": True}]
    synapse(host, "split", "web", "--clear")
    assert 55 <= answers(host)[other] <= 145
    define(host, split=[{"to": "web-next", "percent": "0 %"}])
    eventually(lambda: shown_map(host)["split/web/web-next"] == "0" or None)
    assert answers(host, 200)[other] == 0
    unchanged(host, before)


def test_a_subset_has_a_share_and_its_instances_come_and_go(host: Host) -> None:
    """The labelled instances answer their share, beside what they get as instances of the service; without any of them
    the service itself answers, and nobody meets an error."""
    stable, canary, before = staged(host, balance="roundrobin", split=[{"to": "web.canary", "percent": "50 %"}])
    found = answers(host)
    assert 315 <= found[canary] <= 435  # half of all, and half of the rest
    host.writer.remove(NodeId(path="services/web", node=node_name(host.instance(2))))
    eventually(lambda: set(host.members("web")) == {stable} or None)
    assert answers(host, 300) == {stable: 300}
    join(host, 3, "canary")
    eventually(lambda: len(host.members("web.canary")) == 1 or None)
    assert answers(host, 300)[host.instance(3).address] > 100
    unchanged(host, before)


def test_a_dead_target_leaves_its_share_to_the_service(host: Host) -> None:
    """A canary that dies while it is registered takes nobody with it once HAProxy has seen it, whatever its share."""
    health = {"interval": "100ms", "fast_interval": "100ms", "fall": 1}
    exclusive = {"canary": {"where": {"version": "canary"}, "exclusive": True}}
    stable, canary = join(host, 1), join(host, 2, "canary")
    define(host, subsets=exclusive, health=health, split=[{"to": "web.canary", "percent": "100 %"}])
    host.start()
    eventually(lambda: answers(host, 20) == {canary: 20} or None)
    assert set(host.members("web")) == {stable}
    host.backends.close(host.instance(2).host, BACKEND_PORT)
    client = Client(host)
    eventually(lambda: client.ask().text == stable or None, within=10)
    client.close()
    assert answers(host, 300) == {stable: 300}


def test_the_same_user_goes_the_same_way_and_more_percent_only_adds_users(host: Host) -> None:
    """By the value of a header: about the share of all users, always the same ones; a larger share keeps those that it
    had. Who sends none is decided by chance."""
    exclusive = {"canary": {"where": {"version": "canary"}, "exclusive": True}}
    _, canary, before = staged(host, subsets=exclusive, split_by={"by": "header", "name": "X-User"})
    first = owners(host)
    assert owners(host) == first
    moved = {user for user in USERS if first[user] == canary}
    assert 55 <= len(moved) <= 145
    synapse(host, "split", "web", "canary=40")
    more = {user for user, owner in owners(host).items() if owner == canary}
    assert moved < more
    assert 145 <= len(more) <= 255
    assert 140 <= answers(host)[canary] <= 260
    unchanged(host, before)


def test_a_route_leads_to_a_subset(host: Host) -> None:
    """By a header: it is always a canary that answers, and a split does not touch these requests."""
    routes = [{"headers": {"X-Canary": "yes"}, "to": "web.canary"}]
    stable, canary, _ = staged(
        host, routes=routes, split=[], subsets={"canary": {"where": {"version": "canary"}, "exclusive": True}}
    )
    assert answers(host, 50, x_canary="yes") == {canary: 50}
    assert answers(host, 50) == {stable: 50}


def test_a_target_that_is_no_service_here_gets_nothing(host: Host) -> None:
    """Its share stays with the service, and that is said with its place in the file; once it is there, it has it."""
    host.instance(3)
    own = join(host, 1)
    define(host, split=[{"to": "next", "percent": "50 %"}])
    host.start()
    assert answers(host, 100) == {own: 100}
    [problem] = host.synapse.status()["problems"]["web"]
    assert (
        "proxy.split[0].to: leads to next, which is not used on this host; its share of the requests stays" in problem
    )
    assert "the definition; nobody of next serves, so web answers" in synapse(host, "split", "web")
    assert "is in use as it stands in its file" in synapse(host, "explain", "web")
    host.define("next", PORT + 1)
    host.join("next", 3)
    eventually(lambda: host.members("next") or None)
    assert answers(host, 100)[host.instance(3).address] > 20
    assert "nobody" not in synapse(host, "split", "web")
    assert host.synapse.status()["problems"] == {}


def test_an_edit_of_the_live_map_by_somebody_else_is_put_right(host: Host) -> None:
    """The resync finds it: an entry changed, one taken out, one that is twice. It is said as what it is."""
    _, _, before = staged(host)
    synapse(host, "split", "web", "canary=30")
    number = next(line.split()[0] for line in host.runtime.ask("show map").splitlines() if "haproxy.map" in line)
    for command in (f"set map #{number} split/web/web.canary 9999", f"add map #{number} split/web/web.canary 1"):
        assert host.runtime.ask(command) == "\n"
    host.runtime.ask(f"add map #{number} fault/web/ 99999999999|10000|503|0|*")
    assert shown_map(host) != {"split/web/web.canary": "3000"}
    host.synapse.send(1)  # SIGHUP: everything is compared
    eventually(lambda: shown_map(host) == {"split/web/web.canary": "3000"} or None)
    assert host.synapse.metric("synapse_drift_repairs_total", kind="map") == 1
    unchanged(host, before)


def test_the_next_worker_has_the_map_too(host: Host) -> None:
    """A reload for another reason, and a HAProxy that was killed: the new process reads the file, which is as it is
    wanted; no share is lost."""
    staged(host)
    synapse(host, "split", "web", "canary=35")
    host.serve("other", PORT + 5)
    eventually(lambda: host.members("other") or None, within=10)
    assert shown_map(host) == {"split/web/web.canary": "3500"}
    host.synapse.stop()
    assert (host.state / "haproxy.map").read_text().splitlines()[2:] == ["split/web/web.canary 3500"]


def test_what_may_not_be_said_changes_nothing(host: Host) -> None:
    """An unknown target, more than there is, a service without a split: a sentence that says so."""
    _, _, before = staged(host)
    assert "web has no split to 'cannary'; did you mean 'canary'?" in synapse(host, "split", "web", "cannary=5", code=1)
    assert "must be a target and a percentage" in synapse(host, "split", "web", "canary=101", code=2)
    assert "'wbe' is no service of this host" in synapse(host, "split", "wbe", "canary=1", code=1)
    assert "all requests for web.canary stay there" in synapse(host, "split", "web.canary")
    assert "this host allows no faults" in synapse(host, "fault", "web", "--abort", "503", "--for", "1m", code=1)
    assert shown_map(host) == {"split/web/web.canary": "2000"}
    unchanged(host, before)


def test_a_map_that_haproxy_has_not_loaded_is_no_problem(host: Host) -> None:
    """Without a switch in any definition there is nothing to tell, and no error."""
    host.serve("web", PORT)
    host.start()
    live = LiveMap(Live(path=str(host.directory / "other.map")), host.runtime.ask)
    live.write({"split/web/x": "1"})
    assert live.tell(1) == 0
    assert host.synapse.status()["error"] is None
