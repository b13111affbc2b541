"""Who listens where on this host, by the kernel's tables."""

import contextlib
import ipaddress
import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from smartstack.forms import TcpAddress
from synapse.haproxy.proc import name

LISTENING = "0A"

_EVERYWHERE = frozenset({"0.0.0.0", "::"})


@dataclass(frozen=True, slots=True)
class Socket:
    """A line of the kernel's table of TCP sockets."""

    host: str
    port: int
    state: str
    inode: str


def listening(pids: Iterable[int], proc: Path = Path("/proc")) -> frozenset[tuple[str, int]]:
    """The TCP addresses that these processes listen on, from /proc; what cannot be read is left out."""
    sockets = sockets_of(pids, proc)
    found: set[tuple[str, int]] = set()
    for table in ("tcp", "tcp6"):
        try:
            text = (proc / "net" / table).read_text(encoding="ascii")
        except OSError:
            continue
        found.update(parse_table(text, sockets))
    return frozenset(found)


def sockets_of(pids: Iterable[int], proc: Path = Path("/proc")) -> set[str]:
    """The inodes of the sockets that these processes have open; what this user may not see is left out."""
    names: set[str] = set()
    for pid in pids:
        try:
            names.update(os.readlink(link) for link in (proc / str(pid) / "fd").iterdir())
        except OSError:
            continue
    return {name[len("socket:[") : -1] for name in names if name.startswith("socket:[")}


def parse_table(text: str, inodes: Iterable[str]) -> set[tuple[str, int]]:
    """The listening addresses of these socket inodes in the text of /proc/net/tcp or tcp6."""
    wanted = set(inodes)
    lines = (parse_line(line) for line in text.splitlines()[1:])
    return {(each.host, each.port) for each in lines if each and each.state == LISTENING and each.inode in wanted}


def parse_line(line: str) -> Socket | None:
    """A line of /proc/net/tcp or tcp6; None when it was cut."""
    fields = line.split()
    if len(fields) < 10:
        return None
    host, port = fields[1].split(":")
    return Socket(_address(host), int(port, 16), fields[3], fields[9])


def listening_sockets(proc: Path = Path("/proc")) -> Iterator[Socket]:
    """Every TCP socket of this host that listens. The kernel lists these before the connections, of which there may be
    very many: those are not read."""
    for table in ("tcp", "tcp6"):
        try:
            with open(proc / "net" / table, encoding="ascii") as lines:
                next(lines, None)
                for line in lines:
                    found = parse_line(line)
                    if found is None or found.state != LISTENING:
                        break
                    yield found
        except OSError:
            continue


def holder(address: TcpAddress, proc: Path = Path("/proc")) -> str | None:
    """Who listens at this address, in words; None when this user may not know."""
    host = canonical(address.host)
    wild = host in _EVERYWHERE
    inodes = {
        each.inode
        for each in listening_sockets(proc)
        if each.port == address.port and (wild or each.host == host or each.host in _EVERYWHERE)
    }
    return owner(inodes, (), proc)


def unix_holder(path: str, proc: Path = Path("/proc")) -> str | None:
    """Who has a unix socket at this path, in words; None when this user may not know."""
    inodes: set[str] = set()
    with contextlib.suppress(OSError), open(proc / "net" / "unix", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            fields = line.rstrip("\n").split(maxsplit=7)
            if len(fields) == 8 and fields[7] == path:
                inodes.add(fields[6])
    return owner(inodes, (), proc)


def owner(inodes: Collection[str], except_for: Collection[int], proc: Path = Path("/proc")) -> str | None:
    """Who has one of these sockets, by name and process id; None when nobody is found that this user may see."""
    wanted = set(inodes)
    for pid in sorted(int(entry) for entry in os.listdir(proc) if entry.isdigit()) if wanted else ():
        if pid not in except_for and sockets_of([pid], proc) & wanted:
            return f"{name(pid, proc) or 'a process'} (pid {pid})"
    return None


def _address(words: str) -> str:
    """The kernel prints an address as 32-bit words in the host's (little-endian) order."""
    raw = b"".join(bytes.fromhex(words[start : start + 8])[::-1] for start in range(0, len(words), 8))
    return str(ipaddress.ip_address(raw))


def canonical(host: str) -> str:
    """The address in the one form in which it is compared."""
    return str(ipaddress.ip_address(host))
