"""The commands of `nerve`, most of which are imported only when they are asked for."""

import subprocess
import sys
from typing import Any

import pytest
from click.testing import CliRunner

from nerve.cli import cli, operate

COMMANDS = (
    "check",
    "check-config",
    "clean",
    "drain",
    "explain",
    "heartbeat",
    "log-level",
    "maintenance",
    "run",
    "status",
    "undrain",
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


def test_an_unknown_command_is_wrong_usage() -> None:
    """It exits with 2."""
    assert CliRunner().invoke(cli, ["drian"]).exit_code == 2


def imported(modules: str) -> set[str]:
    """Every module that importing these imports."""
    code = f"import sys, {modules}; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_a_daemon_does_not_import_what_only_commands_need() -> None:
    """`nerve run` begins as every command does, and pays for what that imports as long as it runs."""
    rooms = {f"nerve.cli.{room}" for room in ("clean", "files", "operate", "show")}
    assert imported("nerve.cli, nerve.daemon").isdisjoint({*rooms, "requests", "difflib", "kazoo", "jinja2", "rich"})


def test_a_command_does_not_import_the_daemon() -> None:
    """Somebody waits for its answer, and the daemon is most of what there is to import."""
    assert imported("nerve.cli, nerve.cli.show").isdisjoint({"nerve.daemon", "nerve.loop", "waitress"})


class Answering:
    """A nerve whose check finds a service down, a moment before it is asked to look, and well when it has looked."""

    ASKED = 100.0

    def __init__(self, *_: Any) -> None:
        self._results = [(self.ASKED - 0.03, "down", "connection refused"), (self.ASKED + 0.01, "up", "connected")]

    def act(self, *_: Any) -> dict[str, Any]:
        return {"at": self.ASKED}

    def status(self) -> dict[str, Any]:
        at, state, reason = self._results[0] if len(self._results) == 1 else self._results.pop(0)
        last = {"at": at, "duration_seconds": 0.0, "reason": reason}
        return {"services": {"web": {"state": state, "reason": reason, "checks": {"tcp": {"last": last}}}}}


def test_a_check_of_before_is_no_answer_to_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that says that it is ready is looked at then: what was found a moment before says nothing of it."""
    monkeypatch.setattr(operate, "Daemon", Answering)
    monkeypatch.setattr(operate, "POLL_SECONDS", 0.0)
    answer = CliRunner().invoke(cli, ["check", "web"])
    assert (answer.exit_code, answer.output.splitlines()[-1]) == (0, "web is up: connected")
