"""Routes: the path templates of a definition, and which of them a path has. Pure."""

from collections.abc import Iterable
from typing import Final

OTHER: Final = "(other)"
"""The route of a path that has none of the templates; also who shares a cell because there are too many."""

ALL: Final = "(all)"
"""The one route of a service without templates."""

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"})
"""Those that are counted apart: a client may invent others without end."""


class _Node:
    """Where a path may be after some of its segments."""

    __slots__ = ("ends", "literals", "one", "rest")

    def __init__(self) -> None:
        self.literals: dict[str, _Node] = {}
        self.one: _Node | None = None
        self.rest: str | None = None
        self.ends: str | None = None


class Templates:
    """Templates such as `/users/{id}`, where `{id}` is one segment that is not empty, and `/static/*`, which has all
    that is below `/static/`. The most specific wins: read from the left, a text before `{}` before `*`."""

    __slots__ = ("_root",)

    def __init__(self, templates: Iterable[str]) -> None:
        self._root = _Node()
        for template in templates:
            node = self._root
            *segments, last = template.split("/")[1:]
            for segment in segments:
                node = _step(node, segment)
            if last == "*":
                node.rest = template
            else:
                _step(node, last).ends = template

    def name(self, path: str) -> str:
        """The template of this path, `(other)` where none fits. What follows a `?` is no part of a path."""
        if path[:1] != "/":
            return OTHER
        if "?" in path:
            path = path[: path.index("?")]
        return _find(self._root, path.split("/"), 1) or OTHER


def _step(node: _Node, segment: str) -> _Node:
    if segment.startswith("{"):
        node.one = node.one or _Node()
        return node.one
    return node.literals.setdefault(segment, _Node())


def _find(node: _Node, segments: list[str], place: int) -> str | None:
    """No node is asked twice: what this costs is bounded by the templates, whatever the path."""
    if place == len(segments):
        return node.ends
    segment = segments[place]
    literal = node.literals.get(segment)
    found = _find(literal, segments, place + 1) if literal is not None else None
    if found is None and node.one is not None and segment:
        found = _find(node.one, segments, place + 1)
    return found if found is not None else node.rest
