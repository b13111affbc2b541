"""From a tree to a model: what each annotation takes, what it refuses, and what the problems say."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest

from smartstack.errors import ConfigError, Problem
from smartstack.forms import PATH, PORT, PROGRAM, REGISTRY, DirectoryUrl, RegistryUrl, duration
from smartstack.model import Form, FormError, OneOf, anchored, kind_of, model_fields
from smartstack.validation import PROBLEM_LIMIT, choice, hint, validate
from smartstack.yaml_file import load


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    """A model in a model."""

    size: Annotated[int, "how large"]
    ratio: float = 0.5

    def problems(self) -> Iterable[tuple[str, str]]:
        """Two keys that depend on each other."""
        if self.ratio > self.size > 0:
            yield "ratio", "is larger than size"
        if self.size == 0 and self.ratio == 0.5:
            yield "", "is nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping:
    """One of a family."""

    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Knock:
    """Another of the family."""

    doors: tuple[str, ...]


def way(value: Any) -> str:
    """The form of a mapping's names."""
    if value not in ("in", "out"):
        raise ValueError("a way is in or out")
    return str(value)


WAY = Form(way, {"enum": ["in", "out"]})


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    """A model with one field of every type."""

    number: int = 0
    share: float = 0.0
    text: str = ""
    flag: bool = False
    mode: Literal["fast", "slow"] = "fast"
    maybe: int | None = None
    maybe_port: Annotated[int | None, "a form under a None", PORT] = None
    inner: Inner = field(default_factory=lambda: Inner(size=1))
    maybe_inner: Inner | None = None
    list: tuple[int, ...] = ()
    inners: tuple[Inner, ...] = ()
    table: Mapping[str, int] = field(default_factory=dict)
    inner_table: Mapping[str, Inner] = field(default_factory=dict)
    nested: Mapping[str, tuple[int | None, ...]] = field(default_factory=dict)
    wait: Annotated[float, "a form", duration()] = 1.0
    check: Annotated[Any, "one of a family", OneOf("check")] = None
    checks: tuple[Annotated[Any, OneOf("check")], ...] = ()
    ways: Mapping[Annotated[str, WAY], int] = field(default_factory=dict)

    def problems(self) -> Iterable[tuple[str, str]]:
        """Rules that name a key below, and one that is not in the file."""
        if self.number == 13:
            yield "inner.size", "does not go with 13"
            yield "share", "is needed with 13"
        if self.number == 14:
            yield "", "cannot be 14"


@dataclass(frozen=True, slots=True, kw_only=True)
class Raises:
    """A model that says no by itself."""

    low: int
    high: int

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError("low is above high")


FAMILIES = {"check": {"ping": Ping, "knock": Knock}}


def read(text: str, families: Mapping[str, Mapping[str, type]] | None = None) -> Outer:
    """The model of a file."""
    return validate(Outer, load(text, "f", {}), path="f", families=FAMILIES if families is None else families)


def problems(text: str) -> list[str]:
    """Its problems without the file's name."""
    with pytest.raises(ConfigError) as raised:
        read(text)
    return [str(problem).removeprefix("f:") for problem in raised.value.problems]


TAKEN: dict[str, tuple[str, Outer]] = {
    "int": ("number: 5", Outer(number=5)),
    "float": ("share: 1.5", Outer(share=1.5)),
    "float from a whole number": ("share: 2", Outer(share=2.0)),
    "text": ("text: a b", Outer(text="a b")),
    "empty text": ("text: ''", Outer()),
    "text of YAML 1.1": ("text: no", Outer(text="no")),
    "bool": ("flag: true", Outer(flag=True)),
    "literal": ("mode: slow", Outer(mode="slow")),
    "null where None is": ("maybe: null\nmaybe_port:\nmaybe_inner: ~", Outer()),
    "value where None is": ("maybe: 3\nmaybe_port: 80", Outer(maybe=3, maybe_port=80)),
    "model": ("inner: {size: 2}", Outer(inner=Inner(size=2))),
    "model under None": ("maybe_inner: {size: 2, ratio: 1}", Outer(maybe_inner=Inner(size=2, ratio=1.0))),
    "list": ("list: [1, 2]", Outer(list=(1, 2))),
    "empty list": ("list: []", Outer()),
    "list of models": ("inners: [{size: 1}, {size: 2}]", Outer(inners=(Inner(size=1), Inner(size=2)))),
    "mapping": ("table: {a: 1, 8: 2}", Outer(table={"a": 1, "8": 2})),
    "mapping of models": ("inner_table: {a: {size: 1}}", Outer(inner_table={"a": Inner(size=1)})),
    "mapping whose names have a form": ("ways: {in: 1}", Outer(ways={"in": 1})),
    "lists in a mapping": ("nested: {a: [1, null]}", Outer(nested={"a": (1, None)})),
    "form": ("wait: 2s", Outer(wait=2.0)),
    "family": ("check: {type: ping, count: 2}", Outer(check=Ping(count=2))),
    "family in a list": ("checks: [{type: knock, doors: [a]}]", Outer(checks=(Knock(doors=("a",)),))),
}


