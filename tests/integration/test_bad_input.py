"""Wrong files, wrong programs, wrong permissions: one sentence that says what to do, and whatever runs goes on."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients import ask, assert_none_failed
from tests.support.eventually import eventually
from tests.support.pair import Host

SYNAPSE = str(Path(sys.executable).parent / "synapse")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A synapse.yaml with these settings changed by `prepare`; `run` ends with this exit code and says this, once."""

    name: str
    says: tuple[str, ...]
    code: int = 1
    prepare: Callable[[Host], dict[str, Any]] = field(default=lambda host: {})
    path: str | None = None
    obeying: bool = False


def old_haproxy(host: Host) -> dict[str, Any]:
    """A HAProxy that says it is of version 2.3."""
    program = host.write("haproxy-2.3", '#!/bin/sh\necho "HA-Proxy version 2.3.21-3f26054 2022/07/27"\n')
    program.chmod(0o755)
    return {"haproxy": {"binary": str(program)}}


def no_haproxy_at_all(host: Host) -> dict[str, Any]:
    """A program that is no HAProxy."""
    return {"haproxy": {"binary": "/bin/true"}}


def file_as_registry(host: Host) -> dict[str, Any]:
    """A registry directory that is a file."""
    return {"registry": f"file:{host.write('not-a-directory', '')}"}


def closed_registry(host: Host) -> dict[str, Any]:
    """A registry directory that nobody may enter."""
    directory = host.directory / "closed"
    directory.mkdir(exist_ok=True)
    directory.chmod(0o000)
    return {"registry": f"file:{directory}"}


def unreadable_file(host: Host) -> dict[str, Any]:
    """A synapse.yaml that nobody may read."""
    host.configure("unreadable.yaml").chmod(0o000)
    return {}


def taken_admin(host: Host) -> dict[str, Any]:
    """An admin address where somebody listens already; a backend stands in for them."""
    return {"admin": host.instance(1).address}


def state_in_a_file(host: Host) -> dict[str, Any]:
    """A state directory below a file."""
    return {"state_directory": f"{host.write('in-the-way', '')}/state"}


ROWS = [
    Row(name="no such file", path="nowhere.yaml", code=2, says=("nowhere.yaml: cannot be read: no such file",)),
    Row(name="a directory", path="services", code=2, says=("services: cannot be read",)),
    Row(
        name="an unreadable file",
        path="unreadable.yaml",
        code=2,
        prepare=unreadable_file,
        obeying=True,
        says=("unreadable.yaml: cannot be read: permission denied",),
    ),
    Row(
        name="an unknown registry scheme",
        code=2,
        prepare=lambda host: {"registry": "etcd://127.0.0.1:2379/x"},
        says=("row.yaml:1:", "registry:", "zookeeper://", "file:"),
    ),
    Row(
        name="an unknown key",
        code=2,
        prepare=lambda host: {"reigstry": "file:x"},
        says=("row.yaml:1:", "reigstry", "did you mean", "registry"),
    ),
    Row(
        name="a taken admin port",
        prepare=taken_admin,
        says=("cannot serve the admin address", "address already in use", "set `admin`"),
    ),
    Row(
        name="a HAProxy that is too old",
        prepare=old_haproxy,
        says=("haproxy-2.3 is HAProxy 2.3", "needs 2.4 or newer", "haproxy.binary"),
    ),
    Row(
        name="a HAProxy that is not installed",
        prepare=lambda host: {"haproxy": {"binary": "haproxy-that-nobody-installed"}},
        says=("cannot find the program 'haproxy-that-nobody-installed'", "apt-get install haproxy"),
    ),
    Row(
        name="a HAProxy that is something else",
        prepare=no_haproxy_at_all,
        says=("/bin/true -vv does not answer as HAProxy does", "haproxy.binary"),
    ),
    Row(
        name="a registry directory that is a file",
        prepare=file_as_registry,
        says=("not-a-directory", "not a directory"),
    ),
    Row(
        name="a registry directory without permission",
        prepare=closed_registry,
        obeying=True,
        says=("cannot read the registry", "closed: Permission denied", "let user id 0 read that directory"),
    ),
    Row(
        name="a state directory that cannot be made",
        prepare=state_in_a_file,
        says=("cannot make the directory", "in-the-way/state", "synapse.yaml"),
    ),
    Row(
        name="templates that are not there",
        prepare=lambda host: {"haproxy": {"templates": "no-such-templates"}},
        says=("there is no directory", "no-such-templates", "haproxy.templates"),
    ),
]


