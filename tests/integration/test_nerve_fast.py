"""The truth as fast as it is known: what the end of an idle connection, a word of the operator and a word of the
service are worth, on real nerves. The checks' interval is an hour where only the tether, or a word, can tell."""

import contextlib
import grp
import http.server
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests

from smartstack.forms import DirectoryUrl, RegistryUrl, ZooKeeperUrl
from smartstack.instance import decode
from smartstack.registry import open_reader
from smartstack.registry.protocol import Listing
from tests.support.eventually import eventually
from tests.support.listeners import Listener
from tests.support.machine import Machine
from tests.support.zookeeper import ControlledServer
from tests.support.zookeeper_links import Recorder

RARELY = {"type": "tcp", "interval": "1h", "timeout": "1s", "rise": 1000, "fall": 1000}
"""After the first pass nothing but a prompt makes it run, and nothing but a conclusive word turns it."""

PROMPTS = 3
"""How often at the most a dying service is checked at once: the kernel closes its sockets one after the other, so that
a connection may be made to a port whose listener is gone an instant later."""

ASKING = {"type": "tcp", "send": "ping", "expect": "pong", "interval": "100ms", "timeout": "300ms", "fall": 2}
FLAPPING = {"type": "tcp", "interval": "20ms", "timeout": "1s", "rise": 1, "fall": 1}


def begin(machine: Machine, check: dict[str, Any], tether: str = "conclusive") -> str:
    """Announce `web` at 8080, where it listens already, and wait until it is registered; the path of nerve.yaml."""
    machine.define("web", check=check, tether=tether)
    path = machine.announce("web")
    machine.nerve.start()
    eventually(lambda: machine.sees("web"))
    eventually(lambda: machine.service("web")["tether"] == ("off" if tether == "off" else "held"))
    return str(path)


def begin_unwell(machine: Machine) -> None:
    """Start nerve, and wait for the first turn only: nothing is well yet."""
    machine.nerve.start(until="/healthz")
    eventually(lambda: machine.nerve.status()["services"])


def checked(machine: Machine) -> tuple[int, int]:
    """How many runs of the check `tcp` passed and failed."""
    one = machine.service("web")["checks"]["tcp"]
    return one["passes"], one["failures"]


def runs(machine: Machine, result: str, check: str = "tcp") -> float:
    """How many results the check gave, as the metric says: what the tether says is none of them."""
    try:
        return machine.nerve.metric("nerve_check_total", service="web", check=check, result=result)
    except AssertionError:
        return 0.0


def look_again(machine: Machine) -> None:
    """Have nerve compare everything, and wait until it has."""
    turns = machine.nerve.metric("nerve_cycles_total")
    machine.nerve.send(signal.SIGHUP)
    eventually(lambda: machine.nerve.metric("nerve_cycles_total") > turns)


@contextmanager
def reading(registry: RegistryUrl) -> Iterator[Any]:
    """What another registry says of a service, or of a path: payloads as instances."""
    reader = open_reader(registry, session_timeout_seconds=4)
    reader.start(lambda: None)

    def read(path: str) -> list[Any]:
        listing = reader.read([path])[path]
        assert isinstance(listing, Listing), listing
        return [record.instance for record in listing.records]

    yield read
    reader.stop()


# The tether


def test_a_killed_service_leaves_at_once_at_any_interval(any_machine: Machine) -> None:
    """kill -9: the kernel closes the tether, nobody listens any more, and that is enough, whatever `fall` says; the
    next check were due in an hour."""
    machine = any_machine
    with Listener("patient", machine.address, 8080) as service:
        begin(machine, RARELY)
        assert checked(machine) == (1, 0)
        service.kill()
        eventually(lambda: not machine.sees("web"))
    eventually(lambda: machine.service("web")["registered"] is False)
    assert machine.service("web")["state"] == "down"
    assert re.search(r"web is down: \d checks? failed, last: the idle connection ", machine.nerve.log())
    assert f"nobody listens at {machine.address}:8080 any more" in machine.nerve.log()
    assert machine.nerve.metric("nerve_transitions_total", service="web", to="down") == 1
    assert runs(machine, "passed") + runs(machine, "failed") <= 1 + PROMPTS


