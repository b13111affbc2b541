"""Which templates the paths of a service seem to have: a sample of them, and what it suggests. Pure."""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

ONE: Final = "{id}"

CROWD: Final = 20
"""More texts than that at one place of a path are one `{id}`."""

SUGGESTIONS_LIMIT: Final = 100
EXAMPLES: Final = 3

SMALL: Final = 200
"""Distinct paths that are kept of a service."""

LARGE: Final = 2000
"""The same of one that was asked for lately."""

ASKED_SECONDS: Final = 600.0
SERVICES_LIMIT: Final = 50
"""Services of which paths are kept; one that is asked for takes the place of one that is not."""

LARGE_LIMIT: Final = 5
PATH_LIMIT: Final = 190
"""Longer paths are not kept: their templates would be too long."""

_DEPTH_LIMIT: Final = 20
_LITERAL: Final = re.compile(r"[A-Za-z0-9._~!$&'()+,;=:@%-]*")
_VALUE: Final = re.compile(
    r"[0-9]+"
    r"|[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}"
    r"|(?=[a-f]*[0-9])[0-9a-f]{8,}|(?=[A-F]*[0-9])[0-9A-F]{8,}"
)
"""Numbers, UUIDs, and hexadecimal digits of which one at least is no letter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """A template, how many requests of the sample it has, and some of their paths."""

    template: str
    requests: int
    examples: tuple[str, ...]


class Sample:
    """The paths that were seen last, with how often: few of each service, more of those that were asked for in the last
    ten minutes."""

    def __init__(self) -> None:
        self._paths: dict[str, dict[str, int]] = {}
        self._asked: dict[str, float] = {}

    def note(self, service: str, path: str) -> None:
        """A request for this path. This is done for each request."""
        paths = self._paths.get(service)
        if paths is None:
            if len(self._paths) >= SERVICES_LIMIT:
                return
            paths = self._paths[service] = {}
        if "?" in path:
            path = path[: path.index("?")]
        seen = paths.get(path)
        if seen is not None:
            paths[path] = seen + 1
        elif len(path) <= PATH_LIMIT:
            if len(paths) >= (LARGE if service in self._asked else SMALL):
                del paths[next(iter(paths))]
            paths[path] = 1

    def ask(self, service: str, now: float) -> Mapping[str, int]:
        """What was kept of this service; from now on more is."""
        self._asked.pop(service, None)
        self._asked[service] = now
        self.forget(now)
        if service not in self._paths and len(self._paths) >= SERVICES_LIMIT:
            del self._paths[next(name for name in self._paths if name not in self._asked)]
        return dict(self._paths.setdefault(service, {}))

    def forget(self, now: float) -> None:
        """Keep fewer again of those that nobody asked for lately. `now` is of the same clock as in `ask`."""
        late = [name for name, at in self._asked.items() if now - at > ASKED_SECONDS]
        for name in (*late, *list(self._asked)[:-LARGE_LIMIT]):
            if self._asked.pop(name, None) is not None:
                paths = self._paths.get(name, {})
                self._paths[name] = dict(list(paths.items())[-SMALL:])


def suggest(paths: Mapping[str, int]) -> tuple[Suggestion, ...]:
    """The templates of these paths, each with how often it was asked for; the most frequent first."""
    shapes: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for path in paths:
        if path.startswith("/"):
            shapes[_shape(path)].append(path)
    for depth in range(_DEPTH_LIMIT):
        shapes = _collapsed(shapes, depth)
    found = [
        Suggestion(
            template="/" + "/".join(shape),
            requests=sum(paths[path] for path in members),
            examples=tuple(sorted(members, key=lambda path: (-paths[path], path))[:EXAMPLES]),
        )
        for shape, members in shapes.items()
    ]
    return tuple(sorted(found, key=lambda each: (-each.requests, each.template))[:SUGGESTIONS_LIMIT])


def _shape(path: str) -> tuple[str, ...]:
    """The segments of a path, with `{id}` for those that are values, or that no template could name."""
    segments = path.split("/")[1:]
    names = tuple(ONE if _VALUE.fullmatch(part) or not _LITERAL.fullmatch(part) else part for part in segments)
    return names if len(names) <= _DEPTH_LIMIT else (*names[: _DEPTH_LIMIT - 1], "*")


def _collapsed(shapes: Mapping[tuple[str, ...], list[str]], depth: int) -> dict[tuple[str, ...], list[str]]:
    """The same with one `{id}` at this depth wherever there are too many texts."""
    texts: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for shape in shapes:
        if len(shape) > depth and shape[depth] not in ("", "*", ONE):
            texts[shape[:depth]].add(shape[depth])
    merged: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for shape, members in shapes.items():
        crowded = len(shape) > depth and shape[depth] not in ("", "*") and len(texts[shape[:depth]]) > CROWD
        merged[(*shape[:depth], ONE, *shape[depth + 1 :]) if crowded else shape].extend(members)
    return merged
