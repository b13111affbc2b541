"""The rules themselves: each catches a violation, and lets pass what is right."""

from collections.abc import Callable

import pytest

from tests.architecture import house, rules
from tests.architecture.rules import Source, parse

KNOWN = frozenset({"nerve.plan", "nerve.daemon", "nerve.cli", "smartstack.process", "smartstack.instance"})


def upward_imports(source: Source) -> list[str]:
    return rules.upward_imports(source, KNOWN)


@pytest.mark.parametrize(
    ("rule", "module", "text"),
    [
        pytest.param(rules.foreign_imports, "nerve.plan", "import synapse.plan", id="nerve imports synapse"),
        pytest.param(rules.foreign_imports, "synapse.cli", "from nerve import plan", id="synapse imports nerve"),
        pytest.param(
            rules.foreign_imports,
            "smartstack.cli",
            "def f():\n from nerve.cli import main",
            id="smartstack, in a function",
        ),
        pytest.param(
            upward_imports, "nerve.plan", "from smartstack.process import notify", id="a decision needs a shell"
        ),
        pytest.param(upward_imports, "nerve.plan", "from . import daemon", id="a relative step up"),
        pytest.param(upward_imports, "smartstack.process", "import nerve.daemon", id="a shell needs a daemon"),
        pytest.param(upward_imports, "nerve.daemon", "from nerve.cli import main", id="a daemon needs a command line"),
        pytest.param(rules.impure_imports, "nerve.plan", "import time", id="a decision reads the clock"),
        pytest.param(rules.impure_imports, "nerve.plan", "from os import path", id="a decision asks the system"),
        pytest.param(rules.impure_imports, "nerve.plan", "import kazoo", id="a decision needs a library"),
        pytest.param(
            rules.mutable_facts, "nerve.plan", "@dataclass\nclass A:\n x: int", id="a bare dataclass in a pure module"
        ),
        pytest.param(
            rules.mutable_facts,
            "nerve.plan",
            "@dataclasses.dataclass(frozen=True, slots=False)\nclass A:\n x: int",
            id="a dataclass with slots switched off",
        ),
        pytest.param(rules.libraries_abroad, "nerve.daemon", "import kazoo.client", id="a library away from home"),
        pytest.param(rules.libraries_abroad, "nerve.daemon", "from flask import Flask", id="a library without a home"),
        pytest.param(rules.hidden_imports, "nerve.daemon", "def f():\n import json", id="an import in a function"),
        pytest.param(
            rules.hidden_imports, "nerve.daemon", "class A:\n async def f(self):\n  import json", id="in a method"
        ),
        pytest.param(
            rules.hidden_imports, "nerve.checks.grpc", "def f():\n import json", id="not the one in the table"
        ),
        pytest.param(rules.broad_excepts, "nerve.daemon", "try: pass\nexcept Exception: pass", id="except Exception"),
        pytest.param(rules.broad_excepts, "nerve.daemon", "try: pass\nexcept: pass", id="except anything"),
        pytest.param(
            rules.broad_excepts, "nerve.daemon", "try: pass\nexcept (OSError, BaseException): pass", id="among others"
        ),
        pytest.param(
            rules.broad_excepts, "nerve.daemon", "with contextlib.suppress(Exception): pass", id="suppress everything"
        ),
        pytest.param(
            rules.broad_excepts,
            "smartstack.process",
            "try: pass\nexcept Exception: pass\ntry: pass\nexcept Exception: pass",
            id="a second one where one may stand",
        ),
        pytest.param(rules.missing_docstring, "nerve.daemon", "import json", id="no docstring"),
        pytest.param(rules.missing_docstring, "nerve.daemon", '"""  """', id="an empty docstring"),
        pytest.param(rules.too_long, "nerve.daemon", "x = 1\n" * 351, id="351 lines"),
        pytest.param(rules.tests_without_rule, "tests.test_x", "def test_x(): pass", id="a test without its rule"),
        pytest.param(rules.sleeping_tests, "tests.test_x", "def test_x():\n time.sleep(1)", id="a test that sleeps"),
    ],
)
def test_a_violation_is_caught(rule: Callable[[Source], list[str]], module: str, text: str) -> None:
    """Each rule sees its violation, once, and says where it is."""
    (violation,) = rule(parse(module, text))
    assert violation.startswith(module)


