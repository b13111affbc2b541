"""docs/performance.md and the README's table, from the JSON of the benchmarks: results in, Markdown out."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from tests.bench.figures import Figure, Result, shown

COMMAND: Final = "python -m tests.bench --document"
BEGIN: Final = f"<!-- written by {COMMAND} -->"
END: Final = "<!-- until here -->"

_SPREAD = "least … largest"
_HEAD = f"""\
# How fast, and how much it takes

Each table was written by a program from what it measured, and stands below the command that repeats it. `make bench`
runs all of them; with `ARGS="--json docs/performance"` it keeps what it sees, and `{COMMAND}` makes
this page and the README's table of that. Another machine, or one that has other work to do, has other figures: compare
those of one table.

A figure is the median of its samples. Where there is more than one, the least and the largest stand beside it, and from
100 samples on the 99th percentile. The load is the machine's average of the last minute at the end of a run: well above
the number of cores, it says that the machine had other work to do, and was slow.
"""


def document(results: Sequence[Result]) -> str:
    """docs/performance.md."""
    return "\n".join([_HEAD, *(_section(result) for result in results)])


def headlines(results: Sequence[Result]) -> str:
    """The table of the README: the figures that count most, each with its command; the options stand on the page."""
    rows = [f"| | of | median | {_SPREAD} | command |", "|---|---|---|---|---|"]
    for result in results:
        for figure in result.figures:
            if figure.headline:
                cells = (f"{result.title}: {figure.name}", figure.size, _median(figure), _spread(figure))
                rows.append(_row(*cells, f"`{result.command.partition(' --')[0]}`"))
    return "\n".join([BEGIN, "", *rows, "", *_machines(results), "", END])


def put(page: str, table: str) -> str:
    """The page with this table in the place of the one that is there. Raises ValueError where there is no place."""
    before, found, rest = page.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not found or not ended:
        raise ValueError(f"there is no place for the table: it stands between {BEGIN!r} and {END!r}")
    return before + table + after


def written(result: Result) -> str:
    """The result as JSON, with a figure in each line; samples have four decimals."""
    head = asdict(result)
    figures = [{**each, "samples": [round(sample, 4) for sample in each["samples"]]} for each in head.pop("figures")]
    lines = ",\n".join(f"  {json.dumps(each, ensure_ascii=False)}" for each in figures)
    return json.dumps(head, indent=1, ensure_ascii=False).removesuffix("\n}") + f',\n "figures": [\n{lines}\n ]\n}}\n'


def read(directory: Path, files: Sequence[str]) -> list[Result]:
    """The results of the parts whose files are there, in this order. Raises ValueError for a file that is none."""
    return [_result(directory / name) for name in files if (directory / name).exists()]


def _result(file: Path) -> Result:
    try:
        told: Mapping[str, Any] = json.loads(file.read_text())
        return Result(**{**told, "figures": [Figure(**each) for each in told["figures"]]})
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(f"{file} is not the JSON of a benchmark: {error}") from error


def _section(result: Result) -> str:
    with_p99 = any(figure.p99 is not None for figure in result.figures)
    head = ["", "of", "median", _SPREAD, *(["p99"] if with_p99 else [])]
    rows = [_row(*head), "|" + "---|" * len(head)]
    for figure in result.figures:
        cells = [figure.name, figure.size, _median(figure), _spread(figure)]
        rows.append(_row(*cells, *([_p99(figure)] if with_p99 else [])))
    return "\n".join(
        [
            f"## {result.title}",
            "",
            result.about,
            "",
            "```",
            f"{result.command}    # {result.seconds:.0f} s",
            "```",
            "",
            *rows,
            "",
            f"{result.machine}; load {result.load:g}",
            "",
        ]
    )


def _machines(results: Sequence[Result]) -> Iterator[str]:
    """Each machine once, with the loads under which its figures were taken."""
    for machine in dict.fromkeys(result.machine for result in results):
        loads = [result.load for result in results if result.machine == machine]
        yield f"{machine}; load {min(loads):g} to {max(loads):g}"


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def _median(figure: Figure) -> str:
    return f"{shown(figure.median)} {figure.unit}".rstrip()


def _spread(figure: Figure) -> str:
    return f"{shown(figure.quantile(0))} … {shown(figure.quantile(1))}" if len(figure.samples) > 1 else ""


def _p99(figure: Figure) -> str:
    return "" if figure.p99 is None else shown(figure.p99)
