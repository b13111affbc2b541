"""What a definition says of traffic is what clients meet: on the real synapse, with the real HAProxy."""

import socket
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.eventually import eventually
from tests.support.pair import Host
from tests.support.scripted import Reply, Request
from tests.support.stage import PORT, QUIET, Client, Stage, ask, connect, cookie_of, queued, stat, statuses

# Who gets a request

USERS = [f"user-{number}" for number in range(200)]


def owners(host: Host) -> dict[str, str]:
    """Which instance answers each user."""
    client = Client(host)
    found = {user: client.ask(x_user=user).text for user in USERS}
    client.close()
    return found


def test_a_hash_holds_users_to_their_instances(host: Host) -> None:
    """Every user comes to the same instance again, each instance has its share; when one leaves, nobody moves but
    its users, and when it comes back everybody is where he was."""
    host.serve("web", PORT, instances=4, balance="hash", hash={"by": "header", "name": "X-User"})
    host.start()
    before = owners(host)
    assert owners(host) == before
    assert all(share >= len(USERS) / 16 for share in Counter(before.values()).values())
    assert len(set(before.values())) == 4
    gone = host.leave("web", 4).address
    eventually(lambda: gone not in host.members("web"))
    without = owners(host)
    assert {user for user in USERS if without[user] != before[user]} == {u for u in USERS if before[u] == gone}
    host.join("web", 4)
    eventually(lambda: gone in host.members("web"))
    assert owners(host) == before


HASHES: Mapping[str, tuple[dict[str, str], Callable[[int, int], tuple[str, dict[str, str]]]]] = {
    "path": ({"by": "path"}, lambda same, other: (f"/item/{same}?page={other}", {})),
    "uri": ({"by": "uri"}, lambda same, other: (f"/item?page={same}", {"x_other": str(other)})),
    "header": ({"by": "header", "name": "X-User"}, lambda same, other: (f"/{other}", {"x_user": str(same)})),
    "cookie": (
        {"by": "cookie", "name": "sid"},
        lambda same, other: (f"/{other}", {"cookie": f"a={other}; sid={same}"}),
    ),
    "query": ({"by": "query", "name": "user"}, lambda same, other: (f"/?page={other}&user={same}", {})),
}


@pytest.mark.parametrize(("by", "request_of"), HASHES.values(), ids=HASHES)
def test_what_a_hash_goes_by(
    host: Host, by: dict[str, str], request_of: Callable[[int, int], tuple[str, dict[str, str]]]
) -> None:
    """The same value is the same instance, whatever else differs; other values go to others."""
    host.serve("web", PORT, instances=4, balance="hash", hash=by)
    host.start()
    client = Client(host)
    seen: dict[int, set[str]] = {}
    for same in range(30):
        for other in range(4):
            target, headers = request_of(same, other)
            seen.setdefault(same, set()).add(client.ask("GET", target, **headers).text)
    client.close()
    assert all(len(instances) == 1 for instances in seen.values())
    assert len(set.union(*seen.values())) == 4


@pytest.mark.parametrize(("limit", "most"), [(None, 9), (120, 4)])
def test_a_load_limit_spreads_a_value_that_is_too_much_for_one(stage: Stage, limit: int | None, most: int) -> None:
    """Nine requests of one user at a time: they all wait at its instance, or with a limit at three of them, none of
    which has more than its share of the load and a fifth."""
    gate = threading.Event()

    def slow(_: Request) -> Reply:
        gate.wait(20)
        return Reply()

    actors = [stage.play(number, slow) for number in (1, 2, 3)]
    by = {"by": "header", "name": "X-User", **({"load_limit": limit} if limit else {})}
    stage.start(balance="hash", hash=by, **QUIET)
    with ThreadPoolExecutor(9) as pool:
        answers = [pool.submit(ask, stage.host, x_user="one") for _ in range(9)]
        eventually(lambda: sum(actor.asked() for actor in actors) == 9)
        assert max(actor.asked() for actor in actors) == most
        gate.set()
        assert [each.result().status for each in answers] == [200] * 9


# How much at once


def test_what_is_over_the_limit_waits_and_then_gives_up(stage: Stage) -> None:
    """One request at a time, the next one waits: it is answered when the first is done, and told 503 when that takes
    longer than timeouts.queue. With a full queue it is told at once."""
    gate = threading.Event()

    def slow(request: Request) -> Reply:
        gate.wait(20)
        return Reply(text=request.target)

    actor = stage.play(1, slow)
    stage.start(limits={"instance": 1}, timeouts={"queue": "1500ms"}, **QUIET)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(ask, stage.host, "GET", "/first")
        eventually(lambda: actor.asked("GET", "/first"))
        assert ask(stage.host, "GET", "/late").status == 503
        waiting = pool.submit(ask, stage.host, "GET", "/waiting")
        eventually(lambda: queued(stage.host) == 1)
        gate.set()
        assert [first.result().status, waiting.result().status] == [200, 200]
    assert actor.asked("GET", "/late") == 0


