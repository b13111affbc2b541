"""Maintenance: what is drained, for whom it holds, what is said of it, and what is kept of it."""

import json
from dataclasses import replace
from typing import Any

import pytest

from nerve.maintenance import (
    EVERYTHING,
    LABELS,
    WORDING,
    covering,
    covers,
    labels,
    text,
)
from smartstack.maintenance import Maintenance, Maintenances, begin, dump, end, expire, load, next_expiry

NOON = 1_772_366_400.0
"""2026-03-01T12:00:00Z."""


def drained(*scopes: str, until: float | None = None) -> Maintenances:
    drains: Maintenances = {}
    for scope in scopes:
        drains = begin(drains, scope, reason=f"for {scope}", owner="alice", now=NOON, until=until)
    return drains


def test_a_drain_begins() -> None:
    """It holds what was said of it, and since when; the drains before it are as they were."""
    before = drained("api")
    after = begin(before, "web", reason="deploy 123", owner="alice", now=NOON, until=NOON + 1800)
    assert after["web"] == Maintenance(scope="web", reason="deploy 123", owner="alice", since=NOON, until=NOON + 1800)
    assert after["api"] == before["api"]
    assert "web" not in before


def test_to_drain_what_is_drained_keeps_its_beginning() -> None:
    """A drainer may repeat itself: `since` stays; reason, owner and end are the new ones, also when that is no end."""
    first = begin({}, "web", reason="deploy 123", owner="alice", now=NOON, until=NOON + 60)
    second = begin(first, "web", reason="deploy 124", owner="bob", now=NOON + 50, until=None)
    assert second == {"web": Maintenance(scope="web", reason="deploy 124", owner="bob", since=NOON, until=None)}


@pytest.mark.parametrize(
    ("ended", "left"),
    [
        pytest.param("web", ["*", "api", "web.admin"], id="a service, not its ports nor everything"),
        pytest.param("*", ["api", "web", "web.admin"], id="everything, not single services"),
        pytest.param("web.admin", ["*", "api", "web"], id="one port"),
        pytest.param("other", ["*", "api", "web", "web.admin"], id="what is not drained"),
    ],
)
def test_the_end_of_a_drain_is_that_of_its_scope(ended: str, left: list[str]) -> None:
    """Drains do not know of each other: one ends, all others stay."""
    assert sorted(end(drained("*", "api", "web", "web.admin"), ended)) == left


@pytest.mark.parametrize(
    ("scopes", "service", "holds"),
    [
        pytest.param([], "web", None, id="nothing is drained"),
        pytest.param(["api"], "web", None, id="another service"),
        pytest.param(["web"], "web", "web", id="itself"),
        pytest.param(["*"], "web", "*", id="everything"),
        pytest.param(["web"], "web.admin", "web", id="the service whose port it is"),
        pytest.param(["web.admin"], "web", None, id="only a port of it"),
        pytest.param(["web"], "website", None, id="a name that only begins so"),
        pytest.param(["*", "web"], "web", "web", id="its own before everything"),
        pytest.param(["*", "web", "web.admin"], "web.admin", "web.admin", id="its own before all others"),
        pytest.param(["*", "web"], "web.admin", "web", id="its service's before everything"),
        pytest.param(["a.b"], "a.b.c", "a.b", id="a port of a service with a point in its name"),
        pytest.param(["a"], "a.b.c", None, id="a service whose name only begins the name of the one whose port it is"),
    ],
)
def test_which_drain_holds_for_a_service(scopes: list[str], service: str, holds: str | None) -> None:
    """The narrowest one that covers it."""
    drains, port_of = drained(*scopes), service.rpartition(".")[0] or None
    found = covering(drains, service, port_of)
    assert (None if found is None else found.scope) == holds
    assert any(covers(scope, service, port_of) for scope in scopes) == (holds is not None)


def test_a_name_is_not_what_makes_a_port() -> None:
    """`web.v2` with a definition of its own is another service than `web`, and is not drained with it."""
    assert covering(drained("web"), "web.v2") is None


def test_a_drain_ends_by_itself() -> None:
    """At its time, not before; the next time is the first of those to come, and none where nothing ends by itself."""
    drains = {**drained("web", until=NOON + 60), **drained("api", until=NOON + 90), **drained("*")}
    assert next_expiry(drains) == NOON + 60
    assert expire(drains, NOON + 59.9) is drains
    assert sorted(expire(drains, NOON + 60)) == ["*", "api"]
    assert sorted(expire(drains, NOON + 600)) == ["*"]
    assert next_expiry(expire(drains, NOON + 600)) is None


WEB = Maintenance(scope="web", reason="deploy 123", owner="alice", since=NOON, until=NOON + 1800)


@pytest.mark.parametrize(
    ("maintenance", "after", "sentence"),
    [
        pytest.param(
            WEB,
            35,
            "web is drained by alice since 2026-03-01T12:00:00Z (35 s), until 2026-03-01T12:30:00Z (29 min to go): "
            "deploy 123",
            id="with an end",
        ),
        pytest.param(
            replace(WEB, until=None, owner=""),
            7 * 3600 + 300,
            "web is drained since 2026-03-01T12:00:00Z (7 h 5 min), until it is ended: deploy 123",
            id="without an end or an owner",
        ),
        pytest.param(
            replace(WEB, scope=EVERYTHING, until=None),
            2 * 86_400 + 4 * 3600,
            "everything on this host is drained by alice since 2026-03-01T12:00:00Z (2 d 4 h), until it is ended: "
            "deploy 123",
            id="everything",
        ),
        pytest.param(
            replace(WEB, reason="two\nlines\x1b[31m", owner="\t"),
            -5,
            "web is drained since 2026-03-01T12:00:00Z (0 s), until 2026-03-01T12:30:00Z (30 min to go): "
            "two lines [31m",
            id="typed by hand, and a clock that was put back",
        ),
    ],
)
def test_a_sentence_for_people(maintenance: Maintenance, after: float, sentence: str) -> None:
    """What, by whom, since when, until when, and why, in one line."""
    assert text(maintenance, NOON + after) == sentence


