"""The contract of a registry: what `RegistryReader` and `RegistryWriter` promise, held against every kind of it."""

import threading
from collections.abc import Callable, Iterator

import pytest

from smartstack.errors import RegistryError, RegistryUnavailable
from smartstack.instance import Instance, encode, encoded_node_name
from smartstack.registry.protocol import HeldNode, Listing, NodeId, RegistryReader, RegistryWriter
from tests.support.eventually import eventually
from tests.support.registries import KINDS, Bell, RegistryUnderTest

WEB = "services/web"
QUIET_SECONDS = 0.2
ONE = Instance(host="10.0.0.1", port=8080, name="one")
TWO = Instance(host="10.0.0.2", port=8080, name="two")
FIRST = NodeId(path=WEB, node="10.0.0.1_0000008080")
SECOND = NodeId(path=WEB, node="10.0.0.2_0000008080")


@pytest.fixture(params=KINDS)
def registry(request: pytest.FixtureRequest) -> Iterator[RegistryUnderTest]:
    """An empty registry of each kind."""
    made = KINDS[request.param](request)
    yield made
    made.close()


def retried(action: Callable[[], object]) -> None:
    """Do it as a daemon's loop does: again while the registry is away, as it is until a first connection stands."""

    def attempt() -> bool:
        try:
            action()
        except RegistryUnavailable:
            return False
        return True

    eventually(attempt, within=10.0)


def put(writer: RegistryWriter, node: NodeId, instance: Instance, *, instead_of: NodeId | None = None) -> None:
    retried(lambda: writer.put(node, encode(instance), instead_of=instead_of))


def listing(reader: RegistryReader, path: str = WEB) -> Listing:
    found = reader.read([path])[path]
    assert isinstance(found, Listing), found
    return found


def instances(reader: RegistryReader, path: str = WEB) -> list[Instance]:
    return [record.instance for record in listing(reader, path).records]


def expect(reader: RegistryReader, *expected: Instance, path: str = WEB) -> Listing:
    """Wait until the reader sees exactly these, and return its listing."""

    def seen() -> Listing:
        assert instances(reader, path) == list(expected)
        return listing(reader, path)

    return eventually(lambda: [seen()], within=15.0)[0]


def expect_held(writer: RegistryWriter, candidates: tuple[NodeId, ...], expected: dict[NodeId, HeldNode]) -> None:
    def seen() -> bool:
        try:
            assert dict(writer.held(candidates)) == expected
        except RegistryUnavailable as error:
            raise AssertionError(error) from error
        return True

    eventually(seen, within=15.0)


def mine(instance: Instance) -> HeldNode:
    return HeldNode(payload=encode(instance), mine=True)


def foreign(instance: Instance) -> HeldNode:
    return HeldNode(payload=encode(instance), mine=False)


def test_a_path_that_does_not_exist_is_an_empty_listing(registry: RegistryUnderTest) -> None:
    """Nobody there is knowledge: a Listing of nothing, not Unknown."""
    reader = registry.make_reader()
    assert expect(reader) == Listing()


def test_the_answer_has_exactly_the_paths_asked_for(registry: RegistryUnderTest) -> None:
    """Each read names all that is wanted; what was asked for earlier is forgotten."""
    reader = registry.make_reader()
    assert set(reader.read([WEB, "services/api"])) == {WEB, "services/api"}
    assert set(reader.read(["services/api"])) == {"services/api"}
    assert reader.read([]) == {}


def test_what_was_put_is_read(registry: RegistryUnderTest) -> None:
    """A reader sees the node by its name, with everything that its instance says."""
    instance = Instance(host="2001:db8::7", port=1, name="x", weight=3, labels=(("zone", "ö"),))
    reader, writer = registry.make_reader(), registry.make_writer()
    put(writer, NodeId(path=WEB, node="n_0000000001"), instance)
    assert [record.node for record in expect(reader, instance).records] == ["n_0000000001"]