def test_a_service_that_was_restarted_says_so_and_is_back_at_once(machine: Machine) -> None:
    """`nerve check web` from the unit's ExecStartPost: one pass is enough, although `rise` is 1000; and a word that is
    not true is worth nothing."""
    with Listener("patient", machine.address, 8080) as service:
        path = begin(machine, RARELY)
        service.kill()
        eventually(lambda: not machine.sees("web"))
    code, out, _ = machine.command("check", "web", "-c", path)
    assert (code, out.splitlines()[0].partition(" (")[0]) == (1, "tcp: connection refused")
    assert out.splitlines()[1].startswith("web is down: ")
    with Listener("patient", machine.address, 8080):
        look_again(machine)
        assert not machine.sees("web"), "nobody has said so yet"
        passed = runs(machine, "passed")
        code, out, _ = machine.command("check", "web", "-c", path)
        assert (code, out.splitlines()[-1]) == (0, "web is up: 1 check passed, last: connected")
        eventually(lambda: machine.sees("web"))
        eventually(lambda: machine.service("web")["tether"] == "held")
        assert runs(machine, "passed") == passed + 1


@pytest.mark.parametrize(("fall", "stays"), [(1, False), (PROMPTS + 1, True)], ids=["fall 1", "fall 4"])
def test_the_end_of_a_tether_may_be_a_reason_to_check_only(machine: Machine, fall: int, stays: bool) -> None:
    """`tether: check`: one check runs at once, and counts as every other: `fall` decides."""
    with Listener("patient", machine.address, 8080) as service:
        begin(machine, {**RARELY, "fall": fall}, tether="check")
        service.kill()
        eventually(lambda: checked(machine)[1] > 0)
    assert machine.service("web")["checks"]["tcp"]["last"]["reason"] == "connection refused"
    eventually(lambda: machine.sees("web") is stays)
    look_again(machine)
    assert machine.sees("web") is stays
    assert 1 <= checked(machine)[1] == runs(machine, "failed") <= PROMPTS


def test_without_a_tether_nothing_is_known_until_the_interval(machine: Machine) -> None:
    """`tether: off`: no connection is held, and a dead service stays registered until a check has said so."""
    with Listener("patient", machine.address, 8080) as service:
        path = begin(machine, {**RARELY, "fall": 1}, tether="off")
        service.kill()
    look_again(machine)
    assert machine.sees("web")
    assert checked(machine) == (1, 0)
    assert machine.command("check", "web", "-c", path)[0] == 1
    eventually(lambda: not machine.sees("web"))


def test_a_service_that_closes_idle_connections_stays_up_and_is_left_in_peace(machine: Machine) -> None:
    """It hears of a new connection and of a check a few times, and then less and less often: twenty connections would
    be there after half a second otherwise. It is told as it is, and nothing of it reaches the registry."""
    with Listener("hasty", machine.address, 8080) as service:
        machine.define("web", check=RARELY)
        machine.announce("web")
        machine.nerve.start()
        eventually(lambda: machine.sees("web"))
        while len(service.accepted_at) < 12:
            service.accept()
        assert service.accepted_at[-1] - service.accepted_at[0] > 2.5
        passes, failures = checked(machine)
        assert (passes <= 6, failures) == (True, 0)
        assert machine.nerve.metric("nerve_transitions_total", service="web", to="up") == 1
        assert machine.sees("web")
        assert machine.service("web")["tether"] in ("held", "not there for now")


def test_a_service_of_one_connection_at_a_time_is_not_taken_down_by_its_tether(machine: Machine) -> None:
    """Its checks would wait behind the tether for ever: the first that times out ends it, and since the service is well
    without it, it is given up, and the operator is told what to write."""
    with Listener("serial", machine.address, 8080):
        machine.define("web", check=ASKING)
        path = str(machine.announce("web"))
        machine.nerve.start()
        eventually(lambda: machine.service("web")["tether"].startswith("given up: tcp timed out while it was held"))
        failures = checked(machine)[1]
        assert failures == 1
        passes = checked(machine)[0]
        eventually(lambda: checked(machine)[0] > passes + 3)
        assert checked(machine)[1] == failures
        assert machine.nerve.metric("nerve_transitions_total", service="web", to="down") == 0
        assert machine.sees("web")
        assert "web: the tether is given up" in machine.nerve.log()
        assert "tether: off" in machine.command("explain", "web", "-c", path)[1]


def test_a_service_that_hangs_is_the_affair_of_its_checks(machine: Machine) -> None:
    """SIGSTOP: the kernel goes on holding the tether, and says nothing. The checks time out and take the service down;
    once it goes on it is registered again, and held again."""
    with Listener("patient", machine.address, 8080) as service:
        begin(machine, ASKING)
        service.signal(signal.SIGSTOP)
        eventually(lambda: not machine.sees("web"))
        assert "no 'pong' in 0.3s" in machine.service("web")["reason"]
        assert machine.service("web")["tether"] != "held"
        service.signal(signal.SIGCONT)
        eventually(lambda: machine.sees("web"))
        eventually(lambda: machine.service("web")["tether"] == "held")


