"""The fuzzer, for so long as a run of all tests may take; `make fuzz` takes as long as it is told."""

import importlib.util
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import CORPUS, TARGETS, seeds

RUNS = 2000


@pytest.mark.parametrize("name", TARGETS)
def test_every_seed_is_taken(name: str) -> None:
    """What real daemons send, and what was a finding once, makes no failure."""
    found = [path for directory in seeds(name) for path in directory.iterdir() if path.is_file()]
    assert found
    for path in found:
        TARGETS[name](path.read_bytes())


def test_there_is_a_corpus_for_each_target_and_no_other() -> None:
    """A directory with another name would never be read."""
    assert {path.name for path in CORPUS.iterdir()} <= TARGETS.keys()


def test_nothing_is_found(tmp_path: Path) -> None:
    """Whatever the bytes are: no exception escapes, no answer is another than the documented ones, memory and time are
    bounded. The same inputs in each run. There is an atheris for x86_64 only: elsewhere the seeds are all that is
    tried."""
    if importlib.util.find_spec("atheris") is None:
        assert platform.machine() != "x86_64"
        return
    ran = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--runs", str(RUNS), "--kept", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (0, "nothing was found\n"), ran.stderr[-5000:]
    assert ran.stderr.count("stat::number_of_executed_units") == len(TARGETS)
