"""Plans for any slots and any targets: cut at every point, failing at every addition, never short of servers."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from synapse.haproxy.commands import batches
from synapse.plan import Action, Disable, Enable, SetAddress, SetWeight, Structure, change_members, plan
from synapse.proxy import SPARE_HOST, SPARE_PORT, Admin, Observed, Service, Slot, Target, slot_count
from tests.support.definitions import proxy

HOSTS = [f"10.0.0.{number}" for number in range(1, 9)]
PORTS = (80, 81)
WEIGHTS = (0, 1, 5)
ADMINS = (Admin.MAINT, Admin.READY, Admin.READY, Admin.DRAIN)


@st.composite
def some_slots(draw: st.DrawFn) -> list[Slot]:
    """A backend as anything may have left it: spare slots, drained by hand, two slots for one address, down."""
    slots = []
    for number in range(1, draw(st.integers(0, 9)) + 1):
        host = draw(st.sampled_from([*HOSTS, SPARE_HOST]))
        port = SPARE_PORT if host == SPARE_HOST else draw(st.sampled_from(PORTS))
        slots.append(
            Slot(
                name=f"s{number}",
                host=host,
                port=port,
                weight=draw(st.sampled_from(WEIGHTS)),
                admin=draw(st.sampled_from(ADMINS)),
                up=draw(st.booleans()),
            )
        )
    return slots


@st.composite
def some_targets(draw: st.DrawFn) -> list[Target]:
    """Targets at different addresses, in any order, some of them draining."""
    addresses = st.tuples(st.sampled_from(HOSTS), st.sampled_from(PORTS))
    return [
        Target(host=host, port=port, weight=draw(st.sampled_from(WEIGHTS)))
        for host, port in draw(st.lists(addresses, unique=True, max_size=9))
    ]


def after(slots: Sequence[Slot], actions: Iterable[Action]) -> list[Slot]:
    """What HAProxy makes of these actions, one by one."""
    by_name = {slot.name: slot for slot in slots}
    for action in actions:
        slot = by_name[action.slot]
        match action:
            case SetAddress(host=host, port=port):
                by_name[action.slot] = replace(slot, host=host, port=port)
            case SetWeight(weight=weight):
                by_name[action.slot] = replace(slot, weight=weight)
            case Enable():
                by_name[action.slot] = replace(slot, admin=Admin.READY)
            case Disable():
                by_name[action.slot] = replace(slot, admin=Admin.MAINT)
    return [by_name[slot.name] for slot in slots]


def history(slots: Sequence[Slot], actions: Sequence[Action]) -> list[list[Slot]]:
    """Every state on the way, the first and the last one too."""
    states = [list(slots)]
    for action in actions:
        states.append(after(states[-1], [action]))
    return states


def serving(slots: Iterable[Slot]) -> int:
    return sum(slot.serves for slot in slots)


def members(slots: Iterable[Slot]) -> list[Target]:
    """Whom the backend has, sorted; with duplicates, if a plan made some."""
    there = (slot for slot in slots if slot.admin is not Admin.MAINT)
    return sorted(Target(host=slot.host, port=slot.port, weight=slot.weight) for slot in there)


def most(slots: Sequence[Slot], wanted: Sequence[Target]) -> int:
    """How many targets have a place without a reload: one slot stays free, unless nobody has to move for it."""
    addresses = {(target.host, target.port) for target in wanted}
    already = {(slot.host, slot.port) for slot in slots} & addresses
    return max(len(already), min(len(wanted), max(0, len(slots) - 1)))


@given(some_slots(), some_targets())
def test_every_prefix_is_safe(slots: list[Slot], wanted: list[Target]) -> None:
    """At no cut are there fewer serving slots than the smaller of the plan's two ends has."""
    states = history(slots, change_members("web", slots, wanted))
    least = min(serving(states[0]), serving(states[-1]))
    assert [serving(state) for state in states if serving(state) < least] == []


@given(some_slots(), some_targets())
def test_the_end_is_what_is_wanted(slots: list[Slot], wanted: list[Target]) -> None:
    """Only wanted instances remain, each once, with its weight, ready; as many as there is room for, one slot free."""
    end = after(slots, change_members("web", slots, wanted))
    assert set(members(end)) <= set(wanted)
    assert len(members(end)) == len(set(members(end))) == most(slots, wanted)
    assert all(slot.admin is not Admin.DRAIN for slot in end)


@given(some_slots(), some_targets())
def test_a_plan_from_its_own_end_is_empty(slots: list[Slot], wanted: list[Target]) -> None:
    """What was done is not done again."""
    end = after(slots, change_members("web", slots, wanted))
    assert change_members("web", end, wanted) == []


@given(some_slots(), some_targets())
def test_every_cut_can_be_resumed(slots: list[Slot], wanted: list[Target]) -> None:
    """A plan made from any cut ends with the same members as the one that was cut, and is safe itself."""
    states = history(slots, change_members("web", slots, wanted))
    for state in states:
        resumed = history(state, change_members("web", state, wanted))
        if len(wanted) < len(slots):
            assert members(resumed[-1]) == members(states[-1])
        assert len(members(resumed[-1])) >= len(members(states[-1]))
        least = min(serving(resumed[0]), serving(resumed[-1]))
        assert all(serving(each) >= least for each in resumed)


@given(some_slots(), some_targets())
def test_a_slot_moves_only_in_maintenance_and_serves_only_where_it_should(
    slots: list[Slot], wanted: list[Target]
) -> None:
    """Requests never go to an address while it changes, nor with a weight that is not the instance's, and every action
    says where its slot points."""
    weights = {(target.host, target.port): target.weight for target in wanted}
    state = {slot.name: slot for slot in slots}
    for action in change_members("web", slots, wanted):
        before = state[action.slot]
        if isinstance(action, SetAddress):
            assert before.admin is Admin.MAINT
        else:
            assert (before.host, before.port) == (action.host, action.port)
        if isinstance(action, Enable):
            assert before.weight == weights[before.host, before.port]
        state[action.slot] = after([before], [action])[0]


