"""The live map: what should stand in it, and the exact commands that bring HAProxy's copy there."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartstack.errors import SmartStackError
from smartstack.shifting import Limits, Rate, Split
from synapse.haproxy.map_commands import command, lines, parse_number, parse_shown
from synapse.haproxy.maps import LiveMap
from synapse.live_map import NOTHING, Change, Drop, Put, Said, changes, entries, text, told
from synapse.shifts import Fault, Shifts
from synapse.switches import LUA, Live, delays
from tests.support.definitions import proxy

FAULT = Fault(
    service="web",
    percent=1000,
    status=503,
    delay_ms=200,
    source=None,
    path="/x",
    owner="al",
    since=1.0,
    until=1_700_000_000.9,
)


def test_shares_stand_one_behind_the_other() -> None:
    """Each key says up to where its share reaches; what an operator said comes before the definition; there is never
    more than everything."""
    split = (Split(to="a", percent=0.05), Split(to="b", percent=0.005), Split(to="c", percent=0.3))
    of = {"web": proxy(split=split), "api": proxy()}
    assert entries(of, NOTHING) == {"split/web/a": "500", "split/web/b": "550", "split/web/c": "3550"}
    said = Shifts(splits={"web": {"b": 0, "c": 9900, "gone": 5}, "gone": {"x": 1}})
    assert entries(of, Said(shifts=said)) == {"split/web/a": "500", "split/web/b": "500", "split/web/c": "10000"}


def test_rates_and_faults_stand_beside_them() -> None:
    """A fault is found by what the path begins with; its end is in whole seconds, never later than was said."""
    of = {"web": proxy(limits=Limits(rate=Rate(requests=7)))}
    assert entries(of, Said(shifts=Shifts(faults={"web": FAULT}))) == {
        "rate/web": "7",
        "fault/web/x": "1700000000|1000|503|200|*",
    }


def test_what_the_feed_tells_stands_in_it_and_is_read_back() -> None:
    """For services of this host alone; a synapse that starts finds what HAProxy goes by. Whatever else stands in the
    file is left out, and so is a share that is none."""
    wanted = entries({"web": proxy(), "api": proxy()}, Said(told={"web": 1 / 64, "gone": 0.5}))
    assert wanted == {"share/web": "15625"}
    assert told(text({**wanted, "split/web/a": "500"})) == {"web": 1 / 64}
    assert told("share/a 0\nshare/b 1000000\nshare/c 5x\nshare/d\n\nshare/é 5\n") == {}


def test_what_callers_from_this_host_are_called_stands_in_it() -> None:
    """Whatever a caller may be called; nothing where nothing is known."""
    assert entries({}, Said(caller="cron@nightly_2.x-1")) == {"caller/host": "cron@nightly_2.x-1"}
    assert text(entries({}, Said(caller="w" * 100)))
    assert entries({}, NOTHING) == {}


def test_the_file_has_a_line_for_each_in_order() -> None:
    """The same entries are the same bytes."""
    assert text({"b/x": "1", "a/x": "2"}).splitlines()[1:] == ["a/x 2", "b/x 1"]
    assert text({"a/x": "2", "b/x": "1"}) == text({"b/x": "1", "a/x": "2"})


@pytest.mark.parametrize(
    "entry", [{"a b": "1"}, {"a/b": "1 2"}, {"a/b": "1\n"}, {"a/b;": "1"}, {"#a/b": "1"}, {"a/b": ""}, {"a/b\\": "1"}]
)
def test_nothing_else_gets_into_the_file_or_to_the_socket(entry: Mapping[str, str]) -> None:
    """Whatever would be another line, word or command is a defect, and says so."""
    with pytest.raises(ValueError, match="may not"):
        text(entry)
    for key, value in entry.items():
        with pytest.raises(ValueError, match="may not be sent"):
            command(Put(key=key, value=value, new=True), "1")


PLANS: Mapping[str, tuple[Sequence[tuple[str, str]], Mapping[str, str], list[str]]] = {
    "nothing to do": ([("a/x", "1")], {"a/x": "1"}, []),
    "into an empty one": ([], {"a/y": "2", "a/x": "1"}, ["add map #3 a/x 1", "add map #3 a/y 2"]),
    "another value": ([("a/x", "1")], {"a/x": "2"}, ["set map #3 a/x 2"]),
    "one goes, before another comes": ([("b/x", "1")], {"a/x": "2"}, ["del map #3 b/x", "add map #3 a/x 2"]),
    "one that is there twice": ([("a/x", "1"), ("a/x", "1")], {"a/x": "1"}, ["del map #3 a/x", "add map #3 a/x 1"]),
    "somebody's own key, which cannot be told": ([("a;b", "1"), ("plain", "1")], {}, []),
}


@pytest.mark.parametrize(("shown", "wanted", "commands"), PLANS.values(), ids=PLANS)
def test_the_commands_are_these(
    shown: Sequence[tuple[str, str]], wanted: Mapping[str, str], commands: list[str]
) -> None:
    """From what HAProxy shows to what is wanted, and no command more."""
    assert [command(change, "3") for change in changes(shown, wanted)] == commands


KEYS = st.sampled_from(["split/web/a", "split/web/b", "rate/web", "fault/web/"])


@given(st.lists(st.tuples(KEYS, st.sampled_from("123"))), st.dictionaries(KEYS, st.sampled_from("123")), st.integers(0))
def test_any_part_of_the_changes_may_be_the_last(
    shown: list[tuple[str, str]], wanted: dict[str, str], cut: int
) -> None:
    """From wherever it was cut, the next look ends in what is wanted."""
    first = list(changes(shown, wanted))
    after = done(shown, first[: cut % (len(first) + 1)])
    assert dict(done(after, list(changes(after, wanted)))) == wanted
    assert list(changes(list(wanted.items()), wanted)) == []


def done(shown: Sequence[tuple[str, str]], some: Sequence[Change]) -> list[tuple[str, str]]:
    """What HAProxy shows after these changes."""
    found = list(shown)
    for change in some:
        match change:
            case Drop(key=key):
                found = [each for each in found if each[0] != key]
            case Put(key=key, value=value, new=True):
                found.append((key, value))
            case Put(key=key, value=value):
                found = [(each, value if each == key else old) for each, old in found]
    return found


def test_answers_are_read_and_others_are_known_as_such() -> None:
    """The number of the map by its file, its entries in their order; anything else is no answer."""
    listed = "# id (file) description\n-1 (x) y\n0 (/a/b.map) pattern\n12 (/s/haproxy.map) pattern loaded from\n\n"
    assert parse_number(listed, "/s/haproxy.map") == "12"
    assert parse_number(listed, "/s/haproxy") is None
    assert parse_shown("0x55e a/x 1\n0x7f a/x 2\n\n") == [("a/x", "1"), ("a/x", "2")]
    assert parse_shown("\n") == []
    for answer in ("Unknown map identifier. Please use #<id> or <file>.\n\n", "what?\n", "0x55e a/x\n"):
        assert parse_shown(answer) is None


def test_long_changes_go_in_several_lines() -> None:
    """HAProxy reads no line of more than 16 KB."""
    wanted = {f"split/web/{'x' * 90}{number}": "1" for number in range(200)}
    sent = list(lines(changes([], wanted), "1"))
    assert len(sent) > 1
    assert all(len(line) <= 8000 for line, _ in sent)
    assert sum(len(run) for _, run in sent) == 200


class Worker:
    """A HAProxy that has loaded the map, or not, and does what it is told, or says something else."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.shown: list[tuple[str, str]] = []
        self.loaded = True
        self.words = ""
        self.asked: list[str] = []

    def ask(self, line: str) -> str:
        self.asked.append(line)
        if line == "show map":
            return f"# id\n4 ({self.path}) pattern\n\n" if self.loaded else "# id\n\n"
        if line == "show map #4":
            return "".join(f"0x1 {key} {value}\n" for key, value in self.shown) + "\n"
        for each in line.split(";"):
            verb, _, _, key, *value = each.split()
            change: Change = Drop(key=key) if verb == "del" else Put(key=key, value=value[0], new=verb == "add")
            self.shown = done(self.shown, [change])
        return "\n".join([*([self.words] if self.words else []), "\n" * line.count(";"), ""])


