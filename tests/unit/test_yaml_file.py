"""YAML text to a tree: places, variables, YAML 1.1's traps, and the limits that no file can pass."""

from typing import Any

import pytest

from smartstack.errors import ConfigError
from smartstack.scalars import resolve, substitute
from smartstack.tree import Bad, Scalar, Table, bad_parts, plain, short
from smartstack.yaml_file import DEPTH_LIMIT, NODE_LIMIT, SIZE_LIMIT, load

ENVIRONMENT = {"PORT": "8080", "EMPTY": "", "ZONE": "no", "LIST": "[1, 2]", "PAIR": "a: b", "NESTED": "${PORT}"}


def loaded(text: str | bytes) -> Any:
    """The plain value of a file."""
    return plain(load(text, "f.yaml", ENVIRONMENT))


def refused(text: str | bytes) -> str:
    """What is said about a file that has no tree."""
    with pytest.raises(ConfigError) as raised:
        load(text, "f.yaml", ENVIRONMENT)
    assert len(raised.value.problems) == 1
    return str(raised.value)


def bad(text: str) -> list[str]:
    """The bad parts of a file as `key: message`."""
    return [f"{key}: {part.message}" for key, part in bad_parts(load(text, "f.yaml", ENVIRONMENT))]


WORDS: dict[str, Any] = {
    "8080": 8080,
    "-5": -5,
    "+5": 5,
    "0": 0,
    "1.5": 1.5,
    "1e3": 1000.0,
    "-0.5E-1": -0.05,
    "true": True,
    "False": False,
    "null": None,
    "~": None,
    "": None,
    # What YAML 1.1 would make a bool, an octal or sexagesimal number, a date, an infinity:
    "on": "on",
    "off": "off",
    "yes": "yes",
    "no": "no",
    "y": "y",
    "0777": "0777",
    "0o17": "0o17",
    "0x1F": "0x1F",
    "0b1": "0b1",
    "1_000": "1_000",
    "12:30": "12:30",
    "190:20:30": "190:20:30",
    "2024-01-01": "2024-01-01",
    ".inf": ".inf",
    ".nan": ".nan",
    "1e999": "1e999",
    "9" * 5000: "9" * 5000,
    "=": "=",
}


@pytest.mark.parametrize(("word", "value"), WORDS.items(), ids=[word[:12] or "empty" for word in WORDS])
def test_plain_words(word: str, value: Any) -> None:
    """A word without quotes is what YAML 1.2 makes of it; all that YAML 1.1 made of it by surprise is a text."""
    assert resolve(word) == value
    assert type(resolve(word)) is type(value)
    assert loaded(f"a: {word}") == {"a": value}


def test_quotes_make_a_text() -> None:
    """A word in quotes, or in a block, is a text, whatever it looks like."""
    assert loaded("a: '8080'\nb: \"true\"\nc: ''\nd: |-\n  12\n") == {"a": "8080", "b": "true", "c": "", "d": "12"}


def test_keys_are_texts() -> None:
    """A key is the text that is written, also where it looks like a number, a bool or null, and is never filled in."""
    assert loaded("8080: a\non: b\nnull: c\n${PORT}: d") == {"8080": "a", "on": "b", "null": "c", "${PORT}": "d"}


VARIABLES: dict[str, tuple[str, Any]] = {
    "plain is resolved afterwards": ("${PORT}", 8080),
    "quoted stays a text": ("'${PORT}'", "8080"),
    "within a text": ("host:${PORT}/x", "host:8080/x"),
    "default unused": ("${PORT:-1}", 8080),
    "default for unset": ("${UNSET:-9000}", 9000),
    "default for empty": ("${EMPTY:-9000}", 9000),
    "empty without default": ("${EMPTY}", None),
    "empty default": ("${UNSET:-}", None),
    "default with colon and dash": ("${UNSET:-a:-b}", "a:-b"),
    "several": ("${PORT}${PORT}", 80808080),
    "escaped": ("$${PORT}", "${PORT}"),
    "escaped in quotes": ('"$${PORT} ${PORT}"', "${PORT} 8080"),
    "dollars that are no variable": ("$PORT $$ $", "$PORT $$ $"),
    "a value is never a list": ("${LIST}", "[1, 2]"),
    "a value is never a mapping": ("${PAIR}", "a: b"),
    "a value is not filled in again": ("${NESTED}", "${PORT}"),
    "a word of YAML 1.1": ("${ZONE}", "no"),
}


