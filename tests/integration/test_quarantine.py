"""One bad definition never stops the others: real definitions that HAProxy or synapse refuses, and real requests.

`tests/golden/bad_definitions/NAME.yaml` is a bad definition and `NAME.txt` what is told of it, in /status, the log and
nowhere else. `ADDRESS` and `DIRECTORY` stand for the host's, where it has its services in `DIRECTORY/services`. Beside
them run good services, of which `good-00` listens at ADDRESS:3300 and has `id 4711` in its backend; somebody else
listens at ADDRESS:4999. Adding a case is adding the two files.
"""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from synapse.haproxy import proc, program
from tests.support.clients import LoadClient, ask, assert_none_failed
from tests.support.eventually import eventually
from tests.support.pair import BACKEND_PORT, Host

CASES = Path(__file__).parents[1] / "golden" / "bad_definitions"
NAMES = sorted(path.stem for path in CASES.glob("*.yaml"))
GOOD = 50
ID = "id 4711"
GOLDEN_VERSION = (2, 6)
"""HAProxy's own words in the golden texts are this version's."""

RETRY_SECONDS = 20.0
"""Longer than a definition waits for another chance, also on a busy machine."""


def here(host: Host, text: str) -> str:
    """A text of the golden files as it is on this host, where this process is who has the taken port."""
    text = text.replace("ADDRESS", host.address).replace("DIRECTORY", str(host.directory))
    return text.replace("PROCESS", f"{proc.name(os.getpid())} (pid {os.getpid()})")


def expected(host: Host, name: str) -> str:
    return here(host, (CASES / f"{name}.txt").read_text()).rstrip("\n")


def told(host: Host, name: str) -> str:
    """What /status tells of a definition that is not in use; empty when it is."""
    status = host.synapse.status()
    problems = status["problems"].get(name)
    return "\n".join(problems) if problems else status["services"].get(name, {}).get("refused_definition") or ""


def explained(host: Host) -> bool:
    """Whether each bad definition is told exactly as its golden text says."""
    for name in NAMES:
        said, wanted = told(host, name), expected(host, name)
        if (
            program.version(program.find("haproxy")) != GOLDEN_VERSION
        ):  # another version says the same in words of its own
            said, wanted = (text.partition(": HAProxy refuses")[0] for text in (said, wanted))
        assert said == wanted
    return True


def serve(host: Host, name: str, port: int, raw: str = "", **more: object) -> None:
    host.define(name, port, **({"raw": {"backend": raw}} if raw else {}), **more)
    host.join(name, 1)


@pytest.fixture
def crowded(host: Host) -> Iterator[Host]:
    """A host with 50 good definitions and the bad ones, not started."""
    for number in range(GOOD):
        serve(host, f"good-{number:02}", 3300 + number, ID if number == 0 else "")
    for name in NAMES:
        host.write(f"services/{name}.yaml", here(host, (CASES / f"{name}.yaml").read_text()))
        host.join(name, 1)
    host.configure()
    with socket.create_server((host.address, 4999)):
        yield host


def all_served(host: Host) -> bool:
    instance = f"{host.instance(1).host}:{BACKEND_PORT}"
    return all(ask(host.address, 3300 + number) == instance for number in range(GOOD))


def checks(host: Host, result: str) -> float:
    return host.synapse.metric("synapse_haproxy_checks_total", result=result)


def test_many_bad_definitions_among_many_good_ones(crowded: Host) -> None:
    """The good ones are served and each bad one is explained in HAProxy's own words, with the line of its file: at a
    first start, after a restart, and when one more comes. No request notices, and an edit brings one of them up."""
    host = crowded
    host.synapse.start()
    eventually(lambda: all_served(host), within=15)
    eventually(lambda: explained(host), within=15)
    refused = [name for name in NAMES if host.synapse.status()["services"].get(name, {}).get("refused_definition")]
    assert sum(host.synapse.metrics("synapse_definitions_refused")) == len(refused)
    asked = f"{checks(host, 'refused'):.0f} + {checks(host, 'taken'):.0f}"
    print(f"{len(NAMES)} bad definitions among {GOOD} good ones: HAProxy was asked {asked} times")
    assert checks(host, "refused") <= len(refused)
    log = host.synapse.log()
    for name in refused:
        assert log.count(f"service={name} ") == 1, name

    clients = [
        host.client(port, keep_alive=each, rate=50).__enter__() for port in (3300, 3349) for each in (False, True)
    ]
    before = host.haproxy()
    host.synapse.kill()
    host.synapse.start()
    eventually(lambda: explained(host), within=15)
    assert host.haproxy() == before
    serve(host, "late", 4100, "blance 7")
    eventually(lambda: "unknown keyword 'blance'" in told(host, "late"))
    assert host.haproxy() == before
    serve(host, "late", 4100, "option abortonclose")
    eventually(lambda: ask(host.address, 4100))
    text = here(host, (CASES / "raw-unknown-keyword.yaml").read_text())
    host.write("services/raw-unknown-keyword.yaml", text.replace("blance", "balance"))
    eventually(lambda: ask(host.address, 4001))
    eventually(lambda: told(host, "raw-unknown-keyword") == "")
    assert all_served(host)
    assert_none_failed(clients, at_least=10)


