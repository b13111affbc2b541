"""The rule that a skipped test fails in CI, held by a run of pytest of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

TESTS = {
    "a call": "import pytest\ndef test_a():\n    pytest.skip('no reason')\n",
    "a mark": "import pytest\n@pytest.mark.skip(reason='no reason')\ndef test_a(): pass\n",
    "a fixture": ("import pytest\n@pytest.fixture\ndef a():\n    pytest.skip('no reason')\ndef test_a(a): pass\n"),
    "a whole module": "import pytest\npytest.skip('no reason', allow_module_level=True)\n",
    "an import": "import pytest\npytest.importorskip('no_such_module', reason='no reason')\n",
}


def run(directory: Path, text: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (directory / "test_it.py").write_text(text)
    (directory / "pytest.ini").write_text("[pytest]\n")
    plain = {name: value for name, value in os.environ.items() if name not in ("CI", "PYTEST_ADDOPTS")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.support.no_skips", "-p", "no:cacheprovider", str(directory)],
        env={**plain, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("kind", TESTS)
def test_a_skip_fails_in_ci_and_only_there(kind: str, tmp_path: Path) -> None:
    """However a test is skipped, in CI the run fails and says why; elsewhere it is skipped."""
    in_ci = run(tmp_path, TESTS[kind], CI="true")
    assert in_ci.returncode in (1, 2), in_ci.stdout
    assert "in CI a skip is a failure: Skipped: no reason" in in_ci.stdout
    assert run(tmp_path, TESTS[kind]).returncode in (0, 5)


def test_a_test_that_ran_is_left_alone(tmp_path: Path) -> None:
    """A test that passes passes, and one that is expected to fail may."""
    text = "import pytest\ndef test_a(): pass\n@pytest.mark.xfail\ndef test_b(): assert False\n"
    ended = run(tmp_path, text, CI="true")
    assert ended.returncode == 0, ended.stdout
    assert "1 passed, 1 xfailed" in ended.stdout
