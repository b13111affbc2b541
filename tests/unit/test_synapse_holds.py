"""Holds: which instance is meant, whom one cannot do without, and what is kept of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartstack.errors import SmartStackError
from smartstack.instance import Instance
from smartstack.maintenance import Maintenance, Maintenances, begin, dump, load
from synapse.holds import WORDING, by_service, find, fitting, is_last, is_scope, scope_of, text
from synapse.placement import NOTHING_SEEN, Placed, Placement, Role, Seen

NOON = 1_772_366_400.0
"""2026-03-01T12:00:00Z."""

KNOWN = {"10.0.0.5:8080": "host-5", "10.0.0.6:8080": "host-6", "10.0.0.6:9090": "other", "[2001:db8::1]:8081": None}


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        pytest.param("10.0.0.5:8080", "10.0.0.5:8080", id="the whole address"),
        pytest.param("10.0.0.5", "10.0.0.5:8080", id="the host"),
        pytest.param("9090", "10.0.0.6:9090", id="the port"),
        pytest.param(":9090", "10.0.0.6:9090", id="the port, with its colon"),
        pytest.param("host-6", "10.0.0.6:8080", id="the name"),
        pytest.param("[2001:db8::1]:8081", "[2001:db8::1]:8081", id="IPv6"),
        pytest.param("[2001:DB8:0::1]:8081", "[2001:db8::1]:8081", id="IPv6 in another form"),
        pytest.param("2001:db8::1", "[2001:db8::1]:8081", id="IPv6 without a port"),
    ],
)
def test_an_address_is_taken_in_every_form_that_is_enough(typed: str, meant: str) -> None:
    """What somebody types at three in the morning is enough when it can only be one."""
    assert find("web", typed, KNOWN) == meant


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        pytest.param("10.0.0.6", "10.0.0.6 is more than one instance of web: give one of 10.0.0.6:8080, 10.0.0.6:9090"),
        pytest.param("8080", "8080 is more than one instance of web: give one of 10.0.0.5:8080, 10.0.0.6:8080"),
        pytest.param("10.0.0.5:9090", "10.0.0.5:9090 is no instance of web: there are 10.0.0.5:8080, 10.0.0.6:8080, "),
        pytest.param("host", "host is no instance of web: there are"),
        pytest.param("10.0.0", "10.0.0 is no instance of web"),
        pytest.param("a\n", r"a\n is no instance of web"),
    ],
)
def test_what_is_not_enough_is_asked_back(typed: str, says: str) -> None:
    """Several, or none: the sentence lists what there is."""
    with pytest.raises(SmartStackError) as refused:
        find("web", typed, KNOWN)
    assert str(refused.value).startswith(says)


def test_of_nobody_there_is_nobody() -> None:
    """A service without instances says so; many are not all listed."""
    with pytest.raises(SmartStackError, match=r"^x is no instance of web, which has none$"):
        find("web", "x", {})
    with pytest.raises(SmartStackError, match=r"there are 10\.0\.0\.0:1, .* and 7 more$"):
        find("web", "x", {f"10.0.0.{number}:1": None for number in range(12)})


@given(st.text(max_size=30))
def test_anything_typed_is_an_instance_or_a_sentence(typed: str) -> None:
    """Never a crash, and never two."""
    fits = fitting(typed, KNOWN)
    if len(fits) == 1:
        assert find("web", typed, KNOWN) == fits[0]
        return
    with pytest.raises(SmartStackError) as refused:
        find("web", typed, KNOWN)
    assert str(refused.value).isprintable()


def placement(**roles: tuple[Role, int | None]) -> Placement:
    """Instances a, b, c at 10.0.0.1, 10.0.0.2, 10.0.0.3, with these roles and weights."""
    hosts = {"a": "10.0.0.1", "b": "10.0.0.2", "c": "10.0.0.3"}
    return Placement(
        members=tuple(
            Placed(instance=Instance(host=hosts[name], port=80, weight=weight), role=role)
            for name, (role, weight) in roles.items()
        )
    )


A, B = "10.0.0.1:80", "10.0.0.2:80"
SERVES = (Role.PRIMARY, None)


@pytest.mark.parametrize(
    ("placed", "seen", "last"),
    [
        pytest.param(placement(a=SERVES), NOTHING_SEEN, True, id="alone"),
        pytest.param(placement(a=SERVES, b=SERVES), NOTHING_SEEN, False, id="another, of whom nothing is seen"),
        pytest.param(placement(a=SERVES, b=SERVES), Seen(up=frozenset({A, B})), False, id="another that is up"),
        pytest.param(placement(a=SERVES, b=SERVES), Seen(up=frozenset({A}), down=frozenset({B})), True, id="down"),
        pytest.param(placement(a=SERVES, b=(Role.BACKUP, None)), NOTHING_SEEN, False, id="a backup"),
        pytest.param(placement(a=SERVES, b=(Role.HELD, None)), NOTHING_SEEN, True, id="the other is held already"),
        pytest.param(placement(a=SERVES, b=(Role.OUT, None)), NOTHING_SEEN, True, id="the other is not for this host"),
        pytest.param(placement(a=SERVES, b=(Role.PRIMARY, 0)), NOTHING_SEEN, True, id="the other is draining"),
        pytest.param(placement(a=(Role.PRIMARY, 0)), NOTHING_SEEN, False, id="it gets nothing new already"),
        pytest.param(placement(a=(Role.HELD, None)), NOTHING_SEEN, False, id="it is held already"),
        pytest.param(placement(b=SERVES), NOTHING_SEEN, False, id="it is no instance now"),
    ],
)
def test_the_last_that_serves(placed: Placement, seen: Seen, last: bool) -> None:
    """Without it every request would fail: the others are none, or cannot serve as far as HAProxy sees."""
    assert is_last(placed, A, seen) is last


def held(*scopes: str, until: float | None = None) -> Maintenances:
    holds: Maintenances = {}
    for scope in scopes:
        holds = begin(holds, scope, reason="new disk", owner="alice", now=NOON, until=until)
    return holds


def test_holds_are_found_by_service_and_address() -> None:
    """However many services and however IPv6 writes its addresses."""
    found = by_service(held("web 10.0.0.5:80", "web [::1]:80", "api 10.0.0.5:80"))
    assert {service: sorted(each) for service, each in found.items()} == {
        "api": ["10.0.0.5:80"],
        "web": ["10.0.0.5:80", "[::1]:80"],
    }
    assert found["web"]["[::1]:80"].scope == scope_of("web", "[::1]:80")


@pytest.mark.parametrize(
    ("scope", "good"),
    [
        ("web 10.0.0.5:80", True),
        ("web.admin [2001:db8::1]:80", True),
        ("web", False),
        ("web 10.0.0.5", False),
        ("web 10.0.0.05:80", False),
        ("web host:80", False),
        ("w b 10.0.0.5:80", False),
        ("*", False),
    ],
)
def test_what_a_hold_may_be_of(scope: str, good: bool) -> None:
    """A service and an address in its canonical form; anything else in the file is not synapse's."""
    assert is_scope(scope) is good


def test_the_file_comes_back_and_a_strange_one_does_not() -> None:
    """It is kept in nerve's form; a drain of nerve's in it is refused, as is a later format."""
    holds = held("web 10.0.0.5:80", until=NOON + 60)
    assert load(dump(holds), WORDING) == holds
    assert load(dump(held("web")), WORDING) == "in the hold of web the name is no service's"
    assert load(b'{"format": 2, "maintenances": {}}', WORDING) == ("it is of format 2, and this synapse reads format 1")


def test_a_sentence_for_people() -> None:
    """What, where, by whom, since when, until when and why."""
    hold = Maintenance(scope="web 10.0.0.5:80", reason="new disk", owner="al", since=NOON, until=NOON + 600)
    assert text(hold, NOON + 60) == (
        "web 10.0.0.5:80 is held on this host by al since 2026-03-01T12:00:00Z (1 min), until 2026-03-01T12:10:00Z "
        "(9 min to go): new disk"
    )
