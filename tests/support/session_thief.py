"""A relay before ZooKeeper that overhears the password of a client's session, so that a test can end the session, and
that can lose answers."""

import socket
import struct
import threading
from contextlib import suppress


class SessionThief:
    """Listens on loopback, passes everything on, and reads along in each server's first answer.

    That answer is a length, then the protocol version and the time-out (4 bytes each), the session's id (8 bytes) and
    its password (4 bytes of length and 16 bytes). While `loses_answers` is set the server hears everything, and its
    answers end the connection instead of arriving.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = [self._listener]
        self.sessions: list[tuple[int, bytes]] = []
        self.loses_answers = False
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def hosts(self) -> str:
        """What a client connects to."""
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def stop(self) -> None:
        """Cut every connection."""
        for each in self._open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _serve(self) -> None:
        while True:
            try:
                client = self._listener.accept()[0]
                server = socket.create_connection(self._target)
            except OSError:
                return
            self._open += [client, server]
            threading.Thread(target=self._pass_on, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._pass_on, args=(server, client, True), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, listen: bool) -> None:
        heard = b""
        with suppress(OSError):
            while data := source.recv(65_536):
                if listen and self.loses_answers:
                    break
                if listen and len(heard) < 40:
                    heard += data
                    if len(heard) >= 40:
                        session, _, password = struct.unpack(">12xqi16s", heard[:40])
                        self.sessions.append((session, password))
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
