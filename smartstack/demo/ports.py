"""Whether an address is free, and who has it when it is not (from /proc, where this user may look)."""

import errno
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from smartstack.errors import SmartStackError
from smartstack.forms import TcpAddress

_LISTEN = "0A"
"""The state of a listening socket in /proc/net/tcp (Linux, include/net/tcp_states.h)."""


def require_free(addresses: Iterable[TcpAddress], port_base: int) -> None:
    """Raises SmartStackError for the first address that cannot be listened at."""
    for address in addresses:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address.host, address.port))
                probe.listen(1)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    reason = (error.strerror or str(error)).lower()
                    raise SmartStackError(f"cannot listen at {address}: {reason}") from error
                raise SmartStackError(
                    f"port {address.port} of {address.host} is taken{_by(address.port)}: end what uses it, or choose "
                    f"other ports with --port-base, such as --port-base {port_base + 1000}"
                ) from error


def _by(port: int) -> str:
    inodes = {f"socket:[{inode}]" for inode in _listening(port)}
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if os.readlink(link) in inodes:
                pid = link.parts[2]
                return f" by {Path(f'/proc/{pid}/comm').read_text(errors='replace').strip()} (pid {pid})"
    return ""


def _listening(port: int) -> Iterator[str]:
    """The inodes of the sockets that listen at a port."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text(encoding="ascii").splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    yield fields[9]
