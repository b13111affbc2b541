"""What the command lines have in common: exit codes, and what stands on standard error."""

import http.server
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest

from smartstack.actions import BadRequest
from smartstack.admin import AdminServer
from smartstack.command import fetch, fetch_status, post_action, read_token, readable_token, run_command
from smartstack.errors import ConfigError, Problem, SmartStackError
from smartstack.forms import TcpAddress
from smartstack.inbox import Inbox
from smartstack.responses import Response, json_response, one_of, text_response
from smartstack.tokens import Token


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


class Acting:
    """A daemon with an action, and with what can go wrong in one."""

    def __init__(self, run_directory: Path) -> None:
        self.asked: list[Mapping[str, Any]] = []
        self.token = Token(run_directory)
        self.token.write()
        self.server = AdminServer(
            TcpAddress("127.0.0.1", 0),
            {"/status": lambda: json_response(200, {"daemon": "nerve"})},
            {
                "/drain": self.drain,
                "/hang": lambda arguments: json_response(200, Inbox[str](lambda: None).ask("x", 0.01)),
                "/bad": self.bad,
            },
            self.token,
            prefixes={"/services/": one_of(lambda: {"web": {"port": 80}}, "service")},
        )

    def drain(self, arguments: Mapping[str, Any]) -> Response:
        if arguments.get("service") == "wep":
            raise SmartStackError("no service wep here; did you mean web?")
        self.asked.append(arguments)
        return json_response(200, {"drained": ["web"]})

    def bad(self, arguments: Mapping[str, Any]) -> Response:
        raise BadRequest("there is no argument\x1b[31m 'x'")

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return post_action(self.server.address, path, body, self.token.path)


@pytest.fixture
def acting(tmp_path: Path) -> Iterator[Acting]:
    acting = Acting(tmp_path)
    acting.server.start()
    yield acting
    acting.server.stop()


def test_any_path_can_be_fetched(acting: Acting) -> None:
    """What the daemon answers as an object, and its own sentence where it refuses."""
    assert fetch(acting.server.address, "/services/web") == {"port": 80}
    with pytest.raises(SmartStackError, match=r"^no such service; there are: web$"):
        fetch(acting.server.address, "/services/wep")


def test_an_action_is_posted_with_the_token(acting: Acting) -> None:
    """The body arrives as it is, and the daemon's answer comes back."""
    assert acting.post("/drain", {"service": "web", "reason": "käse"}) == {"drained": ["web"]}
    assert acting.asked == [{"service": "web", "reason": "käse"}]


@pytest.mark.parametrize(
    ("path", "body", "sentence"),
    [
        pytest.param("/drain", {"service": "wep"}, "no service wep here; did you mean web?", id="refused"),
        pytest.param("/bad", {}, "there is no argument[31m 'x'", id="nothing unprintable reaches the terminal"),
        pytest.param("/nowhere", {}, "no such path; there are: ", id="an older daemon"),
        pytest.param("/hang", {}, "nothing was done: the loop did not look for orders", id="a loop that hangs"),
        pytest.param("/drain", {"reason": "x" * 20_000}, "Request Entity Too Large exceeds max_body", id="too long"),
    ],
)
def test_a_refusal_is_the_daemons_own_sentence(path: str, body: dict[str, Any], sentence: str, acting: Acting) -> None:
    """What the daemon says is what the user reads, in one line, and nothing was done."""
    with pytest.raises(SmartStackError) as caught:
        acting.post(path, body)
    assert str(caught.value).startswith(sentence)
    assert str(caught.value).isprintable()
    assert acting.asked == []


def test_a_token_of_another_daemon_is_told(acting: Acting, tmp_path: Path) -> None:
    """Which token would be right is the daemon's own sentence."""
    other = Token(tmp_path / "other")
    other.write()
    with pytest.raises(SmartStackError) as caught:
        post_action(acting.server.address, "/drain", {}, other.path)
    assert str(caught.value) == f"refused: this is not the token: read it from {acting.token.path}"


def test_a_daemon_that_knows_why_there_is_no_token_says_so(acting: Acting) -> None:
    """Its sentence says what to do; that it should be started would be no help where it runs."""
    acting.token.path.unlink()
    with pytest.raises(SmartStackError) as caught:
        acting.post("/drain", {})
    removed = f"{acting.token.path} was removed: restart the daemon, which writes a new one"
    assert str(caught.value) == f"refused: {removed}"


