"""What an answer of HTTP must be: its status, its headers, its body."""

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any

from nerve.checks.base import Outcome, excerpt, failed, passed
from smartstack.model import Form, FormError

if TYPE_CHECKING:
    import regex

_TEXT_LIMIT = 1000
_ALL = range(100, 600)
_RANGE = re.compile(r"([1-5][0-9]{2})(?:-([1-5][0-9]{2}))?")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_VISIBLE = re.compile(r"(?:[!-~](?:[ -~]*[!-~])?)?")


def _statuses(value: Any) -> tuple[range, ...]:
    ranges: list[range] = []
    wrong: dict[str | int, str] = {}
    for index, one in enumerate(value if isinstance(value, list) else [value]):
        match = _RANGE.fullmatch(str(one)) if isinstance(one, int | str) else None
        found = range(int(match[1]), int(match[2] or match[1]) + 1) if match else range(0)
        if not found:
            wrong[index] = "must be a status or a range of them, such as 200 or 200-399"
        ranges.append(found)
    if wrong and isinstance(value, list):
        raise FormError(wrong)
    if wrong or not ranges:
        raise ValueError("must be statuses and ranges of them, such as [200, 300-399]")
    return tuple(ranges)


def _write_statuses(ranges: tuple[range, ...]) -> list[str]:
    return [str(each[0]) if len(each) == 1 else f"{each[0]}-{each[-1]}" for each in ranges]


_STATUS = {
    "anyOf": [
        {"type": "integer", "minimum": _ALL[0], "maximum": _ALL[-1]},
        {"type": "string", "pattern": f"^{_RANGE.pattern}$"},
    ]
}
STATUSES = Form(
    _statuses, {"anyOf": [*_STATUS["anyOf"], {"type": "array", "items": _STATUS, "minItems": 1}]}, _write_statuses
)
"""One status, one range, or a list of both; the field holds ranges."""


def _header_name(value: Any) -> str:
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise ValueError("a header's name is letters, digits and '-', such as X-Service")
    return value


def _header_value(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a text; put it in quotes")
    if len(value) > _TEXT_LIMIT or not _VISIBLE.fullmatch(value):
        raise ValueError(
            f"must be one line of printable ASCII, at most {_TEXT_LIMIT} characters, without spaces at its ends"
        )
    return value


HEADER_NAME = Form(_header_name, {"type": "string", "pattern": rf"^{_TOKEN.pattern}$"})
HEADER_VALUE = Form(_header_value, {"type": "string", "pattern": f"^{_VISIBLE.pattern}$", "maxLength": _TEXT_LIMIT})
SECRET_HEADER_VALUE = Form(_header_value, HEADER_VALUE.schema, secret=True)
"""The same, where it may be a token."""


def _text(value: Any) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= _TEXT_LIMIT:
        raise ValueError(f"must be a text of 1 to {_TEXT_LIMIT} characters")
    return value


@lru_cache(256)
def compiled(text: str) -> "regex.Pattern[str]":
    """A regular expression whose search can be given a time. Not one of `re`, which may search for years and stops
    all threads of the daemon meanwhile. Raises ValueError when it is none."""
    import regex

    try:
        return regex.compile(text)
    except regex.error as error:
        raise ValueError(f"must be a regular expression: {error}") from None


def _regex(value: Any) -> str:
    return compiled(_text(value)).pattern


_TEXT_SCHEMA = {"type": "string", "minLength": 1, "maxLength": _TEXT_LIMIT}
TEXT = Form(_text, _TEXT_SCHEMA)
REGEX = Form(_regex, _TEXT_SCHEMA)

_DEFAULT_STATUS = (range(200, 400),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer as far as it was read. Names of headers are in lower case; of one that is there twice the values are
    joined by a comma. The body may be cut."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What makes an answer a good one. A wrong header says that another service answers: that is conclusive."""

    status: Annotated[tuple[range, ...], "statuses that pass, such as [200-299, 404]", STATUSES] = _DEFAULT_STATUS
    headers: Annotated[
        Mapping[Annotated[str, HEADER_NAME], Annotated[str, HEADER_VALUE]],
        "headers that the service's answers carry; another value is another service",
    ] = field(default_factory=dict)
    body: Annotated[str | None, "a text that must be in the first 64 KiB of the body", TEXT] = None
    body_regex: Annotated[str | None, "must be found in the first 64 KiB of the body", REGEX] = None

    def problems(self) -> Iterable[tuple[str, str]]:
        """Rules over several keys: the dotted key, and what is wrong."""
        yield from doubled(self.headers)

    def judge(self, answer: Answer, deadline: float) -> Outcome:
        """The outcome. A search by `body_regex` that is not done by `deadline` (monotonic clock) is a failure."""
        said = f"HTTP {answer.status}"
        if not any(answer.status in each for each in self.status):
            wanted = "" if self.status == _DEFAULT_STATUS else f", expected {' or '.join(_write_statuses(self.status))}"
            line = excerpt(answer.body)
            return failed(f"{said}{wanted}: {line}" if line else f"{said}{wanted}")
        for name, value in self.headers.items():
            found = answer.headers.get(name.lower())
            if found != value:
                other = "missing" if found is None else f"'{found}'"
                return failed(f"another service answers: header {name} is {other}, expected '{value}'", conclusive=True)
        if self.body is not None and self.body.encode() not in answer.body:
            return failed(f"{said}, but '{self.body}' is not in its body: {excerpt(answer.body)}")
        if self.body_regex is None:
            return passed(said)
        try:
            text = answer.body.decode("utf-8", "replace")
            # Concurrent: the other threads of the daemon go on meanwhile.
            left = max(deadline - time.monotonic(), 0.001)
            if compiled(self.body_regex).search(text, timeout=left, concurrent=True):
                return passed(said)
        except TimeoutError:
            return failed(f"{said}, but the search by body_regex was not done in time")
        return failed(f"{said}, but body_regex is not found in its body: {excerpt(answer.body)}")


def doubled(headers: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    """The rule that a header is given once, whatever the case of its letters."""
    seen: set[str] = set()
    for name in headers:
        if name.lower() in seen:
            yield "headers", f"{name} is given twice"
        seen.add(name.lower())
