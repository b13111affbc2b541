"""Maintenance and drain on real daemons: nobody is cut off, nobody is sent there, and everybody is told why."""

import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from smartstack.instance import Instance, decode
from tests.support.eventually import eventually
from tests.support.machine import NERVE, Machine
from tests.support.pair import Host

LIMITS = {"settle": "200ms", "timeout": "3s"}


def payload(machine: Machine, service: str = "web") -> Instance:
    """What the service's node says."""
    instance = decode(machine.service(service)["payload"].encode())
    assert isinstance(instance, Instance)
    return instance


def begin(machine: Machine, *services: str, **settings: Any) -> str:
    """Announce these, start nerve, wait until they are registered; the path of nerve.yaml."""
    path = machine.announce(*services, drain=LIMITS, **settings)
    machine.nerve.start()
    eventually(lambda: machine.sees(*services))
    eventually(lambda: all(machine.service(name)["registered"] for name in services))
    return str(path)


@contextmanager
def connected(machine: Machine, port: int = 8080) -> Iterator[socket.socket]:
    """A client with a request in flight, as far as the service's machine can tell."""
    with socket.create_connection((machine.address, port)) as client:
        yield client


def test_a_drained_service_is_seen_draining_and_comes_back(any_machine: Machine) -> None:
    """`nerve drain`: weight 0 and the reason in the node, in /status, in the table and in the list; `nerve undrain`
    takes all of it away."""
    machine = any_machine
    machine.serve("web")
    path = begin(machine, "web")
    code, out, errors = machine.command("drain", "web", "-c", path, "--reason", "deploy 123", "--for", "30m")
    assert (code, out, errors) == (0, "in maintenance: web\n", "")
    eventually(lambda: payload(machine).weight == 0)
    assert dict(payload(machine).labels)["maintenance"] == "deploy 123"
    assert machine.sees("web"), "draining is not a hole"
    found = machine.service("web")["maintenance"]
    assert (found["reason"], found["scope"]) == ("deploy 123", "web")
    assert found["until"] - found["since"] == pytest.approx(1800, abs=5)
    assert "deploy 123" in machine.command("status", "-c", path)[1]
    assert "deploy 123" in machine.command("maintenance", "list", "-c", path)[1]
    assert "nerve undrain web" in machine.command("explain", "web", "-c", path)[1]
    assert machine.nerve.metric("nerve_maintenance", service="web") == 1
    assert machine.command("wait", "web", "--down", "-c", path)[0] == 0

    assert machine.command("undrain", "web", "-c", path)[1] == "in use again: web\n"
    assert machine.command("wait", "web", "--up", "-c", path)[0] == 0
    assert payload(machine).labels == ()
    assert machine.command("maintenance", "list", "-c", path)[1] == "nothing is in maintenance\n"


