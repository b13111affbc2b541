"""What the three command lines have in common: exit codes, and asking a running daemon."""

import importlib
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol, TypeVar

import click

from smartstack.errors import SmartStackError
from smartstack.forms import ADMIN, TcpAddress
from smartstack.logs import LEVELS
from smartstack.process import INTERRUPTED
from smartstack.responses import SERVER

ANSWER_SECONDS = 5.0
"""How long a daemon may take to answer."""

_LONGEST_TOKEN: Final = 1000
_LONGEST_SENTENCE: Final = 2000


class HasAdmin(Protocol):
    """Host settings that say where the daemon is asked."""

    @property
    def admin(self) -> TcpAddress | None: ...


F = TypeVar("F", bound=Callable[..., Any])


class Rooms(click.Group):
    """A command line most of whose commands stand in modules of their own, which a running daemon has no use for, and
    so does not import: half a megabyte. `rooms` says by module of the `package` which commands are there."""

    def __init__(self, *arguments: Any, package: str, rooms: Mapping[str, Sequence[str]], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._modules = {name: f"{package}.{room}" for room, names in rooms.items() for name in names}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *self._modules])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._modules:
            return super().get_command(ctx, cmd_name)
        module = importlib.import_module(self._modules[cmd_name])
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command


def log_options(command: F) -> F:
    """The options of a daemon's `run` that say how it logs: `log_level` and `log_format`."""
    level = click.option(
        "--log-level", type=click.Choice(LEVELS), default="info", show_default=True, help="How much is logged."
    )
    form = click.option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="One line an event on standard error, as key=value or as JSON.",
    )
    return level(form(command))


def config_option(daemon: str) -> Callable[[F], F]:
    """The option that names the daemon's own file: `path`."""
    variable = f"{daemon.upper()}_CONFIG"
    return click.option(
        "-c",
        "--config",
        "path",
        default=f"/etc/smartstack/{daemon}.yaml",
        envvar=variable,
        show_default=True,
        help=f"This host's {daemon}.yaml (environment: {variable}).",
    )


def admin_address(admin: str | None, settings: Callable[[], HasAdmin], path: str) -> TcpAddress:
    """Where to ask a running daemon: what `--admin` says, else what its `settings`, read from `path`, say.

    Raises `click.BadParameter` for what is no address, SmartStackError when the settings have none.
    """
    if admin is not None:
        try:
            address: TcpAddress = ADMIN.parse(admin)
        except ValueError:
            raise click.BadParameter("must be an address, such as 127.0.0.1:3200", param_hint="--admin") from None
        return address
    found = settings().admin
    if found is None:
        raise SmartStackError(f"{path} has no admin address: give one with --admin, or set admin in the file")
    return found


def run_command(command: click.Command, arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command line and exit: 0 done, 1 an expected failure, 2 wrong usage or configuration, 130 interrupted.

    A command that returns a number exits with it. An expected failure is its text on standard error, without a
    traceback. A reader who closed the pipe (`| head`) is no failure worth a word.
    """
    try:
        result = command.main(args=arguments, standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except SmartStackError as error:
        click.echo(str(error), err=True)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The interpreter flushes once more when it ends, and would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    sys.exit(result if isinstance(result, int) else 0)


def fetch_status(address: TcpAddress) -> dict[str, Any]:
    """The `/status` of the daemon at its admin address. Raises SmartStackError when it does not answer."""
    return fetch(address, "/status")


def fetch(address: TcpAddress, path: str, timeout_seconds: float | None = None) -> dict[str, Any]:
    """The JSON object that the daemon answers for this path; None waits as long as for any answer.

    Raises SmartStackError when it does not answer in time, and with its own sentence when it refuses.
    """
    return _request("GET", address, path, ANSWER_SECONDS if timeout_seconds is None else timeout_seconds)


def post_action(
    address: TcpAddress,
    path: str,
    body: Mapping[str, Any],
    token_file: str | Path,
    timeout_seconds: float = ANSWER_SECONDS,
) -> dict[str, Any]:
    """Have the daemon do something: POST the body as JSON, with the token in this file; the JSON object it answers.

    Raises SmartStackError when the token cannot be read, when the daemon does not answer, and with the daemon's own
    sentence when it refuses, or when it knows why there is no token.
    """
    try:
        headers = {"Authorization": f"Bearer {read_token(token_file)}"}
    except SmartStackError as error:
        try:
            # It refuses in any case, and may know better why there is no token.
            return _request("POST", address, path, timeout_seconds, json=body)
        except _TokenWanted:
            raise error from None
    return _request("POST", address, path, timeout_seconds, headers=headers, json=body)


def readable_token(run_directory: str | Path, *names: str) -> Path:
    """The first of these token files that this user may read; the first of all where none may be."""
    files = [Path(run_directory) / name for name in names]
    return next((file for file in files if os.access(file, os.R_OK)), files[0])


def read_token(file: str | Path) -> str:
    """The token in a file. Raises SmartStackError when there is none, or when this user may not read it."""
    try:
        with open(file, "rb") as opened:
            token = opened.read(_LONGEST_TOKEN).strip()
    except FileNotFoundError:
        raise SmartStackError(
            f"there is no token at {file}: start the daemon, or give the configuration of the one that runs"
        ) from None
    except PermissionError:
        raise SmartStackError(f"cannot read the token {file}: run this as root or as the daemon's user") from None
    except OSError as error:
        raise SmartStackError(f"cannot read the token {file}: {(error.strerror or str(error)).lower()}") from error
    # Nothing else may become a part of a header.
    if not re.fullmatch(rb"[A-Za-z0-9_-]+", token):
        raise SmartStackError(f"there is no token in {file}: restart the daemon, which writes a new one")
    return token.decode("ascii")


class _TokenWanted(SmartStackError):
    """The daemon has a token, and was sent none."""


def _request(method: str, address: TcpAddress, path: str, timeout_seconds: float, **options: Any) -> dict[str, Any]:
    import requests  # a running daemon imports this module too, and would pay 5 MB for what only commands need

    where = TcpAddress({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host), address.port)
    with requests.Session() as session:
        session.trust_env = False  # a proxy from the environment cannot reach this machine's loopback
        try:
            # A redirection would carry the token elsewhere, and none of our daemons sends one.
            answer = session.request(
                method, f"http://{where}{path}", timeout=timeout_seconds, allow_redirects=False, **options
            )
            said = _sentence(answer.headers, answer.text) if answer.status_code >= 400 else None
            if said is not None:
                raise (_TokenWanted if answer.status_code == 401 else SmartStackError)(said)
            answer.raise_for_status()
            value = answer.json()
        except requests.exceptions.ConnectionError as error:
            raise SmartStackError(
                f"nothing answers at {where}: start the daemon, or give the `admin` address of the one that runs"
            ) from error
        except requests.exceptions.Timeout as error:
            raise SmartStackError(
                f"the daemon at {where} did not answer within {timeout_seconds:g} s: look at its log"
            ) from error
        except requests.exceptions.RequestException as error:
            raise SmartStackError(f"what answers at {where} is no daemon of ours: {error}") from error
    if not isinstance(value, dict):
        raise SmartStackError(f"what answers at {where} is no daemon of ours: its {path} is not a JSON object")
    return value


def _sentence(headers: Mapping[str, str], text: str) -> str | None:
    """The sentence with which one of our daemons refuses; None when it is something else that answered."""
    if headers.get("Server") != SERVER or not headers.get("Content-Type", "").startswith("text/plain"):
        return None
    words = " ".join(text.split())
    return "".join(each for each in words if each.isprintable())[:_LONGEST_SENTENCE]