def test_there_are_cases_and_each_has_both_of_its_files() -> None:
    """A golden text without its file, or a directory that was not found, is not a passing test."""
    assert len(NAMES) >= 25
    assert {path.stem for path in CASES.glob("*.txt")} == set(NAMES)


def begun(host: Host, *ports: int) -> list[LoadClient]:
    return [host.client(port, keep_alive=False, rate=50).__enter__() for port in ports]


@pytest.mark.parametrize(("first", "second"), [("aa", "zz"), ("zz", "aa")])
def test_of_two_that_clash_the_one_that_runs_stays(host: Host, first: str, second: str) -> None:
    """Whichever name comes first. When the one that runs goes, the other one comes up without an edit."""
    serve(host, first, 3210, ID)
    serve(host, "web", 3212)
    host.start()
    clients = begun(host, 3210, 3212)
    serve(host, second, 3211, ID)
    eventually(lambda: "reuses same custom id" in told(host, second))
    serve(host, "more", 3213)
    eventually(lambda: ask(host.address, 3213))
    assert told(host, first) == ""
    assert_none_failed(clients, at_least=10)
    (host.services / f"{first}.yaml").unlink()
    eventually(lambda: ask(host.address, 3211), within=RETRY_SECONDS)
    eventually(lambda: told(host, second) == "")


def test_a_file_that_is_missing_is_found_when_it_is_there(host: Host) -> None:
    """What is not the definition's own fault is tried again by itself; the others do not wait."""
    page = host.directory / "page.http"
    serve(host, "api", 3211)
    serve(host, "web", 3210)
    host.start()
    clients = begun(host, 3210, 3211)
    serve(host, "web", 3210, f"errorfile 503 {page}", retries=5)
    eventually(lambda: "error opening file" in told(host, "web"))
    serve(host, "api", 3211, balance="random")
    eventually(lambda: "balance random" in host.haproxy_file())
    assert "retries 5" not in host.haproxy_file()
    page.write_text("HTTP/1.0 503 Service Unavailable\r\n\r\n")
    eventually(lambda: "retries 5" in host.haproxy_file(), within=RETRY_SECONDS)
    eventually(lambda: told(host, "web") == "")
    assert_none_failed(clients, at_least=10)


def test_a_refusal_stays_to_be_seen_while_it_is_tried_again(host: Host) -> None:
    """It is told once in the log, and /status never says that all is well in between."""
    serve(host, "web", 3210)
    serve(host, "api", 3211, f"errorfile 503 {host.directory}/page.http")
    host.configure()
    host.synapse.start()
    seen = checks(host, "refused")
    eventually(lambda: checks(host, "refused") > seen or not told(host, "api"), within=RETRY_SECONDS)
    assert "error opening file" in told(host, "api")
    assert host.synapse.log().count("the definition is not taken") == 1


def broken_for(host: Host, name: str) -> None:
    """A site's own template of services, which cannot be rendered for this one; for nobody, it is the package's."""
    package = Path(__file__).parents[2] / "haproxy_templates" / "service.cfg.j2"
    broken = f'{{% if name == "{name}" %}}{{{{ nobody_knows }}}}{{% endif %}}\n'
    host.write("templates/service.cfg.j2", package.read_text() + (broken if name else ""))
    host.settings["haproxy"]["templates"] = "templates"


@pytest.mark.parametrize("haproxy_too", [False, True], ids=["synapse alone", "and HAProxy"])
def test_a_template_that_breaks_for_one_service_holds_up_nobody(host: Host, haproxy_too: bool) -> None:
    """After a restart there is no good template in memory: the service goes on by the text that it had, with the
    members of now, also more than it had slots for; the others take their edits."""
    broken_for(host, "")
    host.serve("api", 3210)
    host.serve("web", 3211)
    host.start()
    host.synapse.kill()
    broken_for(host, "api")
    if haproxy_too:
        for pid in host.haproxy_processes():
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: not host.haproxy_processes())
    host.synapse.start()
    clients = begun(host, 3210, 3211)
    assert "nobody_knows" in told(host, "api")
    host.define("web", 3211, balance="random")
    eventually(lambda: "balance random" in host.haproxy_file())
    host.leave("api", 1)
    new = [host.join("api", number).address for number in range(4, 20)]
    eventually(lambda: set(new) <= host.members("api").keys())
    assert host.instance(1).address not in host.members("api")
    eventually(lambda: all(address in host.haproxy_file() for address in new))
    assert_none_failed(clients, at_least=10)
    broken_for(host, "")
    eventually(lambda: told(host, "api") == "")
    assert host.synapse.status()["error"] is None


def test_a_template_that_makes_nothing_of_a_service_is_refused(host: Host) -> None:
    """A file without one of the services is never used: it stays as it was, and that is told."""
    broken_for(host, "")
    host.serve("api", 3210)
    host.serve("web", 3211)
    host.start()
    clients = begun(host, 3210, 3211)
    host.synapse.kill()
    text = (host.directory / "templates/service.cfg.j2").read_text()
    host.write("templates/service.cfg.j2", f'{{% if name != "api" %}}{text}{{% endif %}}')
    host.synapse.start()
    eventually(lambda: "makes no whole `backend api`" in told(host, "api"))
    host.define("web", 3211, balance="random")
    eventually(lambda: "balance random" in host.haproxy_file())
    assert "\nbackend api\n" in host.haproxy_file()
    assert_none_failed(clients, at_least=10)
