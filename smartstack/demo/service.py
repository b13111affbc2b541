"""The example service: a small HTTP server, one process for each instance. SIGUSR1 makes it slow, and quick again.

python -m smartstack.demo.service NAME HOST_NAME ADDRESS PORT
"""

import itertools
import signal
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

INSTANCE_HEADER = "X-Instance"
SLOW_SECONDS = 0.05
"""How much longer an answer takes of one that is slow."""


class ExampleServer(ThreadingHTTPServer):
    """Counts what it answers, health checks aside."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, name: str, host: str, address: tuple[str, int]) -> None:
        super().__init__(address, _Handler)
        self.name = name
        self.host = host
        self.numbers: Iterator[int] = itertools.count(1)
        self.slow = False

    def server_bind(self) -> None:
        """As the parent's parent does; the parent asks the name servers for a name as well."""
        self.socket.setsockopt(6, 1, 1)  # IPPROTO_TCP, TCP_NODELAY: accepted connections inherit it
        super(ThreadingHTTPServer, self).server_bind()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self) -> None:
        """`/health` for nerve; everything else says who answers."""
        server = self.server
        assert isinstance(server, ExampleServer)
        if self.path == "/health":
            text = "ok\n"
        else:
            if server.slow:
                time.sleep(SLOW_SECONDS)
            where = f"{server.server_address[0]!s}:{server.server_address[1]}"
            text = f"{server.name} on {server.host} ({where}), request {next(server.numbers)}\n"
        body = text.encode()
        head = (
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n"
            f"{INSTANCE_HEADER}: {server.host}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        # One write: a kill -9 falls before it or after it, so no answer is ever cut in two.
        self.wfile.write(head.encode() + body)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """A line for each request would be hundreds a second."""


def main(arguments: list[str]) -> int:
    """Serve until a signal ends the process."""
    name, host, address, port = arguments
    try:
        server = ExampleServer(name, host, (address, int(port)))
    except OSError as error:
        print(f"{name} on {host} cannot listen at {address}:{port}: {error.strerror}", file=sys.stderr)
        return 1

    def toggle(number: int, frame: object) -> None:
        server.slow = not server.slow

    signal.signal(signal.SIGUSR1, toggle)
    with server:
        server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