@given(some_slots(), some_targets(), st.sets(st.sampled_from([f"s{number}" for number in range(1, 10)])))
def test_a_removal_never_waits_for_an_addition(slots: list[Slot], wanted: list[Target], broken: set[str]) -> None:
    """Whatever additions fail, no unwanted instance stays: the removals are done all the same."""
    actions = change_members("web", slots, wanted)
    done = [action for action in actions if not is_addition(action, broken)]
    addresses = {(target.host, target.port) for target in wanted}
    left = {(slot.host, slot.port) for slot in after(slots, done) if slot.admin is not Admin.MAINT}
    assert left <= addresses


def is_addition(action: Action, broken: Collection[str]) -> bool:
    return isinstance(action, SetAddress | Enable) and action.slot in broken


@given(some_slots(), some_targets())
def test_nothing_is_done_in_vain(slots: list[Slot], wanted: list[Target]) -> None:
    """Every action changes something, and who stays in his slot with his weight is not touched."""
    state = list(slots)
    for action in change_members("web", slots, wanted):
        changed = after(state, [action])
        assert changed != state, action
        state = changed
    weights = {(target.host, target.port): target.weight for target in wanted}
    addresses = [(slot.host, slot.port) for slot in slots]
    for slot, end in zip(slots, state, strict=True):
        right = slot.admin is Admin.READY and weights.get((slot.host, slot.port)) == slot.weight
        if right and addresses.count((slot.host, slot.port)) == 1:
            assert end == slot


@given(some_slots(), some_targets())
def test_an_address_shows_before_its_slot_is_enabled(slots: list[Slot], wanted: list[Target]) -> None:
    """An Enable never stands on a line with the SetAddress of its slot, nor before it; nothing is lost or reordered."""
    actions = change_members("web", slots, wanted)
    runs = list(batches(actions))
    assert [action for run in runs for action in run] == actions
    for run in runs:
        addressed: set[str] = set()
        for action in run:
            assert not (isinstance(action, Enable) and action.slot in addressed)
            if isinstance(action, SetAddress):
                addressed.add(action.slot)


@given(st.dictionaries(st.sampled_from(["api", "db", "web"]), some_slots()), st.data())
def test_a_plan_is_the_backends_plans_and_needs_no_reload(backends: dict[str, list[Slot]], data: st.DataObject) -> None:
    """With the structure as it should be, the plan is each wanted backend's own plan and no reload; a backend that
    is not there yet, or is not wanted any more, is left to the reload."""
    wanted = {
        name: Service(name=name, proxy=proxy(), targets=tuple(data.draw(some_targets())), slots=12)
        for name in data.draw(st.sets(st.sampled_from(["api", "db", "new", "web"])))
    }
    structure = Structure(description="d", digests={})
    made = plan(Observed(pid=1, description="d", backends=backends), wanted, structure, None, {})
    assert made.reload_reasons == ()
    for name, slots in backends.items():
        own = [action for action in made.actions if action.backend == name]
        assert own == (change_members(name, slots, wanted[name].targets) if name in wanted else [])
    assert {action.backend for action in made.actions} <= backends.keys() & wanted.keys()


@given(st.none() | st.integers(0, 300), st.integers(0, 200), st.booleans())
def test_slots_are_enough_and_settle(current: int | None, needed: int, may_shrink: bool) -> None:
    """There is always a slot to spare, what is enough at run time stays, and a count that was taken is kept."""
    count = slot_count(current, needed, may_shrink=may_shrink)
    assert count > needed
    if current is not None and not may_shrink:
        assert count >= current
    assert slot_count(count, needed, may_shrink=may_shrink) == count
    if current is None or needed > current - 1:
        assert count % 4 == 0
        assert needed + 2 <= count <= needed * 1.25 + 6


def sides(slots: Sequence[Slot], wanted: Sequence[Target], aside: Collection[int]) -> tuple[list[Slot], list[Target]]:
    """The same with some slots and targets on the other side: used only when no primary serves."""
    named = [replace(slot, name=f"b{n}") if n in aside else slot for n, slot in enumerate(slots)]
    return named, [replace(target, backup=n in aside) for n, target in enumerate(wanted)]


def side(slots: Iterable[Slot], backup: bool) -> list[Slot]:
    return [slot for slot in slots if slot.backup is backup]


@given(some_slots(), some_targets(), st.sets(st.integers(0, 8)))
def test_neither_side_passes_through_fewer_than_its_ends(
    slots: list[Slot], wanted: list[Target], aside: set[int]
) -> None:
    """An instance that becomes a backup, or a primary, changes sides without either side dipping; from any cut the
    plan is resumed to the same end, and nobody ends on the side where he is not wanted."""
    slots, wanted = sides(slots, wanted, aside)
    states = history(slots, change_members("web", slots, wanted))
    for backup in (False, True):
        counts = [serving(side(state, backup)) for state in states]
        assert min(counts) >= min(counts[0], counts[-1])
        there = {(target.host, target.port) for target in wanted if target.backup is backup}
        assert {(target.host, target.port) for target in members(side(states[-1], backup))} <= there
    for state in states:
        resumed = after(state, change_members("web", state, wanted))
        for backup in (False, True):
            room = len(side(slots, backup)) > sum(target.backup is backup for target in wanted)
            assert not room or members(side(resumed, backup)) == members(side(states[-1], backup))
