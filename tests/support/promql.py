"""What a PromQL expression asks for: its series, and the labels that it names. Only as much of the language as our own
rules and dashboards use; promtool and a real Prometheus judge the rest."""

import re
from dataclasses import dataclass

_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_SELECTOR = re.compile(r"([A-Za-z_:][\w:]*)(\{[^}]*\})?(?!\w)(\s*\()?")
_WORDS = frozenset({"and", "or", "unless", "bool", "offset"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Uses:
    """`selected` are the labels by which series are picked, by the name of the series; `grouped` those that the results
    are grouped or matched by."""

    selected: dict[str, frozenset[str]]
    grouped: frozenset[str]


def uses(expression: str) -> Uses:
    """Read an expression, as it stands in a file."""
    text = re.sub(r'"[^"]*"', '""', expression)
    grouped = {label.strip() for labels in _GROUPING.findall(text) for label in labels.split(",")}
    text = re.sub(r"\[[^]]*\]", "", _GROUPING.sub("", text))
    selected: dict[str, frozenset[str]] = {}
    for name, matchers, call in _SELECTOR.findall(text):
        if not call and name not in _WORDS:
            selected[name] = selected.get(name, frozenset()) | set(re.findall(r"(\w+)\s*(?:=|!)", matchers))
    return Uses(selected=selected, grouped=frozenset(grouped - {""}))
