"""synapse as it is operated: hold, accept, explain, wait and plan on a real HAProxy; tokens, systemd, readiness and
what is measured."""

import json
import signal
import socket
import stat
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import requests

from synapse.cli import cli
from synapse.proxy import FEW_UNITS
from tests.support.clients import ask
from tests.support.commands import run_here
from tests.support.ear import Ear
from tests.support.eventually import eventually
from tests.support.pair import BACKEND_PORT, Host
from tests.support.zookeeper import ControlledServer

SYNAPSE = str(Path(sys.executable).parent / "synapse")
HEALTH = {"interval": "100ms", "fast_interval": "100ms", "rise": 1, "fall": 1}


def synapse(host: Host, *arguments: str) -> tuple[int, str, str]:
    """A subcommand with this host's configuration: its exit code, output and errors."""
    arguments = (*arguments, "-c", str(host.directory / "synapse.yaml"))
    if arguments[0] != "plan":
        return run_here(cli, *arguments)
    # It is half a daemon, of which there is one in a process.
    done = subprocess.run([SYNAPSE, *arguments], capture_output=True, text=True, timeout=30, check=False, cwd="/")
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def waiting(host: Host, *arguments: str) -> "subprocess.Popen[str]":
    """`synapse wait`, begun."""
    command = [SYNAPSE, "wait", *arguments, "-c", str(host.directory / "synapse.yaml")]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def answers(host: Host, count: int = 30) -> Counter[str]:
    """Who answers so many requests."""
    return Counter(ask(host.address, 3210) for _ in range(count))


def explained(host: Host, address: str) -> str:
    """The line of `synapse explain web` on an instance."""
    code, out, _ = synapse(host, "explain", "web")
    assert code == 0
    [line] = [line for line in out.splitlines() if line.startswith(address)]
    return line


# hold


def test_a_held_instance_gets_nothing_new_from_this_host(host: Host) -> None:
    """At once and without a reload; its place stays. Who, why and until when is shown wherever one looks; let go, it
    serves again."""
    host.serve("web", 3210)
    host.start()
    held = host.instance(1)
    code, out, errors = synapse(host, "hold", "web", held.host, "--for", "10m", "--reason", "new disk", "--owner", "al")
    assert (code, errors) == (0, "")
    assert out.startswith(f"web {held.address} is held on this host until 20")
    assert host.members("web")[held.address] == 0
    assert held.host not in answers(host)
    assert " held here for 9m more: new disk (al)" in synapse(host, "status")[1]
    assert "gets no traffic: held on this host by al, for 9 min more: new disk" in explained(host, held.address)
    listed = synapse(host, "holds")[1].splitlines()
    assert [line.split()[:2] for line in listed] == [["SERVICE", "ADDRESS"], ["web", held.address]]
    assert json.loads(synapse(host, "holds", "--json")[1])[0]["reason"] == "new disk"
    assert host.synapse.metric("synapse_holds") == 1
    assert synapse(host, "unhold", "web", held.host) == (0, f"web {held.address} is not held any more\n", "")
    assert host.members("web")[held.address] == FEW_UNITS
    assert synapse(host, "holds")[1] == "nothing is held\n"
    assert host.synapse.metric("synapse_holds") == 0
    assert host.synapse.metric("synapse_haproxy_reloads_total", result="done") == 0


def test_a_hold_survives_restarts_and_ends_by_itself(host: Host) -> None:
    """The next synapse goes on with it, without putting the instance back for a moment; at its time it is over."""
    host.serve("web", 3210)
    host.start()
    held = host.instance(1)
    assert synapse(host, "hold", "web", held.address, "--for", "forever")[0] == 0
    assert host.synapse.stop() == 0
    host.synapse.start()
    assert host.members("web")[held.address] == 0
    assert host.synapse.metrics("synapse_runtime_commands_total", kind="weight") == [0, 0]
    assert "until it is let go: no reason given" in explained(host, held.address)
    assert synapse(host, "hold", "web", held.address, "--for", "1s")[0] == 0
    eventually(lambda: host.members("web")[held.address] == FEW_UNITS)
    assert f"the hold of web {held.address} has run out" in host.synapse.log()


