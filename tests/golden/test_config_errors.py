"""Golden cases of configuration errors: `config/NAME.yaml` is a wrong file, `config/NAME.txt` what is said about it.

The first line of the yaml says which kind of file it is: `# service`, `# nerve` or `# synapse`. Adding a case is
adding the two files.
"""

from pathlib import Path
from typing import Any

import pytest

import nerve.settings
import synapse.settings
from smartstack.definition import ServiceDefinition
from smartstack.errors import ConfigError
from smartstack.installed import every_family
from smartstack.validation import validate
from smartstack.yaml_file import load

CASES = Path(__file__).parent / "config"
MODELS: dict[str, type[Any]] = {
    "# service": ServiceDefinition,
    "# nerve": nerve.settings.Settings,
    "# synapse": synapse.settings.Settings,
}
FAMILIES = every_family()
ENVIRONMENT = {"PORT": "8080", "TOO_LARGE": "70001"}


def said_about(path: Path) -> str:
    """What a user reads when this file is loaded."""
    data = path.read_bytes()
    kind = data.splitlines()[0].decode()
    with pytest.raises(ConfigError) as raised:
        validate(MODELS[kind], load(data, path.name, ENVIRONMENT), path=path.name, families=FAMILIES)
    return f"{raised.value}\n"


@pytest.mark.parametrize("name", sorted(path.stem for path in CASES.glob("*.yaml")))
def test_a_wrong_file_is_answered_with_these_words(name: str) -> None:
    """A wrong file gives exactly the problems that stand in its golden file, in the order of their places."""
    assert said_about(CASES / f"{name}.yaml") == (CASES / f"{name}.txt").read_text(encoding="utf-8")


def test_there_are_cases_and_each_has_both_of_its_files() -> None:
    """A golden text without its file, or a directory that was not found, is not a passing test."""
    assert len(list(CASES.glob("*.yaml"))) >= 45
    assert {path.stem for path in CASES.glob("*.txt")} == {path.stem for path in CASES.glob("*.yaml")}
