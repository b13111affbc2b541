"""The JSON Schema says what the validator says, as far as a schema can."""

import json
import re
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from smartstack.definition import ServiceDefinition
from smartstack.definitions import Definitions, load_settings
from smartstack.errors import ConfigError
from smartstack.installed import every_family, settings_models
from smartstack.schema import json_schema
from smartstack.validation import validate
from smartstack.yaml_file import load

CONFIG = Path(__file__).parents[2] / "config"
MODELS: dict[str, type[Any]] = {"service": ServiceDefinition, **settings_models()}
FAMILIES = every_family()
EXAMPLES = {
    CONFIG / "nerve.yaml": "nerve",
    CONFIG / "synapse.yaml": "synapse",
    CONFIG / "services" / "web.yaml": "service",
    CONFIG / "services" / "api.yaml": "service",
}


def schema_problems(kind: str, text: str) -> list[str]:
    """What a schema validator says about a file as it stands, its variables not filled in."""
    validator = Draft202012Validator(json_schema(MODELS[kind], FAMILIES, kind))
    return [error.message for error in validator.iter_errors(yaml.safe_load(text))]


def our_problems(kind: str, text: str) -> list[str]:
    """What our validator says about it."""
    try:
        validate(MODELS[kind], load(text, "file.yaml", {}), path="file.yaml", families=FAMILIES)
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return []


def with_comments_opened(text: str, keys: Collection[str] = ()) -> str:
    """The example with each key that is commented out made a key: `# host: 10.0.0.5` becomes `host: 10.0.0.5`, and of
    these keys also what stands below them."""
    lines, inside = [], False
    for line in text.splitlines():
        key = re.match(r"# ([a-z_]+):( .*)?$", line)
        inside = (key is not None and key[1] in keys) or (inside and line.startswith("#   "))
        lines.append(line.removeprefix("# ") if inside else re.sub(r"^( *)# ([a-z_]+: \S+)$", r"\1\2", line))
    return "\n".join(lines)


@pytest.mark.parametrize("kind", sorted(MODELS))
def test_each_schema_is_a_schema(kind: str) -> None:
    """What is generated is valid by the draft that it names, and can be printed."""
    schema = json_schema(MODELS[kind], FAMILIES, kind)
    Draft202012Validator.check_schema(schema)
    assert json.loads(json.dumps(schema)) == schema


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_are_valid_for_both(path: Path) -> None:
    """Every example in config/ passes the schema and the validator, as it stands and with every key in force."""
    written = path.read_text(encoding="utf-8")
    keys = {key for model in MODELS.values() for key in model.__dataclass_fields__}
    for text in (written, with_comments_opened(written), with_comments_opened(written, keys)):
        assert schema_problems(EXAMPLES[path], text) == []
        assert our_problems(EXAMPLES[path], text) == []


def test_no_example_is_forgotten() -> None:
    """Each YAML file at the top of config/ and in its services directory is one of the examples above."""
    assert {*CONFIG.glob("*.yaml"), *CONFIG.glob("services/*")} == EXAMPLES.keys()


@pytest.mark.parametrize("kind", sorted(settings_models()))
def test_examples_show_every_key(kind: str) -> None:
    """A key that a host file may have stands in its example, in force or commented out."""
    keys = set(MODELS[kind].__dataclass_fields__)
    shown = yaml.safe_load(with_comments_opened((CONFIG / f"{kind}.yaml").read_text(encoding="utf-8"), keys))
    assert set(shown) == keys


def test_examples_are_loaded_as_the_daemons_load_them(tmp_path: Path) -> None:
    """The examples are a starting point: they load without a problem, paths below their own directory."""
    nerve = load_settings(MODELS["nerve"], str(CONFIG / "nerve.yaml"), {})
    synapse = load_settings(MODELS["synapse"], str(CONFIG / "synapse.yaml"), {})
    view = Definitions(nerve.services, str(tmp_path), FAMILIES, env={}).refresh()
    assert nerve.services == synapse.services == str(CONFIG / "services")
    assert view.problems == {}
    assert set(view.definitions) == set(nerve.announce) == set(synapse.use) == {"web", "api"}
    assert view.definitions["api"].port == 9000


