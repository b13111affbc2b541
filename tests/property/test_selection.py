"""Selection, for any story that a registry may tell."""

from collections.abc import Iterable
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from smartstack.instance import Instance
from smartstack.registry.protocol import Listing, Record, Unknown
from synapse.selection import Choice, FloorPolicy, Memory, Origin, choose, one_per_address

some_instances = st.builds(
    Instance,
    host=st.sampled_from([f"10.0.0.{number}" for number in range(1, 7)]),
    port=st.sampled_from([80, 81]),
    weight=st.sampled_from([None, 0, 5]),
)
records = st.builds(Record, node=st.sampled_from("abcdefgh"), instance=some_instances, version=st.integers(0, 3))
listings = st.builds(Listing, records=st.lists(records, max_size=8).map(tuple))
unknowns = st.builds(Unknown, reason=st.just("away"), since=st.just(0.0))
stories = st.lists(st.tuples(st.floats(0, 40), listings | unknowns), min_size=1, max_size=12)
policies = st.builds(
    FloorPolicy, floor=st.sampled_from([0.0, 0.3, 0.5, 1.0]), confirm_seconds=st.sampled_from([0.001, 10.0, 60.0])
)
goods = st.none() | st.lists(records, max_size=8).map(one_per_address)


def addresses(instances: Iterable[Instance]) -> set[str]:
    return {instance.address for instance in instances}


def tell(
    story: list[tuple[float, Listing | Unknown]], policy: FloorPolicy, good: tuple[Instance, ...] | None
) -> list[tuple[float, Listing | Unknown, Memory, Choice]]:
    """Every look of a story: the time, what the registry said, the memory before it, and the choice."""
    now, memory, looks = 1000.0, Memory(good=good), []
    for later, known in story:
        now += later
        choice = choose(known, memory, policy, now)
        looks.append((now, known, memory, choice))
        memory = choice.memory
    return looks


@given(stories, policies, goods)
def test_what_is_not_known_removes_nobody(
    story: list[tuple[float, Listing | Unknown]], policy: FloorPolicy, good: tuple[Instance, ...] | None
) -> None:
    """A registry that is away changes nothing, whatever was before and however long it lasts."""
    for _, known, memory, choice in tell(story, policy, good):
        if isinstance(known, Unknown):
            assert choice.instances == (memory.good or ())
            assert choice.memory.good == memory.good
            assert (choice.origin is Origin.NOTHING) == (memory.good is None)


@given(stories, policies, goods)
def test_a_great_loss_is_believed_only_when_it_lasted(
    story: list[tuple[float, Listing | Unknown]], policy: FloorPolicy, good: tuple[Instance, ...] | None
) -> None:
    """Fewer than the floor remain only if every look for the whole time of confirmation was a listing below it."""
    low_since: float | None = None
    for now, known, memory, choice in tell(story, policy, good):
        lately = [served for until, served in memory.losses if now - until < policy.confirm_seconds]
        served = max([sum(each.weight != 0 for each in memory.good or ()), *lately])
        listed = one_per_address(known.records) if isinstance(known, Listing) else ()
        lost = addresses(memory.good or ()) - addresses(listed)
        low = isinstance(known, Listing) and bool(lost) and len(listed) < policy.floor * served
        low_since = (now if low_since is None else low_since) if low else None
        confirmed = low_since is not None and now >= low_since + policy.confirm_seconds
        if not low or confirmed:
            assert choice.origin is not Origin.HELD_BACK
            low_since = None
        else:
            assert choice.origin is Origin.HELD_BACK
            assert addresses(memory.good or ()) <= addresses(choice.instances)
            assert choice.due is not None
            assert now < choice.due <= now + policy.confirm_seconds


@given(stories, policies)
def test_many_small_losses_are_one_great_loss(
    story: list[tuple[float, Listing | Unknown]], policy: FloorPolicy
) -> None:
    """Within the time of confirmation never fewer than the floor of what served remain, in however many steps they
    go, unless a loss was confirmed meanwhile. One that drains goes on purpose, and is no loss when it is gone."""
    served: list[tuple[float, set[str]]] = []
    for now, _, memory, choice in tell(story, policy, None):
        if memory.hold is not None and choice.origin is Origin.LISTING and not choice.memory.losses:
            served.clear()
        drains = {each.address for each in choice.instances if each.weight == 0}
        served = [(before, those - drains) for before, those in served if now - before < policy.confirm_seconds]
        for _, those in served:
            assert len(choice.instances) >= policy.floor * len(those)
        served.append((now, addresses(choice.instances) - drains))


@given(stories, policies, goods)
def test_what_is_listed_is_offered_as_it_is_listed(
    story: list[tuple[float, Listing | Unknown]], policy: FloorPolicy, good: tuple[Instance, ...] | None
) -> None:
    """Additions and weights are taken at once; nobody is offered who was never listed nor good; one an address."""
    ever = set(good or ())
    for _, known, _, choice in tell(story, policy, good):
        assert len(addresses(choice.instances)) == len(choice.instances)
        assert list(choice.instances) == sorted(choice.instances, key=lambda each: (each.host, each.port))
        if isinstance(known, Listing):
            listed = one_per_address(known.records)
            ever |= set(listed)
            assert set(listed) <= set(choice.instances)
            assert choice.memory.good == choice.instances
        assert set(choice.instances) <= ever


@given(st.lists(records, max_size=8), st.randoms(use_true_random=False))
def test_the_order_of_the_nodes_is_of_no_consequence(nodes: list[Record], random: Random) -> None:
    """The same nodes in another order are the same instances, when no two are told apart by nothing."""
    unique = list({(each.instance.address, each.version, each.node): each for each in nodes}.values())
    shuffled = list(unique)
    random.shuffle(shuffled)
    assert one_per_address(unique) == one_per_address(shuffled)
    assert addresses(one_per_address(unique)) == addresses(each.instance for each in unique)
