"""Whatever stands in a configuration file: a model, or a ConfigError whose problems can be shown."""

from typing import Any

import yaml
from hypothesis import example, given
from hypothesis import strategies as st

import nerve.settings
import synapse.settings
from smartstack.definition import PORT_NAME, Endpoint, ServiceDefinition, expand, parent_name
from smartstack.errors import ConfigError, Problem
from smartstack.forms import DURATION, HOST, LISTEN, REGISTRY, REGISTRY_PATH
from smartstack.installed import every_family
from smartstack.model import Form
from smartstack.tree import plain
from smartstack.validation import validate
from smartstack.yaml_file import load

MODELS: list[type[Any]] = [ServiceDefinition, nerve.settings.Settings, synapse.settings.Settings]
FAMILIES = every_family()
ENVIRONMENT = {"PORT": "8080", "EVIL": "a\n${PORT}: [", "SURROGATE": "\udc80"}

WORDS = [
    *(
        "port",
        "check",
        "checks",
        "proxy",
        "listen",
        "type",
        "http",
        "tcp",
        "exec",
        "path",
        "timeouts",
        "registry",
        "use",
    ),
    *(
        "announce",
        "labels",
        "haproxy",
        "weight",
        "file:x",
        "zookeeper://a",
        "8080",
        "2s",
        "50 %",
        "all",
        "null",
        "~",
        "on",
    ),
    *(
        "${PORT}",
        "${EVIL}",
        "${SURROGATE}",
        "${NOT_SET}",
        "${",
        "$${",
        "&a",
        "*a",
        "<<",
        "!t",
        "!!int",
        "?",
        "- ",
        ": ",
    ),
    *(
        ": ",
        ": ",
        "\n",
        "\n",
        "\n  ",
        "\n    ",
        "[",
        "]",
        "{",
        "}",
        ",",
        "'",
        '"',
        "|",
        ">",
        "#",
        "---",
        "...",
        "\t",
        "%",
    ),
]
"""Pieces of real files: text made of them gets much further than noise does."""


def read(model: type[Any], data: str | bytes) -> None:
    """Load a file; what is raised must be a ConfigError that a log can take."""
    problems: tuple[Problem, ...]
    try:
        validate(model, load(data, "f.yaml", ENVIRONMENT), path="f.yaml", families=FAMILIES)
        return
    except ConfigError as error:
        problems = error.problems
    assert problems
    places = [(problem.line, problem.column) for problem in problems]
    assert places == sorted(places)
    assert all(str(problem).isprintable() and len(str(problem)) < 1000 for problem in problems)


@given(data=st.binary(max_size=200), model=st.sampled_from(MODELS))
@example(data=b"\xff\xfe", model=ServiceDefinition)
def test_any_bytes(data: bytes, model: type[Any]) -> None:
    """Bytes of any kind are a model or a ConfigError."""
    read(model, data)


@given(data=st.text(st.characters(), max_size=200), model=st.sampled_from(MODELS))
@example(data="a: \ud800", model=ServiceDefinition)
@example(data="port: " + "9" * 5000, model=ServiceDefinition)
@example(data="? " * 1000, model=ServiceDefinition)
def test_any_text(data: str, model: type[Any]) -> None:
    """Text of any kind, characters that UTF-8 cannot hold among it, is a model or a ConfigError."""
    read(model, data)


@given(words=st.lists(st.sampled_from(WORDS), max_size=40), model=st.sampled_from(MODELS))
def test_pieces_of_real_files(words: list[str], model: type[Any]) -> None:
    """Pieces of real files in any order are a model or a ConfigError."""
    read(model, "".join(words))


KEYS = st.sampled_from(
    [field for model in MODELS for field in model.__dataclass_fields__] + ["type", "listen", "mode", "timeouts", "web"]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.sampled_from(WORDS)
TREES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6))


@given(tree=st.dictionaries(KEYS, TREES, max_size=8), model=st.sampled_from(MODELS))
def test_any_tree_of_known_keys(tree: dict[str, Any], model: type[Any]) -> None:
    """Any value under any known key is a model or a ConfigError."""
    read(model, yaml.safe_dump(tree, allow_unicode=True))


@given(text=st.text(max_size=30), form=st.sampled_from([LISTEN, HOST, REGISTRY, REGISTRY_PATH]))
@example(text="/a\u2028b", form=LISTEN)
@example(text="zookeeper://a/b c", form=REGISTRY)
def test_what_passes_an_address_form_is_harmless(text: str, form: Form) -> None:
    """What a form of addresses lets through holds no white space, no control character, and is the same again."""
    try:
        value = form.parse(text)
    except ValueError:
        return
    written = str(form.write(value))
    assert written.isprintable()
    assert " " not in written or written.startswith("file:")
    assert form.parse(form.write(value)) == value


@given(milliseconds=st.integers(1, 1_728_000_000))
def test_durations_survive_being_written(milliseconds: int) -> None:
    """Every whole number of milliseconds is written without loss."""
    seconds = milliseconds / 1000
    assert DURATION.parse(DURATION.write(seconds)) == seconds


@given(
    st.dictionaries(
        st.text("abc", min_size=1, max_size=3), st.integers(-(10**17), 10**17) | st.text("xyz:#{}[]'\"\n ", max_size=8)
    )
)
def test_what_was_dumped_is_loaded(tree: dict[str, Any]) -> None:
    """What another program wrote as YAML is read as it was meant: the reader agrees with PyYAML on ordinary files."""
    assert not tree or plain(load(yaml.safe_dump(tree), "f.yaml", {})) == tree


NAMES = st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,8}", fullmatch=True)
PORT_NAMES = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,8}", fullmatch=True).map(PORT_NAME.parse)


@given(st.dictionaries(NAMES, st.frozensets(PORT_NAMES, max_size=3), max_size=6))
@example({"web": frozenset({"v2"}), "web.v2": frozenset({"admin"}), "web.v2.admin": frozenset()})
def test_a_port_has_the_name_of_one_service_only(ports: dict[str, frozenset[str]]) -> None:
    """Whatever services and ports are called: only the file of a port's own name can be in its way, and the one service
    whose port it may be is found from its name."""
    holders: dict[str, str] = {}
    for service, names in ports.items():
        definition = ServiceDefinition(port=1, ports={name: Endpoint(port=2) for name in names})
        for name in expand(service, definition).keys() - {service}:
            assert parent_name(name) == service
            assert holders.setdefault(name, service) == service
