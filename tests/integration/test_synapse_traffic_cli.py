"""`synapse stat`, `top`, `tap`, `edges` and `routes` beside a synapse whose HAProxy serves."""

import io
import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import yaml

from smartstack.command import run_command
from synapse.cli import cli
from tests.support.eventually import eventually
from tests.support.pair import Host
from tests.support.stage import Client
from tests.support.terminal import PROGRAMS, Terminal

SYNAPSE = str(PROGRAMS / "synapse")
WEB, API, TAPPED, BROKEN, QUIET, PATHS = 3210, 3211, 3212, 3213, 3214, 3215


@pytest.fixture(scope="module")
def serving() -> Iterator[Host]:
    """A host that offers services, one of them without an instance, with a client of each but the last."""
    made = Host()
    for name, port in (("web", WEB), ("api", API), ("tapped", TAPPED), ("quiet", QUIET), ("paths", PATHS)):
        made.serve(name, port, instances=2)
    made.define("broken", BROKEN)
    made.start()
    yield made
    made.close()


def ask(
    host: Host, port: int, count: int = 1, *, method: str = "GET", target: str = "/", source: str | None = None
) -> list[int]:
    """Requests on one connection, of somebody who says who it is or does not; the statuses."""
    client = Client(host, port)
    headers = {} if source is None else {"x_smartstack_source": source}
    try:
        return [client.ask(method, target, **headers).status for _ in range(count)]
    finally:
        client.close()


def command(host: Host, *arguments: str) -> list[str]:
    """The command line with this host's configuration."""
    return [SYNAPSE, *arguments, "-c", str(host.directory / "synapse.yaml")]


def synapse(host: Host, *arguments: str, code: int = 0) -> str:
    """Run it, without a process of its own; what it printed, or what it said where it failed."""
    printed, said = io.StringIO(), io.StringIO()
    with redirect_stdout(printed), redirect_stderr(said), pytest.raises(SystemExit) as ended:
        run_command(cli, command(host, *arguments)[1:])
    assert ended.value.code == code, said.getvalue()
    return said.getvalue() if code else printed.getvalue()


def told(host: Host, *arguments: str) -> dict[str, Any]:
    """What it printed as JSON."""
    answer: dict[str, Any] = json.loads(synapse(host, *arguments, "--json"))
    return answer


def test_stat_counts_what_a_client_counted(serving: Host) -> None:
    """Each request once, with who asked; of instances, both have their part; figures in the table are the same."""
    assert ask(serving, WEB, 30) == [200] * 30
    assert ask(serving, WEB, 12, target="/users/7", source="shop") == [200] * 12

    def whole() -> dict[str, Any]:
        [row] = told(serving, "stat", "web")["rows"]
        assert row["requests"] == 42
        return dict(row)

    row = eventually(whole, within=10)
    assert (row["success"], row["failures"], row["success_rate"], row["classes"]["2xx"]) == (42, 0, 1.0, 42)
    [shop] = told(serving, "stat", "web", "--from", "shop")["rows"]
    assert shop["requests"] == 12
    instances = told(serving, "stat", "web", "--instances")["rows"]
    assert sorted(each["instance"] for each in instances) == [serving.instance(n).address for n in (1, 2)]
    assert sum(each["requests"] for each in instances) == 42
    lines = synapse(serving, "stat", "web").splitlines()
    assert lines[0].split() == ["SERVICE", "SUCCESS", "RPS", "P50", "P95", "P99", "CONN"]
    assert lines[1].split()[:2] == ["web", "100.00%"]
    assert " s of 60 s covered" in lines[2], "synapse has not run for a minute, and says so"


def test_a_service_that_nobody_asked_is_unknown_not_bad(serving: Host) -> None:
    """A dash is no success rate of 0, and no latency of 0."""
    [_, line, *_] = synapse(serving, "stat", "quiet").splitlines()
    assert line.split()[:6] == ["quiet", "-", "0.0", "-", "-", "-"]


