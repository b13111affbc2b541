"""The soak as `make soak` runs it, as short as it can be."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

SECONDS = 5.0


def test_the_smallest_soak(tmp_path: Path) -> None:
    """Three hosts, a few faults from a seed, every promise kept, all as at the start; both reports say so, and no file
    is left."""
    program = [sys.executable, "-m", "tests.soak", "--seed", "1", "--only", "service-killed,nerve-killed"]
    # The paths of sockets must be short, and pytest's directory is not.
    with tempfile.TemporaryDirectory(prefix="sk-") as short:
        ran = subprocess.run(
            [*program, "--seconds", f"{SECONDS:g}", "--report", str(tmp_path)],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "TMPDIR": short},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert os.listdir(short) == []
    assert ran.returncode == 0, ran.stdout[-5000:] + ran.stderr[-2000:]
    report = json.loads((tmp_path / "soak.json").read_text())
    assert (report["verdict"], report["seed"], report["violations"], report["unexplained"]) == ("kept", 1, [], 0)
    assert sum(report["faults"].values()) >= 2
    assert report["requests"] >= 100
    text = (tmp_path / "soak.md").read_text()
    assert "seed 1: kept" in text
    assert "| service-killed |" in text
