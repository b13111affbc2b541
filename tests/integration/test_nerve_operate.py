"""nerve as it is operated: the commands and their exit codes, the admin address, systemd, heartbeats, logs and statsd,
on real daemons."""

import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.ear import Ear
from tests.support.eventually import eventually
from tests.support.machine import CHECK, NERVE, Machine
from tests.support.zookeeper import ControlledServer


def begin(machine: Machine, **settings: Any) -> str:
    """A machine whose `web` is registered; the path of nerve.yaml."""
    machine.serve("web")
    path = machine.announce("web", **settings)
    machine.nerve.start()
    eventually(lambda: machine.service("web")["registered"])
    return str(path)


# nerve wait


@pytest.mark.parametrize(("option", "word"), [("--up", "in use"), ("--down", "out of use")])
def test_wait_returns_when_it_has_come_true(machine: Machine, option: str, word: str) -> None:
    """A deploy script goes on with exit code 0 at the moment when its service is in use, or out of it; not before."""
    path = begin(machine)
    if option == "--up":
        machine.backends.close(machine.address, 8080)
        eventually(lambda: not machine.sees("web"))
    looks = machine.nerve.metric("nerve_check_total", service="web", check="http", result="passed")
    waiting = subprocess.Popen(
        [NERVE, "wait", "web", option, "-c", path, "--timeout", "30s"], stdout=subprocess.PIPE, text=True
    )
    if option == "--up":
        machine.backends.open(machine.address, 8080)
        eventually(lambda: machine.sees("web"))
    else:
        more = {"service": "web", "check": "http", "result": "passed"}
        eventually(lambda: machine.nerve.metric("nerve_check_total", **more) > looks + 5)
        assert waiting.poll() is None
        machine.backends.close(machine.address, 8080)
    out, _ = waiting.communicate(timeout=30)
    assert (waiting.returncode, out) == (0, f"web is {word}\n")


def test_wait_gives_up_after_its_time(machine: Machine) -> None:
    """Exit code 1 and one sentence, for what does not come true and for what is not there; 2 for wrong usage; what is
    not announced is out of use."""
    path = begin(machine)
    code, out, errors = machine.command("wait", "web", "--down", "-c", path, "--timeout", "200ms")
    assert (code, out) == (1, "")
    assert errors.startswith("web is not out of use after 0.2 s: it is up, ")
    assert errors.endswith("; `nerve explain web` says more\n")
    assert machine.command("wait", "wbe", "--up", "-c", path)[::2] == (
        1,
        "wbe is not announced by the nerve of this host\n",
    )
    assert machine.command("wait", "wbe", "--down", "-c", path)[:2] == (0, "wbe is out of use\n")
    assert machine.command("wait", "web", "-c", path)[0] == 2
    assert machine.command("wait", "web", "--up", "-c", path, "--timeout", "5")[0] == 2
    machine.nerve.stop()
    code, _, errors = machine.command("wait", "web", "--up", "-c", path)
    assert code == 1
    assert errors.startswith(f"nothing answers at {machine.admin}: start the daemon")


@pytest.mark.parametrize(
    ("arguments", "promise"),
    [
        pytest.param(["drain"], ["exit code 0", "(1)"], id="drain"),
        pytest.param(["check"], ["Exits with 1"], id="check"),
        pytest.param(["wait"], ["Exits with 0", "with 1"], id="wait"),
        pytest.param(["clean"], ["Exits with 1"], id="clean"),
        pytest.param(["check-config"], ["Exits with 2"], id="check-config"),
    ],
)
def test_help_says_what_an_exit_code_means(machine: Machine, arguments: list[str], promise: list[str]) -> None:
    """Of each command that a script would ask."""
    code, out, _ = machine.command(*arguments, "--help")
    assert code == 0
    words = " ".join(out.split())
    assert [part for part in promise if part not in words] == []


# nerve explain, and what is answered as JSON


def test_explain_tells_each_state_by_its_cause(machine: Machine) -> None:
    """Registered, down, with a definition that is wrong now, not announced for want of one, and unknown."""
    path = begin(machine)

    def explained(service: str = "web") -> list[str]:
        code, out, errors = machine.command("explain", service, "-c", path)
        assert (code, errors) == (0, "")
        return out.splitlines()

    lines = explained()
    assert lines[0] == f"web at {machine.address}:8080: registered"
    assert any(line.startswith("               passed ") and line.endswith(": HTTP 200") for line in lines)
    assert any(line.startswith("tether       ") for line in lines)
    assert f"node         services/web/{machine.address}_0000008080: there, as wanted" in "\n".join(lines)

    machine.write("services/web.yaml", "port: 80x\n")
    machine.announce("web", "ghost")
    eventually(lambda: machine.nerve.status()["problems"].keys() == {"web", "ghost"})
    assert any(line.startswith("definition   ") and "80x" in line for line in explained())
    assert explained("ghost") == [
        "ghost is not registered, because it cannot be announced:",
        f"  is announced, but {machine.directory}/services holds no valid definition ghost.yaml",
    ]
    machine.define("web")
    machine.backends.close(machine.address, 8080)
    eventually(lambda: machine.service("web")["registered"] is False)
    assert explained()[0].endswith("not registered, because its checks say that it is not well")
    code, _, errors = machine.command("explain", "wbe", "-c", path)
    assert (code, errors) == (1, "wbe is not announced by the nerve of this host, which announces: web\n")