def test_the_last_that_serves_is_not_held_by_mistake(host: Host) -> None:
    """HAProxy finds the other one dead: it does not count. `--force` is for who means it."""
    host.serve("web", 3210, instances=2, health=HEALTH)
    host.start()
    host.backends.close(host.instance(2).host, BACKEND_PORT)
    one = host.instance(1).address
    eventually(lambda: "finds it down" in explained(host, host.instance(2).address))
    code, _, errors = synapse(host, "hold", "web", one)
    assert code == 1
    assert errors.startswith(f"{one} is the only instance of web that serves on this host")
    assert host.members("web")[one] == FEW_UNITS
    assert synapse(host, "hold", "web", one, "--force")[0] == 0
    assert host.members("web")[one] == 0


# accept


def test_an_operators_word_is_enough_for_a_shrunken_listing(host: Host) -> None:
    """Two of three are gone and held back; `accept` believes it at once and says from how many to how many. Asked again
    there is nothing to accept, and that is no failure; a name that is none is."""
    host.serve("web", 3210, shrink_confirm="1h", shrink_floor="100 %")
    host.start()
    for number in (1, 2):
        host.leave("web", number)
    eventually(lambda: len([each for each in host.told("web")["instances"] if not each["listed"]]) == 2)
    assert host.told("web")["origin"] == "held back"
    assert "`synapse accept web` believes the listing now" in synapse(host, "plan")[1]
    assert "gets traffic, though no source names it any more" in explained(host, host.instance(1).address)
    assert synapse(host, "accept", "web") == (0, "accepted: web goes from 3 to 1 instance\n", "")
    assert host.members("web").keys() == {host.instance(3).address}
    code, out, _ = synapse(host, "accept", "web")
    assert (code, out.startswith("nothing of web is held back: 1 instance in the registry")) == (0, True)
    assert synapse(host, "accept", "wbe")[0] == 1
    assert "accepted by an operator" in host.synapse.log()


# explain and wait


def test_explain_asks_haproxy_anew(host: Host) -> None:
    """An instance that only HAProxy's own check finds down is told as that now, not at the next resync; nothing of the
    sources or the configuration has changed."""
    host.settings["resync_interval"] = "1h"
    host.serve("web", 3210, health=HEALTH)
    host.start()
    down = host.instance(2)
    eventually((host.state / "definitions" / "web.yaml").exists, message="the first resync is done")
    assert explained(host, down.address).endswith("serving  gets traffic")
    host.backends.close(down.host, BACKEND_PORT)
    eventually(lambda: explained(host, down.address).endswith("gets no traffic: HAProxy's own check finds it down"))
    told = json.loads(synapse(host, "explain", "web", "--json")[1])
    assert {each["address"]: each["traffic"] for each in told["verdicts"]}[down.address] is False
    code, _, errors = synapse(host, "explain", "wbe")
    assert (code, errors) == (1, "wbe is no service of this host\n")


def test_wait_returns_when_enough_serve(host: Host) -> None:
    """A script goes on when so many get traffic, by what HAProxy says, and not before."""
    host.serve("web", 3210, instances=1)
    host.start()
    turns = host.synapse.metric("synapse_cycles_total")
    wait = waiting(host, "web", "--min", "2", "--timeout", "30s")
    eventually(lambda: host.synapse.metric("synapse_cycles_total") > turns + 3)
    assert wait.poll() is None
    host.join("web", 2)
    out, _ = wait.communicate(timeout=30)
    assert (wait.returncode, out) == (0, "2 instances of web get traffic\n")
    assert len(host.members("web")) == 2


