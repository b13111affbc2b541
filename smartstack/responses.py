"""What the admin address answers, and to what: text for a sentence, JSON for everything else. Pure."""

import dataclasses
import enum
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

SERVER: Final = "smartstack"
"""The `Server` header, by which a command line knows one of our daemons."""

_TEXT: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Response:
    """What a route or an action answers; `headers` beyond the usual ones."""

    status: int
    body: bytes
    content_type: str = _TEXT
    headers: tuple[tuple[str, str], ...] = ()


Route = Callable[[], Response]
"""What a GET of one path is answered with."""

PrefixRoute = Callable[[str], Response]
"""What a GET below a path is answered with. It gets the rest of the path: decoded, never empty, and any text at all."""


Question = Callable[[str, Mapping[str, str]], Response]
"""What a GET of a path, or below it, with a query is answered with. It gets the rest of the path after the slash,
decoded and maybe empty, and the query's parameters, of each the last. It may keep its asker waiting, where the server
has threads for that."""


def text_response(status: int, text: str, *headers: tuple[str, str]) -> Response:
    """One line of text."""
    return Response(status, f"{text}\n".encode("utf-8", "backslashreplace"), headers=headers)


def json_response(status: int, value: object) -> Response:
    """Anything made of dataclasses, enumerations, mappings and sequences, as JSON with sorted keys."""
    body = json.dumps(plain(value), sort_keys=True, indent=2, allow_nan=False, ensure_ascii=False)
    return Response(status, f"{body}\n".encode("utf-8", "backslashreplace"), "application/json")


def plain(value: object) -> Any:
    """The same out of JSON's own types; what has no such form is its `str`, a number that is not finite is null."""
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {_key(key): plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((plain(item) for item in value), key=str)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def one_of(values: Callable[[], Mapping[str, object]], noun: str) -> PrefixRoute:
    """A prefix route that answers one of these values, by its name, as JSON. `noun` says what they are."""

    def answer(name: str) -> Response:
        there = values()
        if name not in there:
            return text_response(404, f"no such {noun}; there are: {' '.join(sorted(there))}")
        return json_response(200, there[name])

    return answer


def _key(key: object) -> str:
    return str(key.value if isinstance(key, enum.Enum) else key)