@pytest.fixture(scope="module")
def serving_host() -> Iterator[Host]:
    """A host whose synapse has stopped and whose HAProxy serves, as while synapse is restarted."""
    host = Host()
    host.serve("web", 3210)
    host.start()
    assert host.synapse.stop() == 0
    yield host
    host.close()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_what_keeps_synapse_from_running_is_said_in_a_sentence(serving_host: Host, row: Row) -> None:
    """Exit code 2 for configuration and usage, 1 for the rest; a sentence, no traceback; what runs is not touched."""
    before = serving_host.haproxy(), serving_host.haproxy_file()
    serving_host.configure("row.yaml", **row.prepare(serving_host))
    code, said = run(serving_host.directory / (row.path or "row.yaml"), obeying=row.obeying)
    assert code == row.code, said
    assert len(said) == 1, said
    missing = [words for words in row.says if words not in said[0]]
    assert not missing, said[0]
    assert (serving_host.haproxy(), serving_host.haproxy_file()) == before
    assert ask(serving_host.address, 3210)


def run(configuration: Path, *, obeying: bool = False) -> tuple[int, list[str]]:
    """Run a synapse that is expected to end at once: its exit code, and what it says, less its log.

    `obeying`: without root's right to pass over the permissions of files.
    """
    obey = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"] if obeying and os.geteuid() == 0 else []
    command = [*obey, SYNAPSE, "run", "-c", str(configuration)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False, cwd="/")
    assert "Traceback" not in done.stderr
    return done.returncode, [line for line in done.stderr.splitlines() if not line.startswith("time=")]


@pytest.mark.parametrize(("shared", "own"), [("state", "run_directory"), ("run", "state_directory")])
def test_two_synapses_with_one_directory(host: Host, shared: str, own: str) -> None:
    """The second says which process is there already and ends; the first does not notice."""
    host.serve("web", 3210)
    host.start()
    before = host.haproxy()
    code, said = run(host.configure("second.yaml", admin=None, **{own: "own"}))
    assert code == 1
    assert said == [
        f"another synapse (pid {host.synapse.pid}) already runs with {host.directory}/{shared}: stop it, or give this "
        "one a directory of its own"
    ]
    assert host.synapse.get("/readyz").status_code == 200
    assert host.haproxy() == before
    assert host.synapse.metric("synapse_haproxy_reloads_total", result="done") == 0