@pytest.mark.parametrize(("text", "value"), VARIABLES.values(), ids=VARIABLES)
def test_variables(text: str, value: Any) -> None:
    """Environment variables are filled in before a word's type is looked at, and never change the file's shape."""
    assert loaded(f"a: {text}") == {"a": value}


def test_every_missing_variable_is_named() -> None:
    """A variable that is not set is named, and is a problem of its value alone."""
    assert bad("a: ${ONE}\nb: {c: 'x${TWO}y${ONE}'}\nd: ${PORT}") == [
        "a: environment variable ONE is not set; ${NAME:-default} gives a default",
        "b.c: ONE and TWO are not set; ${NAME:-default} gives a default",
    ]


@pytest.mark.parametrize("text", ["${", "${PORT", "${}", "${1A}", "${PORT:default}", "${PORT-x}", "${ PORT }"])
def test_what_looks_like_a_variable_and_is_none(text: str) -> None:
    """A `${` that is neither a variable nor escaped is an error, not a text that silently stays."""
    with pytest.raises(ValueError, match=r"a variable is written \$\{NAME\}"):
        substitute(text, ENVIRONMENT)


def test_a_variables_value_is_never_shown() -> None:
    """What an environment variable holds may be a secret: a message shows the file's words."""
    tree = load("a: ${PORT}", "f.yaml", ENVIRONMENT)
    assert isinstance(tree, Table)
    value = tree.entries["a"].value
    assert isinstance(value, Scalar)
    assert (value.value, value.shown) == (8080, "${PORT}")


def test_places_count_characters_from_one() -> None:
    """Lines and columns are those that an editor shows, also after letters of several bytes."""
    tree = load("\ufeffé: 1\nlist:\n  - {ü: x, b: !t y}\n".encode(), "f.yaml", {})
    assert [(key, part.line, part.column) for key, part in bad_parts(tree)] == [("list[0].b", 3, 15)]


def test_anchors_and_merges() -> None:
    """An alias is what it names; `<<` takes keys that are not given, of several mappings the first has its way."""
    text = "a: &a {x: 1, y: 2}\nb: *a\nc: {<<: *a, y: 3}\nd: &d {y: 4, z: 5}\ne: {<<: [*d, *a]}\n'<<': 6\n"
    assert loaded(text) == {
        "a": {"x": 1, "y": 2},
        "b": {"x": 1, "y": 2},
        "c": {"x": 1, "y": 3},
        "d": {"y": 4, "z": 5},
        "e": {"x": 1, "y": 4, "z": 5},
        "<<": 6,
    }


def test_an_anchor_may_be_given_again() -> None:
    """An alias is the last thing above it that has the name, and never what it stands in."""
    assert loaded("a: &x 1\nb: *x\nc: &x 2\nd: *x") == {"a": 1, "b": 1, "c": 2, "d": 2}
    assert "is an alias of what it stands in" in refused("a: &x 1\nb: &x [*x]")


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.system", "!!python/name:os.system", "!!binary", "!x", "!!str"]
)
@pytest.mark.parametrize("value", ["x", "[x]", "{x: y}", "'x'"])
def test_tags_are_refused(tag: str, value: str) -> None:
    """No tag is obeyed: not on a text, a list or a mapping."""
    assert bad(f"a: {tag} {value}") == ["a: a tag is not allowed; write a text in quotes and everything else as it is"]


