"""The timeline of a synapse that runs: `/events` and `synapse events`, beside a real HAProxy."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.eventually import eventually
from tests.support.pair import Host

SYNAPSE = str(Path(sys.executable).parent / "synapse")


@pytest.fixture(scope="module")
def serving() -> Iterator[Host]:
    """A host whose synapse serves web with three instances and api with one."""
    host = Host()
    host.serve("web", 3210)
    host.serve("api", 3211, instances=1)
    host.start()
    yield host
    host.close()


def kept(host: Host, service: str | None = None) -> list[dict[str, Any]]:
    query = f"?service={service}" if service else ""
    answer: dict[str, Any] = host.synapse.get(f"/events{query}").json()
    found: list[dict[str, Any]] = answer["events"]
    return found


def told(host: Host, service: str | None = None) -> list[tuple[str, str, str]]:
    return [(each["kind"], each["what"], each["why"]) for each in kept(host, service)]


def test_the_start_is_the_first_event(serving: Host) -> None:
    """Whoever reads from the beginning sees since when there is a timeline, and why HAProxy was started."""
    found = told(serving)
    assert found[0] == ("synapse", "synapse started", "HAProxy does not run yet")
    (started,) = [each for each in found if each[0] == "reload"]
    assert started[1].startswith("started HAProxy, pid ")
    assert started[2] == "HAProxy is not running"


def test_an_instance_that_comes_and_goes(serving: Host) -> None:
    """Each with its address and its reason, only in its own service's timeline, and a new definition with the reload
    that it takes in both."""
    instance = serving.join("web", 4)
    eventually(lambda: ("runtime", f"{instance.address} joined", "registered") in told(serving, "web"))
    serving.leave("web", 4)
    eventually(lambda: ("runtime", f"{instance.address} left", "not registered any more") in told(serving, "web"))
    assert not [each for each in told(serving, "api") if each[1].startswith(instance.address)]
    serving.serve("more", 3212, instances=1)
    eventually(lambda: any(kind == "reload" and why == "added more" for kind, _, why in told(serving, "web")))
    assert [each[0] for each in told(serving, "more") if each[1] == "the service is new"] == ["definition"]


def test_a_definition_that_is_wrong_and_mended(serving: Host) -> None:
    """Both are told, with the place in the file."""
    good = (serving.services / "api.yaml").read_text()
    serving.write("services/api.yaml", "port: 8080\nchek: {type: tcp}\n")
    what = "configuration problem, what was in use stays in use"
    eventually(lambda: any(each[1] == what and "api.yaml:2:1: chek" in each[2] for each in told(serving, "api")))
    serving.write("services/api.yaml", good)
    mended = ("definition", "the configuration has no problem any more", "")
    eventually(lambda: mended in told(serving))


def test_who_waits_is_answered_by_the_change(serving: Host) -> None:
    """A long poll ends with the event, not with the time that it was given."""
    number = serving.synapse.get("/events").json()["number"]
    serving.join("api", 2)
    answer = serving.synapse.get(f"/events?after={number}&service=api&wait=30s", timeout_seconds=10).json()
    assert answer["events"][0]["number"] > number
    serving.leave("api", 2)


def test_a_haproxy_that_is_killed(serving: Host) -> None:
    """That it was gone and that it was started again are two events, the first an error."""
    number = serving.synapse.get("/events").json()["number"]
    for pid in serving.haproxy_processes():
        os.kill(pid, signal.SIGKILL)

    def after() -> list[tuple[str, str]]:
        return [(each["kind"], each["level"]) for each in kept(serving) if each["number"] > number]

    eventually(lambda: {("haproxy", "error"), ("reload", "info")} <= set(after()), within=15)


def test_the_command(serving: Host) -> None:
    """`synapse events web` is for people, one line an event; with --json each line is one."""
    command = [SYNAPSE, "events", "-c", str(serving.directory / "synapse.yaml")]
    lines = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.splitlines()
    assert len(lines) == len(kept(serving))
    assert lines[0].endswith("synapse     synapse started (HAProxy does not run yet)")
    of_api = subprocess.run([*command, "api", "--json"], capture_output=True, text=True, timeout=20, check=True).stdout
    assert {json.loads(line)["service"] for line in of_api.splitlines()} == {"api", None}


def test_the_command_goes_on(serving: Host) -> None:
    """With -w it prints what comes, and ends without a traceback at Ctrl-C."""
    command = [SYNAPSE, "events", "-w", "api", "-c", str(serving.directory / "synapse.yaml")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "synapse started" in process.stdout.readline()
        instance = serving.join("api", 3)
        line = next(line for line in process.stdout if f"{instance.address} joined" in line)
        assert "api" in line
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert process.stderr is not None
        assert process.stderr.read().strip() == ""
