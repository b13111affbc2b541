"""The commands of `synapse`: most are imported only when they are asked for; what status says in lines."""

import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner

from smartstack.instance import Instance
from smartstack.maintenance import begin
from smartstack.responses import json_response
from synapse.cli import cli
from synapse.cli.operate import _look
from synapse.cli.show import status_lines
from synapse.cli.talk import Daemon
from synapse.outlook import outlook, outlook_lines
from synapse.placement import Role
from synapse.plan import Disable, Enable, Plan, SetAddress, SetWeight
from synapse.selection import Origin
from synapse.status import Snapshot, describe
from tests.unit.test_synapse_explain import DRAINED, HELD, A, B, site, slot
from tests.unit.test_synapse_status import QUIET

COMMANDS = (
    "accept",
    "check-config",
    "edges",
    "events",
    "explain",
    "fault",
    "hold",
    "holds",
    "instances",
    "log-level",
    "plan",
    "render",
    "routes",
    "run",
    "split",
    "stat",
    "status",
    "tap",
    "top",
    "unhold",
    "wait",
)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_explains_itself(name: str) -> None:
    """Wherever a command stands, it is found by its name."""
    answer = CliRunner().invoke(cli, [name, "--help"])
    assert answer.exit_code == 0, answer.output
    assert answer.output.startswith(f"Usage: cli {name} ")


def test_help_lists_every_command() -> None:
    """What can be asked for is listed, in the order of the alphabet, each with a sentence."""
    lines = CliRunner().invoke(cli, ["--help"]).output.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in lines] == sorted(COMMANDS)
    assert all(len(line.split()) > 2 for line in lines)


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["hlod"], id="an unknown command"),
        pytest.param(["hold", "web"], id="a hold of nobody"),
        pytest.param(["hold", "web", "x", "--for", "10"], id="a time without its unit"),
        pytest.param(["wait", "web", "--min", "-1"], id="fewer than none"),
        pytest.param(["wait", "web", "--timeout", "forever"], id="forever where there is no such thing"),
        pytest.param(["stat", "--window", "5s", "--admin", "127.0.0.1:1"], id="a window that is too short"),
        pytest.param(["stat", "--window", "2h", "--admin", "127.0.0.1:1"], id="a window beyond what is kept"),
        pytest.param(["tap"], id="a tap of nothing"),
        pytest.param(["tap", "web", "--max-rate", "0"], id="a tap that shows nothing"),
        pytest.param(["routes", "web", "--learn", "--fleet"], id="paths of other hosts"),
        pytest.param(["stat", "--instances", "--from", "api", "--admin", "127.0.0.1:1"], id="instances by who calls"),
        pytest.param(["fault", "--clear", "--admin", "127.0.0.1:1"], id="the end of a fault of nobody"),
        pytest.param(["fault", "--abort", "503", "--for", "1m", "--admin", "127.0.0.1:1"], id="a fault of nobody"),
    ],
)
def test_wrong_usage(arguments: list[str]) -> None:
    """It exits with 2, and nothing was asked of anybody."""
    assert CliRunner().invoke(cli, arguments).exit_code == 2


