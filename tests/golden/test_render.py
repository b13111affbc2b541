"""Golden cases of haproxy.cfg: `render/NAME.yaml` is what is wanted, `render/NAME.cfg` the whole file for it.

A case has `services` (by name: `proxy` as in the definition's file, `instances` as in the registry, and, where it
matters, `seated`, which slots of the running HAProxy have whom, and `absent`, which services its routes lead to in
vain, with why), `haproxy` and `telemetry` (as in synapse.yaml), `version`, and
`templates` (the name of a directory beside it, with a site's own templates). Adding a case is adding the two files;
`python -m tests.golden.test_render` writes the `.cfg` of every case anew.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from smartstack.definition import ServiceDefinition
from smartstack.forms import UnixSocket
from smartstack.instance import Instance, decode
from smartstack.registry.protocol import Record
from smartstack.validation import validate
from smartstack.yaml_file import load
from synapse.haproxy import program
from synapse.proxy import Service, Target, slot_count, targets
from synapse.render import Renderer, seat
from synapse.selection import one_per_address
from synapse.settings import HAProxySettings, Settings
from synapse.switches import LUA, Live, delays
from synapse.telemetry.line import Feed
from synapse.tls import tls_files
from tests.support.definitions import placed

CASES = Path(__file__).parent / "render"
LEAF = trustme.CA().issue_cert("web.example")
NAMES = sorted(path.stem for path in CASES.glob("*.yaml"))
SOCKET = "/run/smartstack/synapse/haproxy.sock"
STATE = "/var/lib/smartstack/synapse"
KEY = "0123456789abcdef"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is wanted, and by whose templates."""

    haproxy: HAProxySettings
    version: tuple[int, int]
    services: Mapping[str, Service]
    seated: Mapping[str, Mapping[str, Target]]
    feed: Feed | None
    faults: bool


def read(name: str) -> Case:
    """A case, through the same doors as real definitions, settings and registry nodes."""
    data = yaml.safe_load((CASES / f"{name}.yaml").read_text(encoding="utf-8")) or {}
    host = model(Settings, {"registry": "file:/r", **{key: data.get(key, {}) for key in ("haproxy", "telemetry")}})
    settings, feed = host.haproxy, None if host.feed is None else Feed(address=host.feed, key=KEY)
    if "templates" in data:
        settings = replace(settings, templates=str(CASES / data["templates"]))
    services = {key: service(key, fields) for key, fields in data.get("services", {}).items()}
    seated = {
        key: {slot: target(address) for slot, address in fields["seated"].items()}
        for key, fields in data.get("services", {}).items()
        if "seated" in fields
    }
    major, minor = map(int, data.get("version", "2.6").split("."))
    return Case(
        haproxy=settings,
        version=(major, minor),
        services=services,
        seated=seated,
        feed=feed,
        faults=bool(data.get("faults")),
    )


def model(kind: type[Any], fields: Mapping[str, Any]) -> Any:
    return validate(kind, load(json.dumps(fields), "case", {}), path="case")


def service(name: str, fields: Mapping[str, Any]) -> Service:
    definition = model(ServiceDefinition, {"port": 80, "proxy": fields["proxy"]})
    found = [instance(payload) for payload in fields.get("instances", [])]
    instances = one_per_address(Record(node=str(number), instance=one) for number, one in enumerate(found))
    wanted = targets(placed(instances), definition.proxy)
    slots, absent = slot_count(None, len(wanted)), fields.get("absent", {})
    return Service(name=name, proxy=definition.proxy, targets=wanted, slots=slots, absent=absent)


def instance(payload: Any) -> Instance:
    decoded = decode(json.dumps(payload).encode())
    assert isinstance(decoded, Instance), decoded
    return decoded


def target(address: str) -> Target:
    host, _, port = address.rpartition(":")
    return Target(host=host.strip("[]"), port=int(port), weight=100)