def test_haproxy_is_asked_only_when_something_may_differ(tmp_path: Path) -> None:
    """A changed wish, another process, a touch; what only others can have changed is counted as theirs."""
    worker = Worker(str(tmp_path / "haproxy.map"))
    live = LiveMap(Live(path=worker.path), worker.ask)
    live.write({"a/x": "1"})
    assert live.tell(1) == 0
    assert worker.shown == [("a/x", "1")]
    worker.asked.clear()
    assert live.tell(1) == 0
    assert worker.asked == []
    worker.shown = [("a/x", "7"), ("a/y", "1")]
    live.touch()
    assert live.tell(1) == 2
    assert worker.shown == [("a/x", "1")]
    worker.shown = []
    assert live.tell(2) == 0
    assert worker.shown == [("a/x", "1")]
    live.write({"a/x": "2"})
    assert live.tell(2) == 0
    assert worker.shown == [("a/x", "2")]


def test_what_is_not_understood_is_said_and_tried_again(tmp_path: Path) -> None:
    """An unknown answer is an error, not a success; the next call asks anew."""
    worker = Worker(str(tmp_path / "haproxy.map"))
    live = LiveMap(Live(path=worker.path), worker.ask)
    live.write({"a/x": "1"})
    worker.words = "Out of memory."
    with pytest.raises(SmartStackError, match="HAProxy answered 'Out of memory"):
        live.tell(1)
    worker.words = ""
    worker.shown = []
    live.tell(1)
    assert worker.shown == [("a/x", "1")]
    worker.loaded = False
    live.touch()
    assert live.tell(1) == 0


def test_the_file_is_there_before_haproxy_is_told_and_is_put_right(tmp_path: Path) -> None:
    """Whole, for who runs HAProxy alone; with what delays need, if they need something."""
    path, lua = tmp_path / "haproxy.map", tmp_path / "haproxy.lua"
    live = LiveMap(Live(path=str(path), faults=True, delay="lua.x", lua=str(lua)), lambda _: "", mode=0o640)
    live.write({"a/x": "1"})
    assert path.read_text().splitlines()[1:] == ["a/x 1"]
    assert path.stat().st_mode & 0o777 == 0o640
    assert lua.read_text() == LUA
    path.write_text("spoilt")
    live.touch()
    live.write({"a/x": "1"})
    assert path.read_text().splitlines()[1:] == ["a/x 1"]


def test_how_requests_are_delayed_goes_by_the_version() -> None:
    """From 3.2 on HAProxy waits by itself; before it takes Lua, and without Lua it cannot."""
    assert delays((3, 2), "/s/x.lua") == ("pause var(txn.fault_delay)", "")
    assert delays((3, 1), "/s/x.lua") == ("lua.smartstack_delay", "/s/x.lua")
    assert delays((2, 6), "") == ("", "")
