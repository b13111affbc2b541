"""What the command lines have in common: exit codes, and what stands on standard error."""

import http.server
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import click
import pytest

from smartstack.admin import AdminServer, Response, json_response, text_response
from smartstack.command import fetch_status, run_command
from smartstack.errors import ConfigError, Problem, SmartStackError
from smartstack.forms import TcpAddress


def outcome(command: click.Command, *arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as caught:
        run_command(command, arguments)
    return caught.value.code


@click.command()
@click.option("--fail", type=click.Choice(["expected", "config", "interrupt", "abort", "click", "pipe", "number"]))
def program(fail: str | None) -> int | None:
    """A program that can end in every way."""
    if fail == "expected":
        raise SmartStackError("cannot do it")
    if fail == "config":
        raise ConfigError([Problem(path="a.yaml", message="first"), Problem(path="a.yaml", message="second")])
    if fail == "interrupt":
        raise KeyboardInterrupt
    if fail == "abort":
        raise click.Abort
    if fail == "click":
        raise click.ClickException("cannot open it")
    if fail == "pipe":
        raise BrokenPipeError
    click.echo("done")
    return 3 if fail == "number" else None


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        pytest.param([], 0, "", id="done"),
        pytest.param(["--help"], 0, "", id="help"),
        pytest.param(["--fail", "number"], 3, "", id="a number that the command returns"),
        pytest.param(["--fail", "expected"], 1, "cannot do it\n", id="an expected failure is its sentence"),
        pytest.param(["--fail", "config"], 2, "a.yaml: first\na.yaml: second\n", id="a wrong file is all its problems"),
        pytest.param(["--fail", "click"], 1, "Error: cannot open it\n", id="a failure that click knows"),
        pytest.param(["--fail", "abort"], 130, "", id="somebody said no"),
    ],
)
def test_each_end_has_its_exit_code(
    arguments: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """0 done, 1 an expected failure, 2 a wrong file, 130 interrupted; no traceback, and the text as it is."""
    assert outcome(program, *arguments) == code
    assert capsys.readouterr().err == said


def test_an_interrupt_is_130(capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C is no failure that needs a word."""
    assert outcome(program, "--fail", "interrupt") == 130
    assert capsys.readouterr().err.strip() == ""


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        pytest.param(["--frail"], "--frail", id="an unknown option"),
        pytest.param(["--fail", "x"], "'x'", id="a wrong value"),
        pytest.param(["more"], "more", id="an argument too many"),
    ],
)
def test_wrong_usage_is_2_with_the_usage(arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What was wrong is named, with how it is used."""
    assert outcome(program, *arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("Usage: ") and word in said


def test_a_defect_is_not_hidden() -> None:
    """What nobody expected keeps its traceback."""

    @click.command()
    def broken() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_command(broken, [])


@pytest.mark.parametrize("lines", [pytest.param(1, id="less than a buffer"), pytest.param(100_000, id="more")])
def test_a_closed_pipe_is_quiet(lines: int) -> None:
    """A reader that has seen enough (`| head`) gets no traceback on the terminal."""
    script = (
        "import click; from smartstack.command import run_command\n"
        "@click.command()\n"
        "def program():\n"
        "    input()\n"
        f"    for number in range({lines}): print('line', number)\n"
        "run_command(program, [])"
    )
    pipe = subprocess.PIPE
    child = subprocess.Popen([sys.executable, "-c", script], stdin=pipe, stdout=pipe, stderr=pipe)
    assert child.stdin is not None and child.stdout is not None and child.stderr is not None
    child.stdout.close()
    child.stdin.write(b"\n")
    child.stdin.close()
    assert child.stderr.read() == b""
    child.stderr.close()
    assert child.wait(10) == 1


def test_an_interrupted_process_is_130() -> None:
    """A real SIGINT to a command that waits: 130, and no traceback."""
    script = (
        "import click, signal; from smartstack.command import run_command\n"
        "@click.command()\n"
        "def program():\n"
        "    print('up', flush=True); signal.pause()\n"
        "run_command(program, [])"
    )
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == b"up\n"
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=10)
    assert (child.returncode, said.strip()) == (130, b"")


@pytest.fixture
def daemon() -> Iterator[AdminServer]:
    server = AdminServer(TcpAddress("127.0.0.1", 0), {"/status": lambda: json_response(200, {"service": "web"})})
    server.start()
    yield server
    server.stop()


def test_the_status_of_a_daemon_comes_back(daemon: AdminServer) -> None:
    """What the daemon answers, as a mapping."""
    assert fetch_status(daemon.address) == {"service": "web"}


def test_a_proxy_in_the_environment_is_not_asked(daemon: AdminServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback is asked itself, whatever proxy the environment names."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert fetch_status(daemon.address) == {"service": "web"}


def test_a_wildcard_address_is_asked_on_loopback(daemon: AdminServer) -> None:
    """A daemon bound to every address is asked on the one that every machine has."""
    with pytest.raises(SmartStackError, match=r"^nothing answers at 127\.0\.0\.1:9: "):
        fetch_status(TcpAddress("0.0.0.0", 9))
    assert fetch_status(TcpAddress("0.0.0.0", daemon.address.port)) == {"service": "web"}


def test_nobody_there_is_one_sentence(daemon: AdminServer) -> None:
    """A daemon that does not run is said, with its address and what to do."""
    daemon.stop()
    with pytest.raises(SmartStackError) as caught:
        fetch_status(daemon.address)
    assert str(caught.value) == (
        f"nothing answers at {daemon.address}: start the daemon, or give the `admin` address of the one that runs"
    )


@pytest.mark.parametrize(
    "response",
    [
        pytest.param(text_response(200, "hello"), id="text"),
        pytest.param(json_response(200, [1, 2]), id="a list"),
        pytest.param(json_response(503, {"a": 1}), id="an error"),
    ],
)
def test_a_stranger_is_recognized(response: Response) -> None:
    """Something else on that port is said to be something else."""
    server = AdminServer(TcpAddress("127.0.0.1", 0), {"/status": lambda: response})
    server.start()
    try:
        with pytest.raises(SmartStackError, match=f"^what answers at {server.address} is no daemon of ours: "):
            fetch_status(server.address)
    finally:
        server.stop()


def test_a_daemon_that_hangs_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that takes the connection and never answers is given up on, with a word on where to look."""
    monkeypatch.setattr("smartstack.command.ANSWER_SECONDS", 0.1)
    release = threading.Event()

    class Hanging(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            release.wait(10)

    server = http.server.HTTPServer(("127.0.0.1", 0), Hanging)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with pytest.raises(SmartStackError, match=r"did not answer within 0\.1 s: look at its log$"):
            fetch_status(TcpAddress("127.0.0.1", server.server_port))
    finally:
        release.set()
        server.shutdown()
        thread.join()
        server.server_close()