@pytest.mark.parametrize(("text", "model"), TAKEN.values(), ids=TAKEN)
def test_taken(text: str, model: Outer) -> None:
    """Each annotation takes what it says."""
    assert read(text) == model


REFUSED: dict[str, tuple[str, list[str]]] = {
    "int": ("number: 1.0", ["1:9: number: must be a whole number, got 1.0"]),
    "int from bool": ("number: true", ["1:9: number: must be a whole number, got true"]),
    "int from null": ("number:", ["1:8: number: must be a whole number, got null"]),
    "float": ("share: '1'", ["1:8: share: must be a number, got '1'"]),
    "float from bool": ("share: false", ["1:8: share: must be a number, got false"]),
    "text from number": ("text: 5", ["1:7: text: must be a text; put it in quotes, got 5"]),
    "text from null": ("text:", ["1:6: text: must be a text, got null"]),
    "text from list": ("text: []", ["1:7: text: must be a text, got an empty list"]),
    "text of two lines": ('text: "a\\nb"', ["1:7: text: must be one line without control characters, got 'a\\nb'"]),
    "bool of YAML 1.1": ("flag: on", ["1:7: flag: must be true or false, got on"]),
    "literal": ("mode: Slow", ["1:7: mode: must be fast or slow; did you mean 'slow'?, got Slow"]),
    "literal from list": ("mode: []", ["1:7: mode: must be fast or slow, got an empty list"]),
    "model from text": ("inner: x", ["1:8: inner: must be a mapping of keys and values, got x"]),
    "model from null": ("inner:", ["1:7: inner: must be a mapping of keys and values, got null"]),
    "list from scalar": ("list: 1", ["1:7: list: must be a list, got 1"]),
    "list from null": ("list:", ["1:6: list: must be a list, got null"]),
    "item": ("list: [1, x, 3, y]", [
        "1:11: list[1]: must be a whole number, got x",
        "1:17: list[3]: must be a whole number, got y",
    ]),
    "mapping from list": ("table: [1]", ["1:8: table: must be a mapping of names and values, got a list"]),
    "mapping's value": ("table: {a: x}", ["1:12: table.a: must be a whole number, got x"]),
    "deep": ("inner_table: {a: {size: x}}", ["1:25: inner_table.a.size: must be a whole number, got x"]),
    "missing below": ("inner: {ratio: 0.1}", ["1:8: inner.size: is missing; it is required (how large)"]),
    "form": ("wait: 2", ["1:7: wait: must have a unit, such as 500ms, 2s, 1m or 1h, got 2"]),
    "family without type": ("check: {}", ["1:8: check.type: is missing; it must be knock or ping"]),
    "family of text": ("check: ping", ["1:8: check: must be a mapping with a type, got ping"]),
    "family of null": ("check:", ["1:7: check: must be a mapping with a type, got null"]),
    "unknown type": ("check: {type: pin}", ["1:15: check.type: must be knock or ping; did you mean 'ping'?, got pin"]),
    "type that is a number": ("check: {type: 1}", ["1:15: check.type: must be knock or ping, got 1"]),
    "type that is a list": ("check: {type: [ping]}", ["1:15: check.type: must be knock or ping, got a list"]),
    "key of the family": ("check: {type: ping, cuont: 1}", ["1:21: check.cuont: unknown key; did you mean 'count'?"]),
    "rule": ("inner: {size: 1, ratio: 2}", ["1:25: inner.ratio: is larger than size, got 2"]),
    "rule of the whole": ("number: 14", ["1:1: cannot be 14"]),
    "rule of a whole below": ("inners: [{size: 0}]", ["1:10: inners[0]: is nothing"]),
    "mapping's name": ("ways: {up: 1, in: x}", [
        "1:8: ways.up: a way is in or out",
        "1:19: ways.in: must be a whole number, got x",
    ]),
    "rules with places": ("number: 13\ninner: {size: 1}", [
        "1:1: share: is needed with 13",
        "2:15: inner.size: does not go with 13, got 1",
    ]),
}  # fmt: skip


