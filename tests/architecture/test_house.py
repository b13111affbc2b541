"""The house as it stands: every module keeps every rule, and the tables name only what is there."""

import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.architecture import house, rules
from tests.architecture.rules import Source

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def sources() -> list[Source]:
    """Every module of the four packages."""
    return rules.read_sources(ROOT, house.PACKAGES)


@pytest.fixture(scope="module")
def tests_of_all() -> list[Source]:
    """Every module with tests."""
    return [source for source in rules.read_sources(ROOT, ["tests"]) if ".test_" in source.name]


@pytest.fixture(scope="module")
def known(sources: list[Source]) -> frozenset[str]:
    """The names of the modules."""
    return frozenset(source.name for source in sources)


@pytest.mark.parametrize(
    "rule",
    [
        rules.foreign_imports,
        rules.impure_imports,
        rules.mutable_facts,
        rules.libraries_abroad,
        rules.hidden_imports,
        rules.broad_excepts,
        rules.missing_docstring,
        rules.too_long,
    ],
)
def test_every_module_keeps_the_rule(rule: Callable[[Source], list[str]], sources: list[Source]) -> None:
    """No module of the four packages breaks it."""
    assert [violation for source in sources for violation in rule(source)] == []


def test_imports_go_down_only(sources: list[Source], known: frozenset[str]) -> None:
    """Facts and decisions, shells, daemons, command lines: each imports from its own layer and from those below."""
    assert [violation for source in sources for violation in rules.upward_imports(source, known)] == []


def test_there_is_no_cycle(sources: list[Source]) -> None:
    """No module imports itself by way of others."""
    assert rules.cycles(sources) == []


@pytest.mark.parametrize("rule", [rules.tests_without_rule, rules.sleeping_tests])
def test_every_test_keeps_the_rule(rule: Callable[[Source], list[str]], tests_of_all: list[Source]) -> None:
    """A test states the rule that it holds, and does not sleep."""
    assert [violation for source in tests_of_all for violation in rule(source)] == []


def test_two_test_files_may_share_a_name() -> None:
    """pytest tells them apart by their package; in directories that are none, the second of them is an error."""
    directories = {path.parent for path in (ROOT / "tests").rglob("test_*.py")}
    assert [str(each) for each in sorted(directories) if not (each / "__init__.py").exists()] == []


@pytest.mark.parametrize(
    "named",
    [
        pytest.param(house.PURE, id="pure modules"),
        pytest.param(house.DAEMONS, id="daemons"),
        pytest.param(house.COMMAND_LINES, id="command lines"),
        pytest.param(house.BROAD_EXCEPTS, id="broad excepts"),
        pytest.param(frozenset(house.LAZY_IMPORTS), id="lazy imports"),
        pytest.param(frozenset(home for homes in house.HOMES.values() for home in homes), id="homes"),
    ],
)
def test_the_tables_name_only_what_is_there(named: frozenset[str], known: frozenset[str]) -> None:
    """A module that was renamed or removed leaves the tables too."""
    assert sorted(named - known) == []


def test_every_home_is_lived_in(sources: list[Source]) -> None:
    """A module that no longer needs a library is no longer its home."""
    empty = [
        f"{library}: {home}"
        for library, homes in house.HOMES.items()
        for home in homes
        if not any(
            rules.below(source.name, home) and any(rules.below(each.module, library) for each in source.imports)
            for source in sources
        )
    ]
    assert empty == []


def test_every_library_is_declared() -> None:
    """What is imported stands among the dependencies of the project, and the other way round."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *extras["dns"], *extras["grpc"], *extras["statsd"]]
    declared = {re.split(r"[^A-Za-z0-9-]", line)[0].replace("-", "_") for line in lines}
    other_names = {"yaml": "pyyaml", "grpc": "grpcio", "dns": "dnspython"}
    assert {other_names.get(library, library) for library in house.HOMES} == declared
