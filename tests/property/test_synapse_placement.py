"""Placement, for any fleet, any labels and whatever HAProxy may find."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from smartstack.instance import Instance
from smartstack.locality import Locality
from synapse.placement import Here, Placement, Role, Seen, place
from synapse.rings import LEAVE_SECONDS

values = st.sampled_from(["a", "b"])
labels = st.dictionaries(st.sampled_from(["zone", "region"]), values)
instances = st.lists(
    st.builds(
        lambda number, weight, labels: Instance(
            host=f"10.0.0.{number}", port=80, weight=weight, labels=tuple(sorted(labels.items()))
        ),
        st.integers(1, 9),
        st.sampled_from([None, 0, 5]),
        labels,
    ),
    max_size=9,
    unique_by=lambda one: one.host,
)
addresses = st.frozensets(st.integers(1, 9).map(lambda number: f"10.0.0.{number}:80"))
seens = st.builds(Seen, down=addresses, primaries=addresses, current=st.integers(0, 9), queued=st.integers(0, 2))
heres = st.builds(Here, labels=labels, held=addresses, seen=seens, limit=st.none() | st.integers(1, 3))
localities = st.one_of(
    st.builds(Locality, prefer=st.just(("zone", "region")), min_servers=st.integers(1, 4)),
    st.builds(Locality, prefer=st.just(("zone",)), min_percent=st.floats(0, 1)),
)


def ready(placement: Placement, here: Here) -> set[str]:
    return {
        one.instance.address
        for one in placement.members
        if one.role is Role.PRIMARY and one.instance.weight != 0 and one.instance.address not in here.seen.down
    }


@given(instances, localities, heres)
def test_nobody_is_lost_and_somebody_serves(fleet: list[Instance], locality: Locality, here: Here) -> None:
    """Every instance is somewhere; where any could take a request, some primary can, or all rings are in use."""
    placement = place(fleet, where=(), locality=locality, here=here)
    assert [placed.instance for placed in placement.members] == fleet
    able = [one for one in fleet if one.weight != 0 and one.address not in here.held | here.seen.down]
    assert bool(able) is bool(ready(placement, here))
    assert len(ready(placement, here)) >= min(len(able), locality.min_servers)


@given(instances, localities, heres)
def test_no_ring_is_left_out_for_a_farther_one(fleet: list[Instance], locality: Locality, here: Here) -> None:
    """The rings in use are the nearest; each instance is on the side of its ring, unless it is held."""
    placement = place(fleet, where=(), locality=locality, here=here)
    used = [ring.used for ring in placement.rings]
    assert used == sorted(used, reverse=True)
    assert used[0]
    for placed in placement.members:
        if placed.role is not Role.HELD:
            assert (placed.role is Role.PRIMARY) is used[placed.ring]


@given(instances, localities, st.lists(st.tuples(st.floats(0, 6), heres), min_size=2, max_size=8))
def test_rings_never_leave_at_a_whim(
    fleet: list[Instance], locality: Locality, story: list[tuple[float, Here]]
) -> None:
    """Of two looks less than the time apart, the second has fewer rings only if fewer would have done for so long."""
    now, before = 100.0, None
    fewer_since: float | None = None
    here = story[0][1]
    for later, next_here in story:
        now += later
        # The labels of a host do not change under it; what is seen and held does.
        here = Here(labels=here.labels, held=next_here.held, seen=next_here.seen, limit=here.limit)
        placement = place(fleet, where=(), locality=locality, here=here, before=before, now=now)
        alone = replace(here, seen=replace(here.seen, primaries=frozenset()))
        enough = sum(ring.used for ring in place(fleet, where=(), locality=locality, here=alone).rings)
        if before is not None:
            was, used = (sum(ring.used for ring in one.rings) for one in (before, placement))
            assert used >= enough
            fewer_since = (now if fewer_since is None else fewer_since) if enough < was else None
            if used < was:
                assert fewer_since is not None
                assert now - fewer_since >= LEAVE_SECONDS
                fewer_since = None
        before = placement