def test_a_drain_waits_for_the_connections_that_are_there(machine: Machine) -> None:
    """--wait returns with 0 when consumers had their time and the last connection has ended."""
    machine.serve("web")
    path = begin(machine, "web")
    with connected(machine):
        drain = subprocess.Popen(
            [NERVE, "drain", "web", "-c", path, "--reason", "deploy", "--wait", "--timeout", "1m"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert drain.stdout is not None
        said = [drain.stdout.readline() for _ in range(2)]
        while "web has" not in said[-1]:
            said.append(drain.stdout.readline())
            assert said[-1], f"it ended too early: {said}"
        assert drain.poll() is None
    rest, _ = drain.communicate(timeout=20)
    assert (drain.returncode, rest.splitlines()[-1]) == (0, "safe to stop")


def test_a_drain_says_when_its_limit_ran_out(machine: Machine) -> None:
    """Exit code 1 and what is left; the maintenance stays."""
    machine.serve("web")
    path = begin(machine, "web")
    with connected(machine):
        code, _, errors = machine.command(
            "drain", "web", "-c", path, "--reason", "deploy", "--wait", "--timeout", "500ms"
        )
    assert code == 1
    # A check of nerve's own may be under way beside the client.
    assert re.fullmatch(r"not safe to stop after 0\.5 s: connections: web has [12]\n", errors)
    assert machine.service("web")["maintenance"]["reason"] == "deploy"


def test_nerves_own_tether_does_not_hold_a_drain_up(machine: Machine) -> None:
    """The idle connection that nerve holds is let go when the service is drained: it would be counted."""
    machine.serve("web")
    path = begin(machine, "web")
    eventually(lambda: machine.service("web")["tether"] == "held")
    assert machine.command("drain", "web", "-c", path, "--reason", "deploy", "--wait")[0] == 0
    assert machine.service("web")["tether"] != "held"
    machine.command("undrain", "web", "-c", path)
    eventually(lambda: machine.service("web")["tether"] == "held")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_a_maintenance_survives_a_restart(any_machine: Machine, number: int) -> None:
    """Reason, owner, since and expiry are kept: the next nerve registers the service drained from the first moment."""
    machine = any_machine
    machine.serve("web")
    path = begin(machine, "web")
    machine.command("drain", "web", "-c", path, "--reason", "deploy", "--owner", "alice", "--for", "1h")
    before = machine.service("web")["maintenance"]
    machine.nerve.stop(number)
    machine.nerve.start()
    eventually(lambda: machine.service("web")["registered"])
    assert machine.service("web")["maintenance"] == before
    assert payload(machine).weight == 0


def test_a_maintenance_ends_by_itself(machine: Machine) -> None:
    """A drainer that crashed cannot keep a service out for ever."""
    machine.serve("web")
    path = begin(machine, "web")
    machine.command("drain", "web", "-c", path, "--reason", "deploy", "--for", "1s")
    eventually(lambda: payload(machine).weight is None, within=5)
    assert machine.service("web")["maintenance"] is None
    assert "maintenance of web has run out" in machine.nerve.log()


def test_everything_is_drained_for_a_reboot(machine: Machine) -> None:
    """--all covers every service, also one that is announced later; single maintenances are not ended with it."""
    machine.serve("web")
    machine.serve("api", 8081)
    path = begin(machine, "web", "api")
    machine.command("drain", "web", "-c", path, "--reason", "deploy")
    machine.command("drain", "--all", "-c", path, "--reason", "reboot")
    assert (payload(machine).weight, payload(machine, "api").weight) == (0, 0)
    machine.serve("late", 8082)
    machine.announce("web", "api", "late", drain=LIMITS)
    eventually(lambda: machine.nerve.status()["services"].get("late", {}).get("registered"))
    assert payload(machine, "late").weight == 0
    out = machine.command("undrain", "--all", "-c", path)[1]
    assert out == "in use again: api, late\nweb is still in maintenance, by that of web: deploy\n"


def test_a_drain_of_what_is_not_there_is_refused(machine: Machine) -> None:
    """One sentence, exit code 1, and nothing changes; usage mistakes are exit code 2."""
    machine.serve("web")
    machine.serve("api", 8081)
    path = begin(machine, "web", "api")
    code, _, errors = machine.command("drain", "wbe", "-c", path, "--reason", "deploy")
    assert (code, errors) == (
        1,
        "cannot drain 'wbe': no such service is announced here; did you mean 'web'?\n",
    )
    assert machine.command("drain", "-c", path, "--reason", "deploy")[0] == 2
    assert machine.command("drain", "web", "-c", path)[0] == 2
    assert machine.command("drain", "web", "-c", path, "--reason", "x", "--for", "30")[0] == 2
    assert machine.command("maintenance", "list", "-c", path)[1] == "nothing is in maintenance\n"


def test_a_drain_that_cannot_be_kept_is_refused(machine: Machine) -> None:
    """What would be lost with the next restart is not done at all: the file's place is taken by a directory."""
    machine.serve("web")
    path = begin(machine, "web")
    (machine.directory / "state" / "maintenance.json").mkdir()
    code, _, errors = machine.command("drain", "web", "-c", path, "--reason", "deploy")
    assert code == 1
    assert "nothing was changed" in errors
    assert payload(machine).weight is None


def test_a_stop_drains_first_where_it_is_told_to(any_machine: Machine) -> None:
    """`on_stop: drain`: weight 0 until the last connection has ended, then deregistered, then the end."""
    machine = any_machine
    machine.serve("web")
    begin(machine, "web", on_stop="drain")
    with connected(machine):
        machine.nerve.send(signal.SIGTERM)
        eventually(lambda: payload(machine).weight == 0)
        assert dict(payload(machine).labels)["maintenance"] == "nerve stops"
        assert machine.sees("web")
        assert machine.nerve.running
    assert machine.nerve.wait(10) == 0
    eventually(lambda: not machine.sees("web"))
    assert not (machine.directory / "state" / "maintenance.json").exists(), "the next nerve does not know of it"


def test_a_stop_that_drains_has_its_limit_too(machine: Machine) -> None:
    """A client that never leaves holds nobody's stop up beyond `drain.timeout`; a second signal ends it at once."""
    machine.serve("web")
    begin(machine, "web", on_stop="drain")
    with connected(machine):
        machine.nerve.send(signal.SIGTERM)
        assert machine.nerve.wait(10) == 0
    assert "nerve stops without being drained" in machine.nerve.log()
    machine.announce("web", drain={"settle": "1m", "timeout": "10m"}, on_stop="drain")
    machine.nerve.start()
    machine.nerve.send(signal.SIGTERM)
    eventually(lambda: machine.nerve.log().count("a second signal stops it at once") == 2)
    began = time.monotonic()
    machine.nerve.send(signal.SIGTERM)
    assert machine.nerve.wait(10) == 0
    assert time.monotonic() - began < 5


def test_synapse_sends_nothing_to_what_nerve_drains(any_host: Host) -> None:
    """The whole way: a drain on one host, and not one request fails or goes there once consumers were told."""
    host = any_host
    host.serve("web", 3210)
    host.start()
    nerve = host.nerve(4, {"web": {}}, drain={**LIMITS, "timeout": "60s"})
    nerve.start()
    configuration = str(nerve.configuration)
    eventually(lambda: nerve.status()["services"]["web"]["registered"])
    drained = nerve.status()["services"]["web"]["address"]
    with host.client(3210, keep_alive=False) as client:
        eventually(lambda: client.answers[drained] > 0)
        done = subprocess.run(
            [NERVE, "drain", "web", "-c", configuration, "--reason", "deploy", "--wait"], check=False, timeout=60
        )
        assert done.returncode == 0
        count = client.answers[drained]
        requests = client.requests
        eventually(lambda: client.requests > requests + 100)
        assert client.answers[drained] == count
        assert not client.failures
    synapse = subprocess.run(
        [NERVE.replace("nerve", "synapse"), "status", "--admin", host.admin], capture_output=True, text=True, check=True
    )
    assert re.search(rf"{drained} +draining +weight 0 +deploy \(", synapse.stdout)
