"""Maintenance, for anything that somebody types and any order of drains."""

from dataclasses import replace

from hypothesis import example, given
from hypothesis import strategies as st

from nerve.maintenance import (
    EVERYTHING,
    WORDING,
    covering,
    covers,
    labels,
    text,
)
from nerve.maintenance_orders import DrainOrder, parse_drain, parse_undrain
from smartstack.instance import Instance, decode, encode
from smartstack.maintenance import (
    OWNER_LIMIT,
    REASON_LIMIT,
    Maintenance,
    Maintenances,
    begin,
    dump,
    end,
    expire,
    load,
    next_expiry,
    one_line,
)

SCOPES = st.sampled_from(("*", "api", "web", "web.admin", "web.admin.x"))
TIMES = st.floats(min_value=0, max_value=253_402_000_000, allow_nan=False)
TYPED = st.text(alphabet=st.characters(), max_size=400)
REASONS = TYPED.filter(lambda typed: bool(one_line(typed, REASON_LIMIT)))
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=8,
)

EXAMPLE = Maintenance(scope="*", reason="x", owner="", since=0.0, until=None)
LONG = replace(EXAMPLE, reason="x" * 5000, owner="y" * 5000)


@st.composite
def a_maintenance(draw: st.DrawFn) -> Maintenance:
    return Maintenance(
        scope=draw(SCOPES),
        reason=draw(REASONS),
        owner=draw(TYPED),
        since=draw(TIMES),
        until=draw(st.none() | TIMES),
    )


DRAINS = st.lists(a_maintenance(), max_size=5).map(lambda some: {one.scope: one for one in some})


@given(a_maintenance())
@example(LONG)
def test_every_reader_takes_the_labels(maintenance: Maintenance) -> None:
    """Whatever was typed: a registration with these labels passes the door, unchanged."""
    said = labels(maintenance)
    instance = Instance(host="10.0.0.5", port=8080, weight=0, labels=tuple(sorted(said.items())))
    assert decode(encode(instance)) == instance


@given(a_maintenance(), TIMES)
@example(LONG, 1.0)
def test_a_sentence_is_one_line(maintenance: Maintenance, now: float) -> None:
    """A log line and a cell of a table: printable, and not without end."""
    sentence = text(maintenance, now)
    assert sentence.isprintable()
    assert len(sentence) <= REASON_LIMIT + OWNER_LIMIT + 200


@given(DRAINS)
def test_what_is_kept_comes_back(drains: Maintenances) -> None:
    """Every drain, with every word as it was typed; the same bytes for the same drains in another order."""
    assert load(dump(drains), WORDING) == drains
    assert dump(dict(reversed(list(drains.items())))) == dump(drains)


@given(DRAINS, st.data())
def test_a_damaged_file_is_no_crash(drains: Maintenances, data: st.DataObject) -> None:
    """Cut anywhere and with any byte changed, it is drains or a reason, never an exception."""
    whole = dump(drains)
    place = data.draw(st.integers(0, len(whole) - 1))
    damaged = whole[:place] + data.draw(st.binary(max_size=2)) + whole[place + data.draw(st.integers(0, 3)) :]
    assert isinstance(load(damaged, WORDING), dict | str)
    assert isinstance(load(whole[:place], WORDING), dict | str)


@given(DRAINS, SCOPES, TIMES)
def test_an_end_takes_one_and_a_beginning_adds_one(drains: Maintenances, scope: str, now: float) -> None:
    """Nothing else changes."""
    begun = begin(drains, scope, reason="x", owner="", now=now, until=None)
    ended = end(begun, scope)
    assert end(drains, scope) == ended
    assert {name: one for name, one in begun.items() if name != scope} == ended
    assert begun[scope].since == (drains[scope].since if scope in drains else now)


@given(DRAINS, TIMES)
def test_expiry_is_known_before(drains: Maintenances, now: float) -> None:
    """Nothing ends before the time that was foretold; at that time something does; what is left has its time yet."""
    first = next_expiry(drains)
    if first is None:
        assert expire(drains, now) is drains
    else:
        assert len(expire(drains, first)) < len(drains)
        assert (expire(drains, now) is drains) == (now < first)
    assert all(one.until is None or one.until > now for one in expire(drains, now).values())


@given(DRAINS, st.sampled_from(("api", "web", "web.admin", "other")))
def test_no_drain_that_covers_a_service_is_overlooked(drains: Maintenances, service: str) -> None:
    """A service is drained exactly when some drain covers it; everything covers all."""
    assert (covering(drains, service) is not None) == any(covers(scope, service) for scope in drains)
    assert covering({**drains, EVERYTHING: replace(next(iter(drains.values()), EXAMPLE), scope="*")}, service)


@given(
    st.dictionaries(st.sampled_from(("services", "all", "reason", "owner", "for_seconds", "for_second")), JUNK),
    st.lists(st.sampled_from(("api", "web")), max_size=2),
)
def test_any_body_is_an_order_or_a_sentence(body: dict[str, object], services: list[str]) -> None:
    """Nothing that can be sent is a crash; an order is complete, and a sentence is one printable line."""
    for parsed in (parse_drain(body, services, 0.0), parse_undrain(body, services, {})):
        if isinstance(parsed, str):
            assert parsed.isprintable()
            assert parsed.startswith("cannot ")
        else:
            assert parsed.scopes
            assert not isinstance(parsed, DrainOrder) or parsed.reason
