"""The `synapse` command beside a synapse that runs: what it prints, what it leaves alone, how it ends."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from smartstack import __version__
from tests.support.clients import ask
from tests.support.eventually import eventually
from tests.support.pair import Host

SYNAPSE = str(Path(sys.executable).parent / "synapse")

BROKEN = "port: 8080\nchek: {type: tcp}\n"


@pytest.fixture(scope="module")
def serving() -> Iterator[Host]:
    """A host whose synapse runs and has nothing to do."""
    host = Host()
    host.serve("web", 3210)
    host.serve("api", 3211)
    host.start()
    yield host
    host.close()


def synapse(host: Host, *arguments: str, name: str = "synapse.yaml") -> subprocess.CompletedProcess[str]:
    """Run a subcommand with this host's configuration, in another directory."""
    command = [SYNAPSE, *arguments, "-c", str(host.directory / name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False, cwd="/")
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def untouched(serving: Host) -> Iterator[Host]:
    """The same host; whatever is asked there changes neither HAProxy nor what synapse keeps."""

    def seen() -> object:
        files = {path: path.read_bytes() for path in serving.state.rglob("*") if path.is_file()}
        return serving.haproxy(), serving.structure(), serving.members("web"), files

    eventually((serving.state / "last_good.json").exists)
    for name in ("api", "web"):
        eventually((serving.state / "definitions" / f"{name}.yaml").exists)
    before = seen()
    yield serving
    assert seen() == before


def test_plan_has_nothing_to_do(untouched: Host) -> None:
    """HAProxy is as it should be."""
    done = synapse(untouched, "plan")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == f"HAProxy runs, pid {untouched.haproxy()[1]}, structure {untouched.structure()}"
    assert [line.partition(":")[0] for line in lines[1:-1]] == ["api", "web"]
    assert lines[-1] == "nothing to do"


def test_render_is_what_the_file_holds(untouched: Host) -> None:
    """Once things are quiet, the text is the same to the letter, instances in their slots included."""

    def same() -> bool:
        done = synapse(untouched, "render")
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout == untouched.haproxy_file()

    eventually(same)
    assert untouched.instance(1).address in untouched.haproxy_file()


@pytest.mark.parametrize("subcommand", ["plan", "render"])
def test_a_definition_that_is_broken_is_warned_of_and_stays_in_use(untouched: Host, subcommand: str) -> None:
    """Who looks sees what synapse does: the last good definition is in use, nothing is removed."""
    path = untouched.services / "web.yaml"
    good = path.read_text()
    untouched.write("services/web.yaml", BROKEN)
    try:
        done = synapse(untouched, subcommand)
    finally:
        untouched.write("services/web.yaml", good)
    assert done.returncode == 0
    warnings = done.stderr.splitlines()
    assert warnings
    assert all(line.startswith("warning: ") and "web.yaml" in line for line in warnings)
    assert any("chek" in line for line in warnings)
    if subcommand == "plan":
        assert done.stdout.endswith("\nnothing to do\n")
        assert "\nweb: " in done.stdout
        assert "reload:" not in done.stdout
    else:
        assert "\nbackend web\n" in done.stdout
    eventually(lambda: not untouched.synapse.status()["problems"])


def test_plan_says_what_it_would_do(untouched: Host) -> None:
    """With another configuration: the commands and reasons, and nothing of it is done."""
    untouched.configure("fewer.yaml", use=["web"])
    done = synapse(untouched, "plan", name="fewer.yaml")
    assert done.returncode == 0
    assert any(line.startswith("reload: ") and "api" in line for line in done.stdout.splitlines()), done.stdout
    assert "nothing to do" not in done.stdout


def test_who_looks_without_a_registry_and_a_memory_goes_by_what_runs(untouched: Host) -> None:
    """The registry does not answer and no instances were kept: that is said of each service, and what HAProxy serves
    is the last good set."""
    untouched.configure("blind.yaml", registry=f"zookeeper://{untouched.address}:9/x")
    kept, aside = untouched.state / "last_good.json", untouched.directory / "last_good.json"
    kept.rename(aside)
    try:
        done = synapse(untouched, "plan", "--wait", "0.1", name="blind.yaml")
    finally:
        aside.rename(kept)
    assert done.returncode == 0
    said = [f"warning: the registry has not said anything on {name} within 0.1 s" for name in ("api", "web")]
    assert done.stderr.splitlines() == said
    assert done.stdout.endswith("\nnothing to do\n")


def test_looking_makes_no_state_directory(untouched: Host) -> None:
    """Where no synapse has run yet, what only looks leaves nothing behind."""
    untouched.configure("first.yaml", state_directory="never-made", run_directory="nor-this")
    done = synapse(untouched, "plan", name="first.yaml")
    assert done.returncode == 0
    assert done.stdout.startswith("HAProxy is not running: it would be started\n")
    for subcommand in ("render", "check-config"):
        assert synapse(untouched, subcommand, name="first.yaml").returncode == 0
    assert not (untouched.directory / "never-made").exists()
    assert not (untouched.directory / "nor-this").exists()


def test_status_for_people_and_for_programs(untouched: Host) -> None:
    """The same answer, in lines and as /status gives it; by the configuration and by --admin."""
    people = synapse(untouched, "status")
    assert (people.returncode, people.stderr) == (0, "")
    lines = people.stdout.splitlines()
    assert lines[0].startswith("registry  connected: ")
    assert lines[1] == f"haproxy   running, pid {untouched.haproxy()[1]}"
    assert not any(line.startswith(("error", "problem", "restart")) for line in lines)
    assert any(line.startswith(f"web  {untouched.address}:3210  (") for line in lines)
    for number in (1, 2, 3):
        assert f"  {untouched.instance(number).address:<24} serving" in people.stdout
    told = json.loads(synapse(untouched, "status", "--json").stdout)
    assert told["services"].keys() == untouched.synapse.status()["services"].keys() == {"api", "web"}
    assert told["haproxy"]["pid"] == untouched.haproxy()[1]
    assert synapse(untouched, "status", "--admin", untouched.admin).returncode == 0


def test_status_of_a_synapse_that_does_not_run(untouched: Host) -> None:
    """One sentence, and exit code 1."""
    done = synapse(untouched, "status", "--admin", f"{untouched.address}:9")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        f"nothing answers at {untouched.address}:9: start the daemon, or give the `admin` address of the one that runs"
    ]


def test_check_config(untouched: Host) -> None:
    """What is right is counted; a service that nobody defined is exit code 2, with what was probably meant."""
    done = synapse(untouched, "check-config")
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok: 2 services\n", "")
    untouched.configure("misspelt.yaml", use=["wbe"])
    done = synapse(untouched, "check-config", name="misspelt.yaml")
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    for words in ("misspelt.yaml", "use", "wbe has no definition in", "did you mean 'web'?"):
        assert words in done.stderr


def test_version() -> None:
    """The version of the package, which is the same for every program of it."""
    done = subprocess.run([SYNAPSE, "--version"], capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"synapse {__version__}\n", "")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"])
def test_the_exit_code_says_who_ended_it(host: Host, number: signal.Signals, code: int) -> None:
    """An init system asks with SIGTERM, and that is success; Ctrl-C is 130, as for every program. HAProxy goes on."""
    host.serve("web", 3210)
    host.start()
    before = host.haproxy()
    assert host.synapse.stop(number) == code
    assert "Traceback" not in host.synapse.log()
    assert host.haproxy() == before
    assert ask(host.address, 3210)
