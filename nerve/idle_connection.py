"""An idle connection: how it is opened, listened to and closed. Nothing in here ever waits.

It is closed in two ways. One that is no longer wanted gets a plain FIN: to the service it is a client that left, and no
line in its log. One that the service closed is reset (SO_LINGER 0): nobody is left there to see it, and it takes the
kernel's memory of the connection with it, which otherwise (FIN_WAIT2, TIME_WAIT) would keep a service that was killed
and does not set SO_REUSEADDR from its own port for a minute.

Without SO_KEEPALIVE: both ends are on this host, whose kernel cannot go away unnoticed, and a probe would wake us for
nothing.
"""

import errno
import select
import socket
import struct
from typing import Final

from smartstack.forms import TcpAddress

MADE: Final = select.EPOLLOUT
ENDED: Final = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
HEARD: Final = select.EPOLLIN
"""What epoll tells: a connection was made or was not; its other end closed it; the other end says something."""

READ_BYTES: Final = 65_536
READS: Final = 16
"""How much is read at once, and how often in a row at the most."""

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class IdleConnection:
    """A connection to a service of this host, which is being made. Raises OSError when there is no socket to be had.

    `at_once` is 0 when it was made already, EINPROGRESS, or what is wrong.
    """

    def __init__(self, address: TcpAddress) -> None:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self.descriptor = self._socket.fileno()
        self.at_once = self._socket.connect_ex((address.host, address.port))

    def error(self) -> int:
        """What the kernel has to report; 0 for nothing. It reports everything once."""
        return self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    def flaw(self) -> int:
        """What is wrong with a connection that was made, 0 for nothing.

        ECONNREFUSED for one to itself: from the range where it finds ports for clients, the kernel may take just the
        one at which nobody listens. ECONNRESET for one that is over already.
        """
        try:
            return errno.ECONNREFUSED if self._socket.getsockname() == self._socket.getpeername() else 0
        except OSError:
            return errno.ECONNRESET

    def local(self) -> tuple[str, int]:
        """Host and port of our end."""
        host, port = self._socket.getsockname()[:2]
        return host, port

    def discard(self) -> bool:
        """Throw away what the service said; False when there is nothing more to come."""
        try:
            for _ in range(READS):
                said = self._socket.recv(READ_BYTES)
                if len(said) < READ_BYTES:
                    return bool(said)
        except BlockingIOError:
            pass
        except OSError:
            return False
        return True

    def close(self, *, reset: bool) -> None:
        """Close it, in one of the two ways."""
        if reset:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        else:
            # With something unread, the kernel would reset it.
            self.discard()
        self._socket.close()
