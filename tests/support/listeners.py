"""Services to hold an idle connection to, each a child process, so that a signal is the real thing. Run as a program,
this module is that child; it starts fast because it imports little."""

import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
from types import TracebackType

LINE_SECONDS = 10.0


class Listener:
    """A service on loopback. `manner` is how it treats a connection on which nothing is said:

    - `patient`: it waits for ever, and answers `ping` with `pong`;
    - `hasty`: it closes it after 50 ms;
    - `serial`: the same as patient, for one connection after the other;
    - `greeting`: it says hello and waits;
    - `chatty`: it says all that it can, without end;
    - `half`: it says that it will say no more, and waits.

    It does not set SO_REUSEADDR: what is left of earlier connections to a port keeps it from there.
    """

    def __init__(self, manner: str, host: str = "127.0.0.1", port: int = 0) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-S", "-E", __file__, manner, host, str(port)], stdout=subprocess.PIPE, text=True
        )
        self.host = host
        self.port = int(self._line())
        self.accepted_at: list[float] = []
        """When each connection was accepted, by the monotonic clock, as far as `accepted` has read."""

    def __enter__(self) -> "Listener":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        assert self._child.stdout is not None
        self._child.stdout.close()

    def kill(self) -> float:
        """End it as the kernel does when memory runs out; the time just before. Safe to repeat."""
        at = time.monotonic()
        self._child.kill()
        self._child.wait()
        return at

    def signal(self, number: signal.Signals) -> None:
        """Stop it, or let it go on."""
        self._child.send_signal(number)

    def accept(self) -> float:
        """Wait until it has accepted one more connection; when that was."""
        self.accepted_at.append(float(self._line()))
        return self.accepted_at[-1]

    def _line(self) -> str:
        assert self._child.stdout is not None
        guard = threading.Timer(LINE_SECONDS, self._child.kill)
        guard.start()
        try:
            line = self._child.stdout.readline()
        finally:
            guard.cancel()
        assert line, f"the service said nothing for {LINE_SECONDS:g} s, or ended"
        return line


def _serve(connection: socket.socket, manner: str) -> None:
    with connection, contextlib.suppress(OSError):
        if manner == "hasty":
            time.sleep(0.05)
            return
        if manner == "greeting":
            connection.sendall(b"220 hello\r\n")
        if manner == "half":
            connection.shutdown(socket.SHUT_WR)
        while manner == "chatty":
            connection.sendall(b"news " * 10_000)
        while said := connection.recv(100):
            connection.sendall(said.replace(b"i", b"o"))


def _main(manner: str, host: str, port: int) -> None:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.bind((host, port))
    listener.listen(128)
    print(listener.getsockname()[1], flush=True)
    while True:
        connection, _ = listener.accept()
        print(time.monotonic(), flush=True)
        if manner == "serial":
            _serve(connection, manner)
        else:
            threading.Thread(target=_serve, args=(connection, manner), daemon=True).start()


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