class Labelled(http.server.ThreadingHTTPServer):
    """A service of HTTP in this process, whose answers say whose they are. To `leave` its port is to close what
    listens there; `hang_up` ends the connections that it still has."""

    daemon_threads = True

    def __init__(self, machine: Machine, label: str) -> None:
        connections = self.connections = list[socket.socket]()

        class Handler(http.server.BaseHTTPRequestHandler):
            def setup(self) -> None:
                connections.append(self.request)
                super().setup()

            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("X-Service", label)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        super().__init__((machine.address, 8080), Handler)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def leave(self) -> None:
        """Nobody comes here any more."""
        self.shutdown()
        self.server_close()

    def hang_up(self) -> None:
        """End what is open."""
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def test_a_port_that_another_service_took_over_leaves_at_once(machine: Machine) -> None:
    """The wrong-service guard: when the tether ends somebody listens again, and his answer has another name. One check
    is enough, whatever `fall` says, and the reason names both."""
    ours = Labelled(machine, "web")
    begin(machine, {**RARELY, "type": "http", "fall": 1000, "expect": {"headers": {"X-Service": "web"}}})
    ours.leave()
    theirs = Labelled(machine, "billing")
    ours.hang_up()
    eventually(lambda: not machine.sees("web"))
    assert (runs(machine, "passed", "http"), runs(machine, "failed", "http")) == (1, 1)
    assert "another service answers: header X-Service is 'billing', expected 'web'" in machine.service("web")["reason"]
    theirs.leave()


# A service that reports itself


def test_a_service_that_never_reported_is_not_registered(machine: Machine) -> None:
    """`ttl`: no verdict for the time of the ttl, in which the first report may still come, and then it is down."""
    machine.define("web", check={"type": "ttl", "ttl": "300ms", "interval": "50ms"})
    machine.announce("web")
    begin_unwell(machine)
    eventually(lambda: machine.service("web")["state"] == "down")
    assert "no heartbeat since nerve began to watch it" in machine.service("web")["reason"]
    assert not machine.sees("web")
    assert "deregistered" not in machine.nerve.log()


def test_a_report_counts_at_once_and_for_its_time(machine: Machine) -> None:
    """`nerve heartbeat web` registers, `--fail --note` takes out with the note, and silence does so after the ttl."""
    machine.define("web", check={"type": "ttl", "ttl": "1h", "interval": "1h", "rise": 1000})
    path = str(machine.announce("web"))
    begin_unwell(machine)
    assert machine.command("heartbeat", "web", "-c", path, "--note", "ready") == (0, "", "")
    eventually(lambda: machine.sees("web"))
    assert machine.service("web")["reason"] == "1 check passed, last: ready"
    assert machine.command("heartbeat", "web", "-c", path, "--fail", "--note", "the database is gone")[0] == 0
    eventually(lambda: not machine.sees("web"))
    assert machine.service("web")["reason"] == "1 check failed, last: the database is gone"
    machine.command("heartbeat", "web", "-c", path)
    eventually(lambda: machine.sees("web"))
    machine.define("web", check={"type": "ttl", "ttl": "500ms", "interval": "50ms"})
    eventually(lambda: not machine.sees("web"))
    assert "no heartbeat" in machine.service("web")["reason"] or "ttl 500ms" in machine.service("web")["reason"]
    code, _, errors = machine.command("heartbeat", "wbe", "-c", path)
    assert (code, errors) == (1, "'wbe' is not announced on this host: `nerve status` lists what is\n")