def test_wait_says_what_keeps_it(host: Host) -> None:
    """Exit code 1 and one sentence, with the reasons; also while synapse does not run, which is waited for too."""
    host.serve("web", 3210, instances=2)
    host.start()
    assert synapse(host, "hold", "web", host.instance(1).address, "--owner", "al")[0] == 0
    code, out, errors = synapse(host, "wait", "web", "--min", "2", "--timeout", "200ms")
    assert (code, out) == (1, "")
    assert errors.startswith(
        "web is not as wanted after 0.2 s: 1 of the 2 that are wanted get traffic; "
        f"{host.instance(1).address}: held on this host by al, for 59 min more"
    )
    assert synapse(host, "wait", "web", "--gone", host.instance(1).address, "--timeout", "5s")[0] == 0
    assert "gets traffic still" in synapse(host, "wait", "web", "--gone", host.instance(2).host, "--timeout", "1ms")[2]
    assert "wbe is no service of this host" in synapse(host, "wait", "wbe", "--timeout", "200ms")[2]
    host.synapse.stop()
    assert "nothing answers at" in synapse(host, "wait", "web", "--timeout", "200ms")[2]
    wait = waiting(host, "web", "--timeout", "30s")
    host.synapse.start()
    assert wait.wait(30) == 0


# plan


def test_plan_says_what_synapse_is_about_to_do(host: Host) -> None:
    """While synapse stands still: an instance that comes and one that goes, under their service with the commands and
    the reasons; as JSON the same. Nothing of it is done."""
    host.serve("web", 3210)
    host.serve("api", 3211)
    host.start()
    members = host.members("web")
    host.synapse.suspend()
    come, gone = host.join("web", 4), host.leave("web", 1)
    code, out, _ = synapse(host, "plan")
    assert code == 0
    lines = out.splitlines()
    web = lines[lines.index("web: listing, 3 instances in the registry") :]
    assert any(
        line.startswith("  runtime: set server web/") and f"# {come.address}, it is to serve" in line for line in web
    )
    assert any(f"state maint  # {gone.address}, it is no instance any more" in line for line in web)
    assert not any(line.startswith("reload:") for line in lines)
    told = json.loads(synapse(host, "plan", "--json")[1])
    assert {each["address"] for each in told["services"]["web"]["commands"]} == {come.address, gone.address}
    assert (told["services"]["api"]["commands"], told["nothing_to_do"], told["start"]) == ([], False, False)
    assert host.members("web") == members
    host.synapse.send(signal.SIGCONT)
    eventually(lambda: host.members("web").keys() == members.keys() - {gone.address} | {come.address})


def test_plan_tells_which_definition_is_refused(host: Host) -> None:
    """With HAProxy's words, as the synapse that runs heard them."""
    host.serve("web", 3210)
    host.start()
    with socket.create_server((host.address, 3299)):
        host.define("api", 3299)
        eventually(lambda: "api" in host.synapse.status()["services"] and host.told("api")["refused_definition"])
        out = synapse(host, "plan")[1]
    assert any(line.startswith("  definition not in use: ") and "3299" in line for line in out.splitlines())


# Who may ask, who watches


def post(host: Host, path: str, body: dict[str, Any], token: str | None) -> requests.Response:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return requests.post(f"http://{host.admin}{path}", json=body, headers=headers, timeout=5)


def test_who_cannot_read_the_token_cannot_change_anything(host: Host) -> None:
    """The token is in the run directory, for synapse's user alone, and new at each start; nothing goes by GET."""
    host.serve("web", 3210)
    host.start()
    file = host.directory / "run" / "token"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    token = file.read_text().strip()
    order = {"service": "web", "address": host.instance(1).address}
    assert post(host, "/hold", order, None).status_code == 401
    assert post(host, "/hold", order, "guess").status_code == 403
    assert host.synapse.get("/hold").status_code == 405
    assert host.synapse.status()["holds"] == []
    assert post(host, "/hold", order, token).status_code == 200
    assert [each["address"] for each in host.synapse.status()["holds"]] == [order["address"]]
    assert post(host, "/hold", {**order, "for": 3}, token).status_code == 400
    assert post(host, "/hold", {**order, "service": "wbe"}, token).status_code == 409
    assert post(host, "/log-level", {"level": "debug"}, token).json()["before"] == "info"
    host.synapse.stop()
    host.synapse.start()
    assert post(host, "/unhold", order, token).status_code == 403


