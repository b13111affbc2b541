"""The table of mutations: table.yaml, read and checked. Pure, but for reading that file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

ROOT: Final = Path(__file__).parents[2]
TABLE: Final = Path(__file__).with_name("table.yaml")
_KEYS: Final = {"guarantee", "file", "line", "becomes", "seen_by"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """One change: in `file`, the only place that reads `line` is made to read `becomes`. `seen_by` is the test that
    fails then, as pytest names it."""

    name: str
    guarantee: str
    file: str
    line: str
    becomes: str
    seen_by: str

    def apply(self, text: str) -> str:
        """That file's text with the change. Raises ValueError unless the line is there once."""
        found = text.count(self.line)
        if found != 1:
            raise ValueError(f"{self.name}: {self.file} has {self.line!r} {found} times, not once")
        return text.replace(self.line, self.becomes)


def mutations() -> tuple[Mutation, ...]:
    """All of them, in the order of the table. Raises ValueError where an entry is not complete."""
    table = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    for name, entry in table.items():
        if entry.keys() != _KEYS:
            raise ValueError(f"{name}: needs {', '.join(sorted(_KEYS))}; has {', '.join(sorted(entry))}")
    return tuple(Mutation(name=name, **entry) for name, entry in table.items())


def document() -> str:
    """The table for people, in Markdown."""
    rows = ["| guarantee | the line that is changed | the test that sees it |", "|---|---|---|"]
    for each in mutations():
        test = each.seen_by.removeprefix("tests/").replace("::", " ")
        rows.append(f"| {each.guarantee} | `{each.file}`: `{_cell(each.line)}` → `{_cell(each.becomes)}` | {test} |")
    return "\n".join(rows) + "\n"


def _cell(code: str) -> str:
    return " ".join(code.split()).replace("|", "\\|")