def test_a_full_queue_is_no_place_to_wait(stage: Stage) -> None:
    """A sticky client's instance has one request, and one in its queue: the third goes to another instance."""
    gate = threading.Event()

    def slow(_: Request) -> Reply:
        gate.wait(20)
        return Reply(text="slow")

    first, second = stage.play(1, slow), stage.play(2)
    stage.start(sticky={}, limits={"instance": 1, "instance_queue": 1}, timeouts={"queue": "20s"}, **QUIET)
    gate.set()
    cookie = next(cookie_of(answer) for answer in (ask(stage.host) for _ in range(20)) if answer.text == "slow")
    gate.clear()
    before, elsewhere = first.asked(), second.asked()
    with ThreadPoolExecutor(2) as pool:
        held = [pool.submit(ask, stage.host, cookie=cookie)]
        eventually(lambda: first.asked() == before + 1)
        held.append(pool.submit(ask, stage.host, cookie=cookie))
        eventually(lambda: queued(stage.host) == 1)
        assert ask(stage.host, cookie=cookie).text == second.address
        gate.set()
        assert [each.result().text for each in held] == ["slow", "slow"]
    assert (first.asked(), second.asked()) == (before + 2, elsewhere + 1)


# A client comes back to its instance


def come_back(host: Host, cookie: str, times: int = 10) -> set[tuple[str, str]]:
    """Who answers a client with this cookie, and what cookie it is given instead."""
    answers = [ask(host, cookie=cookie) for _ in range(times)]
    return {(answer.text, cookie_of(answer)) for answer in answers}


def test_a_sticky_client_comes_back_to_its_instance(host: Host) -> None:
    """Through a reload, and on another host, where the instance sits in another slot. When it is gone, the client
    gets another and that one's cookie; when it is back, the old cookie leads to it again."""
    host.serve("web", PORT, instances=3, sticky={"cookie": "WEB"})
    host.start()
    mine = host.instance(1).address
    first = next(answer for answer in (ask(host) for _ in range(20)) if answer.text == mine)
    cookie = cookie_of(first)
    assert cookie.startswith("WEB=")
    assert come_back(host, cookie) == {(mine, "")}

    before = host.structure()
    host.define("web", PORT, sticky={"cookie": "WEB"}, timeouts={"server": "30s"})
    eventually(lambda: host.structure() != before)
    assert come_back(host, cookie) == {(mine, "")}

    host.leave("web", 1)
    eventually(lambda: mine not in host.members("web"))
    ((text, other),) = come_back(host, cookie, 1)
    assert text != mine
    assert other not in ("", cookie)

    elsewhere = Host(host.registry)
    try:
        elsewhere.define("web", PORT, sticky={"cookie": "WEB"})
        elsewhere.start()
        host.join("web", 1)
        eventually(lambda: mine in host.members("web"))
        assert come_back(host, cookie) == {(mine, "")}
        eventually(lambda: mine in elsewhere.members("web"))
        assert come_back(elsewhere, cookie) == {(mine, "")}
        assert slot_of(host, mine) != slot_of(elsewhere, mine)
    finally:
        elsewhere.close()


def slot_of(host: Host, address: str) -> str:
    """The slot that this instance is in."""
    return next(slot.name for slot in host.runtime.servers(["web"])["web"] if slot.serves and slot.address == address)


def test_a_draining_instance_keeps_its_sticky_clients(host: Host) -> None:
    """Weight 0 ends new sessions, not those that are: they move when the instance leaves."""
    host.serve("web", PORT, instances=2, sticky={})
    host.start()
    first = ask(host)
    numbers = {host.instance(number).address: number for number in (1, 2)}
    host.join("web", numbers[first.text], weight=0)
    eventually(lambda: host.members("web")[first.text] == 0)
    assert {ask(host, cookie=cookie_of(first)).text for _ in range(10)} == {first.text}
    assert first.text not in {ask(host).text for _ in range(10)}
    host.leave("web", numbers[first.text])
    eventually(lambda: first.text not in host.members("web"))
    moved = ask(host, cookie=cookie_of(first))
    assert (moved.status, moved.text != first.text, cookie_of(moved) != "") == (200, True, True)


def test_a_slow_start_grows(stage: Stage) -> None:
    """An instance that joins gets few requests at first and its full share in the end; its weight, as synapse sees
    it, is the whole of it from the beginning, so that nothing is corrected meanwhile."""
    stage.play(1)
    stage.start(balance="roundrobin", slow_start="5s", **QUIET)
    second = stage.play(2)
    eventually(lambda: second.address in stage.host.members("web"))

    def share() -> int:
        before = second.asked()
        assert statuses(stage.host, count=20) == {200: 20}
        return second.asked() - before

    assert share() <= 6
    commands = stage.host.synapse.metric("synapse_runtime_commands_total", result="done")
    assert stage.host.members("web") == {actor.address: 100 for actor in stage.actors}
    eventually(lambda: share() == 10, within=15)
    assert stage.host.synapse.metric("synapse_runtime_commands_total", result="done") == commands
    assert stage.host.synapse.metric("synapse_haproxy_reloads_total", result="done") == 0