WRONG = {
    "unknown key": ("service", "port: 1\nprot: 2"),
    "unknown key below": ("service", "port: 1\nproxy: {listen: 1, tiemouts: {}}"),
    "missing key": ("service", "proxy: {listen: 3210}"),
    "missing registry": ("nerve", "announce: {}"),
    "port as text": ("service", "port: '80'"),
    "port out of range": ("service", "port: 70000"),
    "port null": ("service", "port: null"),
    "port true": ("service", "port: true"),
    "duration without unit": ("service", "port: 1\ncheck: {type: tcp, interval: 2}"),
    "duration of words": ("service", "port: 1\ncheck: {type: tcp, interval: 2 seconds}"),
    "percentage as number": ("service", "port: 1\nproxy: {listen: 1, shrink_floor: 0.5}"),
    "mode unknown": ("service", "port: 1\nproxy: {listen: 1, mode: udp}"),
    "balance unknown": ("service", "port: 1\nproxy: {listen: 1, balance: fastest}"),
    "breaker that is a word": ("service", "port: 1\nproxy: {listen: 1, breaker: on}"),
    "breaker that is nothing": ("service", "port: 1\nproxy: {listen: 1, breaker: }"),
    "breaker with a key of something else": ("service", "port: 1\nproxy: {listen: 1, breaker: {errors: 7}}"),
    "listen without port": ("service", "port: 1\nproxy: {listen: localhost}"),
    "check without type": ("service", "port: 1\ncheck: {path: /}"),
    "check of unknown type": ("service", "port: 1\ncheck: {type: icmp}"),
    "check with the key of another type": ("service", "port: 1\ncheck: {type: tcp, path: /}"),
    "check list with a text": ("service", "port: 1\nchecks: [tcp]"),
    "source of unknown type": ("service", "port: 1\nsources: [{type: etcd}]"),
    "source with the key of another type": ("service", "port: 1\nsources: [{type: static, name: web.test}]"),
    "static server by name": ("service", "port: 1\nsources: [{type: static, servers: [{host: web.test}]}]"),
    "name of a url": ("service", "port: 1\nsources: [{type: dns, name: 'http://web'}]"),
    "proxy not a mapping": ("service", "port: 1\nproxy: 3210"),
    "a list": ("service", "- port: 1"),
    "ports not a mapping": ("service", "port: 1\nports: [2]"),
    "a port with a dot in its name": ("service", "port: 1\nports: {a.b: {port: 2}}"),
    "a port without a port": ("service", "port: 1\nports: {admin: {}}"),
    "ports of a port": ("service", "port: 1\nports: {admin: {port: 2, ports: {}}}"),
    "tether of a port": ("service", "port: 1\nports: {admin: {port: 2, tether: check}}"),
    "tether unknown": ("service", "port: 1\ntether: yes"),
    "warmup without unit": ("service", "port: 1\nwarmup: 30"),
    "also_register of a text": ("service", "port: 1\nalso_register: [old]"),
    "also_register with another key": ("service", "port: 1\nalso_register: [{registry: old, host: x}]"),
    "also_register with a bad path": ("service", "port: 1\nalso_register: [{path: ''}]"),
    "registry of unknown scheme": ("synapse", "registry: etcd://x"),
    "registry null": ("synapse", "registry: null"),
    "use null": ("synapse", "registry: file:x\nuse: null"),
    "use of a name with a space": ("synapse", "registry: file:x\nuse: [a b]"),
    "use twice": ("synapse", "registry: file:x\nuse: [a, a]"),
    "haproxy null": ("synapse", "registry: file:x\nhaproxy: null"),
    "announce of a bad name": ("nerve", "registry: file:x\nannounce: {a b: {}}"),
    "announce null": ("nerve", "registry: file:x\nannounce: {web: null}"),
    "label that is a number": ("nerve", "registry: file:x\nlabels: {rack: 12}"),
    "weight too large": ("nerve", "registry: file:x\nannounce: {web: {weight: 257}}"),
    "path empty": ("nerve", "registry: file:x\nservices: ''"),
    "admin as number": ("nerve", "registry: file:x\nadmin: 3199"),
}


@pytest.mark.parametrize(("kind", "text"), WRONG.values(), ids=WRONG)
def test_wrong_files_fail_both(kind: str, text: str) -> None:
    """What an editor can know to be wrong, it marks before the daemon refuses it."""
    assert schema_problems(kind, text)
    assert our_problems(kind, text)


