"""Who is to blame for a file that HAProxy refuses: by its words, or by asking again with fewer services."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, log2

import pytest

from synapse.quarantine import Candidate, Charge, Line, culprits, holds

WEB = "\nfrontend web\n    bind 127.0.0.1:1\n\nbackend web\n    blance 7\n"
API = "\nbackend api\n    mode tcp\n"
FILE = Candidate(
    global_part="global\n    description smartstack-1\n    stats socket /run/h.sock\n", parts={"api": API, "web": WEB}
)
PATH = "/var/lib/it's $a #dir/haproxy.cfg.candidate"


class Reader:
    """A HAProxy that refuses each of these sets of services, with or without naming them; `questions` counts."""

    def __init__(self, refuses: Iterable[Collection[str]], *, names: bool, at_once: int = 1000) -> None:
        self.questions = 0
        self._refuses = [frozenset(each) for each in refuses]
        self._names = names
        self._at_once = at_once

    def __call__(self, names: Collection[str]) -> Sequence[Charge] | None:
        self.questions += 1
        found = [each for each in self._refuses if each <= set(names)][: self._at_once]
        if not found:
            return None
        return [
            Charge(words=f"no {sorted(each)}", lines=dict.fromkeys(sorted(each) if self._names else ()))
            for each in found
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What is refused, and who is to blame; None: nobody."""

    name: str
    refuses: Sequence[Collection[str]]
    blamed: set[str] | None
    settled: Sequence[str] = ()
    suspects: Sequence[str] = ("a", "b", "c", "d", "e")
    names: Sequence[bool] = field(default=(True, False))


ROWS = [
    Row(name="nothing is wrong", refuses=[], blamed=set()),
    Row(name="one is bad", refuses=[{"c"}], blamed={"c"}),
    Row(name="several are bad", refuses=[{"a"}, {"c"}, {"e"}], blamed={"a", "c", "e"}),
    Row(name="all are bad", refuses=[{name} for name in "abcde"], blamed=set("abcde")),
    Row(name="the only one is bad", refuses=[{"a"}], blamed={"a"}, suspects=("a",)),
    Row(name="two clash: the last is blamed", refuses=[{"b", "d"}], blamed={"d"}),
    Row(name="three clash: the last is blamed", refuses=[{"a", "b", "d"}], blamed={"d"}),
    Row(name="who clashes with a bad one only is not blamed", refuses=[{"b", "d"}, {"b"}], blamed={"b"}),
    Row(name="two pairs clash", refuses=[{"a", "b"}, {"c", "d"}], blamed={"b", "d"}),
    Row(
        name="who clashes with what runs is blamed, wherever its name stands",
        refuses=[{"a", "z"}],
        settled=("y", "z"),
        blamed={"a"},
    ),
    Row(name="what runs is blamed for itself", refuses=[{"z"}], settled=("y", "z"), blamed={"z"}),
    Row(name="what runs and what is new", refuses=[{"z"}, {"b"}], settled=("y", "z"), blamed={"z", "b"}),
    Row(
        name="what runs clashes among itself since HAProxy is another version",
        refuses=[{"y", "z"}, {"b"}],
        settled=("y", "z"),
        blamed={"z", "b"},
    ),
    Row(name="everything that runs is bad", refuses=[{"y"}, {"z"}], settled=("y", "z"), suspects=(), blamed={"y", "z"}),
    Row(name="the global part is bad", refuses=[()], settled=("y", "z"), blamed=None),
    Row(name="the global part is bad, and so is a service", refuses=[(), {"b"}], blamed=None),
    Row(name="there is no service and the file is bad", refuses=[()], suspects=(), blamed=None),
]


