"""What the three command lines have in common: exit codes, and asking a running daemon."""

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, Protocol, TypeVar

import click

from smartstack.errors import SmartStackError
from smartstack.forms import ADMIN, TcpAddress
from smartstack.logs import LEVELS
from smartstack.process import INTERRUPTED

ANSWER_SECONDS = 5.0
"""How long a daemon may take to answer."""


class HasAdmin(Protocol):
    """Host settings that say where the daemon is asked."""

    @property
    def admin(self) -> TcpAddress | None: ...


F = TypeVar("F", bound=Callable[..., Any])


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
    import requests  # a running daemon imports this module too, and would pay 5 MB for what only `status` needs

    where = TcpAddress({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host), address.port)
    with requests.Session() as session:
        session.trust_env = False  # a proxy from the environment cannot reach this machine's loopback
        try:
            answer = session.get(f"http://{where}/status", timeout=ANSWER_SECONDS)
            answer.raise_for_status()
            status = answer.json()
        except requests.exceptions.ConnectionError as error:
            raise SmartStackError(
                f"nothing answers at {where}: start the daemon, or give the `admin` address of the one that runs"
            ) from error
        except requests.exceptions.Timeout as error:
            raise SmartStackError(
                f"the daemon at {where} did not answer within {ANSWER_SECONDS:g} s: look at its log"
            ) from error
        except requests.exceptions.RequestException as error:
            raise SmartStackError(f"what answers at {where} is no daemon of ours: {error}") from error
    if not isinstance(status, dict):
        raise SmartStackError(f"what answers at {where} is no daemon of ours: its /status is not a JSON object")
    return status
