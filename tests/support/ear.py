"""Who hears what a daemon says into the void: systemd, or a statsd agent."""

import socket
from typing import Any


class Ear:
    """A datagram socket that somebody listens at: systemd's, or a statsd agent's."""

    def __init__(self, family: int, address: Any) -> None:
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.setblocking(False)
        self.heard: list[str] = []

    def listen(self) -> list[str]:
        """Everything that was said so far."""
        while True:
            try:
                self.heard.append(self.socket.recv(65_536).decode().rstrip("\n"))
            except BlockingIOError:
                return self.heard