@pytest.mark.parametrize(("text", "said"), REFUSED.values(), ids=REFUSED)
def test_refused(text: str, said: list[str]) -> None:
    """Each annotation refuses everything else, at its place, with what it wants and what it got."""
    assert problems(text) == said


def test_all_problems_at_once_in_the_order_of_the_file() -> None:
    """Bad parts (a tag), unknown keys, wrong values and missing keys are reported together, sorted by place."""
    text = "mode: x\nnumbr: 1\ntext: !t a\ninner: {}\nnumber: x\nnumber: 2\nwait: ${NOT_SET}\n"
    assert [said.split(": ")[0:2] for said in problems(text)] == [
        ["1:7", "mode"],
        ["2:1", "numbr"],
        ["3:7", "text"],
        ["4:8", "inner.size"],
        ["5:9", "number"],
        ["6:1", "number"],
        ["7:7", "wait"],
    ]


def test_a_bad_part_is_reported_once() -> None:
    """A value that is bad in itself is not also of the wrong type, and its key is not also missing."""
    assert len(problems("number: !t x")) == 1
    assert len(problems("check: {type: !t x}")) == 1
    assert len(problems("inner: {!t size: 1}")) == 2  # here nobody can know which key was meant
    assert len(problems("wait: [!t x]")) == 1


def test_bad_parts_are_found_everywhere() -> None:
    """Also below an unknown key, and in a mapping that nobody validates."""
    assert len(problems("unknown: {a: [!t x]}")) == 2
    with pytest.raises(ConfigError):
        read("check: {type: x, y: !t z}", {})


def test_a_family_that_is_not_given_is_kept_as_it_is() -> None:
    """A reader that knows no models of a family finds the mapping itself, whatever stands in it."""
    assert read("check: {type: later, path: [1, {a: null}]}", {}).check == {"type": "later", "path": [1, {"a": None}]}
    with pytest.raises(ConfigError, match="must be a mapping with a type"):
        read("check: 5", {})


def test_names_of_mappings_are_safe() -> None:
    """A key that will be a service's name has the alphabet of names: no space, slash, newline or 101st letter."""
    for name in ('"a b"', '"a/b"', '"a\\nb"', "''", "-a", "é", "a" * 101):
        assert "a name is 1 to 100 letters" in problems(f"table: {{{name}: 1}}")[0], name
    assert read(f"table: {{{'a' * 100}: 1}}").table == {"a" * 100: 1}


def test_a_model_may_refuse_by_itself() -> None:
    """A ValueError of a model's own is a problem of its mapping."""
    with pytest.raises(ConfigError, match=r"^f:1:1: low is above high$"):
        validate(Raises, load("low: 2\nhigh: 1", "f", {}), path="f")


def test_rules_over_keys_wait_for_the_keys() -> None:
    """While a key is wrong in itself nothing is said about how it goes with others."""
    assert problems("number: 13\ninner: {size: x}") == ["2:15: inner.size: must be a whole number, got x"]


def test_many_problems_are_cut() -> None:
    """A wrong file (a log, a dump) is answered with the first problems and how many more there are, quickly."""
    said = problems("".join(f"key{n}: 1\n" for n in range(20_000)))
    assert len(said) == PROBLEM_LIMIT + 1
    assert said[0].startswith("1:1: key0: unknown key")
    assert said[-1] == f" has {20_000 - PROBLEM_LIMIT} more problems"


def test_a_form_may_name_several_parts() -> None:
    """A form that refuses parts of a list has each of them reported at its own place."""

    def parse(value: Any) -> Any:
        raise FormError({1: "second is wrong", 0: "first is wrong"})

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Holder:
        value: Annotated[Any, "", Form(parse, {})]

    with pytest.raises(ConfigError) as raised:
        validate(Holder, load("value: [a, b]", "f", {}), path="f")
    assert raised.value.problems == (
        Problem(path="f", line=1, column=9, key="value[0]", message="first is wrong", got="a"),
        Problem(path="f", line=1, column=12, key="value[1]", message="second is wrong", got="b"),
    )


@pytest.mark.parametrize(
    ("word", "names", "said"),
    [
        ("listne", ["listen", "mode"], "; did you mean 'listen'?"),
        ("LISTEN", ["listen", "mode"], "; did you mean 'listen'?"),
        ("colour", ["listen", "mode"], ""),
        ("x" * 1_000_000, ["listen", "mode"], ""),
        (5, ["listen", "mode"], ""),
        ("htp", ["http"], ""),
    ],
)
def test_hint(word: object, names: list[str], said: str) -> None:
    """A near name is offered; nothing for what is far from all, endless, no text, or where there is no choice."""
    assert hint(word, names) == said


