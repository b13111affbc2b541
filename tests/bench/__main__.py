"""Every benchmark in one place.

    python -m tests.bench [NAME ...] [--quick] [--json DIR]
    python -m tests.bench --document [FILE] [--json DIR]

Each is a program of its own as well, with options: `python -m tests.bench.NAME --help`. With `--document` nothing is
measured: docs/performance.md, or the FILE, is written from the JSON in docs/performance, or DIR, and with
docs/performance.md the README's table.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.bench import (
    balance,
    document,
    feed,
    footprint,
    hop,
    nerve,
    propagation,
    removal,
    scale_part,
    series,
    synapse,
)
from tests.bench.figures import Part
from tests.bench.run import add_options, chosen, run

PARTS: Final[Sequence[Part]] = tuple(
    part
    for program in (
        propagation,
        removal,
        synapse,
        footprint,
        hop,
        balance,
        feed,
        nerve,
        series,
        scale_part,
    )
    for part in program.PARTS
)
ROOT: Final = Path(__file__).parents[2]
RESULTS: Final = ROOT / "docs/performance"
PAGE: Final = ROOT / "docs/performance.md"
README: Final = ROOT / "README.md"


def main(words: Sequence[str] | None = None) -> None:
    """Measure, or write down what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    programs = list(dict.fromkeys(part.program for part in PARTS))
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(programs)}; default: all")
    add_options(parser)
    parser.add_argument("--document", nargs="?", type=Path, const=PAGE, metavar="FILE", help="write the page")
    options = parser.parse_args(words)
    if options.document is not None:
        write(options.document, options.json or RESULTS)
        return
    names = chosen(parser, programs, options.names)
    if not run([part for part in PARTS if part.program in names], quick=options.quick, directory=options.json):
        sys.exit(1)


def write(page: Path, directory: Path) -> None:
    """The page from the results in a directory; with the project's own page also the README's table."""
    results = document.read(directory, [part.file for part in PARTS])
    if not results:
        sys.exit(f"there are no results in {directory}: `python -m tests.bench --json {directory}` makes them")
    page.write_text(document.document(results))
    if page == PAGE:
        README.write_text(document.put(README.read_text(), document.headlines(results)))


if __name__ == "__main__":
    main()
