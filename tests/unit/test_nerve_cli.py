"""`nerve status` for people: the lines that are made of an answer of /status."""

from typing import Any

import pytest

from nerve.cli.operate import is_in_use, is_out_of_use, untold
from nerve.cli.show import explain_lines, status_lines
from smartstack.errors import SmartStackError

CONNECTED = {"connected": True, "detail": "connected to ZooKeeper at 10.0.0.9:2181", "session": "0x1a2b"}


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        pytest.param(
            {"registry": CONNECTED},
            "registry  connected: connected to ZooKeeper at 10.0.0.9:2181 (session 0x1a2b)",
            id="connected",
        ),
        pytest.param(
            {"registry": CONNECTED, "registry_error": "no answer for 3 s"},
            "registry  AWAY: no answer for 3 s (session 0x1a2b)",
            id="away, while the session may last",
        ),
        pytest.param(
            {"registry": {**CONNECTED, "connected": False, "detail": "wrong name"}, "registry_error": "no connection"},
            "registry  AWAY: wrong name (session 0x1a2b)",
            id="away, and why",
        ),
        pytest.param(
            {"registry": {"connected": True, "detail": "the directory /r", "session": None}},
            "registry  connected: the directory /r",
            id="a registry without sessions",
        ),
    ],
)
def test_the_registry_is_told_with_its_session(answer: dict[str, Any], line: str) -> None:
    """Whether a session expired is seen by its name."""
    assert status_lines(answer, 0.0)[0] == line


def service(**more: Any) -> dict[str, Any]:
    """A service's part of /status: well and registered, but for what is said."""
    place = {"registry": "", "path": "services/web", "node": "10.0.0.5_0000008080", "present": True, "registered": True}
    result = {"passed": True, "reason": "HTTP 200", "duration_seconds": 0.0021, "at": 97.0}
    check = {"state": "up", "since": 40.0, "passes": 30, "failures": 1, "last": result, "recent": [result]}
    return {
        "state": "up",
        "since": 40.0,
        "reason": "30 checks passed, last: HTTP 200",
        "follows": None,
        "address": "10.0.0.5:8080",
        "payload": "{}",
        "registered": True,
        "contested": False,
        "error": None,
        "held_back": None,
        "maintenance": None,
        "tether": "held",
        "places": [{**place, "contested": False, "error": None, "session": "0x1a2b"}],
        "checks": {"http": check},
        **more,
    }


def answer(**more: Any) -> dict[str, Any]:
    """/status of a host with one service."""
    return {"registry": CONNECTED, "services": {"web": service(**more)}}


DRAINED = {"scope": "*", "reason": "reboot", "owner": "alice", "since": 70.0, "until": 700.0}


@pytest.mark.parametrize(
    ("given", "first", "further"),
    [
        pytest.param({}, "web at 10.0.0.5:8080: registered", "HTTP 200", id="registered"),
        pytest.param(
            {"maintenance": DRAINED},
            "registered with weight 0, because it is in maintenance",
            "by alice: reboot; end it with: nerve undrain --all",
            id="in maintenance",
        ),
        pytest.param(
            {"state": "down", "registered": False},
            "not registered, because its checks say that it is not well",
            "health       down for 1m",
            id="not well",
        ),
        pytest.param(
            {"registered": False, "held_back": "flapping"},
            "well, and not registered yet: flapping",
            "held back    flapping",
            id="held back",
        ),
        pytest.param({"registered": None}, "nobody knows, the registry does not answer", "payload", id="no registry"),
        pytest.param({"contested": True}, "another nerve has its place", "payload", id="contested"),
        pytest.param({"follows": "api"}, "registered", "health       is that of api", id="another port"),
        pytest.param(
            {"registered": False, "error": "no permission"}, "well, and not registered: see", "payload", id="refused"
        ),
    ],
)
def test_explain_says_the_conclusion_first(given: dict[str, Any], first: str, further: str) -> None:
    """At three in the morning the first line has to be the answer; what it rests on follows."""
    lines = explain_lines(answer(**given), "web", 100.0)
    assert first in lines[0]
    assert any(further in line for line in lines[1:]), lines


def test_explain_knows_what_cannot_be_announced() -> None:
    """A service that is only in the problems is explained by them; one that is nowhere is an error."""
    bad = {**answer(), "problems": {"api": ["services/api.yaml:1:1: port: is missing"]}}
    assert explain_lines(bad, "api", 0.0)[1] == "  services/api.yaml:1:1: port: is missing"
    with pytest.raises(SmartStackError, match="which announces: web"):
        explain_lines(answer(), "db", 0.0)


def test_status_shows_maintenance_in_place_of_the_checks() -> None:
    """Who looks at the table sees at once who drained it and why."""
    [row] = [line for line in status_lines(answer(maintenance=DRAINED), 100.0) if line.startswith("web")]
    assert "draining" in row
    assert "in maintenance since 30s, for 10m more, by alice: reboot" in row


GONE = {"registry": "", "present": False}


@pytest.mark.parametrize(
    ("given", "used", "unused"),
    [
        pytest.param({}, True, False, id="well and registered"),
        pytest.param({"maintenance": DRAINED}, False, True, id="drained, and the registry says so"),
        pytest.param({"maintenance": DRAINED, "registered": False}, False, False, id="drained, not said yet"),
        pytest.param({"state": "down", "registered": False, "places": [GONE]}, False, True, id="down and gone"),
        pytest.param({"state": "down", "registered": False}, False, False, id="down and still there"),
        pytest.param({"registered": None, "places": [{"present": None}]}, False, False, id="nobody knows"),
        pytest.param({"state": "unknown"}, False, False, id="no verdict yet, and there"),
    ],
)
def test_who_waits_waits_for_what_consumers_see(given: dict[str, Any], used: bool, unused: bool) -> None:
    """--up: consumers send to it. --down: no registry offers it. In between, neither."""
    assert (is_in_use(service(**given)), is_out_of_use(service(**given))) == (used, unused)


@pytest.mark.parametrize(
    ("place", "told"),
    [
        pytest.param({"registered": True, "error": None}, True, id="there, as wanted"),
        pytest.param({"registered": False, "error": None}, True, id="down, and so nowhere"),
        pytest.param({"registered": None, "error": None}, False, id="the registry does not answer"),
        pytest.param({"registered": False, "error": "cannot put it"}, False, id="the registry refused it"),
    ],
)
def test_who_drains_is_told_when_the_registry_could_not_be(place: dict[str, Any], told: bool) -> None:
    """A drain is kept on disk first: that consumers know of it is another thing, in one place of several too."""
    fine = {"registered": True, "error": None}
    sentence = "not told to the registry yet: web; it is kept, and told as soon as it can be (nerve status)"
    assert untold({"api": {"places": [fine]}, "web": {"places": [fine, place]}}) == (None if told else sentence)
