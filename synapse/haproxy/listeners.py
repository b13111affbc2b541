"""Who listens where: a reload whose new address is taken refuses every connection for two seconds, and `haproxy -c`
does not see it. So each address that the running HAProxy does not hold yet is tried first."""

import errno
import ipaddress
import os
import socket
import stat
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from smartstack.forms import Listen, TcpAddress, UnixSocket

_LISTEN_STATE = "0A"


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
    return address.path if isinstance(address, UnixSocket) else (_canonical(address.host), address.port)


def _problem(address: Listen, is_ours: bool, ours: frozenset[tuple[str, int]], held: Collection[str]) -> str | None:
    if isinstance(address, UnixSocket):
        return None if address.path in held else _unix_problem(address.path)
    return None if is_ours else _bind_problem(address, ours)


def listening(pids: Iterable[int], proc: Path = Path("/proc")) -> frozenset[tuple[str, int]]:
    """The TCP addresses that these processes listen on, from /proc; what cannot be read is left out."""
    inodes: set[str] = set()
    for pid in pids:
        try:
            inodes.update(os.readlink(link) for link in (proc / str(pid) / "fd").iterdir())
        except OSError:
            continue
    sockets = {name[len("socket:[") : -1] for name in inodes if name.startswith("socket:[")}
    found: set[tuple[str, int]] = set()
    for table in ("tcp", "tcp6"):
        try:
            text = (proc / "net" / table).read_text(encoding="ascii")
        except OSError:
            continue
        found.update(parse_table(text, sockets))
    return frozenset(found)


def parse_table(text: str, inodes: Iterable[str]) -> set[tuple[str, int]]:
    """The listening addresses of these socket inodes in the text of /proc/net/tcp or tcp6."""
    wanted = set(inodes)
    found: set[tuple[str, int]] = set()
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 9 and fields[3] == _LISTEN_STATE and fields[9] in wanted:
            host, port = fields[1].split(":")
            found.add((_address(host), int(port, 16)))
    return found


def _address(words: str) -> str:
    """The kernel prints an address as 32-bit words in the host's (little-endian) order."""
    raw = b"".join(bytes.fromhex(words[start : start + 8])[::-1] for start in range(0, len(words), 8))
    return str(ipaddress.ip_address(raw))


def _canonical(host: str) -> str:
    return str(ipaddress.ip_address(host))


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
            return None if any(port == address.port for _, port in ours) else "another process has it"
        return (error.strerror or str(error)).lower()
    return None


def _unix_problem(path: str) -> str | None:
    """HAProxy replaces a socket that is there, also one that somebody else serves; and it binds under another name in
    the same directory first, which is tried here too."""
    attempt_path = f"{path}.{os.getpid()}.try"
    try:
        if os.path.lexists(path):
            if not stat.S_ISSOCK(os.stat(path).st_mode):
                return "there is a file that is not a socket"
            if _somebody_serves(path):
                return "another process has it"
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
