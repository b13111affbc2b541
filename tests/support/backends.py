"""Real HTTP servers to stand behind a proxy: many addresses in one child process, so that a test's own threads do not
slow them down. Each answers every request with its address, and over TLS with the serial number of the certificate that
it was shown. Run as a program, this module is that child."""

import asyncio
import socket
import ssl
import subprocess
import sys
import threading
from contextlib import suppress

LINE_SECONDS = 10.0


class Backends:
    """The servers of one test. To `close` one is its death: the address is gone and every connection is reset."""

    def __init__(self) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def open(self, host: str, port: int, *tls: str) -> str:
        """Serve there, and return the address as each answer will say it. With `tls`, two files without spaces in their
        paths: the server's certificate with its key, and the authority of the certificates that clients must show."""
        self._tell(" ".join(("open", host, str(port), *tls)))
        return f"{host}:{port}"

    def close(self, host: str, port: int) -> None:
        """Die there."""
        self._tell(f"close {host} {port}")

    def stop(self) -> None:
        """End all of them; safe to repeat."""
        self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            with suppress(OSError):
                if pipe is not None:
                    pipe.close()

    def _tell(self, line: str) -> None:
        assert self._child.stdin is not None and self._child.stdout is not None
        guard = threading.Timer(LINE_SECONDS, self._child.kill)
        guard.start()
        try:
            self._child.stdin.write(f"{line}\n")
            self._child.stdin.flush()
            answer = self._child.stdout.readline().strip()
        finally:
            guard.cancel()
        assert answer == "done", f"the backends were told {line!r} and answered {answer!r}"


class _Answer(asyncio.Protocol):
    """One connection: HTTP/1.1 with keep-alive, as much of it as a test needs."""

    def __init__(self, body: bytes, connections: set[asyncio.Transport]) -> None:
        self._body = body
        self._connections = connections
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        shown = transport.get_extra_info("peercert")
        if shown:
            self._body = self._body[:-1] + f" {shown['serialNumber']}\n".encode()
        self._connections.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while b"\r\n\r\n" in self._buffer:
            head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
            last = b"connection: close" in head.lower()
            lines = [b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(self._body)]
            if last:
                lines.append(b"Connection: close")
            self._transport.write(b"\r\n".join([*lines, b"", self._body]))
            if last:
                self._transport.close()


class _Served:
    """The addresses of the child."""

    def __init__(self) -> None:
        self._servers: dict[str, tuple[asyncio.Server, set[asyncio.Transport]]] = {}

    async def obey(self, line: str) -> str:
        match line.split():
            case ["open", host, port, *tls]:
                connections: set[asyncio.Transport] = set()
                body = f"{host}:{port}\n".encode()
                loop = asyncio.get_running_loop()
                try:
                    server = await loop.create_server(
                        lambda: _Answer(body, connections),
                        host,
                        int(port),
                        family=socket.AF_INET,
                        backlog=1024,
                        ssl=_context(*tls) if tls else None,
                    )
                except OSError as error:
                    return str(error)
                self._servers[f"{host} {port}"] = server, connections
            case ["close", host, port]:
                server, connections = self._servers.pop(f"{host} {port}")
                server.close()
                for connection in list(connections):
                    connection.abort()
            case _:
                return "no such command"
        return "done"


def _context(certificate: str, authority: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.load_verify_locations(authority)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


async def _main() -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    served = _Served()
    while line := await reader.readline():
        print(await served.obey(line.decode()), flush=True)


if __name__ == "__main__":
    asyncio.run(_main())
