"""The kernel's table of TCP connections: how many there still are to a port of this machine."""

import ipaddress
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from smartstack.errors import SmartStackError

ESTABLISHED: Final = b"01"
CLOSE_WAIT: Final = b"08"
LISTEN: Final = b"0A"
"""States of a connection as the kernel writes them (include/net/tcp_states.h)."""

_BUFFER_BYTES: Final = 262_144
_PORT: Final = re.compile(rb" *\d+: [0-9A-F]+:([0-9A-F]{4}) ")
_LINE: Final = re.compile(
    rb" *\d+: ([0-9A-F]{8}|[0-9A-F]{32}):([0-9A-F]{4}) ([0-9A-F]{8}|[0-9A-F]{32}):([0-9A-F]{4}) ([0-9A-F]{2}) "
    rb"([0-9A-F]{8}):"
)


@dataclass(frozen=True, slots=True)
class _Socket:
    """One line of the table; addresses as `_plain` gives them, `unsent` what the other end has not confirmed."""

    local: bytes
    remote: tuple[bytes, int]
    state: bytes
    unsent: bool


def established(
    port: int, address: str | None = None, proc: str = "/proc/net", ignore: Collection[tuple[str, int]] = ()
) -> int:
    """How many connections have this port of this machine as their local end, by IPv4 and by IPv6.

    With an `address`, those to other addresses are left out, unless whoever listens on the port does so on all
    addresses, or nobody listens there any more. Connections whose remote end is in `ignore` are not counted either.

    Counted is what somebody may still be waiting for: ESTABLISHED, and CLOSE_WAIT while the client has not yet taken
    everything (it has said that it will send no more, and its answer is on the way). Not counted is a CLOSE_WAIT with
    nothing on the way, which is as a rule a descriptor that the service forgot, and would hold every drain up to its
    limit; nor what the service has closed (FIN_WAIT, LAST_ACK, TIME_WAIT): the kernel brings that to its end also when
    the service is gone.

    Only the network namespace of this process is seen. Raises SmartStackError when the table cannot be read, because
    what is not known is not 0.
    """
    return established_each([(port, address)], proc, ignore)[0]


def established_each(
    ends: Sequence[tuple[int, str | None]], proc: str = "/proc/net", ignore: Collection[tuple[str, int]] = ()
) -> tuple[int, ...]:
    """The same for several ports and addresses, in their order, with one look at the table: with 18,000 lines a look
    takes the kernel a tenth of a second."""
    ports = {port: b"%04X" % port for port, _ in ends}
    found: dict[bytes, list[_Socket]] = {digits: [] for digits in ports.values()}
    try:
        _read(f"{proc}/tcp", found)
        with suppress(FileNotFoundError):  # a kernel without IPv6
            _read(f"{proc}/tcp6", found)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        counted = ", ".join(map(str, ports))
        raise SmartStackError(f"cannot count the connections to port {counted}: {error.filename}: {reason}") from error
    ignored = {(_written(host), remote) for host, remote in ignore}
    return tuple(_count(found[ports[port]], address, ignored) for port, address in ends)


def _count(sockets: Sequence[_Socket], address: str | None, ignored: Collection[tuple[bytes, int]]) -> int:
    listening = {socket.local for socket in sockets if socket.state == LISTEN}
    wanted = None if address is None else _written(address)
    if wanted in _EVERY or not listening or listening & _EVERY:
        wanted = None
    # The table is no snapshot: while connections come and go, a line may be read twice.
    return len(
        {
            (socket.local, socket.remote)
            for socket in sockets
            if (socket.state == ESTABLISHED or (socket.state == CLOSE_WAIT and socket.unsent))
            and (wanted is None or socket.local == wanted)
            and socket.remote not in ignored
        }
    )


def _read(path: str, found: Mapping[bytes, list[_Socket]]) -> None:
    """Put the sockets of one table where their local port is looked for."""
    with open(path, "rb", buffering=_BUFFER_BYTES) as lines:
        for line in lines:
            # Most lines of a long table are of other ports: to find that out is half of the work of reading a line.
            if (port := _PORT.match(line)) and port[1] in found and (read := _LINE.match(line)):
                remote = _plain(read[3]), int(read[4], 16)
                found[read[2]].append(_Socket(_plain(read[1]), remote, read[5], unsent=int(read[6], 16) > 0))


def _written(address: str) -> bytes:
    """An address as the kernel writes it: 32-bit words, each in the byte order of the machine."""
    packed = ipaddress.ip_address(address.partition("%")[0]).packed
    words = [packed[start : start + 4] for start in range(0, len(packed), 4)]
    return _plain(b"".join(b"%08X" % int.from_bytes(word, sys.byteorder) for word in words))


def _plain(written: bytes) -> bytes:
    """An IPv4 address, which a socket of both families shows as `::ffff:10.0.0.5`, always without that prefix."""
    return written.removeprefix(_MAPPED) if len(written) == 32 else written


_MAPPED: Final = b"%016X%08X" % (0, int.from_bytes(b"\x00\x00\xff\xff", sys.byteorder))
_EVERY: Final = frozenset({b"0" * 8, b"0" * 32})