def render(case: Case, socket: str = SOCKET, *, state: str = STATE, backwards: bool = False) -> str:
    """The whole of haproxy.cfg, where synapse's files are in `state`; `backwards` gives everything in the opposite
    order."""
    renderer = Renderer(
        case.haproxy,
        socket,
        case.version,
        certificates=f"{state}/certificates",
        feed=case.feed,
        live=live(case, state),
    )
    order = sorted(case.services, reverse=backwards)
    services = {name: case.services[name] for name in order}
    if backwards:
        services = {name: replace(one, targets=one.targets[::-1]) for name, one in services.items()}
    texts = {name: renderer.text(one, seats(case, one)) for name, one in services.items()}
    structure = renderer.structure({name: renderer.digest(one) for name, one in services.items()})
    return renderer.file(structure, texts).text


def live(case: Case, state: str) -> Live:
    """The live map, and what faults need where the case allows them."""
    if not case.faults:
        return Live(path=f"{state}/haproxy.map")
    delay, lua = delays(case.version, f"{state}/haproxy.lua")
    return Live(path=f"{state}/haproxy.map", faults=True, delay=delay, lua=lua)


def seats(case: Case, one: Service) -> Mapping[str, Target]:
    return seat(replace(one, targets=tuple(sorted(one.targets))), case.seated.get(one.name, {}))


@pytest.mark.parametrize("name", NAMES)
def test_the_file_is_this_one(name: str) -> None:
    """What is wanted gives exactly the file that stands beside it."""
    assert render(read(name)) == (CASES / f"{name}.cfg").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_haproxy_takes_the_file(name: str, tmp_path: Path) -> None:
    """The real HAProxy reads it without a word, whatever its directory is called."""
    case = read(name)
    directory = tmp_path / """it's "$a" #dir"""
    directory.mkdir()
    path = directory / "haproxy.cfg"
    services = {key: moved(one, directory) for key, one in case.services.items()}
    text = render(replace(case, services=services), f"{directory}/h.sock", state=str(directory))
    path.write_text(text, encoding="utf-8")
    (directory / "haproxy.map").write_text("split/web/web-canary 500\n", encoding="utf-8")
    (directory / "haproxy.lua").write_text(LUA, encoding="utf-8")
    (directory / "certificates").mkdir()
    for file in {file for one in services.values() for _, file in tls_files(one.proxy)}:
        (directory / "certificates" / file.copy).write_bytes(LEAF.private_key_and_cert_chain_pem.bytes())
    program.check(program.find("haproxy"), str(path))


def moved(one: Service, directory: Path) -> Service:
    """The same service with its unix socket in a place that this test may use."""
    listens = tuple(
        UnixSocket(f"{directory.parent}/{one.name}{number}") if isinstance(listen, UnixSocket) else listen
        for number, listen in enumerate(one.proxy.listen)
    )
    return replace(one, proxy=replace(one.proxy, listen=listens))


@pytest.mark.parametrize("name", NAMES)
def test_the_same_input_is_the_same_bytes(name: str) -> None:
    """In whatever order services and instances come, and however often."""
    assert render(read(name)) == render(read(name), backwards=True)


@pytest.mark.parametrize("name", NAMES)
def test_members_are_no_structure(name: str) -> None:
    """Without its instances each service has the same digest, and with another slot it has another."""
    case = read(name)
    renderer = Renderer(case.haproxy, SOCKET, case.version)
    for one in case.services.values():
        assert renderer.digest(replace(one, targets=())) == renderer.digest(one)
        assert renderer.digest(replace(one, slots=one.slots + 1)) != renderer.digest(one)


def test_there_are_cases_and_each_has_both_of_its_files() -> None:
    """A golden file without its case, or a directory that was not found, is not a passing test."""
    assert len(NAMES) >= 10
    assert {path.stem for path in CASES.glob("*.cfg")} == set(NAMES)


if __name__ == "__main__":
    for each in NAMES:
        (CASES / f"{each}.cfg").write_text(render(read(each)), encoding="utf-8")
