"""Several sources, for anything that they may say."""

from hypothesis import given
from hypothesis import strategies as st

from smartstack.instance import Instance
from smartstack.registry.protocol import Listing, Record, Unknown
from synapse.sources.combine import Said, fallback, leader, unclaimed, union

records = st.builds(
    Record,
    node=st.sampled_from("abcdefgh"),
    instance=st.builds(
        Instance,
        host=st.sampled_from([f"10.0.0.{number}" for number in range(1, 7)]),
        port=st.sampled_from([80, 81]),
        weight=st.sampled_from([None, 0, 5]),
    ),
    version=st.integers(0, 3),
)
listings = st.builds(Listing, records=st.lists(records, max_size=5).map(tuple))
unknowns = st.builds(Unknown, reason=st.sampled_from(["away", "silent"]), since=st.floats(0, 9))
said = st.one_of(
    listings.map(lambda known: Said(now=known, last=known)),
    st.builds(Said, now=unknowns, last=st.none() | listings),
)
sources = st.lists(said, min_size=1, max_size=4)


def addresses(known: Listing | Unknown | None) -> set[str]:
    return {record.instance.address for record in known.records} if isinstance(known, Listing) else set()


@given(sources, listings, st.booleans())
def test_a_union_drops_nobody_of_whom_it_is_not_known_that_he_is_gone(
    each: list[Said], kept: Listing, waiting: bool
) -> None:
    """A listing holds what every source says or said last, and what was good while a source was never heard."""
    known = union(each, kept, waiting=waiting)
    if isinstance(known, Listing):
        never = any(one.last is None for one in each)
        expected = set().union(*(addresses(one.last) for one in each), addresses(kept) if never else set())
        assert addresses(known) == expected
        assert bool(known.partial) == any(isinstance(one.now, Unknown) for one in each)
        assert not (never and waiting)


@given(sources, listings, st.booleans())
def test_one_source_has_the_word_on_an_address(each: list[Said], kept: Listing, waiting: bool) -> None:
    """Whatever is listed of an address comes from the earliest source that has it, with all that it has of it."""
    known = union(each, kept, waiting=waiting)
    if isinstance(known, Listing):
        for address in addresses(known):
            first = next((one.last for one in each if one.last and address in addresses(one.last)), kept)
            theirs = [record for record in first.records if record.instance.address == address]
            ours = [record for record in known.records if record.instance.address == address]
            assert sorted(map(repr, ours)) == sorted(map(repr, theirs))


@given(sources, listings, st.booleans())
def test_a_fallback_never_passes_over_what_is_good(each: list[Said], kept: Listing, waiting: bool) -> None:
    """A listing is that of one source that is known now; before it there are only sources that have, or had, none."""
    known = fallback(each, kept, waiting=waiting)
    if isinstance(known, Listing) and known.records:
        chosen = next(
            index for index, one in enumerate(each) if isinstance(one.now, Listing) and one.now.records == known.records
        )
        assert all(not addresses(one.last) for one in each[:chosen])
        assert not any(one.last is None and (waiting or kept.records) for one in each[:chosen])
    if isinstance(known, Listing) and not known.records:
        assert all(isinstance(one.now, Listing) for one in each)


@given(listings, listings)
def test_kept_and_claimed_are_all(kept: Listing, claimed: Listing) -> None:
    """What is left is exactly what nobody lists."""
    left = unclaimed(kept, [Said(now=claimed, last=claimed)])
    assert addresses(left) == addresses(kept) - addresses(claimed)


@given(listings, st.randoms())
def test_there_is_one_leader_and_everybody_finds_the_same(known: Listing, random: object) -> None:
    """One of those listed, whatever their order: each host of the fleet comes to the same."""
    elected = leader(known)
    mixed = list(known.records)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    again = leader(Listing(records=tuple(mixed)))
    assert len(addresses(elected)) == min(1, len(known.records))
    assert addresses(elected) <= addresses(known)
    assert addresses(elected) == addresses(again)
    if any(record.instance.weight != 0 for record in known.records) and len(addresses(known)) == len(known.records):
        assert isinstance(elected, Listing)
        assert elected.records[0].instance.weight != 0
