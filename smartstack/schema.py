"""JSON Schema (draft 2020-12) of the configuration files, from the same models that validate them."""

from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any, Literal, get_args, get_origin

from smartstack.instance import NAME
from smartstack.model import Families, Kind, ModelField, kind_of, model_fields

_VARIABLE = {"$ref": "#/$defs/variable"}
_SCALARS = {int: "integer", float: "number", bool: "boolean", str: "string"}


def json_schema(model: type, families: Families, title: str) -> dict[str, Any]:
    """The schema of a file that holds this model; `families` must have every family that its `OneOf`s name."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        **_object(model),
        "$defs": {
            "variable": {
                "type": "string",
                "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-.*)?\}",
                "description": "filled in from the environment: ${NAME}, or ${NAME:-default}",
            },
            **{family: _family(models) for family, models in sorted(families.items())},
        },
    }


def _object(model: type, type_name: str | None = None) -> dict[str, Any]:
    """A mapping with exactly the keys of a model, and with the `type` that picks it, if something does."""
    fields = model_fields(model)
    picked = {} if type_name is None else {"type": {"const": type_name}}
    required = [*picked, *(field.name for field in fields if field.default is None)]
    return {
        "description": " ".join((model.__doc__ or "").split("\n\n")[0].split()),
        "type": "object",
        "properties": picked | {field.name: _field(field) for field in fields},
        **({"required": required} if required else {}),
        "additionalProperties": False,
    }


def _field(field: ModelField) -> dict[str, Any]:
    schema = _value(field.kind)
    if field.kind.description:
        schema = {**schema, "description": field.kind.description}
    if field.default is not None:
        default = field.default()
        if default is not None or field.kind.null:
            schema = {**schema, "default": _written(field.kind, default)}
    return schema


def _value(kind: Kind) -> dict[str, Any]:
    choices = [_bare(kind)]
    if choices[0].get("type") not in ("object", "array") and "$ref" not in choices[0]:
        choices.append(_VARIABLE)
    if kind.null and (kind.form is None or kind.form.null):
        choices.append({"const": "off"} if kind.off else {"type": "null"})
    return choices[0] if len(choices) == 1 else {"anyOf": choices}


def _bare(kind: Kind) -> dict[str, Any]:
    """What may stand there beside null and a variable."""
    if kind.form is not None:
        return dict(kind.form.schema)
    if kind.one_of is not None:
        return {"$ref": f"#/$defs/{kind.one_of.family}"}
    if is_dataclass(kind.type) and isinstance(kind.type, type):
        return _object(kind.type)
    origin, arguments = get_origin(kind.type), get_args(kind.type)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is tuple:
        return {"type": "array", "items": _value(kind_of(arguments[0]))}
    if origin is not None and issubclass(origin, Mapping):
        names, values = map(kind_of, arguments)
        pattern = {"pattern": f"^{NAME.pattern}$"} if names.form is None else dict(names.form.schema)
        return {"type": "object", "propertyNames": pattern, "additionalProperties": _value(values)}
    return {"type": _SCALARS[kind.type]}


def _family(models: Mapping[str, type]) -> dict[str, Any]:
    """A mapping whose `type` says which keys it has. Conditions, not alternatives: an editor then complains about the
    wrong key, not about every model that the mapping is not."""
    return {
        "type": "object",
        "properties": {"type": {"enum": sorted(models)}},
        "required": ["type"],
        "allOf": [
            {"if": {"properties": {"type": {"const": name}}, "required": ["type"]}, "then": _object(model, name)}
            for name, model in sorted(models.items())
        ],
    }


def _written(kind: Kind, value: Any) -> Any:
    """A default as it would stand in the file."""
    if kind.form is not None and not (value is None and kind.form.null):
        return kind.form.write(value)
    if is_dataclass(value):
        return {}
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple):
        item = kind_of(get_args(kind.type)[0])
        return [_written(item, one) for one in value]
    return value
