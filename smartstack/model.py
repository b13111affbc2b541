"""Models: frozen dataclasses whose annotations say what a configuration key may be, in words and as JSON Schema.

A field is `name: Annotated[type, "what it means", Form(...)] = default`. The text is the description that an editor
shows. `Form` is there for what the type alone cannot say (a duration, an address); `OneOf` for a mapping whose `type`
key picks the model.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Form:
    """How a value is written: `parse` turns what stands in the file into what the field holds.

    `parse` raises `ValueError` with what the value must be (`must be a duration with a unit, such as 500ms or 2s`).
    `schema` is the JSON Schema of what stands in the file.
    """

    parse: Callable[[Any], Any]
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class OneOf:
    """A mapping whose `type` key names one of the models registered for `family` (see `validate`)."""

    family: str