def test_services_report_with_a_token_of_their_own(machine: Machine) -> None:
    """`heartbeat_group`: a second token that its members may read, which opens /heartbeat and nothing else."""
    group = grp.getgrgid(os.getgid()).gr_name
    machine.define("web", check={"type": "ttl", "ttl": "1h", "interval": "1h"})
    path = str(machine.announce("web", heartbeat_group=group))
    begin_unwell(machine)
    file = machine.directory / "run" / "heartbeat-token"
    assert (file.stat().st_mode & 0o777, file.stat().st_gid) == (0o640, os.getgid())
    headers = {"Authorization": f"Bearer {file.read_text().strip()}"}

    def post(action: str, body: dict[str, Any]) -> requests.Response:
        with requests.Session() as session:
            session.trust_env = False
            return session.post(f"http://{machine.admin}{action}", json=body, headers=headers, timeout=5)

    assert post("/heartbeat", {"service": "web", "passed": True, "note": "by itself"}).status_code == 200
    eventually(lambda: machine.sees("web"))
    assert machine.service("web")["reason"] == "1 check passed, last: by itself"
    assert post("/drain", {"services": ["web"], "reason": "x"}).status_code == 403
    assert post("/heartbeat", {"service": "web", "passed": "yes"}).status_code == 400
    assert machine.command("heartbeat", "web", "-c", path, "--fail")[0] == 0
    eventually(lambda: not machine.sees("web"))


def test_after_a_restart_of_nerve_a_service_has_the_time_of_its_ttl_to_report(
    zookeeper_url: ZooKeeperUrl, zookeeper_recorder: Recorder
) -> None:
    """What the nerve before knew of it is lost; its node stays, without an event, until the ttl is over: one that goes
    on reporting is never out, and one that died meanwhile leaves then."""
    machine = Machine(zookeeper_url)
    try:
        for name in ("web", "api"):
            machine.define(name, 8080, check={"type": "ttl", "ttl": "6s", "interval": "50ms"})
        machine.define("api", 8081, check={"type": "ttl", "ttl": "6s", "interval": "50ms"})
        path = str(machine.announce("web", "api", session_timeout="20s"))
        begin_unwell(machine)
        for name in ("web", "api"):
            assert machine.command("heartbeat", name, "-c", path)[0] == 0
        eventually(lambda: machine.sees("web", "api"))
        before = nodes(zookeeper_recorder)
        machine.nerve.kill()
        begin_unwell(machine)
        eventually(lambda: machine.service("web")["registered"])
        web = machine.service("web")
        assert (web["state"], web["reason"]) == ("unknown", "no verdict yet of ttl")
        assert machine.command("heartbeat", "api", "-c", path)[0] == 0
        eventually(lambda: not machine.sees("web"), within=20)
        assert "no heartbeat since nerve began to watch it" in machine.service("web")["reason"]
        assert nodes(zookeeper_recorder)[len(before) :][:1] == [
            ("DELETED", f"services/web/{machine.address}_0000008080")
        ]
    finally:
        machine.close()


# More than one place


def nodes(recorder: Recorder) -> list[tuple[str, str]]:
    """What happened to the nodes of instances."""
    return [event for event in recorder.heard() if event[1].startswith("services/") and event[1].count("/") == 2]


@pytest.fixture
def zookeeper_recorder(zookeeper_url: ZooKeeperUrl) -> Iterator[Recorder]:
    """A second watcher, on everything below the root, that keeps every event."""
    made = Recorder(zookeeper_url)
    yield made
    made.stop()


def test_ports_without_checks_follow_their_service(any_machine: Machine) -> None:
    """A further port is as well as its service, and leaves with it when the tether says so."""
    machine = any_machine
    with Listener("patient", machine.address, 8080) as service:
        machine.define("web", check=RARELY, ports={"admin": {"port": 8081}})
        machine.announce("web")
        machine.nerve.start()
        eventually(lambda: machine.sees("web", "web.admin"))
        assert machine.service("web.admin")["follows"] == "web"
        eventually(lambda: machine.service("web")["tether"] == "held")
        service.kill()
        eventually(lambda: machine.registered("web", "web.admin") == {"web": [], "web.admin": []})


OLD_PATH = "/nerve/services/web/services"


@contextmanager
def two_registries(machine: Machine, other: RegistryUrl) -> Iterator[tuple[str, Any]]:
    """`web` is announced in the machine's registry and in another one; nerve.yaml's path, and a reader of the other."""
    also = [{"registry": "old", "path": OLD_PATH}]
    machine.define("web", check=RARELY, also_register=also)
    settings = {"registries": {"old": {"url": str(other)}}, "drain": {"settle": "100ms", "timeout": "5s"}}
    path = str(machine.announce("web", **settings))
    with reading(other) as read:
        machine.nerve.start()
        eventually(lambda: machine.sees("web") and read(OLD_PATH))
        eventually(lambda: machine.service("web")["registered"])
        eventually(lambda: machine.service("web")["tether"] == "held")
        yield path, read