def test_a_reader_that_comes_later_sees_what_is_there(registry: RegistryUnderTest) -> None:
    """The registry's content does not depend on who was watching."""
    put(registry.make_writer(), FIRST, ONE)
    expect(registry.make_reader(), ONE)


def test_records_are_sorted_by_node(registry: RegistryUnderTest) -> None:
    """The order is the same for every reader, in whichever order the nodes came."""
    reader, writer = registry.make_reader(), registry.make_writer()
    put(writer, SECOND, TWO)
    put(writer, FIRST, ONE)
    expect(reader, ONE, TWO)


def test_services_do_not_mix(registry: RegistryUnderTest) -> None:
    """A service's listing holds its own nodes only, also where one path begins like another."""
    reader, writer = registry.make_reader(), registry.make_writer()
    put(writer, NodeId(path="services/web", node="a"), ONE)
    put(writer, NodeId(path="services/web2", node="a"), TWO)
    expect(reader, ONE, path="services/web")
    expect(reader, TWO, path="services/web2")


def test_an_absolute_path_is_a_place_of_its_own(registry: RegistryUnderTest) -> None:
    """A definition's registry_path may lead out of the registry's root, as Airbnb's layouts have it."""
    reader, writer = registry.make_reader(), registry.make_writer()
    path = "/smartstack-contract/services/web/services"
    put(writer, NodeId(path=path, node="a"), ONE)
    expect(reader, ONE, path=path)


def test_an_update_replaces(registry: RegistryUnderTest) -> None:
    """One place, one node: the new payload takes the old one's place and counts as newer."""
    reader, writer = registry.make_reader(), registry.make_writer()
    put(writer, FIRST, ONE)
    before = expect(reader, ONE)
    drained = Instance(host="10.0.0.1", port=8080, name="one", weight=0)
    put(writer, FIRST, drained)
    after = expect(reader, drained)
    assert after.records[0].version > before.records[0].version


def test_of_two_nodes_of_one_address_the_later_is_the_newer(registry: RegistryUnderTest) -> None:
    """A reader that finds an instance twice has to know which to believe."""
    reader, writer = registry.make_reader(), registry.make_writer()
    put(writer, NodeId(path=WEB, node="z"), ONE)
    put(writer, NodeId(path=WEB, node="a"), ONE)
    newer, older = expect(reader, ONE, ONE).records
    assert newer.version > older.version


def test_a_removed_node_is_gone(registry: RegistryUnderTest) -> None:
    """Only the node that was named goes."""
    reader, writer = registry.make_reader(), registry.make_writer()
    put(writer, FIRST, ONE)
    put(writer, SECOND, TWO)
    expect(reader, ONE, TWO)
    writer.remove(FIRST)
    expect(reader, TWO)


def test_put_and_remove_are_safe_to_repeat(registry: RegistryUnderTest) -> None:
    """The loop may do again what was done: nothing changes, nobody is woken into believing so."""
    reader, writer = registry.make_reader(), registry.make_writer()
    put(writer, FIRST, ONE)
    seen = expect(reader, ONE)
    put(writer, FIRST, ONE)
    put(writer, NodeId(path="services/later", node="a"), TWO)
    later = [WEB, "services/later"]
    after = eventually(lambda: [found for found in [reader.read(later)] if found[later[1]] != Listing()])[0]
    assert after[WEB] is seen
    writer.remove(SECOND)
    writer.remove(FIRST)
    writer.remove(FIRST)
    expect(reader)


def test_the_same_object_comes_back_while_nothing_changed(registry: RegistryUnderTest) -> None:
    """Callers compare by identity, so an untouched service keeps its very object while another changes."""
    reader, writer = registry.make_reader(), registry.make_writer()
    put(writer, FIRST, ONE)
    expect(reader, ONE)
    both = [WEB, "services/api"]
    before = eventually(lambda: [found for found in [reader.read(both)] if isinstance(found[both[1]], Listing)])[0]
    assert reader.read(both)[WEB] is before[WEB]
    put(writer, NodeId(path=both[1], node="a"), TWO)
    after = eventually(lambda: [found for found in [reader.read(both)] if found[both[1]] != Listing()])[0]
    assert after[WEB] is before[WEB]


