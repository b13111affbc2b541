"""Runs the parts of a benchmark, says what they measure as they go, and writes JSON beside it."""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.bench.document import written
from tests.bench.figures import Figure, Part, Result, line
from tests.bench.machine import machine

FAILURES = (AssertionError, OSError, RuntimeError, SystemExit)
"""What may go wrong with one part without an end of all."""

_DAEMONS = ("nerve.cli", "nerve.daemon", "synapse.cli", "synapse.daemon", "smartstack.registry.zookeeper")


def main(parts: Sequence[Part], words: Sequence[str] | None = None) -> None:
    """The command line of a program with these parts: run those that are named, or all. Each of their options is one of
    the command, for all named parts that have it."""
    parser = argparse.ArgumentParser(description="; ".join(f"{part.name}: {part.title}" for part in parts))
    if len(parts) > 1:
        parser.add_argument("names", nargs="*", metavar="PART", help=", ".join(part.name for part in parts))
    add_options(parser)
    for name in sorted({name for part in parts for name in part.options}):
        defaults = {str(part.options[name]) for part in parts if name in part.options}
        parser.add_argument(f"--{name.replace('_', '-')}", dest=f"of_{name}", help=f"default: {', '.join(defaults)}")
    given = parser.parse_args(words)
    names = chosen(parser, [part.name for part in parts], getattr(given, "names", []))
    wanted = [part for part in parts if part.name in names]
    told = {key[3:]: text for key, text in vars(given).items() if key.startswith("of_") and text is not None}
    if unused := told.keys() - {name for part in wanted for name in part.options}:
        parser.error(f"{', '.join(names)}: no such option: {', '.join(sorted(unused))}")
    try:
        changes = {part.name: _typed(part, told) for part in wanted}
    except ValueError as error:
        parser.error(str(error))
    if not run(wanted, changes, quick=given.quick, directory=given.json):
        sys.exit(1)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that every program of this package has."""
    parser.add_argument("--quick", action="store_true", help="as small as can be: shows that it works, and no more")
    parser.add_argument("--json", type=Path, metavar="DIR", help="write the figures there too, a file for each part")


def chosen(parser: argparse.ArgumentParser, known: Sequence[str], names: Sequence[str]) -> Sequence[str]:
    """These names, or all that are known. Ends the program when one is not."""
    if unknown := set(names) - set(known):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return names or known


def run(
    parts: Sequence[Part],
    changes: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    quick: bool = False,
    directory: Path | None = None,
) -> bool:
    """Run these parts with their defaults, but for the changes to the options of some; whether all of them went well.
    The figures are printed, and written as JSON where a directory is given."""
    here = machine()
    print(f"# {here}", flush=True)
    well = True
    _compile()
    for part in parts:
        options = part.options | (dict(part.quick) if quick else {}) | dict((changes or {}).get(part.name, {}))
        command = part.command(options)
        print(f"\n# {part.title}\n# {command}", flush=True)
        began, figures = time.monotonic(), list[Figure]()
        try:
            for figure in part.measure(**options):
                figures.append(figure)
                print(line(figure), flush=True)
        except FAILURES as error:
            print(f"{command}: failed: {error}", file=sys.stderr, flush=True)
            well = False
            continue
        result = Result(
            title=part.title,
            about=part.about,
            command=command,
            machine=here,
            seconds=round(time.monotonic() - began, 1),
            load=round(os.getloadavg()[0], 1),
            figures=figures,
        )
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
            (directory / part.file).write_text(written(result))
    return well


def _typed(part: Part, told: Mapping[str, str]) -> dict[str, Any]:
    """What was told of this part's options, each of the type of its default. Raises ValueError."""
    return {name: _as(default, told[name]) for name, default in part.options.items() if name in told}


def _as(default: Any, text: str) -> Any:
    if isinstance(default, tuple):
        return tuple(type(default[0])(word) for word in text.split(",") if word)
    return type(default)(text)


def _compile() -> None:
    """Let the daemons find their modules compiled, as they do once pip installed them: to compile them costs a daemon
    megabytes, and time."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    subprocess.run([sys.executable, "-c", f"import {', '.join(_DAEMONS)}"], check=True)