def test_tap_says_why_nothing_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each trouble once for as long as it lasts, beside the requests and not among them."""
    troubles = [["its address is taken"], ["its address is taken"], [], ["its address is taken"]]

    def get(*_: Any) -> Any:
        if not troubles:
            raise KeyboardInterrupt
        return {"id": "1", "missed": 0, "requests": [], "problems": troubles.pop(0)}

    monkeypatch.setattr(Daemon, "get", get)
    result = CliRunner().invoke(cli, ["tap", "web", "--admin", "127.0.0.1:1"])
    assert result.stderr.splitlines()[:3] == ["listening", "its address is taken", "its address is taken"]
    assert result.stdout.strip() == ""


def imported(modules: str) -> set[str]:
    """Every module that importing these imports."""
    code = f"import sys, {modules}; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_a_daemon_does_not_import_what_only_commands_need() -> None:
    """`synapse run` begins as every command does, and pays for what that imports as long as it runs."""
    found = imported("synapse.cli, synapse.daemon")
    rooms = {f"synapse.cli.{room}" for room in ("files", "look", "operate", "show", "talk")}
    dear = {*rooms, "smartstack.talk", "synapse.explain", "synapse.outlook", "requests", "difflib", "kazoo", "rich"}
    assert dear & found == set()


def test_a_command_does_not_import_the_daemon() -> None:
    """Somebody waits for its answer, and the daemon is most of what there is to import."""
    assert {"synapse.daemon", "synapse.loop", "jinja2", "waitress"} & imported("synapse.cli, synapse.cli.show") == set()


def told(snapshot: Snapshot) -> Any:
    """As a client reads it."""
    return json.loads(json_response(200, describe(snapshot)).body)


def line_of(snapshot: Snapshot, instance: Instance = A) -> str:
    """What `synapse status` says of an instance."""
    [line] = [line for line in status_lines(told(snapshot)) if instance.address in line and not line[0].isalpha()]
    return line


@pytest.mark.parametrize(
    ("snapshot", "line"),
    [
        pytest.param(site(slot(A)), "  10.0.0.1:80              serving", id="nothing special"),
        pytest.param(
            site(slot(A, weight=0), roles={A: (Role.HELD, "")}, holds=HELD),
            "  10.0.0.1:80              draining  held here for 10m more: new disk (al)",
            id="held here",
        ),
        pytest.param(
            site(slot(A, weight=0), instances=(DRAINED,)),
            "  10.0.0.1:80              draining  weight 0  deploy 7 (bob)",
            id="drained by its nerve",
        ),
        pytest.param(
            site(slot(A, "b1"), roles={A: (Role.BACKUP, "zone=b is not needed")}),
            "  10.0.0.1:80              serving  backup: zone=b is not needed",
            id="a backup",
        ),
        pytest.param(
            site(roles={A: (Role.OUT, "where: not env is prod")}),
            "  10.0.0.1:80              not in HAProxy  not for this host: where: not env is prod",
            id="not for this host",
        ),
        pytest.param(
            site(slot(A), instances=()),
            "  10.0.0.1:80              serving  no instance of the service any more",
            id="a stranger",
        ),
    ],
)
def test_status_says_what_is_special_about_an_instance(snapshot: Snapshot, line: str) -> None:
    """In the line of that instance, after its state and its weight."""
    assert line_of(snapshot) == line


def test_status_before_the_first_turn() -> None:
    """Nothing is known yet, and that is said, not a traceback."""
    lines = status_lines(json.loads(json_response(200, describe(None)).body))
    assert "error     the first turn of the loop is not done yet" in lines


@pytest.mark.parametrize(
    ("least", "gone", "done", "words"),
    [
        (2, None, True, "2 instances of web get traffic"),
        (0, None, True, "2 instances of web get traffic"),
        (3, None, False, "2 of the 3 that are wanted get traffic; it has no more instances"),
        (0, "10.0.0.9", True, "2 instances of web get traffic"),
        (0, "10.0.0.1", False, "10.0.0.1:80 gets traffic still"),
        (0, "80", False, "10.0.0.1:80 gets traffic still"),
    ],
)
def test_what_is_waited_for(least: int, gone: str | None, done: bool, words: str) -> None:
    """So many serve, and nobody who is to be gone, also where an address that was typed means several."""
    snapshot = site(slot(A), slot(B, "s2"), instances=(A, B))
    assert _look(told(snapshot), "web", least, gone) == (done, words)


def planned(plan: Plan, snapshot: Snapshot, **refusals: str) -> list[str]:
    return outlook_lines(outlook(plan, snapshot.observed, snapshot.offers, refusals))


def at(instance: Instance, name: str = "s1") -> dict[str, Any]:
    return {"backend": "web", "slot": name, "host": instance.host, "port": instance.port}


def test_a_plan_is_told_service_by_service_with_reasons() -> None:
    """Each command with the instance and what became of it, under its service; then why HAProxy is reloaded."""
    snapshot = site(slot(A), instances=(A, B), roles={A: (Role.HELD, "held on this host")}, origin=Origin.HELD_BACK)
    gone = replace(A, host="10.0.0.3")
    plan = Plan(
        actions=(
            SetAddress(**at(B, "s2")),
            Enable(**at(B, "s2")),
            SetWeight(**at(A), weight=0),
            Disable(**at(gone, "s3")),
        ),
        reload_reasons=("added api",),
    )
    assert planned(plan, snapshot, web="its address is taken") == [
        "HAProxy runs, pid 42, structure smartstack-1",
        "web: held back, why",
        "  `synapse accept web` believes the listing now",
        "  definition not in use: its address is taken",
        "  runtime: set server web/s2 addr 10.0.0.2 port 80  # 10.0.0.2:80, it is to serve",
        "  runtime: set server web/s2 state ready  # 10.0.0.2:80, it is to serve",
        "  runtime: set server web/s1 weight 0  # 10.0.0.1:80, held on this host",
        "  runtime: set server web/s3 state maint  # 10.0.0.3:80, it is no instance any more",
        "reload: added api",
    ]


@pytest.mark.parametrize(
    ("action", "role", "why"),
    [
        (Disable(**at(A)), (Role.OUT, "where: not env is prod"), "where: not env is prod"),
        (Disable(**at(A)), (Role.PRIMARY, ""), "it is in another slot now"),
        (Disable(**at(A)), (Role.BACKUP, "zone=b is not needed"), "it is in another slot now, zone=b is not needed"),
        (Enable(**at(A, "b1")), (Role.BACKUP, "zone=b is not needed"), "it is a backup, zone=b is not needed"),
        (SetWeight(**at(A), weight=0), (Role.PRIMARY, ""), "it is registered with weight 0"),
        (SetWeight(**at(A), weight=50), (Role.PRIMARY, ""), "its weight here is 50"),
    ],
)
def test_why_a_command(action: Disable | Enable | SetWeight, role: tuple[Role, str], why: str) -> None:
    """What became of the instance, for each kind of change."""
    lines = planned(Plan(actions=(action,)), site(slot(A), roles={A: role}))
    assert lines[-1].endswith(f"# 10.0.0.1:80, {why}")


def test_a_plan_with_nothing_in_it() -> None:
    """It says so; without a HAProxy it says that one would be started, and no reload."""
    assert planned(Plan(), QUIET) == [
        "HAProxy runs, pid 42, structure smartstack-1",
        "web: listing, why",
        "nothing to do",
    ]
    start = Plan(reload_reasons=("HAProxy is not running",))
    assert planned(start, replace(QUIET, observed=None)) == [
        "HAProxy is not running: it would be started",
        "web: listing, why",
    ]


def test_a_hold_without_an_owner_or_an_end() -> None:
    """What nobody said is left out."""
    holds = begin({}, "web 10.0.0.1:80", reason="later", owner="", now=1.0, until=None)
    assert line_of(site(slot(A, weight=0), holds=holds)).endswith("draining  held here: later")