RIGHT = {
    "variables for any scalar": ("service", "port: ${P:-1}\nproxy:\n  listen: ${P:-3}\n  mode: ${M:-tcp}"),
    "null where it means something": ("nerve", "registry: file:x\nadmin: null\nhost: null"),
    "listen forms": ("service", "port: 1\nproxy: {listen: '[::1]:3210'}"),
    "no breaker": ("service", "port: 1\nproxy: {listen: 1, breaker: 'off'}"),
    "a breaker": ("service", "port: 1\nproxy: {listen: 1, breaker: {failures: 3, success_rate: 90 %}}"),
    "listen socket": ("service", "port: 1\nproxy: {listen: /run/web.sock}"),
    "use all": ("synapse", "registry: file:x\nuse: all"),
    "use nothing": ("synapse", "registry: file:x\nuse: []"),
    "several ports": (
        "service",
        "port: 1\nports:\n  admin: {port: 2, check: {type: tcp}, proxy: {listen: 3}}\n  b-2_x:\n    port: ${P:-4}",
    ),
    "more places": (
        "service",
        "port: 1\nalso_register: [{registry: old, path: /nerve/services/web/services}, {registry: old}, {path: x}]",
    ),
    "tether and warmup": ("service", "port: 1\ntether: 'off'\nwarmup: 30s"),
    "no warmup": ("service", "port: 1\nwarmup: null"),
    "percent with a space": ("service", "port: 1\nproxy: {listen: 1, shrink_floor: 12.5 %}"),
}


@pytest.mark.parametrize(("kind", "text"), RIGHT.values(), ids=RIGHT)
def test_right_files_pass_both(kind: str, text: str) -> None:
    """An editor does not mark what the daemon takes."""
    assert schema_problems(kind, text) == []
    assert our_problems(kind, text) == []


def every_default(schema: Any, at: str = "") -> list[tuple[str, Any, Any]]:
    """Each place in a schema that gives a default: where, the schema there, the default."""
    if isinstance(schema, list):
        return [found for index, item in enumerate(schema) for found in every_default(item, f"{at}/{index}")]
    if not isinstance(schema, dict):
        return []
    here = [(at, schema, schema["default"])] if "default" in schema and "properties" not in schema else []
    return here + [found for key, item in schema.items() for found in every_default(item, f"{at}/{key}")]


@pytest.mark.parametrize("kind", sorted(MODELS))
def test_defaults_are_written_as_a_user_would_write_them(kind: str) -> None:
    """A default that an editor fills in is valid where it stands (`10s`, not 10.0)."""
    whole = json_schema(MODELS[kind], FAMILIES, kind)
    found = every_default(whole)
    assert found
    for at, schema, default in found:
        errors = [e.message for e in Draft202012Validator({**schema, "$defs": whole["$defs"]}).iter_errors(default)]
        assert not errors, at


def every_property(schema: Any) -> list[tuple[str, Any]]:
    """Each key that a schema knows, with its schema."""
    if isinstance(schema, list):
        return [found for item in schema for found in every_property(item)]
    if not isinstance(schema, dict):
        return []
    here = list(schema.get("properties", {}).items()) if schema.get("additionalProperties") is False else []
    return here + [found for item in schema.values() for found in every_property(item)]


@pytest.mark.parametrize("kind", sorted(MODELS))
def test_every_key_has_a_description(kind: str) -> None:
    """What an editor shows beside a key says what it means."""
    keys = every_property(json_schema(MODELS[kind], FAMILIES, kind))
    assert keys
    assert [name for name, schema in keys if name != "type" and not schema.get("description")] == []


@pytest.mark.parametrize("kind", ["service", "nerve", "synapse"])
def test_the_command_prints_the_schema(kind: str) -> None:
    """`smartstack schema KIND` prints the schema of what is installed, as JSON."""
    program = "from smartstack.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", program, "schema", kind], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == json_schema(MODELS[kind], FAMILIES, f"{kind} configuration")


def test_the_command_refuses_another_word() -> None:
    """A kind of file that does not exist is wrong usage: exit code 2, and the kinds that do exist."""
    program = "from smartstack.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", program, "schema", "x"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "'service', 'nerve', 'synapse'" in done.stderr