def test_explain_says_that_nobody_knows_while_the_registry_is_away(
    fragile_machine: Machine, own_zookeeper: ControlledServer
) -> None:
    """Nothing that nerve believes is sold as knowledge."""
    path = begin(fragile_machine)
    own_zookeeper.kill()
    eventually(lambda: fragile_machine.service("web")["registered"] is None)
    _, out, _ = fragile_machine.command("explain", "web", "-c", path)
    assert out.splitlines()[0].endswith("nobody knows, the registry does not answer")
    assert f"registry     AWAY: lost the connection to ZooKeeper at {own_zookeeper.hosts}" in out


def test_everything_that_is_json_can_be_parsed(machine: Machine) -> None:
    """/services, /services/<name>, `status --json` and `maintenance list --json` say the same of a service."""
    path = begin(machine)
    machine.command("drain", "web", "-c", path, "--reason", 'a "deploy"\twith\\things')
    services = machine.nerve.get("/services").json()
    assert list(services) == ["web"]
    one = machine.nerve.get("/services/web").json()
    status = json.loads(machine.command("status", "-c", path, "--json")[1])["services"]["web"]
    for found in (services["web"], one, status):
        assert (found["address"], found["state"], found["weight"]) == (f"{machine.address}:8080", "up", 0)
        assert found["maintenance"]["reason"] == one["maintenance"]["reason"]
    listed = json.loads(machine.command("maintenance", "list", "-c", path, "--json")[1])
    assert listed == {"web": one["maintenance"]}
    assert json.loads(machine.command("clean", "-c", path, "--dry-run", "--json")[1]) is not None
    missing = machine.nerve.get("/services/wbe")
    assert (missing.status_code, missing.text) == (404, "no such service; there are: web\n")
    assert machine.nerve.get("/services/").status_code == 404


def test_the_log_level_is_changed_while_nerve_runs(machine: Machine) -> None:
    """`nerve log-level debug`: each check is a line from now on, until it is changed back."""
    path = begin(machine)
    assert "web: http passed" not in machine.nerve.log()
    assert machine.command("log-level", "debug", "-c", path) == (0, "", "")
    eventually(lambda: "web: http passed" in machine.nerve.log())
    assert machine.command("log-level", "info", "-c", path)[0] == 0
    changes = [line for line in machine.nerve.log().splitlines() if "the log level was changed" in line]
    assert len(changes) == 2


def test_each_line_of_a_json_log_is_one_object(machine: Machine) -> None:
    """`--log-format json`, with everything in it that makes trouble: quotes, line ends and colours from outside."""
    machine.serve("web")
    path = machine.announce("web")
    machine.write("services/bad.yaml", 'port: "80\\nx\\e[31m"\n')
    with open(machine.nerve.log_file, "wb") as file:
        nerve = subprocess.Popen([NERVE, "run", "-c", path, "--log-format", "json"], stdout=file, stderr=file)
    try:
        eventually(lambda: machine.nerve.get("/readyz").status_code == 200, within=20)
        machine.command("drain", "web", "-c", str(path), "--reason", 'say "hello"')
        machine.backends.close(machine.address, 8080)
        eventually(lambda: "web is deregistered" in machine.nerve.log())
    finally:
        nerve.terminate()
        assert nerve.wait(10) == 0
    lines = [json.loads(line) for line in machine.nerve.log().splitlines()]
    assert all({"time", "level", "log", "event"} <= line.keys() for line in lines)
    events = [line["event"] for line in lines]
    assert any("takes back what it registered" in event for event in events)
    assert any('say "hello"' in event for event in events)
    assert any(line["level"] == "error" and line.get("service") == "bad" for line in lines)
    assert "\x1b" not in machine.nerve.log()


# Who watches from outside


@pytest.fixture
def agent() -> Iterator[Ear]:
    """A statsd agent on loopback."""
    made = Ear(socket.AF_INET, ("127.0.0.1", 0))
    yield made
    made.socket.close()