def test_choice() -> None:
    """What a value may be, as English."""
    assert [choice(names) for names in (["a"], ["a", "b"], ["a", "b", "c"])] == [
        "must be a",
        "must be a or b",
        "must be one of a, b or c",
    ]


def test_kinds_of_annotations() -> None:
    """`Annotated` within and around `X | None` mean the same."""
    form = PORT
    around, within = kind_of(Annotated[int | None, "words", form]), kind_of(Annotated[int, "words", form] | None)
    assert around == within
    assert (around.type, around.null, around.description, around.form) == (int, True, "words", form)


def test_fields_have_fresh_defaults() -> None:
    """A default that is made by a factory is made anew; a required field has none."""
    fields = {field.name: field for field in model_fields(Outer)}
    table = fields["table"].default
    assert table is not None
    assert table() == {}
    assert table() is not table()
    assert model_fields(Knock)[0].default is None


REGISTRY_DIRECTORY = DirectoryUrl("registry")


@dataclass(frozen=True, slots=True, kw_only=True)
class Below:
    """Paths in a model in a model."""

    path: Annotated[str | None, "", PATH] = None
    program: Annotated[str, "", PROGRAM] = "haproxy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """Every form that knows of paths."""

    path: Annotated[str, "", PATH] = "services"
    registry: Annotated[RegistryUrl, "", REGISTRY] = REGISTRY_DIRECTORY
    below: Below = Below()


def test_relative_paths_are_anchored() -> None:
    """Paths, defaults among them, are below the directory; absolute ones, None and bare names of programs stay."""
    assert anchored(Paths(), "/etc/x") == Paths(path="/etc/x/services", registry=DirectoryUrl("/etc/x/registry"))
    assert anchored(Paths(path="./a//b/", below=Below(path="../t", program="bin/h")), "/etc") == Paths(
        path="/etc/a/b",
        registry=DirectoryUrl("/etc/registry"),
        below=Below(path="/etc/../t", program="/etc/bin/h"),
    )
    absolute = Paths(path="/a", registry=DirectoryUrl("/b"), below=Below(path="/c", program="/d/haproxy"))
    assert anchored(absolute, "/etc") == absolute


@dataclass(frozen=True, slots=True, kw_only=True)
class Deep:
    """Models with paths wherever a model can be."""

    one: Below | None = None
    many: tuple[Below, ...] = ()
    named: Mapping[str, Below] = field(default_factory=dict)
    paths: tuple[Annotated[str, "", PATH], ...] = ()
    places: Mapping[str, Annotated[str | None, "", PATH]] = field(default_factory=dict)
    check: Annotated[Any, OneOf("check")] = None
    checks: tuple[Annotated[Any, OneOf("check")], ...] = ()
    nested: Mapping[str, tuple[Below, ...]] = field(default_factory=dict)
    wait: Annotated[float, "", duration()] = 1.0


RELATIVE, ABSOLUTE = Below(path="a", program="b/c"), Below(path="/etc/a", program="/etc/b/c")
ANCHORED: dict[str, tuple[Deep, Deep]] = {
    "nothing": (Deep(), Deep()),
    "a model under None": (Deep(one=RELATIVE), Deep(one=ABSOLUTE)),
    "models in a list": (Deep(many=(RELATIVE, ABSOLUTE)), Deep(many=(ABSOLUTE, ABSOLUTE))),
    "models in a mapping": (Deep(named={"x": RELATIVE}), Deep(named={"x": ABSOLUTE})),
    "models in lists in a mapping": (Deep(nested={"x": (RELATIVE,)}), Deep(nested={"x": (ABSOLUTE,)})),
    "paths in a list": (Deep(paths=("a", "/b")), Deep(paths=("/etc/a", "/b"))),
    "paths in a mapping": (Deep(places={"x": "a", "y": None}), Deep(places={"x": "/etc/a", "y": None})),
    "a model of a family": (Deep(check=RELATIVE), Deep(check=ABSOLUTE)),
    "models of a family in a list": (Deep(checks=(RELATIVE, Ping())), Deep(checks=(ABSOLUTE, Ping()))),
    "of a family that is not known": (Deep(check={"path": "a"}), Deep(check={"path": "a"})),
    "of a family that is not known, in a list": (Deep(checks=({"path": "a"},)), Deep(checks=({"path": "a"},))),
}


@pytest.mark.parametrize(("before", "after"), ANCHORED.values(), ids=ANCHORED)
def test_paths_are_anchored_wherever_they_are(before: Deep, after: Deep) -> None:
    """In models in lists and mappings too, and in those of a family; twice is as good as once."""
    assert anchored(before, "/etc") == after
    assert anchored(after, "/usr") == after
