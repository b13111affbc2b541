"""What operators say of shares and faults: what is one, what survives on disk, who may order it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from smartstack.definition import ServiceDefinition, expand
from smartstack.errors import SmartStackError
from smartstack.locality import Condition
from smartstack.logs import EventLog
from smartstack.registry.protocol import Listing
from smartstack.shifting import Split, Subset
from smartstack.traffic import Health
from synapse.offers import Offer
from synapse.orders import ClearFault, ClearSplit, FaultOrder, SplitOrder
from synapse.selection import Choice, Memory, Origin
from synapse.shift_desk import SHIFTS_FILE, ShiftDesk, ShiftStore
from synapse.shifts import NOTHING_SAID, Fault, Shifts, dump, load, read_fault
from synapse.switches import Live
from synapse.using import offered
from tests.support.definitions import definition, placed, proxy

WALL = 1_700_000_000.0
FIELDS: dict[str, Any] = {
    "percent": 1000,
    "status": 503,
    "delay_ms": 200,
    "source": "api",
    "path": "/x",
    "owner": "al",
    "since": WALL,
    "until": WALL + 600,
}


def fault(**fields: Any) -> Fault:
    """A fault of `web`, with these fields different."""
    made = read_fault("web", {**FIELDS, **fields})
    assert isinstance(made, Fault), made
    return made


def test_a_fault_says_what_it_does() -> None:
    """In the words that everybody reads, and in the entry that HAProxy reads."""
    assert fault().words == "10 % of /x from api: 503 after 200 ms"
    assert fault().entry == "1700000600|1000|503|200|api"
    assert fault(status=None, source=None, path="/").words == "10 %: 200 ms late"
    assert fault(status=None, source=None).entry == "1700000600|1000|0|200|*"
    assert fault(delay_ms=0, percent=1).words == "0.01 % of /x from api: 503"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"percent": 0}, "must be of more than 0"),
        ({"percent": 10_001}, "must be of more than 0"),
        ({"percent": True}, "must be of more than 0"),
        ({"status": 418}, "must answer one of 429, 500"),
        ({"delay_ms": 60_001}, "must delay by at most 60 s"),
        ({"status": None, "delay_ms": 0}, "does nothing"),
        ({"source": "a|b"}, "must be from somebody"),
        ({"source": ""}, "must be from somebody"),
        ({"path": "x"}, "must be of a path"),
        ({"path": "/x y"}, "must be of a path"),
        ({"path": "/x;y"}, "must be of a path"),
        ({"until": WALL}, "must last at most 24 hours"),
        ({"until": WALL + 86_401}, "must last at most 24 hours"),
        ({"until": None}, "must last at most 24 hours"),
        ({"owner": 1}, "has no owner"),
    ],
)
def test_what_is_no_fault_says_why(fields: dict[str, Any], why: str) -> None:
    """One without an end, one that does nothing, one that HAProxy would read as something else: there is none."""
    said = read_fault("web", {**FIELDS, **fields})
    assert isinstance(said, str)
    assert said.startswith(why)


def test_what_was_said_is_read_back() -> None:
    """All of it, in the same bytes."""
    said = Shifts(splits={"web": {"web.canary": 500}}, faults={"web": fault()})
    assert load(dump(said)) == said
    assert load(dump(NOTHING_SAID)) == NOTHING_SAID


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b'{"format": 2, "splits": {}, "faults": {}}',
        b'{"format": 1}',
        b'{"format": 1, "splits": {"web": {"x y": 5}}, "faults": {}}',
        b'{"format": 1, "splits": {"web": {"x": 10001}}, "faults": {}}',
        b'{"format": 1, "splits": {"web": {"x": true}}, "faults": {}}',
        b'{"format": 1, "splits": {"a b": {}}, "faults": {}}',
        b'{"format": 1, "splits": {}, "faults": {"web": {"percent": 5}}}',
        b'{"format": 1, "splits": {}, "faults": {"web": null}}',
        b"[" * 100_000,
    ],
)
def test_what_is_not_ours_is_refused_as_a_whole(data: bytes) -> None:
    """In words, never by an exception, and never in part."""
    assert isinstance(load(data), str)


def offer(**fields: Any) -> Offer:
    choice = Choice(instances=(), origin=Origin.LISTING, reason="", memory=Memory(good=()))
    return Offer(definition=definition(**fields), known=Listing(), choice=choice, placement=placed(()))


OFFERS: Mapping[str, Offer] = {
    "web": offer(split=(Split(to="web.canary", percent=0.05), Split(to="next", percent=0.9))),
    "bytes": offer(mode="tcp"),
}
ALLOWED = Live(path="haproxy.map", faults=True, delay="pause")


def desk(directory: Path, live: Live = ALLOWED, now: float = WALL) -> ShiftDesk:
    """The desk of a synapse with this state directory."""
    return ShiftDesk(ShiftStore(str(directory), writes=True), live, EventLog("synapse"), lambda: now)


def test_shares_are_kept_until_they_are_cleared(tmp_path: Path) -> None:
    """By the name or a subset's own; the next start knows them."""
    first = desk(tmp_path)
    assert first.do(SplitOrder(service="web", shares={"canary": 700}), OFFERS) == SplitOrder(
        service="web", shares={"web.canary": 700}
    )
    first.do(SplitOrder(service="web", shares={"next": 0}), OFFERS)
    assert desk(tmp_path).said.splits == {"web": {"web.canary": 700, "next": 0}}
    first.do(ClearSplit(service="web"), OFFERS)
    assert desk(tmp_path).said == NOTHING_SAID


