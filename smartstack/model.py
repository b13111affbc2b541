"""Models: frozen dataclasses whose annotations say what a configuration key may be, in words and as JSON Schema.

A field is `name: Annotated[type, "what it means", Form(...)] = default`. The text is the description that an editor
shows. `Form` is there for what the type alone cannot say (a duration, an address); `OneOf` for a mapping whose `type`
key picks the model; `OFF` where the word `off` may stand for no model. The types that need none of these: int, float,
str, bool, Literal, `X | None`, another model, `tuple[X, ...]` (a YAML list) and `Mapping[str, X]`, whose keys are
names, or what the form of an annotated `str` says.

A model may have a method `problems(self) -> Iterable[tuple[str, str]]` for rules that take several keys: pairs of
a dotted key, seen from the model (empty: the model itself), and what is wrong.
"""

import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from functools import cache
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


class FormError(ValueError):
    """A list or a mapping of which some parts are wrong: what is wrong, by the key or the index of the part."""

    def __init__(self, parts: Mapping[str | int, str]) -> None:
        super().__init__("; ".join(parts.values()))
        self.parts = parts


def _same(value: Any) -> Any:
    return value


@dataclass(frozen=True, slots=True, eq=False)
class Form:
    """How a value is written: `parse` turns what stands in the file into what the field holds.

    `parse` raises `ValueError` with what the value must be (`must be a duration with a unit, such as 500ms or 2s`),
    never with the value itself, which may be a secret; `FormError` when only parts of it are wrong.
    `schema` is the JSON Schema of what stands in the file. `write` is the inverse of `parse`.
    `anchor` makes a value that holds a relative path absolute, given a directory.
    `null` False: `parse` decides what null means, also where the type has a None.
    `secret`: no message shows what stands in the file.
    """

    parse: Callable[[Any], Any]
    schema: Mapping[str, Any]
    write: Callable[[Any], Any] = _same
    anchor: Callable[[Any, str], Any] | None = None
    null: bool = True
    secret: bool = False


@dataclass(frozen=True, slots=True)
class Off:
    """The word `off` may stand in place of a mapping, and means None; an empty value does not."""


OFF = Off()


@dataclass(frozen=True, slots=True)
class OneOf:
    """A mapping whose `type` key names one of the models registered for `family` (see `validate`)."""

    family: str


Families = Mapping[str, Mapping[str, type]]
"""Of each family of models (`check`) the models by the `type` that picks them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """An annotation taken apart: the bare type without its None, and what `Annotated` adds to it."""

    type: Any
    null: bool
    description: str = ""
    form: Form | None = None
    one_of: OneOf | None = None
    off: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelField:
    """One key of a model. `default` is called for a fresh default; None where the key is required."""

    name: str
    kind: Kind
    default: Callable[[], Any] | None


def kind_of(hint: Any) -> Kind:
    """Take an annotation apart."""
    description, form, one_of, off = "", None, None, False
    if get_origin(hint) is Annotated:
        hint, *extras = get_args(hint)
        for extra in extras:
            match extra:
                case str():
                    description = extra
                case Form():
                    form = extra
                case OneOf():
                    one_of = extra
                case Off():
                    off = True
    null = False
    if get_origin(hint) in (Union, types.UnionType):
        kinds = get_args(hint)
        null = types.NoneType in kinds
        rest = [kind for kind in kinds if kind is not types.NoneType]
        if len(rest) == 1:
            inner = kind_of(rest[0])
            return Kind(
                type=inner.type,
                null=null,
                description=description or inner.description,
                form=form or inner.form,
                one_of=one_of or inner.one_of,
                off=off or inner.off,
            )
    return Kind(type=hint, null=null, description=description, form=form, one_of=one_of, off=off)


def model_fields(model: Any) -> tuple[ModelField, ...]:
    """The keys of a model (its class), in the order of that class."""
    return _model_fields(model)


@cache
def _model_fields(model: Any) -> tuple[ModelField, ...]:
    hints = get_type_hints(model, include_extras=True)
    return tuple(
        ModelField(name=field.name, kind=kind_of(hints[field.name]), default=_default(field))
        for field in fields(model)
        if field.init
    )


def _default(field: Any) -> Callable[[], Any] | None:
    if field.default is not MISSING:
        return lambda: field.default
    if field.default_factory is not MISSING:
        factory: Callable[[], Any] = field.default_factory
        return factory
    return None


def anchored(settings: T, directory: str) -> T:
    """The same model, with every relative path of a form that knows of paths made absolute against a directory: its
    own, those of models in lists and mappings, and those of the models that a family picked."""
    if not _may_hold_paths(type(settings)):
        return settings
    made: Any = settings
    changed: T = replace(
        made,
        **{
            field.name: _anchored(field.kind, getattr(settings, field.name), directory)
            for field in model_fields(type(settings))
        },
    )
    return changed


def _may_hold_paths(model: Any) -> bool:
    """Whether anything in this model, or in what it holds, could be a path: most parts of a definition cannot."""
    return _holds_path_forms(model)


@cache
def _holds_path_forms(model: Any) -> bool:
    return any(_may_be_path(field.kind) for field in model_fields(model))


def _may_be_path(kind: Kind) -> bool:
    if kind.form is not None:
        return kind.form.anchor is not None
    if kind.one_of is not None:
        return True
    if is_dataclass(kind.type):
        return _may_hold_paths(kind.type)
    return any(_may_be_path(kind_of(argument)) for argument in get_args(kind.type) if argument is not Ellipsis)


def _anchored(kind: Kind, value: Any, directory: str) -> Any:
    if kind.form is not None:
        return kind.form.anchor(value, directory) if kind.form.anchor and value is not None else value
    if is_dataclass(value):
        return anchored(value, directory)
    # What is left of a family that the reader does not know is a mapping of nobody knows what.
    if kind.one_of is None and isinstance(value, tuple):
        item = kind_of(get_args(kind.type)[0])
        return tuple(_anchored(item, one, directory) for one in value)
    if kind.one_of is None and isinstance(value, Mapping):
        item = kind_of(get_args(kind.type)[1])
        return {name: _anchored(item, one, directory) for name, one in value.items()}
    return value