@pytest.mark.parametrize("names", [True, False], ids=["by words", "by halves"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_who_is_to_blame(row: Row, names: bool) -> None:
    """The same whether HAProxy's words name them or not."""
    found = culprits(row.settled, row.suspects, Reader(row.refuses, names=names))
    assert (None if found is None else set(found)) == row.blamed


def test_words_that_name_somebody_who_runs_are_not_believed() -> None:
    """What is new makes HAProxy complain of the line of another: that one runs, and the new one is found by halves."""

    def refused(names: Collection[str]) -> Sequence[Charge] | None:
        return [Charge(words="duplicate", lines={"old": None})] if {"old", "new"} <= set(names) else None

    found = culprits(["old", "older"], ["a", "new", "z"], refused)
    assert found == {"new": Charge(words="duplicate", lines={"old": None})}


@pytest.mark.parametrize("at_once", [1000, 5, 1])
def test_words_that_name_lines_take_one_question_more_than_errors_at_a_time(at_once: int) -> None:
    """25 bad ones among 75: two questions when HAProxy tells all of them, 26 when it stops at each."""
    suspects = [f"service-{number:02}" for number in range(75)]
    reader = Reader([{name} for name in suspects[::3]], names=True, at_once=at_once)
    assert set(culprits([], suspects, reader) or ()) == set(suspects[::3])
    assert reader.questions == ceil(25 / at_once) + 1


@pytest.mark.parametrize("bad", [1, 2, 5, 25])
def test_without_words_each_culprit_takes_a_logarithm_of_questions(bad: int) -> None:
    """Of 1000 services: ten questions for each that is bad and one to see the rest, and three at the beginning."""
    suspects = [f"service-{number:04}" for number in range(1000)]
    step = len(suspects) // bad
    reader = Reader([{name} for name in suspects[::step]], names=False)
    assert set(culprits(["old"], suspects, reader) or ()) == set(suspects[::step])
    assert reader.questions <= 3 + bad * (ceil(log2(1000)) + 1)


def test_what_haproxy_says_at_one_time_and_not_at_another_blames_nobody() -> None:
    """A file on which it cannot decide is not taken, and the search ends."""
    answers = iter([(), None, (), None, (), None, None, (), ()])
    assert culprits(["old"], [], lambda names: next(answers)) is None


WORDS: Mapping[str, tuple[str, dict[str, str | None], str]] = {
    "a line": (
        f"parsing [{PATH}:12] : unknown keyword 'blance' in 'backend' section",
        {"web": "blance 7"},
        "unknown keyword 'blance' in 'backend' section",
    ),
    "a line without spaces": (f"parsing [{PATH}:9]: 'bind' is wrong.", {"web": "bind 127.0.0.1:1"}, "'bind' is wrong"),
    "a line that is not parsed": (f"[{PATH}:6] : 'server api/s1' : no", {"api": "mode tcp"}, "'server api/s1' : no"),
    "two lines": (
        f"Parsing [{PATH}:11]: backend 'web' has the same name as backend 'api' declared at {PATH}:5.",
        {"web": "backend web", "api": "backend api"},
        "backend 'web' has the same name as backend 'api'",
    ),
    "lines in brackets": (
        f"http frontend 'web' ({PATH}:8) tries to use incompatible tcp backend 'api' ({PATH}:5) in a rule",
        {"web": "frontend web", "api": "backend api"},
        "http frontend 'web' tries to use incompatible tcp backend 'api' in a rule",
    ),
    "a name only": (
        "Proxy 'web': unable to find required use_backend: 'nobody'.",
        {"web": None},
        "Proxy 'web': unable to find required use_backend: 'nobody'",
    ),
    "a name that is not ours": ("Proxy 'other': it is wrong", {}, "Proxy 'other': it is wrong"),
    "a line of the global part": (f"parsing [{PATH}:2] : no", {}, "no"),
    "a line after the last": (f"parsing [{PATH}:99] : no", {}, "no"),
    "no place": ("Out of memory", {}, "Out of memory"),
    "a line of the file that no other file may know": (
        f"parsing [{PATH}:12] : server 's1' was already defined at line 14, please use distinct names.",
        {"web": "blance 7"},
        "server 's1' was already defined, please use distinct names",
    ),
    "very long words": (f"parsing [{PATH}:12] : {'x' * 900}", {"web": "blance 7"}, f"{'x' * 200} … {'x' * 200}"),
}


@pytest.mark.parametrize("name", WORDS)
def test_whose_line_it_is_that_haproxy_speaks_of(name: str) -> None:
    """Each alert is a charge against the services whose lines it names, in words without the places of the file."""
    said, lines, words = WORDS[name]
    (charge,) = FILE.charges(said, PATH)
    assert {service: line and line.text for service, line in charge.lines.items()} == lines
    assert charge.words == words


def test_each_alert_is_a_charge() -> None:
    """In the order in which HAProxy says them."""
    said = f"parsing [{PATH}:12] : one\nparsing [{PATH}:6] : two"
    assert [(charge.words, list(charge.lines)) for charge in FILE.charges(said, PATH)] == [
        ("one", ["web"]),
        ("two", ["api"]),
    ]


def test_the_section_of_a_line() -> None:
    """It is the last that began before it."""
    numbers = range(len(WEB.split("\n")) - 1)
    sections = [Line(part=WEB, number=number).section for number in numbers]
    assert sections == ["", "frontend", "frontend", "frontend", "backend", "backend"]


@pytest.mark.parametrize(
    ("words", "lasting"),
    [
        ("unknown keyword 'blance' in 'backend' section", True),
        ("error detected while parsing ACL 'x' : regex '(((' is invalid", True),
        ("no such ACL : 'nosuch'", True),
        ("unable to stat SSL certificate from file '/a.pem' : No such file or directory", False),
        ("Couldn't open the ca-file '/a.pem' (No such file or directory)", False),
        ("errorfile : error opening file '/a'", False),
        ("could not resolve address 'nosuch.invalid'", False),
        ("Proxy 'web': unable to find required use_backend: 'nobody'", False),
    ],
)
def test_what_may_be_over_the_next_time(words: str, lasting: bool) -> None:
    """A missing file, a name and another service may be there by then; a wrong word stays one."""
    assert Charge(words=words, lines={"web": None}).lasting is lasting


def test_a_clash_may_be_over_the_next_time() -> None:
    """The other one may change, or go."""
    assert not Charge(words="same id", lines={"web": None, "api": None}).lasting


def whole(**changed: str) -> str | None:
    """What FILE lacks with this global part, or with this part of `web`."""
    file = Candidate(
        global_part=changed.get("global_part", FILE.global_part), parts={"api": API, "web": changed.get("web", WEB)}
    )
    return file.lacks("smartstack-1", "/run/h.sock")


@pytest.mark.parametrize(
    ("changed", "lack"),
    [
        ({}, None),
        ({"global_part": ""}, "'description smartstack-1'"),
        ({"global_part": "global\n    description smartstack-1\n"}, "'stats socket /run/h.sock'"),
        ({"global_part": FILE.global_part.replace("-1", "-2")}, "'description smartstack-1'"),
        ({"web": ""}, "the backend web"),
        ({"web": WEB[:-1]}, "the backend web"),
        ({"web": WEB.partition("backend")[0]}, "the backend web"),
        ({"web": WEB.replace("backend web", "backend webs")}, "the backend web"),
        ({"web": WEB.replace("backend web", "# backend web")}, "the backend web"),
        ({"web": "listen web\n    mode tcp\n"}, None),
    ],
)
def test_a_file_that_is_not_whole(changed: dict[str, str], lack: str | None) -> None:
    """Empty, cut, of another structure, or without one of the services: it is known before anybody uses it."""
    assert whole(**changed) == lack


def test_a_part_that_would_run_into_the_next_is_not_whole() -> None:
    """Its last line has an end."""
    assert holds("web", WEB)
    assert not holds("web", WEB.rstrip("\n"))