def test_routes_and_edges_say_who_asked_for_what(serving: Host) -> None:
    """The same requests by method, and by both ends."""
    assert ask(serving, API, 5, method="POST", source="shop") == [200] * 5

    def counted() -> dict[str, Any]:
        found = told(serving, "edges")["edges"]
        [edge] = [each for each in found if (each["source"], each["service"]) == ("shop", "api")]
        assert edge["requests"] == 5
        return dict(edge)

    assert eventually(counted, within=10)["source_kind"] == "header"
    [line] = [line.split() for line in synapse(serving, "edges").splitlines() if "shop" in line and "api" in line]
    assert line[:2] + line[3:6] == ["shop", "(header)", "->", "api", "100.00%"]
    lines = [line.split() for line in synapse(serving, "routes", "api").splitlines()]
    assert (lines[0][:2], lines[1][0], lines[1][2]) == (["METHOD", "ROUTE"], "POST", "100.00%")


def test_learned_paths_name_the_routes_once_they_stand_in_the_definition(serving: Host) -> None:
    """What is printed is YAML, whatever was asked for, and is taken as it is."""
    odd = ("/a'b", "/{x}/1", "/*", "/%0a", "//", "/x:%20#y")
    for target in (*(f"/users/{number}/orders" for number in range(60)), *odd):
        ask(serving, PATHS, target=target)

    def learned() -> Any:
        paths = yaml.safe_load(synapse(serving, "routes", "paths", "--learn"))["proxy"]["paths"]
        assert {"/users/{id}/orders", "/a'b"} <= set(paths)
        return paths

    serving.define("paths", PATHS, paths=eventually(learned, within=10))
    eventually(lambda: "edited" in synapse(serving, "events", "paths"), within=10)
    assert serving.synapse.status()["problems"].get("paths") is None
    ask(serving, PATHS, target="/users/7/orders")
    eventually(lambda: "/users/{id}/orders" in synapse(serving, "routes", "paths") or None, within=10)


