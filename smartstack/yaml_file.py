"""YAML text to a tree with places. The only home of yaml.

The text is read as events, not with a loader that makes objects: no tag can call anything, and the depth and the
expanded size of a file are bounded while it is read, before anything walks it.
"""

import codecs
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import yaml

from smartstack.errors import ConfigError, Problem
from smartstack.scalars import resolve, substitute
from smartstack.tree import Bad, Entry, Items, Node, Scalar, Table, short, show

SIZE_LIMIT = 1_048_576
"""Largest file, in bytes."""

DEPTH_LIMIT = 32
"""Deepest nesting, with what an alias stands for counted in its place."""

TOO_DEEP = f"is nested more than {DEPTH_LIMIT} levels deep"

NODE_LIMIT = 50_000
"""Most values of a file, with each alias counted as all of what it stands for."""

# libyaml where PyYAML was built with it; it is 10 times as fast.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# What may stand in a YAML stream (YAML 1.1, section 5.1).
_NOT_ALLOWED = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def load(text: str | bytes, path: str, env: Mapping[str, str]) -> Node:
    """The tree of a file with one mapping in it; `${NAME}` and `${NAME:-default}` are filled in from `env`.

    Raises ConfigError when there is no tree to speak of: not UTF-8, not YAML, empty, too large, too deep. What is
    wrong in one place only is a `Bad` part of the tree, for `validate` to report with everything else.
    """
    readable = _text(text, path)
    composer = _Composer(path=path, env=env)
    try:
        for event in yaml.parse(readable, Loader=_LOADER):
            composer.take(event)
    except yaml.MarkedYAMLError as error:
        _refuse_syntax(error, readable, path)
    except yaml.YAMLError as error:
        _refuse(path, 0, 0, f"is not YAML: {short(str(error))}")
    root = composer.root
    if root is None or (isinstance(root, Scalar) and root.value is None):
        raise ConfigError([Problem(path=path, message="the file is empty")])
    if isinstance(root, Scalar | Items):
        _refuse(path, root.line, root.column, "must be a mapping of keys and values, such as 'port: 8080'", show(root))
    return root


def _refuse(path: str, line: int, column: int, message: str, got: str | None = None) -> NoReturn:
    raise ConfigError([Problem(path=path, line=line, column=column, message=message, got=got)])


def _text(data: str | bytes, path: str) -> str:
    if len(data) > SIZE_LIMIT:
        _refuse(path, 0, 0, f"is larger than {SIZE_LIMIT} bytes")
    if isinstance(data, bytes):
        try:
            data = data.removeprefix(codecs.BOM_UTF8).decode("utf-8")
        except UnicodeDecodeError as error:
            line, column = _place(error.object[: error.start].decode("utf-8"))
            _refuse(path, line, column, "is not UTF-8", f"the byte 0x{error.object[error.start]:02x}")
    wrong = _NOT_ALLOWED.search(data)
    if wrong:
        line, column = _place(data[: wrong.start()])
        _refuse(path, line, column, "holds a character that YAML does not allow", f"U+{ord(wrong[0]):04X}")
    return data


def _place(before: str) -> tuple[int, int]:
    """Line and column, from 1, of what follows this text."""
    return before.count("\n") + 1, len(before) - before.rfind("\n")


def _refuse_syntax(error: yaml.MarkedYAMLError, text: str, path: str) -> NoReturn:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
    message = f"is not YAML: {error.problem or 'it cannot be read'}"
    if error.problem and "nesting depth" in error.problem:
        # The parser looks ahead, and since PyYAML 6.0.4 has a limit of its own, which is far above ours.
        _refuse(path, line, column, TOO_DEEP)
    if error.context:
        began = error.context_mark
        where = f" that begins on line {began.line + 1}" if began and began.line + 1 != line else ""
        message += f", {error.context}{where}"
    lines = text.split("\n")
    if 0 < line <= len(lines) and "${" in lines[line - 1] and re.search(r"[\[{].*\$\{", lines[line - 1]):
        message += "; a ${VARIABLE} between { } or [ ] must stand in quotes"
    _refuse(path, line, column, message)


@dataclass(frozen=True, slots=True)
class _Part:
    """A node, how many values it is, and how deep. `quoted`: it was written in quotes."""

    node: Node
    size: int = 1
    height: int = 0
    quoted: bool = False


@dataclass(slots=True)
class _Open:
    """A list or a mapping that has begun and not ended; of a mapping, keys and values stand in turn in `parts`."""

    line: int
    column: int
    mapping: bool
    anchor: str | None
    tag: str | None
    parts: list[_Part] = field(default_factory=list)
    size: int = 1
    height: int = 1

    @property
    def awaits_key(self) -> bool:
        return self.mapping and len(self.parts) % 2 == 0