def test_a_token_that_is_looked_for_in_a_wrong_place_is_told(acting: Acting, tmp_path: Path) -> None:
    """The daemon that answers has a token: this is another one's directory, or another one's address."""
    with pytest.raises(SmartStackError, match=f"^there is no token at {tmp_path}/other: start the daemon, or give"):
        post_action(acting.server.address, "/drain", {}, tmp_path / "other")
    acting.server.stop()
    with pytest.raises(SmartStackError, match=r"^nothing answers at 127\.0\.0\.1:\d+: start the daemon, or "):
        post_action(acting.server.address, "/drain", {}, tmp_path / "other")
    assert acting.asked == []


def test_an_action_of_a_daemon_that_is_away_is_one_sentence(acting: Acting) -> None:
    """A daemon that was killed leaves its token behind, and does not answer."""
    acting.server.stop()
    with pytest.raises(SmartStackError, match=r"^nothing answers at 127\.0\.0\.1:\d+: start the daemon, or "):
        acting.post("/drain", {})


def test_a_token_is_carried_to_nobody_else(tmp_path: Path) -> None:
    """A redirection is not followed: what stands at the other end is no daemon of ours."""
    token = Token(tmp_path)
    token.write()
    seen: list[str] = []

    class Redirecting(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append(self.path)
            self.send_response(307)
            self.send_header("Location", f"http://{self.headers['Host']}/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

    server = http.server.HTTPServer(("127.0.0.1", 0), Redirecting)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with pytest.raises(SmartStackError, match="is no daemon of ours"):
            post_action(TcpAddress("127.0.0.1", server.server_port), "/drain", {}, token.path)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert seen == ["/drain"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        pytest.param(
            None,
            "there is no token at {}: start the daemon, or give the configuration of the one that runs",
            id="not there",
        ),
        pytest.param(b"", "there is no token in {}: restart the daemon, which writes a new one", id="empty"),
        pytest.param(
            b"a\r\nX: y", "there is no token in {}: restart the daemon, which writes a new one", id="two lines"
        ),
        pytest.param(b"\xe4\xf6", "there is no token in {}: restart the daemon, which writes a new one", id="no ASCII"),
    ],
)
def test_a_file_without_a_token_is_one_sentence(content: bytes | None, sentence: str, tmp_path: Path) -> None:
    """Nothing that could be another header is sent, and the file is named."""
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SmartStackError) as caught:
        read_token(file)
    assert str(caught.value) == sentence.format(file)


def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    """Anything else that is wrong with the file is said as it is."""
    with pytest.raises(SmartStackError) as caught:
        read_token(tmp_path)
    assert str(caught.value) == f"cannot read the token {tmp_path}: is a directory"


def test_who_may_not_read_the_token_is_told_who_may() -> None:
    """A real user without the right to it gets one sentence; of several tokens the one that may be read is taken."""
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        for name, mode in (("token", 0o000), ("heartbeat-token", 0o444)):
            (Path(place) / name).write_text("word\n")
            (Path(place) / name).chmod(mode)
        program = (
            "import os\n"
            "import requests  # before the rights to read it are gone\n"
            "from smartstack.command import *\n"
            "os.geteuid() or os.setuid(65534)\n"
            f"print(readable_token({place!r}, 'token', 'heartbeat-token').name)\n"
            f"print(readable_token({place!r}, 'token').name)\n"
            f"try: read_token({place!r} + '/token')\n"
            "except SmartStackError as error: print(error)"
        )
        ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert ended.stdout.splitlines() == [
            "heartbeat-token",
            "token",
            f"cannot read the token {place}/token: run this as root or as the daemon's user",
        ], ended.stderr


def test_the_first_token_that_may_be_read_is_taken(tmp_path: Path) -> None:
    """Where both may be read the first is taken, and where there is none the first is the one to name."""
    assert readable_token(tmp_path, "token", "heartbeat-token") == tmp_path / "token"
    (tmp_path / "heartbeat-token").touch()
    assert readable_token(tmp_path, "token", "heartbeat-token") == tmp_path / "heartbeat-token"
    (tmp_path / "token").touch()
    assert readable_token(tmp_path, "token", "heartbeat-token") == tmp_path / "token"