REFUSED: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "f.yaml: the file is empty"),
    "empty bytes": (b"", "f.yaml: the file is empty"),
    "byte order mark only": (b"\xef\xbb\xbf", "f.yaml: the file is empty"),
    "white space": (" \n\n", "f.yaml: the file is empty"),
    "document marks": ("---\n...\n", "f.yaml: the file is empty"),
    "null": ("null", "f.yaml: the file is empty"),
    "latin 1": (b"a: b\nc: caf\xe9", "f.yaml:2:7: is not UTF-8, got the byte 0xe9"),
    "utf-16": ("port: 1".encode("utf-16"), "f.yaml:1:1: is not UTF-8, got the byte 0xff"),
    "cut in a character": ("a: é".encode()[:-1], "f.yaml:1:4: is not UTF-8, got the byte 0xc3"),
    "NUL": ("a: b\nc: d\0", "f.yaml:2:5: holds a character that YAML does not allow, got U+0000"),
    "surrogate": ("a: \ud800", "f.yaml:1:4: holds a character that YAML does not allow, got U+D800"),
    "second document": ("a: 1\n---\nb: 2", "f.yaml:2:1: a second document begins; a file holds one"),
    "too large": (b"#" * (SIZE_LIMIT + 1), f"f.yaml: is larger than {SIZE_LIMIT} bytes"),
}


@pytest.mark.parametrize(("text", "said"), REFUSED.values(), ids=REFUSED)
def test_files_without_a_tree(text: str | bytes, said: str) -> None:
    """What cannot be read at all is one problem, with its place where there is one."""
    assert refused(text) == said


def test_a_file_of_the_largest_size_is_read() -> None:
    """The limit itself is allowed."""
    assert loaded(b"a: 1\n#" + b"x" * (SIZE_LIMIT - 6)) == {"a": 1}


def test_depth_is_limited_with_aliases_in_their_place() -> None:
    """Neither brackets nor a chain of aliases nests deeper than the limit, which itself is allowed."""
    inner = DEPTH_LIMIT - 1
    assert loaded("a: " + "[" * inner + "]" * inner)
    assert f"more than {DEPTH_LIMIT} levels" in refused("a: " + "[" * (inner + 1) + "]" * (inner + 1))
    chain = "".join(f"k{n}: &a{n} [*a{n - 1}]\n" for n in range(1, inner))
    assert loaded(f"k0: &a0 []\n{chain}")
    longer = "".join(f"k{n}: &a{n} [*a{n - 1}]\n" for n in range(1, inner + 1))
    assert f"more than {DEPTH_LIMIT} levels" in refused(f"k0: &a0 []\n{longer}")


def test_a_very_deep_file_is_refused_and_not_a_crash() -> None:
    """The parser itself is stopped at the limit, long before it could exhaust a stack."""
    for opened in ("[", "{a: ", "- ", "? "):
        assert f"more than {DEPTH_LIMIT} levels" in refused("a:\n" + "  " + opened * 100_000)


def test_expanded_size_is_limited() -> None:
    """Aliases count for all of what they stand for, so that a small file cannot become a large one."""
    half = "[" + "1, " * (NODE_LIMIT // 2 - 10) + "]"
    assert len(loaded(f"a: &a {half}\nb: *a")["b"]) == NODE_LIMIT // 2 - 10
    assert f"more than {NODE_LIMIT} values" in refused(f"a: &a {half}\nb: *a\nc: *a")
    assert f"more than {NODE_LIMIT} values" in refused(f"a: &a {half}\nb: {{<<: [*a, *a]}}")


@pytest.mark.parametrize("levels", [9, 25])
def test_laughs_stay_few(levels: int) -> None:
    """Ten to the 25th laughs are refused when the limit is reached; to expand them would never end."""
    lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels + 1)]
    assert f"more than {NODE_LIMIT} values" in refused("\n".join(lines))


def test_shown_values_are_short_and_printable() -> None:
    """A message is one line: no control characters, no kilobytes, no password of a URL."""
    assert short("a\nb\x1b[31m") == "a\\nb\\x1b[31m"
    assert len(short("x" * 1_000_000)) == 60
    assert short("etcd://user:secret@host/x") == "etcd://***@host/x"
    assert short("café") == "café"


def test_a_key_given_twice_keeps_its_first_value() -> None:
    """The second is a problem at its own place."""
    tree = load("a: 1\nb: 2\na: 3", "f.yaml", {})
    assert plain(tree) == {"a": 1, "b": 2}
    assert list(bad_parts(tree)) == [("a", Bad(line=3, column=1, message="is given twice, first on line 1"))]
