"""Real nerves, as processes, with real services beside them, on a `file:` registry and on a real ZooKeeper."""

import json
import os
import re
import signal
import threading
import time
from collections.abc import Collection
from pathlib import Path

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

from smartstack.forms import ZooKeeperUrl
from smartstack.instance import decode, payload_in_name
from tests.support.eventually import eventually
from tests.support.machine import CHECK, Machine
from tests.support.session_thief import SessionThief
from tests.support.zookeeper import ControlledServer, ZooKeeperServer


def gone(pid: int) -> bool:
    """Whether there is no such process, or only its zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] in "ZX"
    except FileNotFoundError:
        return True


def pids(file: Path) -> list[int]:
    """The process ids in a file, one a line; the last line may still be being written."""
    return [int(line) for line in file.read_text().split("\n")[:-1]] if file.exists() else []


def test_a_service_is_registered_exactly_while_it_is_well(any_machine: Machine) -> None:
    """Up: registered. Dead: deregistered. Up again: registered again. And nothing of it after SIGTERM."""
    machine = any_machine
    machine.serve("web")
    machine.define("api", 8081)
    machine.announce("web", "api")
    machine.nerve.start()
    eventually(lambda: machine.registered("web", "api") == {"web": [f"{machine.address}:8080"], "api": []})
    assert machine.service("api")["state"] == "down"

    machine.backends.close(machine.address, 8080)
    eventually(lambda: not machine.sees("web"))
    eventually(lambda: machine.service("web")["registered"] is False)
    assert "nobody listens" in machine.service("web")["reason"] or "refused" in machine.service("web")["reason"]

    machine.backends.open(machine.address, 8080)
    eventually(lambda: machine.sees("web"))
    assert machine.nerve.metric("nerve_transitions_total", service="web", to="up") == 2
    assert machine.nerve.stop() == 0
    eventually(lambda: not machine.sees("web"))
    assert "takes back what it registered" in machine.nerve.log()


def test_a_killed_nerve_is_soon_forgotten_and_soon_back(any_machine: Machine) -> None:
    """kill -9: readers drop its instances (at once with file:, after the session with ZooKeeper). Its successor takes
    its place over."""
    machine = any_machine
    machine.serve("web")
    machine.announce("web")
    machine.nerve.start()
    eventually(lambda: machine.sees("web"))
    machine.nerve.kill()
    eventually(lambda: not machine.sees("web"), within=10)
    machine.nerve.start()
    eventually(lambda: machine.sees("web"))
    machine.nerve.kill()
    machine.nerve.start()
    eventually(lambda: machine.service("web")["registered"])
    if isinstance(machine.registry, ZooKeeperUrl):
        # The dead nerve's session ends meanwhile, and must not take its successor's node with it.
        with pytest.raises(AssertionError, match="still there"):
            eventually(lambda: not machine.sees("web"), within=2.5, message="still there")


def test_a_check_that_runs_too_long_is_killed_with_all_that_it_started(machine: Machine) -> None:
    """The process group is gone, the service is down, and the next run comes."""
    started = machine.directory / "started"
    command = ["sh", "-c", f"trap '' TERM; sleep 600 & echo $! >> {started}; wait"]
    check = {"type": "exec", "command": command, "interval": "50ms", "timeout": "200ms", "fall": 2}
    machine.define("web", check=check)
    machine.announce("web")
    machine.nerve.start()
    assert eventually(lambda: machine.service("web")["reason"]).startswith("2 checks failed, last: killed after 0.2s")
    eventually(lambda: len(pids(started)) >= 3)
    for pid in pids(started)[:3]:
        eventually(lambda pid=pid: gone(pid))  # type: ignore[misc]
    assert machine.nerve.get("/healthz").status_code == 200


def test_no_check_outlives_nerve(machine: Machine) -> None:
    """A program that is running when nerve is stopped is killed, and nerve does not wait for it."""
    started = machine.directory / "started"
    command = ["sh", "-c", f"echo $$ >> {started}; exec sleep 600"]
    machine.define("web", check={"type": "exec", "command": command, "interval": "60s", "timeout": "60s"})
    machine.announce("web")
    machine.nerve.start(until="/healthz")
    [pid] = eventually(lambda: pids(started))
    assert machine.nerve.stop(within=3) == 0
    eventually(lambda: gone(pid))


def test_edits_take_effect_service_by_service(machine: Machine) -> None:
    """A service is added, changed and removed while its neighbour goes on undisturbed, in one process."""
    machine.serve("web")
    machine.announce("web")
    machine.nerve.start()
    eventually(lambda: machine.sees("web"))
    pid, since = machine.nerve.pid, machine.service("web")["since"]

    machine.serve("api", 8081)
    machine.announce("web", "api")
    eventually(lambda: machine.sees("api"))

    machine.announce(announce={"web": {}, "api": {"weight": 7}})
    eventually(lambda: json.loads(machine.service("api")["payload"]).get("weight") == 7)
    eventually(lambda: machine.service("api")["registered"])

    machine.define("api", 8081, check={**CHECK, "path": "/other", "interval": "60ms"})
    eventually(lambda: "api was edited" in machine.nerve.log())
    assert machine.sees("api")

    machine.define("api", 8082)
    eventually(lambda: not machine.sees("api"))
    machine.backends.open(machine.address, 8082)
    eventually(lambda: machine.registered("api") == {"api": [f"{machine.address}:8082"]})

    machine.announce("web")
    eventually(lambda: not machine.sees("api"))
    assert (machine.nerve.pid, machine.service("web")["since"]) == (pid, since)
    assert machine.nerve.running
    assert machine.nerve.metric("nerve_transitions_total", service="web", to="up") == 1


def test_a_bad_file_changes_nothing_not_even_over_a_restart(machine: Machine) -> None:
    """The service goes on with its last good definition, the others take their edits, and the error is everywhere."""
    machine.serve("web")
    machine.serve("api", 8081)
    machine.announce("web", "api")
    machine.nerve.start()
    eventually(lambda: machine.sees("web", "api"))

    machine.write("services/web.yaml", "port: 80x\n")
    machine.backends.open(machine.address, 8082)
    machine.define("api", 8082)
    eventually(lambda: machine.registered("api") == {"api": [f"{machine.address}:8082"]})
    assert "services/web.yaml:1:7: port: must be" in eventually(lambda: machine.nerve.status()["problems"]["web"][0])
    assert machine.nerve.metric("nerve_config_problems", service="web") == 1
    assert machine.sees("web")

    assert machine.nerve.stop() == 0
    machine.nerve.start()
    eventually(lambda: machine.sees("web", "api"))
    assert machine.nerve.status()["problems"].keys() == {"web"}

    machine.write("nerve.yaml", "announce: {")
    eventually(lambda: "" in machine.nerve.status()["problems"])
    assert machine.sees("web", "api")
    machine.announce("web", "api")
    machine.define("web")
    eventually(lambda: machine.nerve.status()["problems"] == {})


@pytest.mark.parametrize("kind", ["file", "zookeeper"])
def test_payload_names_change_without_a_gap(kind: str, request: pytest.FixtureRequest) -> None:
    """With node_names: payload another weight is another node, and no reader misses the instance in between."""
    machine = Machine(request.getfixturevalue("zookeeper_url") if kind == "zookeeper" else None)
    try:
        machine.serve("web")
        machine.announce("web", node_names="payload")
        machine.nerve.start()
        eventually(lambda: machine.sees("web"))
        first = machine.service("web")["node"]
        misses, stop = [], threading.Event()

        def look() -> None:
            while not stop.is_set():
                if not machine.sees("web"):
                    misses.append(time.monotonic())

        thread = threading.Thread(target=look)
        thread.start()
        for weight in (1, 2, 3):
            machine.announce(announce={"web": {"weight": weight}}, node_names="payload")
            eventually(lambda weight=weight: f'"weight":{weight}' in machine.service("web")["payload"])  # type: ignore[misc]
            eventually(lambda: machine.service("web")["registered"])
        stop.set()
        thread.join()
        assert misses == []
        payload = payload_in_name(machine.service("web")["node"])
        assert payload is not None
        instance = decode(payload)
        assert not isinstance(instance, str)
        assert instance.weight == 3
        assert machine.service("web")["node"] != first
        assert len(machine.registered("web")["web"]) == 1
    finally:
        machine.close()


class Witness:
    """Looks at a node every few milliseconds and remembers since when it was missing, and who owned it."""

    def __init__(self, client: KazooClient, directory: str) -> None:
        self._client = client
        self._directory = directory
        self._stop = threading.Event()
        self.story: list[tuple[float, frozenset[int]]] = []
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._stop.wait(0.005):
            owners = self.owners()
            if not self.story or self.story[-1][1] != owners:
                self.story.append((time.monotonic(), owners))

    def owners(self) -> frozenset[int]:
        """The sessions that own the nodes there."""
        found = []
        try:
            for node in self._client.get_children(self._directory):
                found.append(self._client.get(f"{self._directory}/{node}")[1].ephemeralOwner)
        except NoNodeError:
            return frozenset()
        return frozenset(found)

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        self._thread.join()


def live_sessions(server: ZooKeeperServer) -> Collection[int]:
    """The sessions that the server knows, by its `dump` of ephemeral nodes."""
    return {int(found, 16) for found in re.findall(r"0x([0-9a-f]+):", server.command("dump"))}


def test_an_expired_session_costs_an_instant(
    zookeeper: ZooKeeperServer, zookeeper_url: ZooKeeperUrl, zookeeper_client: KazooClient
) -> None:
    """The session is ended by force: all is registered again, by a live session, within two seconds of the new one, and
    a watcher misses the instance no longer than that."""
    thief = SessionThief(zookeeper.host, zookeeper.port)
    machine = Machine(ZooKeeperUrl(hosts=thief.hosts, root=zookeeper_url.root))
    try:
        machine.serve("web")
        machine.announce("web", session_timeout="10s")
        machine.nerve.start()
        session = machine.nerve.status()["registry"]["session"]
        witness = Witness(zookeeper_client, f"{zookeeper_url.root}/services/web")
        eventually(witness.owners)
        password = next(password for number, password in thief.sessions if number == int(session, 16))
        zookeeper.expire_session(int(session, 16), password)

        renewed = eventually(lambda: (now := machine.nerve.status()["registry"]["session"]) != session and now)
        at = time.monotonic()
        eventually(lambda: witness.owners() == {int(renewed, 16)}, within=2)
        assert time.monotonic() - at < 2
        witness.stop()
        missing = [moment for moment, owners in witness.story if not owners]
        back = [moment for moment, owners in witness.story if owners == {int(renewed, 16)}]
        assert len(missing) <= 1
        assert len(back) == 1
        assert not missing or back[0] - missing[0] < 2
        assert machine.service("web")["registered"]
    finally:
        machine.close()
        thief.stop()


def test_zookeeper_may_stop_and_come_back(fragile_machine: Machine, own_zookeeper: ControlledServer) -> None:
    """While it is away nerve checks on and says so; when it is back the node is owned by a live session and what
    changed meanwhile is caught up with."""
    machine = fragile_machine
    machine.serve("web")
    machine.serve("api", 8081)
    machine.announce("web", "api")
    machine.nerve.start()
    eventually(lambda: machine.sees("web", "api"))
    own_zookeeper.stop()
    eventually(lambda: machine.nerve.status()["registry_error"])
    assert machine.service("web")["registered"] is None
    machine.backends.close(machine.address, 8081)
    eventually(lambda: machine.service("api")["state"] == "down")
    assert machine.nerve.get("/healthz").status_code == 200
    assert machine.nerve.metric("nerve_registry_connected", registry="main") == 0

    own_zookeeper.start()
    eventually(lambda: machine.service("web")["registered"], within=20)
    eventually(lambda: machine.registered("web", "api") == {"web": [f"{machine.address}:8080"], "api": []}, within=20)
    assert int(machine.nerve.status()["registry"]["session"], 16) in live_sessions(own_zookeeper)
    assert machine.nerve.log().count("the registry is away") == 1


def test_a_nerve_without_its_registry_stops_soon(fragile_machine: Machine, own_zookeeper: ControlledServer) -> None:
    """SIGTERM while ZooKeeper hangs or is away: nerve does not wait longer than three seconds for it."""
    machine = fragile_machine
    machine.serve("web")
    machine.announce("web")
    machine.nerve.start()
    own_zookeeper.suspend()
    started = time.monotonic()
    assert machine.nerve.stop() == 0
    assert time.monotonic() - started < 3.5
    own_zookeeper.resume()
    own_zookeeper.stop()
    machine.nerve.start(until="/healthz")
    assert machine.nerve.get("/readyz").status_code == 503
    started = time.monotonic()
    assert machine.nerve.stop() == 0
    assert time.monotonic() - started < 3.5


def test_two_nerves_with_one_address_are_told(machine: Machine) -> None:
    """Each takes the node over once; then one of them leaves it to the other and says so, instead of a fight."""
    machine.serve("web")
    machine.announce("web", session_timeout="60s")
    machine.nerve.start()
    eventually(lambda: machine.sees("web"))
    other = machine.other("other", admin=f"{machine.address}:3198", state_directory="state2", run_directory="run2")
    other.start()
    eventually(lambda: "registered by another nerve too" in machine.nerve.log() + other.log())
    puts = [
        daemon.metric("nerve_registry_actions_total", action="put", result="done") for daemon in (machine.nerve, other)
    ]
    assert max(puts) <= 2
    assert machine.sees("web")


def test_one_state_directory_is_one_nerve(machine: Machine) -> None:
    """The second one ends with 1 and one sentence; the first one is not disturbed."""
    machine.serve("web")
    path = machine.announce("web")
    machine.nerve.start()
    code, output, errors = machine.command("run", "-c", str(path))
    assert (code, output) == (1, "")
    assert re.fullmatch(rf"another nerve \(pid {machine.nerve.pid}\) already runs with .*\n", errors)
    assert machine.nerve.running
    assert machine.sees("web")


def test_a_taken_admin_address_is_one_sentence(machine: Machine) -> None:
    """Exit code 1, and nothing was registered."""
    machine.serve("web")
    path = machine.announce("web", admin=f"{machine.address}:8080")
    code, _, errors = machine.command("run", "-c", str(path))
    assert code == 1
    assert errors.startswith(f"cannot serve the admin address {machine.address}:8080: address already in use")
    assert errors.count("\n") == 1
    assert not (machine.directory / "registry").exists()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        pytest.param(None, "nerve.yaml: cannot be read: no such file or directory", id="missing"),
        pytest.param(
            "registry: consul://here", "nerve.yaml:1:11: registry: must begin with a known scheme", id="scheme"
        ),
        pytest.param("announce: {", "nerve.yaml:", id="no YAML"),
        pytest.param(
            "registry: zookeeper://zk.invalid",
            "host: is not given, and this host has no address that reaches",
            id="route",
        ),
        pytest.param("{registry: 'file:r', host: no.such.name.invalid}", "host: cannot be resolved", id="name"),
    ],
)
def test_wrong_settings_end_with_2(machine: Machine, text: str | None, sentence: str) -> None:
    """What is wrong is on standard error, without a traceback, for `run` and for `check-config`."""
    path = machine.directory / "nerve.yaml"
    if text is not None:
        machine.write("nerve.yaml", text)
    for command in ("run", "check-config"):
        code, output, errors = machine.command(command, "-c", str(path))
        assert (code, output) == (2, "")
        assert sentence in errors
        assert "Traceback" not in errors


def test_a_restart_without_dns_announces_the_address_of_before(machine: Machine) -> None:
    """A name that is not found ends no nerve that once knew its address; the log says so."""
    machine.serve("web")
    machine.announce("web", host="no.such.name.invalid")
    (machine.directory / "state").mkdir()
    kept = {"host": "no.such.name.invalid", "registry": str(machine.registry), "address": machine.address}
    machine.write("state/advertised.json", kept)
    machine.nerve.start()
    eventually(lambda: machine.registered("web") == {"web": [f"{machine.address}:8080"]})
    assert "the last one that was found is announced" in machine.nerve.log()


def test_check_config_reports_every_problem_of_all_files(machine: Machine) -> None:
    """All files are read, nothing is written; a good configuration is one line."""
    machine.define("web")
    machine.define("api", port=99999)
    machine.define("db", check={"type": "htp"})
    path = machine.announce("web", "api", "ghost")
    code, output, errors = machine.command("check-config", "-c", str(path))
    assert (code, output) == (2, "")
    assert "api.yaml:1:10: port: must be" in errors
    assert "did you mean 'http'?" in errors
    assert "announce.ghost: is announced, but" in errors
    machine.define("api")
    machine.define("db")
    machine.define("ghost", port=9000)
    assert machine.command("check-config", "-c", str(path)) == (0, "ok: 3 services\n", "")
    assert not (machine.directory / "state").exists()


def test_status_shows_what_the_loop_sees(machine: Machine) -> None:
    """A table for people, the whole snapshot as JSON, and a sentence when nobody answers."""
    machine.serve("web")
    checks = [CHECK, {"type": "tcp", "interval": "50ms", "fall": 2}]
    machine.write("services/api.yaml", {"port": 8081, "checks": checks})
    machine.define("bad", port=0)
    path = machine.announce("web", "api", "bad")
    code, _, errors = machine.command("status", "-c", str(path))
    assert (code, errors.startswith(f"nothing answers at {machine.admin}")) == (1, True)
    machine.nerve.start()
    eventually(lambda: machine.service("web")["registered"])
    eventually(lambda: all(check["state"] == "down" for check in machine.service("api")["checks"].values()))
    code, table, _ = machine.command("status", "-c", str(path))
    assert code == 0
    assert re.search(
        rf"^web  +up  +\d+s  +{machine.address}:8080  +yes  +\d+ checks? passed, last: HTTP 200$", table, re.M
    )
    assert re.search(rf"^api  +DOWN  +\d+s  +{machine.address}:8081  +no  +.*connection refused$", table, re.M)
    assert re.search(r"^  tcp  +down .*connection refused \(\d+ ms\)$", table, re.M)
    assert re.search(r"^problem   .*bad.yaml:1:10: port: must be", table, re.M)
    code, text, _ = machine.command("status", "--admin", machine.admin, "--json")
    assert json.loads(text)["services"]["web"]["checks"]["http"]["last"]["passed"] is True


def test_signals_other_than_stop_do_no_harm(machine: Machine) -> None:
    """SIGHUP asks to look again; SIGINT stops as SIGTERM does."""
    machine.serve("web")
    machine.announce("web")
    machine.nerve.start()
    eventually(lambda: machine.sees("web"))
    os.kill(machine.nerve.pid, signal.SIGHUP)
    eventually(lambda: machine.nerve.get("/healthz").status_code == 200)
    os.kill(machine.nerve.pid, signal.SIGINT)
    eventually(lambda: not machine.nerve.running)
    eventually(lambda: not machine.sees("web"))