def test_systemd_hears_that_nerve_lives_also_while_the_registry_hangs(
    fragile_machine: Machine, own_zookeeper: ControlledServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """READY=1 once the first turn is done, WATCHDOG=1 at least as often as systemd asks for, STOPPING=1 at the end; the
    heartbeat file is touched on the way. A ZooKeeper that does not answer stops none of it."""
    machine = fragile_machine
    systemd = Ear(socket.AF_UNIX, str(machine.directory / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", str(machine.directory / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "2000000")
    beats = machine.directory / "beats"
    begin(machine, heartbeat_file=str(beats))
    eventually(lambda: "READY=1" in systemd.listen())
    own_zookeeper.suspend()
    machine.backends.close(machine.address, 8080)
    eventually(lambda: "did not answer" in machine.nerve.log() or "lost the connection" in machine.nerve.log())
    heard, touched = systemd.listen().count("WATCHDOG=1"), beats.stat().st_mtime_ns
    eventually(lambda: systemd.listen().count("WATCHDOG=1") >= heard + 4, within=10)
    eventually(lambda: beats.stat().st_mtime_ns > touched)
    assert machine.nerve.get("/healthz").status_code == 200
    own_zookeeper.resume()
    assert machine.nerve.stop() == 0
    assert systemd.listen()[-1] == "STOPPING=1"
    assert systemd.heard.count("READY=1") == 1
    systemd.socket.close()


def test_a_heartbeat_file_that_cannot_be_touched_is_a_note(machine: Machine) -> None:
    """It is in /status with what to do, and nerve goes on."""
    begin(machine, heartbeat_file=str(machine.directory / "missing" / "beats"))
    note = eventually(lambda: machine.nerve.status()["notes"].get("heartbeat_file"))
    assert note.startswith(f"cannot touch {machine.directory}/missing/beats: ")
    assert machine.sees("web")


def test_dashboards_of_airbnbs_nerve_go_on(machine: Machine, agent: Ear) -> None:
    """`statsd`: each event of a service's life under its old name, with its tags; and nerve's own start and stop."""
    port = agent.socket.getsockname()[1]
    begin(machine, statsd={"address": f"127.0.0.1:{port}"}, publish_limit={"burst": 1, "every": "1h"})
    machine.define("web", check={**CHECK, "interval": "60ms"})
    eventually(lambda: "web was edited" in machine.nerve.log())
    machine.backends.close(machine.address, 8080)
    eventually(lambda: machine.service("web")["registered"] is False)
    failed = {"service": "web", "check": "http", "result": "failed"}
    eventually(lambda: machine.nerve.metric("nerve_check_total", **failed) > 0)
    machine.backends.open(machine.address, 8080)
    eventually(lambda: machine.service("web")["held_back"] == "rate")
    machine.announce()
    eventually(lambda: machine.nerve.status()["services"] == {})
    turns = machine.nerve.metric("nerve_cycles_total")
    machine.nerve.send(signal.SIGHUP)
    eventually(lambda: machine.nerve.metric("nerve_cycles_total") > turns)
    assert machine.nerve.stop() == 0
    heard = agent.listen()
    wanted = [
        "nerve.start:1|c",
        "nerve.config.update:1|c",
        "nerve.watcher.launch:1|c|#launch_reason:new,watcher_name:web",
        "nerve.watcher.launch:1|c|#launch_reason:update,watcher_name:web",
        "nerve.watcher.reap:1|c|#reap_reason:update,reap_result:success,watcher_name:web",
        "nerve.watcher.reap:1|c|#reap_reason:old,reap_result:success,watcher_name:web",
        "nerve.watcher.status.service_check:1|c|#check_result:up,service_name:web,check_name:http",
        "nerve.watcher.status.service_check:1|c|#check_result:down,service_name:web,check_name:http",
        "nerve.watcher.status.transition:1|c|#new_status:up,service_name:web",
        "nerve.watcher.status.transition:1|c|#new_status:down,service_name:web",
        "nerve.watcher.status.report.count:1|c|#report_result:success,service_name:web",
        "nerve.watcher.throttled:1|c|#service_name:web,shadow_mode:false",
        "nerve.stop:1|c|#stop_avenue:clean,stop_location:main_loop",
    ]
    assert [datagram for datagram in wanted if datagram not in heard] == []
    assert (heard[-1], heard.count("nerve.config.update:1|c")) == (wanted[-1], 3)
    assert any(each.startswith("nerve.main_loop.elapsed_time:") and each.endswith("|ms") for each in heard)
    assert {each.partition(":")[0] for each in heard} <= {each.partition(":")[0] for each in wanted} | {
        "nerve.main_loop.elapsed_time"
    }


def test_a_statsd_agent_that_is_away_does_no_harm(machine: Machine, agent: Ear) -> None:
    """Nobody listens there: the service is registered, and no line of the log is about it."""
    port = agent.socket.getsockname()[1]
    agent.socket.close()
    begin(machine, statsd={"address": f"127.0.0.1:{port}"})
    turns = machine.nerve.metric("nerve_cycles_total")
    machine.nerve.send(signal.SIGHUP)
    eventually(lambda: machine.nerve.metric("nerve_cycles_total") > turns)
    assert "Error submitting" not in machine.nerve.log()
    assert machine.sees("web")