def test_systemd_hears_that_synapse_lives(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """READY=1 once the first turn is done, WATCHDOG=1 at least as often as systemd asks for, RELOADING=1 and READY=1
    around a SIGHUP, STOPPING=1 at the end."""
    systemd = Ear(socket.AF_UNIX, str(host.directory / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", str(host.directory / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "400000")
    host.serve("web", 3210)
    host.start()
    assert systemd.listen()[0] == "READY=1"
    heard = systemd.listen().count("WATCHDOG=1")
    eventually(lambda: systemd.listen().count("WATCHDOG=1") >= heard + 3)
    host.synapse.send(signal.SIGHUP)
    eventually(lambda: systemd.listen().count("READY=1") == 2)
    said = [line.partition("\n")[0] for line in systemd.heard if not line.startswith("WATCHDOG")]
    assert host.synapse.stop() == 0
    assert said == ["READY=1", "RELOADING=1", "READY=1"]
    assert systemd.listen()[-1] == "STOPPING=1"
    systemd.socket.close()


def test_once_ready_always_ready(fragile_host: Host, own_zookeeper: ControlledServer) -> None:
    """A registry that goes away, and a definition that it cannot say anything on, end no readiness: orchestrators would
    restart a whole fleet. /readyz says what is degraded. A synapse that starts now is not ready, and serves."""
    host = fragile_host
    host.serve("web", 3210)
    host.start()
    assert host.synapse.get("/readyz").json() == {"ready": True, "missing": [], "degraded": []}
    own_zookeeper.kill()
    eventually(lambda: host.synapse.get("/readyz").json()["degraded"] == ["the registry is away"], within=20)
    host.define("api", 3211)
    eventually(lambda: "the registry's word on api" in host.synapse.get("/readyz").json()["degraded"])
    assert host.synapse.get("/readyz").status_code == 200
    host.synapse.stop()
    host.synapse.start(until="/healthz")
    eventually(lambda: host.synapse.status().get("haproxy", {}).get("running"))
    answer = host.synapse.get("/readyz")
    assert (answer.status_code, answer.json()["ready"]) == (503, False)
    assert answer.json()["missing"] == ["the registry's word on api", "the registry's word on web"]
    assert ask(host.address, 3210)


def test_what_is_measured(host: Host) -> None:
    """How long a change takes from the registry to HAProxy, which commands were sent, and why HAProxy was started or
    reloaded."""
    host.serve("web", 3210)
    host.start()
    count = "synapse_propagation_seconds_count"
    assert host.synapse.metric(count) == 0, "a start is not a change"
    host.join("web", 4)
    eventually(lambda: host.synapse.metric(count) == 1)
    assert 0 < host.synapse.metric("synapse_propagation_seconds_sum") < 10
    sent = {kind: host.synapse.metric("synapse_runtime_commands_total", kind=kind, result="done") for kind in KINDS}
    assert sent == {"address": 1, "weight": 1, "enable": 1, "disable": 0}
    host.define("api", 3211)
    eventually(lambda: host.synapse.metric("synapse_haproxy_reloads_total", result="done") == 1)
    reasons = {
        reason: host.synapse.metric("synapse_haproxy_reload_reasons_total", reason=reason)
        for reason in ("not_running", "added", "changed", "distrust")
    }
    assert reasons == {"not_running": 1, "added": 1, "changed": 0, "distrust": 0}
    assert synapse(host, "hold", "web", host.instance(1).address)[0] == 0
    assert host.synapse.metric(count) == 1, "what people order is no news of the sources"


KINDS = ("address", "weight", "enable", "disable")