# Connections to instances


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_an_instance_learns_the_clients_address(stage: Stage, version: str) -> None:
    """Every connection begins with the PROXY protocol, HAProxy's own checks too; the client's address is in it."""
    actor = stage.play(1, proxied=True)
    stage.start(send_proxy=version, health={"interval": "100ms", "fast_interval": "100ms"})
    answer = ask(stage.host)
    assert answer.status == 200
    port = answer.client_port.to_bytes(2, "big") if version == "v2" else f" {answer.client_port} ".encode()
    begin = b"\r\n\r\n\x00\r\nQUIT\n" if version == "v2" else b"PROXY "
    assert any(port in preface for preface in actor.prefaces)
    eventually(lambda: len(actor.prefaces) >= 4, message="checks arrive")
    assert all(preface.startswith(begin) for preface in list(actor.prefaces)[:4])
    assert stat(stage.host, "status", "s1") == ["UP"]


@pytest.mark.parametrize(("proxy", "connections"), [({}, 1), ({"keep_alive": False}, 5)], ids=["on", "off"])
def test_keep_alive_to_instances(stage: Stage, proxy: dict[str, Any], connections: int) -> None:
    """Five requests on a client's one connection: the instance sees one connection, or without keep-alive five."""
    actor = stage.play(1)
    stage.start(**QUIET, **proxy)
    client = Client(stage.host)
    assert len({client.ask().client_port for _ in range(5)}) == 1
    client.close()
    assert max(request.connection for request in actor.requests) == connections


@pytest.mark.parametrize(("reuse", "connections"), [("never", 5), ("always", 1)])
def test_whether_clients_share_a_connection(stage: Stage, reuse: str, connections: int) -> None:
    """Five clients, one after the other, each with two requests: one connection each, or one for all."""
    actor = stage.play(1)
    stage.start(reuse=reuse, **QUIET)
    for _ in range(5):
        client = Client(stage.host)
        client.ask()
        client.ask()
        client.close()
    assert max(request.connection for request in actor.requests) == connections


# Long connections, and bytes

SHORT = {"client": "300ms", "server": "300ms"}
LONGER_SECONDS = 1.0
"""Longer than those time-outs."""


def stays_open(connection: socket.socket) -> bool:
    """Whether nothing comes, not even the end, for longer than the time-outs."""
    connection.settimeout(LONGER_SECONDS)
    try:
        return connection.recv(1) == b"something"
    except TimeoutError:
        return True
    finally:
        connection.settimeout(10)


UPGRADE = b"GET /socket HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
LONG: Sequence[tuple[str, str, bool]] = [
    ("http", "1h", True),
    ("http", "300ms", False),
    ("tcp", "1h", True),
    ("tcp", "300ms", False),
]


@pytest.mark.parametrize(("mode", "tunnel", "stays"), LONG)
def test_a_silent_tunnel_has_a_timeout_of_its_own(stage: Stage, mode: str, tunnel: str, stays: bool) -> None:
    """A WebSocket, or a connection in mode tcp, outlasts timeouts.client and timeouts.server, and ends by
    timeouts.tunnel."""
    stage.play(1, echo=mode == "tcp")
    stage.start(mode=mode, timeouts={**SHORT, "tunnel": tunnel}, **QUIET)
    with connect(stage.host, UPGRADE if mode == "http" else b"") as connection:
        if mode == "http":
            assert connection.recv(1000).startswith(b"HTTP/1.1 101 ")
        connection.sendall(b"hello")
        assert connection.recv(5) == b"hello"
        assert stays_open(connection) is stays
        if stays:
            connection.sendall(b"again")
            assert connection.recv(5) == b"again"


def test_bytes_that_are_not_http_pass_in_mode_tcp(stage: Stage) -> None:
    """In both directions, as they are."""
    stage.play(1, echo=True)
    stage.start(mode="tcp", **QUIET)
    data = bytes(range(256)) * 4
    with connect(stage.host, data) as connection:
        assert connection.makefile("rb").read(len(data)) == data


def test_a_client_that_says_nothing_more_is_let_go(stage: Stage) -> None:
    """timeouts.keep_alive is how long a connection is kept for the next request."""
    stage.play(1)
    stage.start(timeouts={"keep_alive": "300ms"}, **QUIET)
    with connect(stage.host, b"GET / HTTP/1.1\r\nHost: web\r\n\r\n") as connection:
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")
        assert connection.recv(1000) == b""


def test_raw_lines_are_in_the_backend(stage: Stage) -> None:
    """What no key covers is written as HAProxy has it."""
    stage.play(1)
    stage.start(raw={"backend": '# ours\nhttp-response set-header X-Raw "a b"\ndefault-server maxconn 7'}, **QUIET)
    assert ask(stage.host).headers["x-raw"] == "a b"
    assert stat(stage.host, "slim", "s1") == ["7"]
