"""Where HAProxy can listen: a reload whose new address is taken refuses every connection for two seconds, and
`haproxy -c` does not see it. So each address that the running HAProxy does not hold yet is tried first."""

import errno
import os
import socket
import stat
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from smartstack.forms import Listen, TcpAddress, UnixSocket
from synapse.haproxy.sockets import canonical, holder, listening, unix_holder


def taken(
    addresses: Mapping[str, Sequence[Listen]],
    workers: Iterable[int],
    proc: Path = Path("/proc"),
    *,
    settled: Collection[str] = (),
    held: Collection[str] = (),
) -> dict[str, str]:
    """Which services cannot listen where they should, with why. `addresses` maps services to addresses.

    An address that one of the `workers` (process ids of our own HAProxy) holds is ours. Of two services with one
    address, one that is `settled` (it listens there already) keeps it; else the first by name has it. `held` are the
    paths of unix sockets that our own HAProxy listens on.
    """
    ours = listening(workers, proc)
    problems: dict[str, str] = {}
    claimed: dict[tuple[str, int] | str, str] = {}
    for service in sorted(addresses, key=lambda name: (name not in settled, name)):
        keys = {_key(address): address for address in addresses[service]}
        for key, address in keys.items():
            if key in claimed:
                problems[service] = f"{address} is the address of {claimed[key]} already"
                break
        else:
            claimed.update(dict.fromkeys(keys, service))
            for key, address in keys.items():
                why = _problem(address, key in ours, ours, held)
                if why is not None:
                    problems[service] = f"cannot listen on {address}: {why}"
                    break
    return problems


def _key(address: Listen) -> tuple[str, int] | str:
    return address.path if isinstance(address, UnixSocket) else (canonical(address.host), address.port)


def _problem(address: Listen, is_ours: bool, ours: frozenset[tuple[str, int]], held: Collection[str]) -> str | None:
    if isinstance(address, UnixSocket):
        return None if address.path in held else _unix_problem(address.path)
    return None if is_ours else _bind_problem(address, ours)


def _bind_problem(address: TcpAddress, ours: frozenset[tuple[str, int]]) -> str | None:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as attempt:
            # Without SO_REUSEPORT: a second HAProxy of the same user would share the port silently. Without
            # IPV6_V6ONLY: HAProxy leaves it as the system has it, and [::] is then every IPv4 address too.
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            attempt.bind((address.host, address.port))
            attempt.listen(1)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            # One address becoming a wildcard, or the other way round: HAProxy shares the port with itself.
            return None if any(port == address.port for _, port in ours) else _taken_by(holder(address))
        return (error.strerror or str(error)).lower()
    return None


def _taken_by(who: str | None) -> str:
    return "another process has it" if who is None else f"another process has it: {who}"


def _unix_problem(path: str) -> str | None:
    """HAProxy replaces a socket that is there, also one that somebody else serves; and it binds under another name in
    the same directory first, which is tried here too."""
    attempt_path = f"{path}.{os.getpid()}.try"
    try:
        if os.path.lexists(path):
            if not stat.S_ISSOCK(os.stat(path).st_mode):
                return "there is a file that is not a socket"
            if _somebody_serves(path):
                return _taken_by(unix_holder(path))
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as attempt:
            attempt.bind(attempt_path)
        os.unlink(attempt_path)
    except FileNotFoundError:
        parent = Path(path).parent
        return f"no socket can be made in {parent}" if parent.is_dir() else f"there is no directory {parent}"
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return None


def _somebody_serves(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as attempt:
        attempt.settimeout(1.0)
        try:
            attempt.connect(path)
        except OSError:
            return False
    return True
