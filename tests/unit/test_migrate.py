"""What docs/migrate.md shows can be copied."""

import re
from pathlib import Path

import pytest

from smartstack.definition import ServiceDefinition
from smartstack.installed import every_family
from smartstack.validation import validate
from smartstack.yaml_file import load
from synapse.settings import Settings

PAGE = (Path(__file__).parents[2] / "docs" / "migrate.md").read_text()
FILES = re.findall(r"```yaml\n# (\S+)\.yaml\n(.*?)```", PAGE, re.DOTALL)
SOURCES = re.findall(r"`(sources: \[.*?\])`", PAGE)
WORDS = re.findall(r"`((?:leader_only|where|combine|registry_path): .*?)`", PAGE)


@pytest.mark.parametrize(("name", "text"), FILES, ids=[name for name, _ in FILES])
def test_its_files_are_valid(name: str, text: str) -> None:
    """Each by its own model."""
    model: type = Settings if name == "synapse" else ServiceDefinition
    assert validate(model, load(text, name, {}), path=name, families=every_family())


@pytest.mark.parametrize("text", [*SOURCES, *WORDS])
def test_what_it_gives_for_an_option_is_valid(text: str) -> None:
    """Each piece that the tables give, in a definition that lacks nothing else."""
    text = text.replace("[…]", "[{host: 10.0.0.1}]").replace("NAME", "old")
    more = "\nsources: [{type: registry}, {type: registry, registry: old}]" if text.startswith("combine") else ""
    assert validate(ServiceDefinition, load(f"port: 1\n{text}{more}", "web", {}), path="web", families=every_family())


def test_it_gives_some() -> None:
    """A page that is written otherwise is not a passing test."""
    assert len(FILES) == 2
    assert len(SOURCES) >= 6
    assert len(WORDS) >= 4
