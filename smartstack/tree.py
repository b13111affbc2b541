"""What a configuration file says, with the place of each part: the common ground of the YAML reader and the models."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

SHOWN_LIMIT = 60
"""Longest value that a message shows, in characters."""

_CREDENTIALS = re.compile(r"//[^/@\s]*@")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scalar:
    """A text, a number, true, false or null. `shown` is how a message shows it: as written, never what an environment
    variable held, because that may be a secret."""

    line: int
    column: int
    value: str | int | float | bool | None
    shown: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """A YAML list."""

    line: int
    column: int
    items: tuple["Node", ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One key of a mapping, and what stands under it. The place is the key's."""

    line: int
    column: int
    value: "Node"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A YAML mapping. `refused` are the entries that it could not keep (a key given twice), with the key's text."""

    line: int
    column: int
    entries: Mapping[str, Entry]
    refused: tuple[tuple[str, "Bad"], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bad:
    """A part that is wrong whatever the model says, such as a tag or a variable that is not set."""

    line: int
    column: int
    message: str
    shown: str | None = None


Node: TypeAlias = Scalar | Items | Table | Bad


def bad_parts(node: Node, key: str = "") -> Iterator[tuple[str, Bad]]:
    """Every bad part of a tree, with its dotted key."""
    match node:
        case Bad():
            yield key, node
        case Items():
            for index, item in enumerate(node.items):
                yield from bad_parts(item, f"{key}[{index}]")
        case Table():
            for name, bad in node.refused:
                yield join(key, name), bad
            for name, entry in node.entries.items():
                yield from bad_parts(entry.value, join(key, name))


def plain(node: Node) -> Any:
    """The tree as dicts, lists and scalars; bad parts are None."""
    match node:
        case Scalar():
            return node.value
        case Items():
            return [plain(item) for item in node.items]
        case Table():
            return {name: plain(entry.value) for name, entry in node.entries.items()}
        case Bad():
            return None


def join(key: str, name: str) -> str:
    """The dotted key of `name` below `key`."""
    return f"{key}.{short(name)}" if key else short(name)


def show(node: Node) -> str | None:
    """A value as a message shows it."""
    match node:
        case Scalar():
            return node.shown
        case Items():
            return "a list" if node.items else "an empty list"
        case Table():
            return "a mapping" if node.entries else "an empty mapping"
        case Bad():
            return node.shown


def short(text: str) -> str:
    """Any text as one short line that can be printed, without the credentials of a URL."""
    text = _CREDENTIALS.sub("//***@", text[: SHOWN_LIMIT * 4])
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return line if len(line) <= SHOWN_LIMIT else line[: SHOWN_LIMIT - 3] + "..."
