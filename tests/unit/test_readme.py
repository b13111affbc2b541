"""What the README and the documentation show is what is taken."""

import re
from pathlib import Path

import pytest

from nerve.settings import Settings as NerveSettings
from smartstack.definition import ServiceDefinition
from smartstack.installed import every_family
from smartstack.validation import validate
from smartstack.yaml_file import load
from synapse.settings import Settings as SynapseSettings
from tests.support.exported import exported

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
MODELS: dict[str, type] = {"services/web": ServiceDefinition, "nerve": NerveSettings, "synapse": SynapseSettings}
EXAMPLES = re.findall(r"```yaml\n# ([a-z/]+)\.yaml(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def test_the_readme_shows_one_file_of_each_kind() -> None:
    """A service, a nerve.yaml and a synapse.yaml: all that there is to write."""
    assert [name for name, _ in EXAMPLES] == list(MODELS)


@pytest.mark.parametrize(("name", "text"), EXAMPLES, ids=[name for name, _ in EXAMPLES])
def test_a_file_in_the_readme_is_valid(name: str, text: str) -> None:
    """Whoever copies it gets no error."""
    tree = load(f"# {text}", f"{name}.yaml", {})
    assert validate(MODELS[name], tree, path=f"{name}.yaml", families=every_family())


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    """Each link of the documentation to a file of the project finds it."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_metric_that_the_documentation_names_exists() -> None:
    """Names in backticks that look like ours are ours."""
    named = {name for page in PAGES for name in re.findall(r"`((?:nerve|synapse)_[a-z_]+)", page.read_text())}
    assert named
    assert sorted(named - {name for each in exported() for name in (each.name, *each.series)}) == []
