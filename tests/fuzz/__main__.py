"""Fuzz by coverage, with libFuzzer through atheris: `python -m tests.fuzz --seconds 600 feed http`.

Each target runs in a process of its own. What is found is kept below `.fuzz/`: in `corpus/<target>` the new inputs with
which the next run begins, in `findings/<target>` the input of a failure, which `--again FILE` shows again. The only
home of atheris.
"""

import argparse
import os
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["nerve", "synapse", "smartstack"], enable_loader_override=False):
    from tests.fuzz.targets import TARGETS, seeds

LONGEST_INPUT = 20_000
MEMORY_MB = 512
INPUT_SECONDS = 10
"""What one input may take on a busy machine; most take far less than a millisecond."""


def fuzz(name: str, kept: Path, *enough: str) -> bool:
    """Fuzz this target until libFuzzer has `enough`; whether nothing was found."""
    corpus, findings = kept / "corpus" / name, kept / "findings" / name
    for directory in (corpus, findings):
        directory.mkdir(parents=True, exist_ok=True)
    print(f"== {name}", file=sys.stderr, flush=True)
    child = os.fork()
    if child == 0:
        options = {
            "max_len": LONGEST_INPUT,
            "rss_limit_mb": MEMORY_MB,
            "timeout": INPUT_SECONDS,
            "artifact_prefix": f"{findings}/",
            "verbosity": 0,
            "print_final_stats": 1,
        }
        arguments = [*enough, *(f"-{key}={value}" for key, value in options.items())]
        atheris.Setup([name, *arguments, str(corpus), *map(str, seeds(name))], TARGETS[name])
        atheris.Fuzz()  # ends the process
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def main() -> int:
    """0 when nothing was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"all of them: {' '.join(TARGETS)}")
    parser.add_argument("--seconds", type=int, default=10, help="for each target")
    parser.add_argument("--runs", type=int, help="in place of a time: so many inputs, the same in each run")
    parser.add_argument("--kept", type=Path, default=Path(".fuzz"), help="where new inputs and findings go")
    parser.add_argument("--again", type=Path, metavar="FILE", help="only this input")
    arguments = parser.parse_args()
    unknown = sorted({*arguments.targets} - TARGETS.keys())
    if unknown:
        parser.error(f"there is no target {unknown[0]}")
    names = arguments.targets or [*TARGETS]
    if arguments.again is not None:
        for name in names:
            TARGETS[name](arguments.again.read_bytes())
        return 0
    enough = [f"-max_total_time={arguments.seconds}"]
    if arguments.runs is not None:
        enough = [f"-runs={arguments.runs}", "-seed=1"]
    failed = [name for name in names if not fuzz(name, arguments.kept, *enough)]
    print(f"found: {' '.join(failed)}; the inputs are in {arguments.kept}/findings" if failed else "nothing was found")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
