"""The HAProxy program: is it there, is it new enough, does it take this file?"""

import shutil
import subprocess
from collections.abc import Sequence

from synapse.haproxy.answers import alerts
from synapse.haproxy.capabilities import Capabilities, parse
from synapse.haproxy.errors import ConfigurationRefused, HAProxyError, HAProxyMissing

OLDEST = (2, 4)
"""The first version whose runtime API and master process do what is needed here."""

_CHECK_SECONDS = 30.0


def find(binary: str) -> str:
    """The absolute path of a HAProxy program that is new enough.

    The path is absolute because the master executes itself again at each reload. Raises `HAProxyMissing`.
    """
    path = shutil.which(binary)
    if path is None:
        raise HAProxyMissing(
            f"cannot find the program {binary!r}: install HAProxy {OLDEST[0]}.{OLDEST[1]} or newer (Debian: "
            "apt-get install haproxy), or give its path as haproxy.binary in synapse.yaml"
        )
    found = version(path)
    if found < OLDEST:
        raise HAProxyMissing(
            f"{path} is HAProxy {found[0]}.{found[1]}: synapse needs {OLDEST[0]}.{OLDEST[1]} or newer; install it, or "
            "give its path as haproxy.binary in synapse.yaml"
        )
    return path


def version(path: str) -> tuple[int, int]:
    """The program's version, major and minor. Raises `HAProxyMissing` when it does not say one."""
    return probe(path).version


def probe(path: str) -> Capabilities:
    """What this program can do. Raises `HAProxyMissing` when it does not answer as HAProxy does."""
    found = parse(_run([path, "-vv"])[1])
    if found is None:
        raise HAProxyMissing(
            f"{path} -vv does not answer as HAProxy does; give the right path as haproxy.binary in synapse.yaml"
        )
    return found


def check(path: str, configuration: str, others: Sequence[str] = ()) -> None:
    """Have HAProxy read a configuration file, after the `others` that it is run with. Raises `ConfigurationRefused`
    with HAProxy's words."""
    files = [argument for file in (*others, configuration) for argument in ("-f", file)]
    code, words = _run([path, "-c", *files])
    if code != 0:
        told = alerts(words) or f"exit code {code}"
        raise ConfigurationRefused(f"HAProxy refuses {configuration}: {told.splitlines()[0]}", told)


def _run(arguments: list[str]) -> tuple[int, str]:
    try:
        done = subprocess.run(
            arguments, capture_output=True, stdin=subprocess.DEVNULL, timeout=_CHECK_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HAProxyError(f"cannot run {' '.join(arguments)}: {error}") from error
    return done.returncode, (done.stdout + done.stderr).decode("utf-8", "replace")
