"""Requests that fail or are late on purpose: while an operator says so and the host allows it, and not a second longer,
whatever becomes of synapse; on the real HAProxy, without a reload."""

import json
import time
from collections import Counter

from tests.integration.test_shifting import synapse, unchanged
from tests.support.eventually import eventually
from tests.support.pair import Host
from tests.support.stage import PORT, Client

LATE_SECONDS = 0.3


def staged(host: Host) -> tuple[int, int]:
    """`web` with two instances on a host that allows faults; HAProxy's processes."""
    host.settings["faults"] = "allowed"
    host.serve("web", PORT, instances=2)
    host.start()
    return host.haproxy()


def statuses(host: Host, count: int = 40, target: str = "/", **headers: str) -> Counter[int]:
    """The statuses of so many requests."""
    client = Client(host)
    found = Counter(client.ask("GET", target, **headers).status for _ in range(count))
    client.close()
    return found


def seconds(host: Host) -> float:
    """How long one request takes, at its quickest of three."""
    client = Client(host)
    client.ask()
    taken = []
    for _ in range(3):
        began = time.monotonic()
        client.ask()
        taken.append(time.monotonic() - began)
    client.close()
    return min(taken)


def test_requests_fail_while_they_are_told_to(host: Host) -> None:
    """About the share, with the status and a sentence that says why; it is listed wherever one looks, and ends when it
    is cleared. Nothing of it takes a reload."""
    before = staged(host)
    assert statuses(host) == {200: 40}
    said = synapse(host, "fault", "web", "--abort", "503", "--percent", "50", "--for", "10m", "--owner", "al")
    assert said.startswith("web fails on purpose until 20")
    assert said.endswith(": 50 %: 503\n")
    found = statuses(host, 300)
    assert 90 <= found[503] <= 210
    assert found[200] == 300 - found[503]
    client = Client(host)
    failed = eventually(lambda: next(a for a in (client.ask() for _ in range(20)) if a.status == 503))
    client.close()
    assert failed.text == "web has a fault on purpose on this host (synapse fault)"
    assert failed.headers["x-smartstack-fault"] == "web"
    [listed] = synapse(host, "fault").splitlines()[1:]
    assert listed.split()[0::2][:2] == ["web", "al"]
    assert host.synapse.status()["faults"][0]["status"] == 503
    assert [event["kind"] for event in host.synapse.get("/events").json()["events"] if event["service"] == "web"][
        -1
    ] == "fault"
    assert synapse(host, "fault", "web", "--clear") == "no requests for web fail on purpose\n"
    assert statuses(host) == {200: 40}
    assert synapse(host, "fault") == "nothing fails on purpose\n"
    unchanged(host, before)


def test_a_fault_is_of_a_path_or_of_a_caller(host: Host) -> None:
    """Others are not touched: another path, another caller, one that nobody knows."""
    before = staged(host)
    synapse(host, "fault", "web", "--abort", "500", "--for", "10m", "--path", "/x")
    assert statuses(host, 20, "/x/y?z") == {500: 20}
    assert statuses(host, 20, "/y/x") == {200: 20}
    synapse(host, "fault", "web", "--abort", "504", "--for", "10m", "--from", "api")
    assert statuses(host, 20, x_smartstack_source="api") == {504: 20}
    assert statuses(host, 20, x_smartstack_source="apis") == {200: 20}
    assert statuses(host, 20, "/x") == {200: 20}
    unchanged(host, before)


def test_requests_are_late(host: Host) -> None:
    """By the time that was said, and answered as ever; with an abort as well, both."""
    before = staged(host)
    assert seconds(host) < LATE_SECONDS
    synapse(host, "fault", "web", "--delay", "300ms", "--for", "10m")
    assert seconds(host) >= LATE_SECONDS
    assert statuses(host, 2) == {200: 2}
    synapse(host, "fault", "web", "--delay", "300ms", "--abort", "502", "--for", "10m")
    assert seconds(host) >= LATE_SECONDS
    assert statuses(host, 2) == {502: 2}
    unchanged(host, before)


def test_a_fault_ends_at_its_time_also_when_synapse_is_dead(host: Host) -> None:
    """HAProxy itself ends it. A synapse that comes back knows of the one that stands, and forgets it at its end."""
    staged(host)
    synapse(host, "fault", "web", "--abort", "503", "--for", "6s")
    assert statuses(host, 5) == {503: 5}
    host.synapse.kill()
    client = Client(host)
    eventually(lambda: client.ask().status == 200 or None, within=15)
    client.close()
    assert statuses(host) == {200: 40}
    assert "fault/web/ " in (host.state / "haproxy.map").read_text()
    host.synapse.start()
    eventually(lambda: "fault" not in (host.state / "haproxy.map").read_text().partition("\n")[2] or None)
    assert json.loads((host.state / "shifts.json").read_text())["faults"] == {}


def test_a_fault_survives_a_restart_until_its_end(host: Host) -> None:
    """It was ordered for a time, and holds for that time."""
    staged(host)
    synapse(host, "fault", "web", "--abort", "503", "--for", "10m")
    host.synapse.stop()
    host.synapse.start()
    assert statuses(host, 5) == {503: 5}
    synapse(host, "fault", "web", "--clear")
    assert statuses(host, 5) == {200: 5}


def test_what_is_no_fault_is_refused(host: Host) -> None:
    """Without an end, of nothing, for too long, of a service that there is not."""
    before = staged(host)
    assert "give --for" in synapse(host, "fault", "web", "--abort", "503", code=2)
    assert "give --abort, --delay or both" in synapse(host, "fault", "web", "--for", "1m", code=2)
    assert "it must last at most 24 hours" in synapse(host, "fault", "web", "--abort", "503", "--for", "25h", code=1)
    assert "it must be of a path" in synapse(
        host, "fault", "web", "--abort", "503", "--for", "1m", "--path", "/x;show info", code=1
    )
    assert "it must be from somebody" in synapse(
        host, "fault", "web", "--abort", "503", "--for", "1m", "--from", "a|b", code=1
    )
    assert "'wbe' is no service" in synapse(host, "fault", "wbe", "--abort", "503", "--for", "1m", code=1)
    assert statuses(host, 20) == {200: 20}
    unchanged(host, before)
