"""Break each guarantee on purpose, one line at a time, and see that its test fails.

    python -m tests.mutations [NAME ...] [--list] [--jobs 2]
    python -m tests.mutations --document

Each mutation is made in a copy of the tree, where the daemons are started from, too. The test is run there without the
mutation first (it must pass), then with it (it must fail by an assertion or a time-out of its own). Exit 1 where one is
not seen.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tests.lab.report import put_between
from tests.mutations.table import ROOT, Mutation, document, mutations

BEGIN, END = "<!-- mutations -->", "<!-- /mutations -->"
GUARANTEES = ROOT / "docs" / "guarantees.md"

SECONDS = 300.0
"""How long one test may take, should its own time-out fail."""

_TESTS_FAILED = 1
"""pytest's exit code where tests ran and some failed; others say that none ran."""


def main() -> int:
    """Run those that are asked for, or all; the exit code."""
    parser = argparse.ArgumentParser(description="break each guarantee on purpose, and see that its test fails")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--list", action="store_true", help="only say what there is")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--document", action="store_true", help="only write the table in docs/guarantees.md")
    options = parser.parse_args()
    if options.document:
        GUARANTEES.write_text(put_between(GUARANTEES.read_text(), BEGIN, END, document()))
        return 0
    known = {each.name: each for each in mutations()}
    unknown = [name for name in options.names if name not in known]
    if unknown:
        parser.error(f"there is no mutation {', '.join(unknown)}; --list says which there are")
    chosen = [known[name] for name in options.names or known]
    if options.list:
        print("\n".join(f"{each.name:<28} {each.guarantee}" for each in chosen))
        return 0
    with ThreadPoolExecutor(options.jobs) as pool:
        unseen = 0
        for mutation, verdict in zip(chosen, pool.map(verdict_on, chosen), strict=True):
            unseen += verdict != "seen"
            print(f"{verdict:<9} {mutation.name:<28} {mutation.seen_by}", flush=True)
    print(f"{len(chosen) - unseen} of {len(chosen)} mutations were seen by their test")
    return 1 if unseen else 0


def verdict_on(mutation: Mutation) -> str:
    """`seen`; or `not seen`, or `ill` where the test does not pass without the mutation, or does not run with it."""
    with _copy() as tree:
        if _run(mutation.seen_by, tree) != 0:
            return "ill"
        path = tree / mutation.file
        path.write_text(mutation.apply(path.read_text(encoding="utf-8")), encoding="utf-8")
        code = _run(mutation.seen_by, tree)
        return {0: "not seen", _TESTS_FAILED: "seen"}.get(code, "ill")


@contextmanager
def _copy() -> Iterator[Path]:
    """What git knows of the tree, as it is now, in a directory of its own."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    with tempfile.TemporaryDirectory(prefix="mutation-") as directory:
        for name in filter(None, listed.split("\0")):
            source, target = ROOT / name, Path(directory) / name
            if source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)
        yield Path(directory)


def _run(test: str, tree: Path) -> int:
    """pytest's exit code. The copy comes before the installed packages, for the test and for what it starts."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", "-p", "no:cacheprovider", test]
    try:
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, timeout=SECONDS, check=False)
        return done.returncode
    except subprocess.TimeoutExpired:
        return _TESTS_FAILED


if __name__ == "__main__":
    sys.exit(main())
