"""`proxy.paths`: which paths of a service are told apart, and what may not be written there."""

import json

import pytest
from jsonschema import Draft202012Validator

from smartstack.definition import ServiceDefinition
from smartstack.errors import ConfigError
from smartstack.schema import json_schema
from smartstack.traffic import PATHS_LIMIT
from smartstack.validation import validate
from smartstack.yaml_file import load


def read(paths: list[object], **proxy: object) -> tuple[str, ...]:
    """The paths of a definition. Raises ConfigError."""
    text = json.dumps({"port": 80, "proxy": {"listen": 3210, "paths": paths, **proxy}})
    definition = validate(ServiceDefinition, load(text, "web.yaml", {}), path="web.yaml")
    assert definition.proxy is not None
    return definition.proxy.paths


@pytest.mark.parametrize(
    "path",
    ["/", "/users", "/users/", "/users/{id}", "/{a}/{b_2}/c", "/static/*", "/*", "/a.b/~c/@d%20", "/" + "x" * 255],
)
def test_templates_that_may_be_written(path: str) -> None:
    """Segments, `{name}` for a whole one, and `*` for the rest."""
    assert read([path]) == (path,)


WRONG = ["", "users", "/a b", "/a?b", "/a/{id", "/a/{}", "/a/x{id}", "/a/{i-d}", "/a/*/b", "/a*", "/ü", 7, None]


@pytest.mark.parametrize("path", [*WRONG, "/" + "x" * 256, "/a/b\n", "/\n"])
def test_templates_that_may_not(path: object) -> None:
    """And what may, is told."""
    with pytest.raises(ConfigError, match=r"proxy\.paths.*must be a path such as /users/\{id\} or /static/\*"):
        read([path])


@pytest.mark.parametrize("path", ["/users/{id}", "/static/*", *WRONG])
def test_the_schema_takes_what_the_validator_takes(path: object) -> None:
    """Editors say the same as synapse."""
    schema = json_schema(ServiceDefinition, {}, "service")
    whole = {"port": 80, "proxy": {"listen": 3210, "paths": [path]}}
    problems = list(Draft202012Validator(schema).iter_errors(whole))
    assert bool(problems) is (path in WRONG)


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        (["/a/{x}", "/b", "/a/{y}"], r"has /a/\{y\}, which fits the same paths as /a/\{x\}"),
        (["/a", "/a"], "has /a, which fits the same paths as /a"),
        ([f"/{number}" for number in range(PATHS_LIMIT + 1)], "must be at most 100"),
    ],
)
def test_templates_that_do_not_go_together(paths: list[object], words: str) -> None:
    """Two names of the same paths, or too many of them."""
    with pytest.raises(ConfigError, match=words):
        read(paths)


def test_mode_tcp_has_no_paths() -> None:
    """It does not see requests."""
    with pytest.raises(ConfigError, match="is about requests, which mode tcp does not see"):
        read(["/a"], mode="tcp")