def test_the_last_of_two_writers_has_the_place(registry: RegistryUnderTest) -> None:
    """Put takes a place over from a living writer, which learns of it and can no longer remove what is there."""
    reader, first, second = registry.make_reader(), registry.make_writer(), registry.make_writer()
    put(first, FIRST, ONE)
    put(second, FIRST, TWO)
    expect(reader, TWO)
    expect_held(first, (FIRST,), {FIRST: foreign(TWO)})
    expect_held(first, (), {})
    expect_held(second, (), {FIRST: mine(TWO)})
    first.remove(FIRST)
    first.stop()
    assert instances(reader) == [TWO]
    put(second, SECOND, ONE)
    assert [record.instance for record in expect(reader, TWO, ONE).records] == [TWO, ONE]


def test_a_place_that_was_lost_unnoticed_is_not_removed(registry: RegistryUnderTest) -> None:
    """Remove and stop look at whose node it is, not at who put one there once."""
    reader, first, second = registry.make_reader(), registry.make_writer(), registry.make_writer()
    put(first, FIRST, ONE)
    put(first, SECOND, ONE)
    put(second, FIRST, TWO)
    put(second, SECOND, TWO)
    retried(lambda: first.remove(FIRST))
    first.stop()
    expect(reader, TWO, TWO)
    expect_held(second, (), {FIRST: mine(TWO), SECOND: mine(TWO)})


def test_a_killed_writer_takes_its_nodes_along(registry: RegistryUnderTest) -> None:
    """What a dead process registered is gone; what others registered stays."""
    reader, doomed, other = registry.make_reader(), registry.make_writer(), registry.make_writer()
    put(doomed, FIRST, ONE)
    put(other, SECOND, TWO)
    expect(reader, ONE, TWO)
    registry.kill(doomed)
    expect(reader, TWO)


def test_a_dead_writers_place_can_be_taken(registry: RegistryUnderTest) -> None:
    """A restarted process finds its own place and takes it, whatever the dead one left there."""
    reader, doomed = registry.make_reader(), registry.make_writer()
    put(doomed, FIRST, ONE)
    registry.kill(doomed)
    heir = registry.make_writer()
    put(heir, FIRST, ONE)
    expect_held(heir, (FIRST,), {FIRST: mine(ONE)})
    expect(reader, ONE)


def test_a_stopped_writer_leaves_nothing(registry: RegistryUnderTest) -> None:
    """Stop removes every node of this writer, and only of this one."""
    reader, first, second = registry.make_reader(), registry.make_writer(), registry.make_writer()
    put(first, FIRST, ONE)
    put(second, SECOND, TWO)
    expect(reader, ONE, TWO)
    first.stop()
    expect(reader, TWO)


def test_a_writer_that_leaves_can_be_followed(registry: RegistryUnderTest) -> None:
    """Whether its nodes stay for a time (ZooKeeper) or not (`file:`), the next one takes the place."""
    first, reader = registry.make_writer(), registry.make_reader()
    put(first, FIRST, ONE)
    expect(reader, ONE)
    first.stop(leave=True)
    put(registry.make_writer(), FIRST, TWO)
    expect(reader, TWO)


HOSTILE = {
    "nothing": b"",
    "not JSON": b"{",
    "not an object": b'["10.0.0.9", 1]',
    "not UTF-8": b'{"host":"10.0.0.9","port":1,"name":"\xff"}',
    "host is a socket": b'{"host":"unix@/x","port":1}',
    "host is a name": b'{"host":"localhost","port":1}',
    "port out of range": b'{"host":"10.0.0.9","port":99999}',
    "newline in a name": b'{"host":"10.0.0.9","port":1,"name":"a\\nserver evil 6.6.6.6:1"}',
    "comment in a name": b'{"host":"10.0.0.9","port":1,"name":"a # b; c"}',
    "as long as it gets": b'{"host":"10.0.0.9","port":1,"labels":{"x":"' + b"x" * 500_000 + b'"}}',
}