@dataclass(slots=True)
class _Composer:
    """Makes the tree from events, and keeps it within the limits."""

    path: str
    env: Mapping[str, str]
    root: Node | None = None
    _open: list[_Open] = field(default_factory=list)
    _anchors: dict[str, _Part] = field(default_factory=dict)

    def take(self, event: Any) -> None:
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        match event:
            case yaml.ScalarEvent():
                self._attach(self._scalar(event.value, bool(event.style), line, column), event.anchor, event.tag)
            case yaml.AliasEvent():
                self._attach(self._alias(event.anchor or "", line, column))
            case yaml.SequenceStartEvent() | yaml.MappingStartEvent():
                mapping = isinstance(event, yaml.MappingStartEvent)
                # The name stands for nothing until this ends, also if it stood for something before.
                self._anchors.pop(event.anchor or "", None)
                self._open.append(_Open(line, column, mapping, event.anchor, event.tag))
                self._bound(line, column)
            case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                ended = self._open.pop()
                node = _table(ended) if ended.mapping else _items(ended)
                self._attach(_Part(node, ended.size, ended.height), ended.anchor, ended.tag)
            case yaml.DocumentStartEvent() if self.root is not None:
                _refuse(self.path, line, column, "a second document begins; a file holds one")

    def _scalar(self, text: str, quoted: bool, line: int, column: int) -> _Part:
        shown = f"'{short(text)}'" if quoted else short(text) or "null"
        if self._open and self._open[-1].awaits_key:
            return _Part(Scalar(line=line, column=column, value=text, shown=shown), quoted=quoted)
        try:
            filled = substitute(text, self.env)
        except ValueError as error:
            return _Part(Bad(line=line, column=column, message=str(error), shown=shown))
        value = filled if quoted else resolve(filled)
        return _Part(Scalar(line=line, column=column, value=value, shown=shown), quoted=quoted)

    def _alias(self, name: str, line: int, column: int) -> _Part:
        if known := self._anchors.get(name):
            self._bound(line, column, known)
            return known
        if any(opened.anchor == name for opened in self._open):
            _refuse(self.path, line, column, "is an alias of what it stands in", f"*{short(name)}")
        return _Part(Bad(line=line, column=column, message="is an alias of nothing above it", shown=f"*{short(name)}"))

    def _attach(self, part: _Part, anchor: str | None = None, tag: str | None = None) -> None:
        node = part.node
        # A text in quotes carries the tag '!' in some of libyaml's events.
        if tag is not None and not (tag == "!" and part.quoted):
            message = "a tag is not allowed; write a text in quotes and everything else as it is"
            shown = short(tag.replace("tag:yaml.org,2002:", "!!", 1))
            part = replace(part, node=Bad(line=node.line, column=node.column, message=message, shown=shown))
        if anchor is not None:
            self._anchors[anchor] = part
        if not self._open:
            self.root = part.node
            return
        parent = self._open[-1]
        parent.parts.append(part)
        parent.size += part.size
        parent.height = max(parent.height, part.height + 1)
        self._bound(node.line, node.column)

    def _bound(self, line: int, column: int, added: _Part | None = None) -> None:
        """Refuse the file when it is, with a part added, too deep or too large."""
        height, size = (added.height, added.size) if added else (0, 0)
        if len(self._open) + height > DEPTH_LIMIT:
            _refuse(self.path, line, column, TOO_DEEP)
        if sum(opened.size for opened in self._open) + size > NODE_LIMIT:
            _refuse(self.path, line, column, f"makes the file more than {NODE_LIMIT} values, aliases counted in full")


def _items(ended: _Open) -> Items:
    return Items(line=ended.line, column=ended.column, items=tuple(part.node for part in ended.parts))


def _table(ended: _Open) -> Table:
    entries: dict[str, Entry] = {}
    refused: list[tuple[str, Bad]] = []
    merged: list[Node] = []
    parts = iter(ended.parts)
    for key_part, value_part in zip(parts, parts, strict=True):
        key, value = key_part.node, value_part.node
        if not isinstance(key, Scalar) or key.value is None:
            message = key.message if isinstance(key, Bad) else "a key must be a text"
            refused.append(("", Bad(line=key.line, column=key.column, message=message, shown=show(key))))
            continue
        name = str(key.value)
        if name == "<<" and not key_part.quoted:
            if merged:
                refused.append((name, Bad(line=key.line, column=key.column, message="is given twice; merge a list")))
            merged = merged or [value]
        elif name in entries:
            message = f"is given twice, first on line {entries[name].line}"
            refused.append((name, Bad(line=key.line, column=key.column, message=message)))
        else:
            entries[name] = Entry(line=key.line, column=key.column, value=value)
    for source in merged:
        _merge(source, entries, refused)
    return Table(line=ended.line, column=ended.column, entries=entries, refused=tuple(refused))


def _merge(source: Node, entries: dict[str, Entry], refused: list[tuple[str, Bad]]) -> None:
    """YAML's `<<`: take the keys of other mappings that are not given here; of several the first has its way."""
    for table in source.items if isinstance(source, Items) else (source,):
        if isinstance(table, Table):
            for name, entry in table.entries.items():
                entries.setdefault(name, entry)
        else:
            message = table.message if isinstance(table, Bad) else "must be an alias of a mapping"
            refused.append(("<<", Bad(line=table.line, column=table.column, message=message, shown=show(table))))
