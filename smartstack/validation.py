"""From a tree to a model: every problem of a file at once, each with its place."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any, Final, Literal, TypeVar, get_args, get_origin

from smartstack.errors import ConfigError, Problem
from smartstack.instance import NAME
from smartstack.model import Families, FormError, Kind, kind_of, model_fields
from smartstack.tree import Bad, Items, Node, Scalar, Table, bad_parts, join, plain, show

T = TypeVar("T")

PROBLEM_LIMIT = 100
"""Most problems that are reported of one file: beyond that somebody has put the wrong file there."""


class _Nothing:
    """What could not be read; its problem is reported."""


_NOTHING: Final = _Nothing()


def validate(model: type[T], node: Node, *, path: str, families: Families | None = None) -> T:
    """The model that a tree describes. Of a family that is not in `families` the mapping is kept as a dict.

    Raises ConfigError with every problem of the file, in the order of their places; `path` is the file's name in them.
    """
    reader = _Reader(path, families or {})
    for key, bad in bad_parts(node):
        reader.report(bad, key, bad.message, bad.shown)
    value = reader.model(model, node, "")
    if reader.problems or isinstance(value, _Nothing):
        problems = sorted(reader.problems, key=lambda problem: (problem.line, problem.column, problem.key))
        if len(problems) > PROBLEM_LIMIT:
            more = Problem(path=path, message=f"has {len(problems) - PROBLEM_LIMIT} more problems")
            problems = [*problems[:PROBLEM_LIMIT], more]
        raise ConfigError(problems)
    return value


def choice(names: Sequence[str]) -> str:
    """`must be http or tcp`, `must be one of http, tcp or exec`: for the names that a value may be."""
    *some, last = names
    return f"must be {'one of ' if len(some) > 1 else ''}{', '.join(some)}{' or ' if some else ''}{last}"


def hint(word: object, names: Collection[str]) -> str:
    """`; did you mean 'listen'?`, when one of several names is close to this word; empty when none is."""
    if not isinstance(word, str) or len(word) > 64 or len(names) < 2:
        return ""
    import difflib  # 150 kB, which a daemon whose files are right does not need

    near = difflib.get_close_matches(word.lower(), sorted(names), n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else ""


class _Reader:
    def __init__(self, path: str, families: Families) -> None:
        self._path = path
        self._families = families
        self.problems: list[Problem] = []

    def report(self, place: Any, key: str, message: str, got: str | None = None) -> _Nothing:
        """Note a problem at the place of a node or of an entry."""
        self.problems.append(
            Problem(path=self._path, line=place.line, column=place.column, key=key, message=message, got=got)
        )
        return _NOTHING

    def value(self, kind: Kind, node: Node, key: str) -> Any:
        """What a node means for an annotation, or _NOTHING when that is reported."""
        if isinstance(node, Bad):
            return _NOTHING
        empty = "off" if kind.off else None
        is_empty = isinstance(node, Scalar) and node.value == empty
        if is_empty and kind.null and (kind.form is None or kind.form.null):
            return None
        if kind.form is not None:
            return self._formed(kind, node, key)
        if kind.one_of is not None:
            return self._one_of(kind.one_of.family, node, key)
        if is_dataclass(kind.type) and isinstance(kind.type, type):
            if kind.off and isinstance(node, Scalar):
                return self.report(node, key, "must be a mapping of keys and values, or off", show(node))
            return self.model(kind.type, node, key)
        origin = get_origin(kind.type)
        if origin is tuple:
            return self._items(kind_of(get_args(kind.type)[0]), node, key)
        if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
            names, values = map(kind_of, get_args(kind.type))
            return self._mapping(names, values, node, key)
        return self._scalar(kind.type, node, key)

    def model(self, model: type[T], node: Node, key: str, *, picked: bool = False) -> T | _Nothing:
        """A model from a mapping. `picked`: the mapping also holds the `type` that picked this model."""
        if isinstance(node, Bad):
            return _NOTHING
        if not isinstance(node, Table):
            return self.report(node, key, "must be a mapping of keys and values", show(node))
        known = {field.name: field for field in model_fields(model)}
        for name, entry in node.entries.items():
            if name not in known and not (picked and name == "type"):
                self._unknown_key(name, entry, join(key, name), [*known, "type"] if picked else list(known))
        values: dict[str, Any] = {}
        refused = {name for name, _ in node.refused}
        for name, field in known.items():
            if name in node.entries:
                values[name] = self.value(field.kind, node.entries[name].value, join(key, name))
            elif field.default is None and name not in refused:
                meaning = f" ({field.kind.description})" if field.kind.description else ""
                values[name] = self.report(node, join(key, name), f"is missing; it is required{meaning}")
        if any(isinstance(value, _Nothing) for value in values.values()):
            return _NOTHING
        try:
            made = model(**values)
        except ValueError as error:
            return self.report(node, key, str(error))
        return self._checked(made, node, key)

    def _checked(self, made: T, node: Table, key: str) -> T | _Nothing:
        """Ask a model that has rules over several keys."""
        rules = getattr(made, "problems", None)
        found = list(rules()) if callable(rules) else []
        for dotted, message in found:
            place: Any = node
            value: Node = node
            for name in dotted.split("."):
                if not isinstance(value, Table) or name not in value.entries:
                    break
                place = value = value.entries[name].value
            got = None if place is node else show(place)
            self.report(place, ".".join(part for part in (key, dotted) if part), message, got)
        return _NOTHING if found else made

    def _unknown_key(self, name: str, place: Any, key: str, known: list[str]) -> None:
        # The search is slow enough to matter in a file that holds nothing but unknown keys.
        meant = hint(name, known) if len(self.problems) < PROBLEM_LIMIT else ""
        self.report(place, key, f"unknown key{meant or '; known are ' + ', '.join(known)}")

    def _formed(self, kind: Kind, node: Node, key: str) -> Any:
        assert kind.form is not None
        if any(True for _ in bad_parts(node)):
            return _NOTHING
        try:
            return kind.form.parse(plain(node))
        except FormError as error:
            for part, message in error.parts.items():
                if isinstance(node, Table) and isinstance(part, str):
                    value = node.entries[part].value
                    self.report(value, join(key, part), message, show(value))
                elif isinstance(node, Items) and isinstance(part, int):
                    self.report(node.items[part], f"{key}[{part}]", message, show(node.items[part]))
            return _NOTHING
        except ValueError as error:
            return self.report(node, key, str(error), None if kind.form.secret else show(node))

    def _one_of(self, family: str, node: Node, key: str) -> Any:
        models = self._families.get(family)
        if not isinstance(node, Table):
            return self.report(node, key, "must be a mapping with a type", show(node))
        if models is None:
            return _NOTHING if any(True for _ in bad_parts(node)) else plain(node)
        kind = node.entries.get("type")
        accepted = choice(sorted(models))
        if kind is None:
            if any(name == "type" for name, _ in node.refused):
                return _NOTHING
            return self.report(node, join(key, "type"), f"is missing; it {accepted}")
        if isinstance(kind.value, Bad):
            return _NOTHING
        name = plain(kind.value)
        if not isinstance(name, str) or name not in models:
            return self.report(kind.value, join(key, "type"), accepted + hint(name, models), show(kind.value))
        return self.model(models[name], node, key, picked=True)

    def _items(self, kind: Kind, node: Node, key: str) -> Any:
        if not isinstance(node, Items):
            return self.report(node, key, "must be a list", show(node))
        values = [self.value(kind, item, f"{key}[{index}]") for index, item in enumerate(node.items)]
        return _NOTHING if any(isinstance(value, _Nothing) for value in values) else tuple(values)

    def _mapping(self, names: Kind, kind: Kind, node: Node, key: str) -> Any:
        if not isinstance(node, Table):
            return self.report(node, key, "must be a mapping of names and values", show(node))
        values: dict[str, Any] = {}
        for name, entry in node.entries.items():
            try:
                _check_name(names, name)
            except ValueError as error:
                values[name] = self.report(entry, join(key, name), str(error))
            else:
                values[name] = self.value(kind, entry.value, join(key, name))
        return _NOTHING if any(isinstance(value, _Nothing) for value in values.values()) else values

    def _scalar(self, kind: Any, node: Node, key: str) -> Any:
        value = node.value if isinstance(node, Scalar) else None
        if get_origin(kind) is Literal:
            names = get_args(kind)
            if isinstance(value, str) and value in names:
                return value
            return self.report(node, key, choice(names) + hint(value, names), show(node))
        if kind is bool:
            return value if isinstance(value, bool) else self.report(node, key, "must be true or false", show(node))
        if kind is str:
            if isinstance(value, str) and value.isprintable():
                return value
            message = "must be one line without control characters" if isinstance(value, str) else text_wanted(value)
            return self.report(node, key, message, show(node))
        if isinstance(value, bool) or not isinstance(value, int if kind is int else int | float):
            wanted = "must be a whole number" if kind is int else "must be a number"
            return self.report(node, key, wanted, show(node))
        return value if kind is int else float(value)


def _check_name(names: Kind, name: str) -> None:
    if names.form is not None:
        names.form.parse(name)
    elif not NAME.fullmatch(name):
        raise ValueError("a name is 1 to 100 letters, digits, '_', '.' and '-', and begins with a letter or a digit")


def text_wanted(value: object) -> str:
    """What to say where a text is wanted and something else was found."""
    return "must be a text; put it in quotes" if isinstance(value, int | float | bool) else "must be a text"
