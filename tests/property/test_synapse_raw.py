"""Raw lines of a definition, for any text that passes: HAProxy reads the lines of every other service as they stand."""

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smartstack.definition import ServiceDefinition
from smartstack.errors import ConfigError
from smartstack.validation import validate
from smartstack.yaml_file import load
from synapse.haproxy import program
from synapse.haproxy.errors import ConfigurationRefused
from synapse.proxy import Service
from synapse.quarantine import Candidate
from synapse.render import Renderer
from synapse.settings import HAProxySettings
from tests.support.definitions import proxy

RENDERER = Renderer(HAProxySettings(), "/run/haproxy.sock", (2, 6))
HAPROXY = program.find("haproxy")

SECTIONS = [
    "backend zz",
    "frontend zz",
    "listen zz",
    "global",
    "defaults",
    "peers p",
    "cache c",
    "userlist u",
    "program p",
]
HOSTILE = [
    *SECTIONS,
    *(
        f"{before}{word}"
        for word in SECTIONS
        for before in ('"', "'", "\\", "no ", "default ", "$HOME", "\t", "\u00a0", "#\r")
    ),
    *(".if 0", ".elif 0", ".else", ".endif", ".diag x", ".alert x", ".notice x", "${X", '"${X'),
    *(
        "option abortonclose",
        "acl a path /",
        "# a comment",
        "",
        'http-request set-header X "a',
        "http-request set-header X a\\",
    ),
    *("http-request set-header X 'a", "http-request set-header X a \\", "http-request deny if nosuch", "blance 7"),
    *("server s1 10.0.0.1:80", "server zz 10.0.0.1:80", "bind :80", "use_backend zz", "default_backend zz", "mode tcp"),
    *("http-request return string <<EOF", "<<EOF", "EOF", "\\", '"', "'", "{", "}", "description smartstack-0"),
]
MARK = "    there-is-no-such-word\n"
MARKED = ("frontend", "backend")
"""The first line of each section of the next service: HAProxy must complain of it at its line and in its section."""


def read(frontend: Iterable[str], backend: Iterable[str]) -> ServiceDefinition | None:
    """A definition with these raw lines, as from a file; None when it is refused at the door."""
    raw = {"frontend": "\n".join(frontend), "backend": "\n".join(backend)}
    text = json.dumps({"port": 80, "proxy": {"listen": "127.0.0.1:3210", "raw": raw}})
    try:
        return validate(ServiceDefinition, load(text, "web.yaml", {}), path="web.yaml")
    except ConfigError:
        return None


def part(name: str, definition: ServiceDefinition) -> str:
    assert definition.proxy is not None
    return RENDERER.text(Service(name=name, proxy=definition.proxy, targets=(), slots=1), {})


def blamed(definition: ServiceDefinition, directory: Path) -> dict[str, list[str]]:
    """What HAProxy says of a file with this definition and another one after it, which begins with the mark."""
    after = part("zz", ServiceDefinition(port=80, proxy=proxy()))
    for section in MARKED:
        after = after.replace(f"\n{section} zz\n", f"\n{section} zz\n{MARK}")
    file = Candidate(global_part=RENDERER.global_part("x"), parts={"web": part("web", definition), "zz": after})
    path = directory / "haproxy.cfg"
    path.write_text(file.text)
    with pytest.raises(ConfigurationRefused) as refused:
        program.check(HAPROXY, str(path))
    said: dict[str, list[str]] = {}
    for charge in file.charges(refused.value.words, str(path)):
        assert len(charge.lines) == 1, charge
        for name, line in charge.lines.items():
            assert line is not None
            said.setdefault(name, []).append(f"{line.section} {line.text}: {charge.words}")
    return said


def keeps_to_itself(definition: ServiceDefinition, directory: Path) -> None:
    """Whatever it says: of the other service only the marks are wrong, where they stand. HAProxy ends its reading at
    some mistakes; then it has not come so far, and speaks of this definition alone."""
    said = blamed(definition, directory)
    marks = [f"{section} {MARK.strip()}: unknown keyword '{MARK.strip()}' in '{section}' section" for section in MARKED]
    assert said.get("zz", marks) == marks
    assert said.keys() in ({"zz"}, {"web"}, {"web", "zz"})


@pytest.mark.parametrize("place", ["frontend", "backend"])
@pytest.mark.parametrize("line", HOSTILE)
def test_a_raw_line_changes_no_line_of_another_service(line: str, place: str, tmp_path: Path) -> None:
    """It opens no section and swallows no line: it is refused at the door, or HAProxy reads the next service as is."""
    lines = {"frontend": [line], "backend": []} if place == "frontend" else {"frontend": [], "backend": [line]}
    definition = read(**lines)
    if definition is not None:
        keeps_to_itself(definition, tmp_path)


@pytest.mark.parametrize(
    "line", [*SECTIONS, ".if 0", "server s1 10.0.0.1:80", "bind :80", '"backend" zz', "\\backend zz", "no global"]
)
def test_what_begins_something_else_is_refused_at_the_door(line: str) -> None:
    """Sections, HAProxy's own conditions, servers and addresses, in whatever disguise."""
    assert read([line], []) is None
    assert read([], [f"  {line}"]) is None


raw_lines = st.lists(st.sampled_from(HOSTILE) | st.text(max_size=12), max_size=4)


@given(raw_lines, raw_lines)
@settings(max_examples=60)
def test_raw_lines_together_change_no_line_of_another_service(
    tmp_path_factory: pytest.TempPathFactory, frontend: list[str], backend: list[str]
) -> None:
    """Neither do several of them, of which one opens what another might close."""
    definition = read(frontend, backend)
    if definition is not None:
        keeps_to_itself(definition, tmp_path_factory.mktemp("raw"))