def test_wrong_usage_is_exit_code_2() -> None:
    """An option that does not exist is wrong usage."""
    done = subprocess.run([SYNAPSE, "run", "--confg", "x"], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2
    assert "--config" in done.stderr


def test_a_service_whose_address_is_taken_waits_and_the_others_go_on(host: Host) -> None:
    """A port that somebody else has costs that service only, and is said; free again, it is taken at the next look."""
    host.settings["resync_interval"] = "1s"
    host.serve("web", 3210)
    host.start()
    client = host.client(3210, keep_alive=False)
    with client, socket.create_server((host.address, 3211)) as foreign:
        host.serve("api", 3211)
        host.serve("more", 3212)
        eventually(lambda: ask(host.address, 3212))
        why = f"proxy.listen: cannot listen on {host.address}:3211: another process has it"
        eventually(lambda: why in (host.told("api")["refused_definition"] or ""))
        assert host.told("api")["refused_definition"].startswith(f"{host.services}/api.yaml:1:")
        assert host.synapse.metric("synapse_config_problems", service="api") == 1
        assert host.synapse.metric("synapse_definitions_refused", service="api") == 1
        foreign.close()
        eventually(lambda: ask(host.address, 3211))
        eventually(lambda: host.told("api")["refused_definition"] is None)
        assert_none_failed([client], at_least=10)
    assert host.synapse.metric("synapse_haproxy_reloads_total", result="failed") == 0


def test_a_service_that_moves_to_a_taken_address_stays_where_it_was(host: Host) -> None:
    """An edit that cannot be carried out leaves the service as it was."""
    host.serve("web", 3210)
    host.start()
    client = host.client(3210, keep_alive=False)
    with client, socket.create_server((host.address, 3211)):
        host.define("web", 3211)
        eventually(lambda: "3211" in (host.told("web")["refused_definition"] or ""))
        new = host.join("web", 4).address
        eventually(lambda: new in host.members("web"))
        eventually(lambda: client.answers[new])
        assert_none_failed([client], at_least=10)


def test_two_services_with_one_address_are_told(host: Host) -> None:
    """The one that comes second by name waits; the first serves."""
    host.serve("api", 3210)
    host.serve("web", 3210)
    host.configure()
    host.synapse.start()
    why = f"proxy.listen: {host.address}:3210 is the address of api already"
    assert host.told("web")["refused_definition"].endswith(why)
    assert ask(host.address, 3210)


def own_templates(host: Host, service: str = "", globals_: str = "") -> None:
    """A site's own templates: the package's own, with these lines after them."""
    package = Path(__file__).parents[2] / "haproxy_templates"
    text = (package / "service.cfg.j2").read_text()
    host.write("templates/service.cfg.j2", text + service)
    host.write("templates/global.cfg.j2", (package / "global.cfg.j2").read_text() + globals_)
    host.settings["haproxy"]["templates"] = "templates"


REFUSED_LINE = '{% if name == "api" and proxy.retries == 7 %}\n    blance roundrobin\n{% endif %}\n'


def test_a_definition_that_haproxy_refuses_leaves_that_service_as_it_was(host: Host) -> None:
    """Valid for synapse, refused by HAProxy: the service stays as it was, with HAProxy's words in /status, and the
    others are changed all the same. The refused file is kept beside the good one."""
    own_templates(host, service=REFUSED_LINE)
    host.serve("web", 3210)
    host.serve("api", 3211)
    host.start()
    clients = [host.client(port, keep_alive=False).__enter__() for port in (3210, 3211)]
    host.define("api", 3211, retries=7)
    eventually(lambda: "blance" in (host.told("api")["refused_definition"] or ""))
    host.define("web", 3210, balance="roundrobin")
    eventually(lambda: "balance roundrobin" in host.haproxy_file())
    assert "blance" not in host.haproxy_file()
    new = host.join("api", 4).address
    eventually(lambda: new in host.members("api"))
    assert "blance" in (host.state / "haproxy.cfg.rejected").read_text()
    assert "blance" in (host.state / "haproxy.cfg.rejected.txt").read_text()
    host.synapse.kill()
    host.synapse.start()
    assert "blance" in host.told("api")["refused_definition"]
    assert new in host.members("api")
    host.define("api", 3211, retries=3)
    eventually(lambda: host.told("api")["refused_definition"] is None)
    eventually(lambda: "retries 3" in host.haproxy_file())
    assert_none_failed(clients, at_least=10)


def test_a_new_service_that_haproxy_refuses_is_left_out(host: Host) -> None:
    """There is nothing to stay at: the service is not offered, and the others are."""
    own_templates(host, service=REFUSED_LINE)
    host.serve("web", 3210)
    host.serve("api", 3211, retries=7)
    host.configure()
    host.synapse.start()
    assert "blance" in host.told("api")["refused_definition"]
    assert ask(host.address, 3210)


@pytest.mark.parametrize(
    ("service", "globals_", "says"),
    [
        pytest.param("", "\nglobal\n    nonsense\n", "nonsense", id="the global part is refused by HAProxy"),
        pytest.param("", "{{ nobody_knows }}\n", "nobody_knows", id="the global part is not renderable"),
        pytest.param("", "{% if %}\n", "global.cfg.j2:", id="the global part is not a template"),
        pytest.param("    blance 77\n", "", "blance", id="the part of a service is refused by HAProxy"),
        pytest.param("{{ nobody_knows }}\n", "", "nobody_knows", id="the part of a service is not renderable"),
    ],
)
@pytest.mark.parametrize("restarted", [False, True], ids=["edited", "restarted"])
def test_a_template_that_cannot_be_used_changes_nothing(
    host: Host, service: str, globals_: str, says: str, restarted: bool
) -> None:
    """Whether it is edited under a running synapse or met at a start: it is said, HAProxy serves on as it was, members
    change all the same, and with the template mended all is well."""
    own_templates(host)
    host.serve("web", 3210)
    host.start()
    before = host.haproxy()
    client = host.client(3210, keep_alive=False)
    with client:
        if restarted:
            host.synapse.kill()
        own_templates(host, service, globals_)
        if restarted:
            host.synapse.start(until="/healthz")
        eventually(lambda: says in json.dumps(host.synapse.status()), within=10)
        assert host.haproxy() == before
        new = host.join("web", 4).address
        eventually(lambda: new in host.members("web"))
        eventually(lambda: new in host.haproxy_file())
        own_templates(host)
        eventually(lambda: says not in json.dumps(host.synapse.status()), within=10)
        eventually(lambda: host.synapse.status()["error"] is None, within=10)
        assert host.haproxy() == before
        assert host.told("web")["refused_definition"] is None
        assert_none_failed([client], at_least=10)


def test_a_template_is_used_as_soon_as_it_is_edited(host: Host) -> None:
    """The directory of templates is watched like the definitions: an edit takes effect without a restart."""
    own_templates(host)
    host.serve("web", 3210)
    host.start()
    structure = host.structure()
    client = host.client(3210, keep_alive=False)
    with client:
        own_templates(host, service="    fullconn 77\n")
        eventually(lambda: host.structure() != structure)
        assert "fullconn 77" in host.haproxy_file()
        assert_none_failed([client], at_least=10)