@pytest.mark.parametrize("payload", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_payload_is_refused_alone(registry: RegistryUnderTest, payload: bytes) -> None:
    """Bad data is a value with a reason; the others stay, and it heals when the node does."""
    reader, writer = registry.make_reader(), registry.make_writer()
    put(writer, FIRST, ONE)
    registry.inject(WEB, "evil", payload)
    seen = eventually(lambda: [found for found in [listing(reader)] if found.refused and found.records])[0]
    assert [refused.node for refused in seen.refused] == ["evil"]
    assert seen.refused[0].reason.isprintable()
    assert [record.instance for record in seen.records] == [ONE]
    put(writer, NodeId(path=WEB, node="evil"), TWO)
    assert expect(reader, ONE, TWO).refused == ()


FOREIGN_NAMES = {
    "Airbnb's id and sequence": ("i-0abc_0000000007", encode(ONE)),
    "Airbnb's negative sequence": ("i-0abc_-2147483648", encode(ONE)),
    "payload in the name": (encoded_node_name(ONE) or "", b""),
    "payload in the name and other data": (encoded_node_name(ONE) or "", b'{"ip":"10.0.0.1"}'),
    "no sequence at all": ("x", encode(ONE)),
    "a space": ("my web", encode(ONE)),
    "not ASCII": ("wéb_0000000001", encode(ONE)),
}


@pytest.mark.parametrize(("node", "payload"), FOREIGN_NAMES.values(), ids=FOREIGN_NAMES.keys())
def test_a_foreign_name_is_read(registry: RegistryUnderTest, node: str, payload: bytes) -> None:
    """A reader takes any name; a name that holds the payload is believed over the node's data."""
    reader = registry.make_reader()
    registry.inject(WEB, node, payload)
    assert [record.node for record in expect(reader, ONE).records] == [node]


Change = Callable[[RegistryWriter, RegistryUnderTest], None]
CHANGES: dict[str, Change] = {
    "put": lambda writer, registry: put(writer, SECOND, TWO),
    "update": lambda writer, registry: put(writer, FIRST, TWO),
    "remove": lambda writer, registry: writer.remove(FIRST),
    "swap": lambda writer, registry: put(writer, SECOND, TWO, instead_of=FIRST),
    "stop": lambda writer, registry: writer.stop(),
    "kill": lambda writer, registry: registry.kill(writer),
    "foreign": lambda writer, registry: registry.inject(WEB, "evil", b"?"),
    "vandal": lambda writer, registry: registry.delete(WEB, FIRST.node),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_every_change_rings(registry: RegistryUnderTest, change: Change) -> None:
    """A reader's bell rings for each kind of change, after which its read differs; nobody needs to poll."""
    bell = Bell()
    reader, writer = registry.make_reader(bell.ring), registry.make_writer()
    put(writer, FIRST, ONE)
    before = expect(reader, ONE)
    eventually(lambda: bell.silent_for(QUIET_SECONDS))
    rings = bell.rings
    change(writer, registry)
    eventually(lambda: bell.rings > rings and listing(reader) != before, within=15.0)


def test_reading_does_not_ring(registry: RegistryUnderTest) -> None:
    """A loop that reads when it is rung must come to rest."""
    bell, writer_bell = Bell(), Bell()
    reader, writer = registry.make_reader(bell.ring), registry.make_writer(writer_bell.ring)
    put(writer, FIRST, ONE)
    expect(reader, ONE)
    eventually(lambda: bell.silent_for(QUIET_SECONDS) and writer_bell.silent_for(QUIET_SECONDS))
    rings = bell.rings, writer_bell.rings
    quiet = threading.Event()
    timer = threading.Timer(QUIET_SECONDS, quiet.set)
    timer.start()
    while not quiet.is_set():
        assert instances(reader) == [ONE]
        assert writer.held((FIRST,)) == {FIRST: mine(ONE)}
    assert (bell.rings, writer_bell.rings) == rings


def test_a_path_that_was_empty_rings(registry: RegistryUnderTest) -> None:
    """A path that did not exist is watched all the same."""
    bell = Bell()
    reader = registry.make_reader(bell.ring)
    expect(reader, path="services/new")
    eventually(lambda: bell.silent_for(QUIET_SECONDS))
    rings = bell.rings
    put(registry.make_writer(), NodeId(path="services/new", node="a"), ONE)
    eventually(lambda: bell.rings > rings)
    expect(reader, ONE, path="services/new")


def test_a_path_that_was_emptied_rings_again(registry: RegistryUnderTest) -> None:
    """A service may lose its last instance and get a first one any number of times."""
    bell = Bell()
    reader, writer = registry.make_reader(bell.ring), registry.make_writer()
    for _ in range(3):
        eventually(lambda: bell.silent_for(QUIET_SECONDS))
        rings = bell.rings
        put(writer, FIRST, ONE)
        expect(reader, ONE)
        writer.remove(FIRST)
        expect(reader)
        assert bell.rings > rings


def test_held_reports_the_places_asked_for_and_ours(registry: RegistryUnderTest) -> None:
    """Foreign nodes are told of where they are candidates, ours always, empty places never."""
    writer, other = registry.make_writer(), registry.make_writer()
    empty = NodeId(path="services/none", node="a")
    expect_held(writer, (FIRST, empty), {})
    put(other, SECOND, TWO)
    put(writer, FIRST, ONE)
    expect_held(writer, (SECOND, empty), {FIRST: mine(ONE), SECOND: foreign(TWO)})
    expect_held(writer, (), {FIRST: mine(ONE)})
    writer.remove(FIRST)
    expect_held(writer, (FIRST,), {})


def test_held_gives_back_a_foreign_payload_as_it_is(registry: RegistryUnderTest) -> None:
    """What is compared with the wanted payload is what stands there, bytes that nobody understands included."""
    writer = registry.make_writer()
    registry.inject(WEB, FIRST.node, b"\xff?")
    expect_held(writer, (FIRST,), {FIRST: HeldNode(payload=b"\xff?", mine=False)})


def test_a_node_of_ours_that_somebody_removes_is_missed(registry: RegistryUnderTest) -> None:
    """The writer's bell rings, held no longer has it, and it can be put again."""
    bell = Bell()
    reader, writer = registry.make_reader(), registry.make_writer(bell.ring)
    put(writer, FIRST, TWO)
    put(writer, FIRST, ONE)
    expect_held(writer, (FIRST,), {FIRST: mine(ONE)})
    eventually(lambda: bell.silent_for(QUIET_SECONDS))
    rings = bell.rings
    registry.delete(WEB, FIRST.node)
    eventually(lambda: bell.rings > rings)
    expect_held(writer, (FIRST,), {})
    put(writer, FIRST, ONE)
    expect_held(writer, (), {FIRST: mine(ONE)})
    expect(reader, ONE)


def test_a_node_of_ours_that_somebody_takes_rings(registry: RegistryUnderTest) -> None:
    """A writer learns that it lost a place without asking."""
    bell = Bell()
    writer, other = registry.make_writer(bell.ring), registry.make_writer()
    put(writer, FIRST, ONE)
    expect_held(writer, (FIRST,), {FIRST: mine(ONE)})
    eventually(lambda: bell.silent_for(QUIET_SECONDS))
    rings = bell.rings
    put(other, FIRST, TWO)
    eventually(lambda: bell.rings > rings)
    expect_held(writer, (FIRST,), {FIRST: foreign(TWO)})


def reads_during(change: Callable[[int], object], reader: RegistryReader) -> list[Listing]:
    """What a reader that never rests sees while another thread makes changes: a hundred of each at least."""
    changes, seen, done = 0, list[Listing](), threading.Event()

    def work() -> None:
        nonlocal changes
        while not done.is_set():
            change(changes)
            changes += 1

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    while worker.is_alive() and (changes < 100 or len(seen) < 100):
        seen.append(listing(reader))
    done.set()
    worker.join(timeout=10.0)
    assert changes >= 100
    return seen


def test_instead_of_replaces_without_a_gap(registry: RegistryUnderTest) -> None:
    """Make before break: whoever reads while one node replaces another sees at least one of them."""
    reader, writer, places = registry.make_reader(), registry.make_writer(), (FIRST, SECOND)
    put(writer, FIRST, ONE)
    expect(reader, ONE)
    seen = reads_during(lambda index: put(writer, places[(index + 1) % 2], ONE, instead_of=places[index % 2]), reader)
    assert [found for found in seen if not found.records or found.refused] == []
    expect(reader, ONE)


def test_an_update_leaves_no_gap(registry: RegistryUnderTest) -> None:
    """A payload that changes is never read as nothing, nor as half of two payloads."""
    reader, writer = registry.make_reader(), registry.make_writer()
    put(writer, FIRST, ONE)
    expect(reader, ONE)
    seen = reads_during(lambda index: put(writer, FIRST, (TWO, ONE)[index % 2]), reader)
    assert {(tuple(record.instance for record in found.records), found.refused) for found in seen} <= {
        ((ONE,), ()),
        ((TWO,), ()),
    }


def test_instead_of_a_foreign_node_leaves_it(registry: RegistryUnderTest) -> None:
    """Only a node of ours goes; and a node may be put instead of itself."""
    reader, writer, other = registry.make_reader(), registry.make_writer(), registry.make_writer()
    put(other, SECOND, TWO)
    put(writer, FIRST, ONE, instead_of=SECOND)
    put(writer, FIRST, ONE, instead_of=FIRST)
    expect(reader, ONE, TWO)


def test_instead_of_goes_also_where_the_new_node_was_there(registry: RegistryUnderTest) -> None:
    """A swap that was cut off half-way is finished by repeating it."""
    reader, writer = registry.make_reader(), registry.make_writer()
    put(writer, FIRST, ONE)
    put(writer, SECOND, TWO)
    put(writer, SECOND, TWO, instead_of=FIRST)
    expect(reader, TWO)
    expect_held(writer, (FIRST, SECOND), {SECOND: mine(TWO)})


def test_the_link_is_told(registry: RegistryUnderTest) -> None:
    """Both ends say that they are connected, in a sentence, with the four totals."""
    reader, writer = registry.make_reader(), registry.make_writer()
    put(writer, FIRST, ONE)
    expect(reader, ONE)
    for status in (reader.status(), writer.status()):
        assert status.connected
        assert status.detail
        assert set(status.counters) == {"requests", "events", "reconnects", "sessions"}


def test_an_end_that_was_stopped_is_silent(registry: RegistryUnderTest) -> None:
    """After stop no thread of it rings any more; stopping twice does no harm."""
    bell = Bell()
    reader, writer = registry.make_reader(bell.ring), registry.make_writer()
    expect(reader)
    reader.stop()
    reader.stop()
    rings = bell.rings
    put(writer, FIRST, ONE)
    expect(registry.make_reader(), ONE)
    eventually(lambda: bell.silent_for(QUIET_SECONDS))
    assert bell.rings == rings


def test_a_writer_stopped_before_it_ever_connected(registry: RegistryUnderTest) -> None:
    """Start and stop in one breath raise nothing."""
    writer = registry.new_writer()
    writer.start(lambda: None)
    try:
        writer.stop()
        writer.stop()
    except RegistryError as error:
        pytest.fail(f"stop raised {error!r}")