@pytest.mark.parametrize("other", ["file", "zookeeper"])
def test_both_registries_of_a_fleet_that_is_moved_say_the_same(
    machine: Machine, other: str, zookeeper_url: ZooKeeperUrl
) -> None:
    """`also_register`: the same payload at another path of another registry; a drain and a death are in both."""
    url: RegistryUrl = zookeeper_url if other == "zookeeper" else DirectoryUrl(str(machine.directory / "old"))
    with Listener("patient", machine.address, 8080) as service, two_registries(machine, url) as (path, read):
        main, old = machine.service("web")["places"]
        assert (main["registry"], old["registry"], old["path"]) == ("", "old", OLD_PATH)
        payload = decode(machine.service("web")["payload"].encode())
        assert read(OLD_PATH) == [payload]
        assert machine.command("drain", "web", "-c", path, "--reason", "deploy", "--wait")[0] == 0
        eventually(lambda: [each.weight for each in read(OLD_PATH)] == [0])
        assert machine.command("undrain", "web", "-c", path)[0] == 0
        eventually(lambda: read(OLD_PATH) == [payload])
        eventually(lambda: machine.service("web")["tether"] == "held")
        service.kill()
        eventually(lambda: not machine.sees("web") and not read(OLD_PATH))


@pytest.mark.parametrize("fault", ["killed", "hung"])
@pytest.mark.parametrize("away", ["the main one", "the other one"])
def test_a_registry_that_is_away_does_not_hold_up_the_other(
    own_zookeeper: ControlledServer, away: str, fault: str
) -> None:
    """A death is seen in the registry that answers, while the one of ZooKeeper does not; and in that one too as soon as
    it is back."""
    fragile = ZooKeeperUrl(hosts=own_zookeeper.hosts, root="/smartstack")
    machine = Machine(fragile if away == "the main one" else None)
    other: RegistryUrl = DirectoryUrl(str(machine.directory / "old")) if away == "the main one" else fragile
    try:
        with Listener("patient", machine.address, 8080) as service, two_registries(machine, other) as (_path, read):
            (own_zookeeper.kill if fault == "killed" else own_zookeeper.suspend)()
            service.kill()
            if away == "the main one":
                eventually(lambda: not read(OLD_PATH))
            else:
                eventually(lambda: not machine.sees("web"))
            eventually(lambda: machine.service("web")["registered"] is False)
            (own_zookeeper.start if fault == "killed" else own_zookeeper.resume)()
            eventually(lambda: not machine.sees("web") and not read(OLD_PATH), within=15)
    finally:
        machine.close()


# A service that goes up and down


FLAPS = 12
BURST = 2


def flap(machine: Machine) -> None:
    """Up and down again, as fast as nerve notices each time."""
    for _ in range(FLAPS):
        machine.backends.open(machine.address, 8080)
        eventually(lambda: machine.service("web")["state"] == "up")
        machine.backends.close(machine.address, 8080)
        eventually(lambda: machine.service("web")["state"] == "down")


@pytest.mark.parametrize("shadow", [False, True], ids=["enforced", "shadow"])
def test_what_a_flapping_service_writes_is_bounded(
    zookeeper_url: ZooKeeperUrl, zookeeper_recorder: Recorder, shadow: bool
) -> None:
    """`publish_limit`: a few joins are free, and then one each so often: a recording watcher sees no more than these.
    In shadow mode all are let through, and the same number is counted."""
    machine = Machine(zookeeper_url)
    try:
        machine.define("web", check=FLAPPING)
        path = str(machine.announce("web", publish_limit={"burst": BURST, "every": "1h", "shadow": shadow}))
        begin_unwell(machine)
        flap(machine)
        kinds = [kind for kind, _ in nodes(zookeeper_recorder)]
        joins = FLAPS if shadow else BURST
        assert (kinds.count("CREATED"), kinds.count("DELETED"), len(kinds)) == (joins, joins, 2 * joins)
        held_back = machine.nerve.metric("nerve_held_back_total", service="web", why="throttled")
        assert held_back == FLAPS - BURST
        machine.backends.open(machine.address, 8080)
        eventually(lambda: machine.service("web")["state"] == "up")
        assert machine.service("web")["held_back"] == (None if shadow else "rate")
        assert machine.sees("web") is shadow
        said = "web would be kept out now: rate (shadow)" if shadow else "web is well, and kept out for now: rate"
        assert said in machine.nerve.log()
        if not shadow:
            assert "kept out for now: rate" in machine.command("status", "-c", path)[1]
            assert "not registered yet: rate" in machine.command("explain", "web", "-c", path)[1]
    finally:
        machine.close()