@pytest.mark.parametrize(
    ("service", "shares", "says"),
    [
        ("web", {"cannary": 5}, r"web has no split to 'cannary'; did you mean 'canary'\?: there is next, web.canary"),
        ("web", {"canary": 1100}, "web would give away 101 %, and has 100 %"),
        ("bytes", {"x": 1}, "bytes has no split in its definition"),
    ],
)
def test_shares_that_there_cannot_be_change_nothing(
    tmp_path: Path, service: str, shares: dict[str, int], says: str
) -> None:
    """A target that the definition has not, and more than everything."""
    there = desk(tmp_path)
    with pytest.raises(SmartStackError, match=says):
        there.do(SplitOrder(service=service, shares=shares), OFFERS)
    assert there.said == NOTHING_SAID
    assert not (tmp_path / SHIFTS_FILE).exists()


def test_a_fault_is_over_at_its_time(tmp_path: Path) -> None:
    """Also one that was over while synapse did not run."""
    first = desk(tmp_path)
    first.do(FaultOrder(fault=fault()), OFFERS)
    assert first.due_in() == 600
    late = desk(tmp_path, now=WALL + 600)
    late.expire()
    assert late.said == NOTHING_SAID
    assert desk(tmp_path).said == NOTHING_SAID
    assert late.due_in() is None


def test_who_may_have_a_fault(tmp_path: Path) -> None:
    """The host allows it, the service has requests of clients here, and HAProxy can do it."""
    order = FaultOrder(fault=fault())
    with pytest.raises(SmartStackError, match="this host allows no faults"):
        desk(tmp_path, Live(path="x")).do(order, OFFERS)
    with pytest.raises(SmartStackError, match="this HAProxy cannot delay requests"):
        desk(tmp_path, Live(path="x", faults=True)).do(order, OFFERS)
    made = read_fault("bytes", FIELDS)
    assert isinstance(made, Fault)
    with pytest.raises(SmartStackError, match="bytes has no local clients whose requests could fail"):
        desk(tmp_path).do(FaultOrder(fault=made), OFFERS)


def test_a_full_disk_keeps_no_fault_alive(tmp_path: Path) -> None:
    """To begin one that could not be kept is refused; to end one never is."""
    there = desk(tmp_path)
    there.do(FaultOrder(fault=fault()), OFFERS)
    (tmp_path / SHIFTS_FILE).unlink()
    tmp_path.joinpath(SHIFTS_FILE).mkdir()  # as unwritable as a full disk, for root too
    with pytest.raises(SmartStackError):
        there.do(SplitOrder(service="web", shares={"canary": 1}), OFFERS)
    there.do(ClearFault(service="web"), OFFERS)
    assert there.said == NOTHING_SAID


def test_a_spoilt_file_is_put_aside(tmp_path: Path) -> None:
    """It is said, and the definitions hold."""
    (tmp_path / SHIFTS_FILE).write_text("{")
    there = desk(tmp_path)
    assert there.said == NOTHING_SAID
    assert there.problem is not None
    assert "which shares and faults were ordered before this start" in there.problem
    assert (tmp_path / f"{SHIFTS_FILE}.corrupt").read_text() == "{"


# Subsets

CANARY = Condition(label="version", values=("canary",))


def with_subset(**fields: Any) -> ServiceDefinition:
    """A definition with a subset, of which the proxy has clients of its own."""
    made = definition(health=Health(path="/up"), split=(Split(to="web.canary", percent=0.1),))
    subset = Subset(where=(CANARY,), **fields)
    return ServiceDefinition(port=8080, proxy=made.proxy, where=(Condition(label="env"),), subsets={"canary": subset})


def test_a_subset_is_its_service_without_clients() -> None:
    """Its instances are those of the service with the labels; it has no address, no routes and no splits, and its check
    asks for the service."""
    services = expand("web", with_subset())
    assert list(services) == ["web", "web.canary"]
    subset = services["web.canary"]
    assert subset.registry_path == "services/web"
    assert subset.where == (Condition(label="env"), CANARY)
    assert subset.proxy is not None
    assert (subset.proxy.addresses, subset.proxy.routes, subset.proxy.split) == ((), (), ())
    assert subset.proxy.health.host == "web"
    assert services["web"].where == (Condition(label="env"),)


def test_an_exclusive_subset_takes_its_instances_along() -> None:
    """The service has all that are not of it."""
    services = expand("web", with_subset(exclusive=True))
    others = Condition(label="version", values=("canary",), negate=True)
    assert services["web"].where == (Condition(label="env"), others)


def test_a_subset_in_mode_tcp_is_only_found() -> None:
    """Nothing could lead to it."""
    made = ServiceDefinition(port=1, proxy=proxy(mode="tcp"), subsets={"canary": Subset(where=(CANARY,))})
    assert expand("web", made)["web.canary"].proxy is None


def test_who_uses_a_service_uses_its_subsets() -> None:
    """A host need not name them; one that is named alone is used alone."""
    services = expand("web", with_subset())
    assert list(offered(services, ("web",))) == ["web", "web.canary"]
    assert list(offered(services, ("web.canary",))) == ["web.canary"]