def test_labels_of_a_registration() -> None:
    """A consumer sees why, by whom, since when and until when; what nobody said is left out."""
    assert labels(WEB) == {
        "maintenance": "deploy 123",
        "maintenance_owner": "alice",
        "maintenance_since": "2026-03-01T12:00:00Z",
        "maintenance_until": "2026-03-01T12:30:00Z",
    }
    assert labels(replace(WEB, owner="", until=None, reason="\n")) == {
        "maintenance": "no reason given",
        "maintenance_since": "2026-03-01T12:00:00Z",
    }
    assert tuple(labels(WEB)) == LABELS


def written(**changes: Any) -> bytes:
    """A file with one drain, of which some keys are other ones; `...` leaves a key out."""
    entry = {"reason": "deploy", "owner": "alice", "since": NOON, "until": None, **changes}
    shown = {key: value for key, value in entry.items() if value is not ...}
    return json.dumps({"format": 1, "maintenances": {"web": shown}}).encode()


def test_a_file_in_full() -> None:
    """The file's form, which outlives a version."""
    assert dump({"web": WEB, "*": replace(WEB, scope="*", until=None)}) == (
        b'{\n "format": 1,\n "maintenances": {\n'
        b'  "*": {\n   "reason": "deploy 123",\n   "owner": "alice",\n   "since": 1772366400.0,\n'
        b'   "until": null\n  },\n'
        b'  "web": {\n   "reason": "deploy 123",\n   "owner": "alice",\n   "since": 1772366400.0,\n'
        b'   "until": 1772368200.0\n  }\n }\n}\n'
    )


def test_keys_of_a_later_version_are_ignored() -> None:
    """An older nerve reads what a newer one wrote, as long as the format is the same."""
    data = json.loads(written(ticket="X-1"))
    assert load(json.dumps({**data, "written_by": "nerve 9"}).encode(), WORDING) == {
        "web": Maintenance(scope="web", reason="deploy", owner="alice", since=NOON, until=None)
    }


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"", "it is not JSON", id="empty"),
        pytest.param(b"\0" * 100, "it is not JSON", id="zeros after a crash"),
        pytest.param(b"\xff\xfe", "it is not JSON", id="not UTF-8"),
        pytest.param(b"[" * 100_000, "it is not JSON", id="too deep"),
        pytest.param(b'{"format": ' + b"1" * 10_000 + b"}", "it is not JSON", id="a number without end"),
        pytest.param(dump({"web": WEB})[:-20], "it is not JSON", id="cut off"),
        pytest.param(b"[]", "it holds no maintenances", id="a list"),
        pytest.param(b'{"format": 1}', "it holds no maintenances", id="nothing in it"),
        pytest.param(
            b'{"format": 2, "maintenances": {}}', "it is of format 2, and this nerve reads format 1", id="a later one"
        ),
        pytest.param(
            b'{"format": true, "maintenances": {}}', "it is of format True, and this nerve reads format 1", id="true"
        ),
        pytest.param(b'{"maintenances": {}}', "it is of format None, and this nerve reads format 1", id="no format"),
        pytest.param(
            b'{"format": 1, "maintenances": {"a b": {}}}', "in the drain of a b the name is no service's", id="name"
        ),
        pytest.param(b'{"format": 1, "maintenances": {"web": null}}', "in the drain of web nothing is said", id="null"),
        pytest.param(written(reason=...), "in the drain of web the reason is missing", id="no reason"),
        pytest.param(written(reason=" \n"), "in the drain of web the reason is missing", id="an empty reason"),
        pytest.param(written(reason=1), "in the drain of web the reason is missing", id="a reason that is a number"),
        pytest.param(written(owner=None), "in the drain of web the owner is no text", id="no owner"),
        pytest.param(written(since=...), "in the drain of web since is no time", id="no beginning"),
        pytest.param(written(since=True), "in the drain of web since is no time", id="a beginning that is true"),
        pytest.param(written(since="1"), "in the drain of web since is no time", id="a beginning in quotes"),
        pytest.param(written(since=float("nan")), "in the drain of web since is no time", id="no number"),
        pytest.param(written(since=-1), "in the drain of web since is no time", id="before 1970"),
        pytest.param(written(until=1e300), "in the drain of web until is no time", id="an end after all ends"),
        pytest.param(written(until=10**400), "in the drain of web until is no time", id="an end in 400 digits"),
        pytest.param(written(until=False), "in the drain of web until is no time", id="an end that is false"),
    ],
)
def test_a_file_that_is_none(data: bytes, reason: str) -> None:
    """What nerve did not write is refused as a whole, in a few words: half of it would put somebody back to work."""
    assert load(data, WORDING) == reason


def test_one_bad_entry_refuses_all() -> None:
    """The good ones beside it are not taken either, so that nobody thinks that these were all."""
    good = json.loads(dump({"api": replace(WEB, scope="api")}))
    good["maintenances"]["web"] = {}
    assert load(json.dumps(good).encode(), WORDING) == "in the drain of web the reason is missing"