class Tapping:
    """A `synapse tap` that listens."""

    def __init__(self, host: Host, directory: Path, *arguments: str) -> None:
        self._lines, self._said = directory / "lines", directory / "said"
        with open(self._lines, "wb") as lines, open(self._said, "wb") as said:
            self._process = subprocess.Popen(command(host, "tap", *arguments), stdout=lines, stderr=said)
        eventually(lambda: "listening" in self.said(), within=20)

    def lines(self) -> list[str]:
        """What it printed."""
        return self._lines.read_text().splitlines()

    def said(self) -> str:
        """What it said beside that."""
        return self._said.read_text()

    def interrupt(self) -> int:
        """End it as Ctrl-C does; its exit code."""
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(15)

    def close(self) -> None:
        """Make sure that it does not run."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()


@pytest.fixture
def tapping(serving: Host, tmp_path: Path) -> Iterator[Any]:
    """Makes taps."""
    made: list[Tapping] = []

    def make(*arguments: str, host: Host = serving) -> Tapping:
        directory = tmp_path / str(len(made))
        directory.mkdir()
        made.append(Tapping(host, directory, *arguments))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_tap_prints_a_request_as_it_ends(serving: Host, tapping: Any) -> None:
    """Who asked which instance for what, and how it went; Ctrl-C is 130, without a traceback."""
    tap = tapping("tapped")
    ask(serving, TAPPED, target="/a%1b[2J?secret=1", source="shop")
    [line] = eventually(tap.lines, within=10)
    words = line.split()
    assert words[1:3] == ["shop", "->"]
    assert words[3] in {serving.instance(number).address for number in (1, 2)}
    assert words[4:7] == ["GET", "/a%1b[2J", "200"]
    assert words[7].endswith("ms")
    assert tap.interrupt() == 130
    assert tap.said().strip() == "listening"


def test_tap_shows_what_is_wanted_and_counts_the_rest(serving: Host, tapping: Any) -> None:
    """By path, method, status and caller; more than may be shown a second is said to be missed."""
    filtered = tapping("tapped", "--path", "/api", "--method", "post", "--status", "2xx", "--from", "shop", "--json")
    slow = tapping("tapped", "--max-rate", "1")
    ask(serving, TAPPED, target="/api/x", source="shop")
    ask(serving, TAPPED, method="POST", target="/other", source="shop")
    ask(serving, TAPPED, method="POST", target="/api/x", source="cron")
    ask(serving, TAPPED, method="POST", target="/api/wanted", source="shop")
    [line] = eventually(filtered.lines, within=10)
    request = json.loads(line)
    assert (request["method"], request["path"], request["source"]) == ("POST", "/api/wanted", "shop")
    eventually(lambda: "more were not shown" in slow.said(), within=10)
    assert 1 <= len(slow.lines()) < 4


def test_tap_goes_on_after_a_restart_of_synapse(host: Host, tapping: Any) -> None:
    """It says so, once each way."""
    host.serve("web", WEB, instances=1)
    host.start()
    tap = tapping("web", host=host)
    host.synapse.stop()
    eventually(lambda: "asking again" in tap.said(), within=10)
    host.synapse.start()
    eventually(lambda: "listening again" in tap.said(), within=10)
    ask(host, WEB, target="/after")
    eventually(lambda: any("/after" in line for line in tap.lines()), within=10)
    assert tap.said().count("nothing answers") == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(("stat", "wbe"), "no such service", id="a service that nobody knows"),
        pytest.param(("routes", "wbe"), "no such service", id="its routes"),
        pytest.param(("tap", "wbe"), "no such service", id="a tap of it"),
        pytest.param(("tap", "web", "--status", "9xx"), "status is to be a status", id="no status"),
        pytest.param(("stat", "--fleet"), "no synapse is announced: set `fleet:", id="a fleet of nobody"),
        pytest.param(("stat", "--admin", "127.0.0.1:1"), "nothing answers at 127.0.0.1:1", id="no synapse"),
        pytest.param(("stat", "-w", "--admin", "127.0.0.1:1"), "nothing answers at 127.0.0.1:1", id="again and again"),
    ],
)
def test_what_cannot_be_shown_is_one_sentence(serving: Host, arguments: tuple[str, ...], says: str) -> None:
    """Exit code 1, and nothing to read beyond it."""
    said = synapse(serving, *arguments, code=1)
    assert says in said
    assert len(said.splitlines()) == 1


def test_w_draws_in_place_on_a_terminal(serving: Host) -> None:
    """Each round goes up over the last one, and clears what is left of it; Ctrl-C is 130 and leaves the last."""
    terminal = Terminal(command(serving, "stat", "quiet", "-w"), columns=30)
    try:
        eventually(lambda: terminal.text.count("SERVICE") >= 3, within=20)
        terminal.send(signal.SIGINT)
        assert terminal.wait() == 130
    finally:
        terminal.close()
    assert "\x1b[2A\r" in terminal.text or "\x1b[3A\r" in terminal.text, "up by as many lines as were drawn"
    assert "Traceback" not in terminal.text
    assert all(len(line.split("\x1b[K")[0].split("\r")[-1]) < 30 for line in terminal.text.splitlines())


@pytest.mark.parametrize("arguments", [("stat", "quiet", "-w"), ("top", "quiet")], ids=["stat", "top"])
def test_w_is_plain_elsewhere(serving: Host, arguments: tuple[str, ...]) -> None:
    """In a pipe, each round follows the last, without a control character; Ctrl-C is 130 there too."""
    process = subprocess.Popen(command(serving, *arguments), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        expected = "SERVICE" if arguments[0] == "stat" else "no requests"
        lines: list[str] = []
        while sum(expected in line for line in lines) < 2:
            lines.append(process.stdout.readline())
            assert lines[-1], "it ended"
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(15) == 130
    assert "\x1b" not in "".join(lines)


def test_w_as_json_is_a_line_a_round(serving: Host) -> None:
    """A program reads one answer a line, on a terminal or not."""
    process = subprocess.Popen(command(serving, "stat", "quiet", "-w", "--json"), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        answers = [json.loads(process.stdout.readline()) for _ in range(2)]
    finally:
        process.kill()
        process.wait()
    assert answers[0]["at"] < answers[1]["at"]


@pytest.mark.parametrize(
    ("env", "coloured"),
    [
        pytest.param({}, True, id="on a terminal"),
        pytest.param({"NO_COLOR": "1"}, False, id="on a terminal, but nobody wants them"),
    ],
)
def test_colours_are_for_terminals(serving: Host, env: dict[str, str], coloured: bool) -> None:
    """A service of which every request fails is red there; never in a pipe."""
    assert ask(serving, BROKEN, 3) == [503] * 3
    eventually(lambda: "0.00%" in synapse(serving, "stat", "broken"), within=10)
    assert "\x1b" not in synapse(serving, "stat", "broken")
    terminal = Terminal(command(serving, "stat", "broken"), env=env)
    try:
        assert terminal.wait() == 0
    finally:
        terminal.close()
    assert "0.00%" in terminal.text
    assert ("\x1b[31m0.00%\x1b[0m" in terminal.text) == coloured
    assert ("\x1b" in terminal.text) == coloured
