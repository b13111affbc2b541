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


def run(directory: Path, texts: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """One run of these modules, `test_0.py` and so on, with the rule and without the project's other plugins."""
    for number, text in enumerate(texts):
        (directory / f"test_{number}.py").write_text(text)
    (directory / "pytest.ini").write_text("[pytest]\n")
    plain = {name: value for name, value in os.environ.items() if name not in ("CI", "PYTEST_ADDOPTS")}
    options = ["-ra", "--continue-on-collection-errors", "-p", "tests.support.no_skips", "-p", "no:cacheprovider"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(directory)],
        env={**plain, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def in_ci(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a run in CI says of a module for each way to skip."""
    ended = run(tmp_path_factory.mktemp("ci"), list(TESTS.values()), CI="true")
    assert ended.returncode == 1, ended.stdout
    return ended.stdout


@pytest.mark.parametrize("kind", TESTS)
def test_a_skip_fails_in_ci(kind: str, in_ci: str) -> None:
    """However a test is skipped, in CI the run fails and says why."""
    module = f"test_{list(TESTS).index(kind)}.py"
    [verdict] = [line for line in in_ci.splitlines() if line.startswith(("FAILED", "ERROR")) and module in line]
    assert verdict.endswith("in CI a skip is a failure: Skipped: no reason")


def test_a_skip_is_one_elsewhere(tmp_path: Path) -> None:
    """Where somebody runs the tests by hand, what cannot run there is skipped."""
    ended = run(tmp_path, list(TESTS.values()))
    assert ended.returncode in (0, 5), ended.stdout
    assert f"{len(TESTS)} skipped" in ended.stdout


def test_a_test_that_ran_is_left_alone(tmp_path: Path) -> None:
    """A test that passes passes, and one that is expected to fail may."""
    text = "import pytest\ndef test_a(): pass\n@pytest.mark.xfail\ndef test_b(): assert False\n"
    ended = run(tmp_path, [text], CI="true")
    assert ended.returncode == 0, ended.stdout
    assert "1 passed, 1 xfailed" in ended.stdout
