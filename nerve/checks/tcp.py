"""The `tcp` check: somebody accepts a connection."""

import socket
from dataclasses import dataclass
from typing import Annotated, ClassVar

from nerve.checks.base import Outcome, Pace, Target, failed, network_reason, passed, seconds_text
from smartstack.forms import HOST, PORT


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpCheck(Pace):
    """Connect, and close again. Passes when the connection was made in time."""

    kind: ClassVar[str] = "tcp"

    host: Annotated[str | None, "where to connect, if not to the instance's address", HOST] = None
    port: Annotated[int | None, "where to connect, if not to the instance's port", PORT] = None

    def run(self, target: Target) -> Outcome:
        """Raises nothing: whatever the network answers is an outcome."""
        address = (self.host or target.address.host, self.port or target.address.port)
        try:
            socket.create_connection(address, self.timeout).close()
        except TimeoutError:
            return failed(f"no connection in {seconds_text(self.timeout)}")
        except OSError as error:
            return failed(network_reason(error))
        return passed("connected")
