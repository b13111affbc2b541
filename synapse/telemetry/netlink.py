"""What the kernel says of sockets and addresses by netlink, which any user may ask: whose control group a TCP socket
belongs to (sock_diag(7), as `ss --cgroup` shows it), and which addresses this host has (rtnetlink(7))."""

import ipaddress
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

# From linux/netlink.h, sock_diag.h, inet_diag.h and rtnetlink.h.
_ROUTE: Final = 0
_SOCK_DIAG: Final = 4
_MESSAGE: Final = struct.Struct("=IHHII")
_REQUEST: Final = 1
_DUMP: Final = 0x300
_ERROR: Final = 2
_DONE: Final = 3
_SOCK_DIAG_BY_FAMILY: Final = 20
_GET_ADDRESSES: Final = 22
_NEW_ADDRESS: Final = 20
_DIAG_REQUEST: Final = struct.Struct("=BBBBI")
_PORTS: Final = struct.Struct(">HH")
_NO_COOKIE: Final = struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)
_INODE_AT: Final = 68
_DIAG_LENGTH: Final = 72
_CGROUP_ID: Final = 21
_ADDRESS_LENGTH: Final = 8
_ADDRESS: Final = 1
_LOCAL: Final = 2
_ANSWER_SECONDS: Final = 1.0
_ANSWER_BYTES: Final = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Of a socket: its inode, and the number of its control group (v2), 0 where the kernel does not say."""

    inode: int
    cgroup: int


class SocketTable:
    """Asks for one TCP socket of this host at a time; 11 µs each. Raises OSError where the kernel cannot be asked."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG)
        self._socket.settimeout(_ANSWER_SECONDS)
        self._number = 0

    def owner(self, local: tuple[str, int], remote: tuple[str, int]) -> Owner | None:
        """Whose the socket is that is connected from `local` to `remote`; None where there is none (any more).
        Raises OSError."""
        family = socket.AF_INET6 if ":" in local[0] else socket.AF_INET
        try:
            hosts = [socket.inet_pton(family, host).ljust(16, b"\0") for host, _ in (local, remote)]
            ports = _PORTS.pack(local[1], remote[1])
        except (OSError, struct.error):
            return None  # no addresses of TCP
        asked = _DIAG_REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF)
        self._number = (self._number + 1) & 0xFFFFFFFF
        content = b"".join((asked, ports, *hosts, _NO_COOKIE))
        self._socket.send(_message(_SOCK_DIAG_BY_FAMILY, _REQUEST, self._number, content))
        while True:
            for kind, number, answer in _messages(self._socket.recv(_ANSWER_BYTES)):
                if number == self._number:  # not one that came too late
                    return _owner(answer) if kind == _SOCK_DIAG_BY_FAMILY else None

    def close(self) -> None:
        """Ask no more."""
        self._socket.close()


def own_addresses() -> frozenset[str]:
    """Every IP address of this host, in its canonical form. Raises OSError."""
    found: set[str] = set()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _ROUTE) as asked:
        asked.settimeout(_ANSWER_SECONDS)
        asked.send(_message(_GET_ADDRESSES, _REQUEST | _DUMP, 1, bytes(_ADDRESS_LENGTH)))
        while True:
            for kind, _, answer in _messages(asked.recv(_ANSWER_BYTES)):
                if kind in (_DONE, _ERROR):
                    return frozenset(found)
                if kind == _NEW_ADDRESS:
                    attributes = dict(_attributes(answer, _ADDRESS_LENGTH))
                    packed = attributes.get(_LOCAL) or attributes.get(_ADDRESS)
                    if packed is not None:
                        found.add(str(ipaddress.ip_address(packed)))


def _owner(answer: bytes) -> Owner | None:
    if len(answer) < _DIAG_LENGTH:
        return None
    (inode,) = struct.unpack_from("=I", answer, _INODE_AT)
    group = dict(_attributes(answer, _DIAG_LENGTH)).get(_CGROUP_ID, b"")
    return Owner(inode=inode, cgroup=int.from_bytes(group[:8], sys.byteorder))


def _message(kind: int, flags: int, number: int, content: bytes) -> bytes:
    return _MESSAGE.pack(_MESSAGE.size + len(content), kind, flags, number, 0) + content


def _messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Kind, number and content of each message in a datagram."""
    at = 0
    while at + _MESSAGE.size <= len(data):
        length, kind, _, number, _ = _MESSAGE.unpack_from(data, at)
        if length < _MESSAGE.size:
            return
        yield kind, number, data[at + _MESSAGE.size : at + length]
        at += (length + 3) & ~3


def _attributes(data: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    """Kind and content of each attribute from there on."""
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4:
            return
        yield kind, data[at + 4 : at + length]
        at += (length + 3) & ~3