@pytest.mark.parametrize(
    ("rule", "module", "text"),
    [
        pytest.param(rules.foreign_imports, "nerve.plan", "import smartstack.instance", id="nerve imports smartstack"),
        pytest.param(upward_imports, "nerve.daemon", "from nerve import plan", id="a daemon imports a decision"),
        pytest.param(upward_imports, "nerve.plan", "from smartstack.instance import decode", id="decisions and facts"),
        pytest.param(rules.impure_imports, "nerve.plan", "import json, re", id="a harmless part of the library"),
        pytest.param(rules.impure_imports, "nerve.daemon", "import time", id="a shell reads the clock"),
        pytest.param(
            rules.mutable_facts, "nerve.plan", "@dataclass(frozen=True, slots=True)\nclass A:\n x: int", id="a fact"
        ),
        pytest.param(rules.libraries_abroad, "smartstack.registry.zookeeper.link", "import kazoo.client", id="at home"),
        pytest.param(rules.hidden_imports, "nerve.cli", "def f():\n import json", id="a command line may be lazy"),
        pytest.param(rules.hidden_imports, "nerve.checks.grpc", "def f():\n import grpc", id="one in the table"),
        pytest.param(
            rules.hidden_imports,
            "smartstack.registry",
            "def f():\n from smartstack.registry import zookeeper",
            id="one in the table by its parent",
        ),
        pytest.param(
            rules.broad_excepts, "smartstack.process", "try: pass\nexcept Exception: pass", id="the safety net"
        ),
        pytest.param(rules.broad_excepts, "nerve.daemon", "try: pass\nexcept OSError: pass", id="a narrow except"),
        pytest.param(rules.missing_docstring, "nerve.daemon", '"""The daemon."""', id="a docstring"),
        pytest.param(rules.too_long, "nerve.daemon", "x = 1\n" * 350, id="350 lines"),
        pytest.param(rules.tests_without_rule, "tests.test_x", 'def test_x():\n """A rule."""', id="a test's rule"),
    ],
)
def test_what_is_right_passes(rule: Callable[[Source], list[str]], module: str, text: str) -> None:
    """No rule cries wolf."""
    assert rule(parse(module, text)) == []


@pytest.mark.parametrize(
    ("texts", "cycle"),
    [
        pytest.param(
            {"nerve.a": "import nerve.b", "nerve.b": "from nerve import a"}, "nerve.a -> nerve.b -> nerve.a", id="two"
        ),
        pytest.param(
            {"nerve.a": "import nerve.b", "nerve.b": "from .c import x", "nerve.c": "def f():\n from .a import y"},
            "nerve.a -> nerve.b -> nerve.c -> nerve.a",
            id="three, one hidden in a function",
        ),
    ],
)
def test_a_cycle_is_caught(texts: dict[str, str], cycle: str) -> None:
    """A cycle is found however it is written, and shown as a path."""
    assert rules.cycles(parse(name, text) for name, text in texts.items()) == [cycle]


def test_a_diamond_is_no_cycle() -> None:
    """Two ways to the same module are no cycle."""
    texts = {
        "nerve.a": "import nerve.b, nerve.c",
        "nerve.b": "import nerve.d",
        "nerve.c": "import nerve.d",
        "nerve.d": "",
    }
    assert rules.cycles(parse(name, text) for name, text in texts.items()) == []


def test_relative_imports_are_understood() -> None:
    """From a module and from a package, one dot and two."""
    assert parse("a.b.c", "from . import x\nfrom ..d import y").imports[0].module == "a.b"
    assert parse("a.b.c", "from ..d import y").imports[0].module == "a.d"
    assert parse("a.b", "from .c import x", is_package=True).imports[0].module == "a.b.c"


def test_every_pure_module_is_below_every_shell() -> None:
    """The tables do not contradict each other."""
    assert not house.PURE & (house.DAEMONS | house.COMMAND_LINES | house.BROAD_EXCEPTS)
