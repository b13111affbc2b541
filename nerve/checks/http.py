"""The `http` check: a request is answered as expected, by default with a status of 200 to 399."""

import http.client
import io
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, cast
from urllib.parse import quote

from nerve.checks.base import Outcome, Pace, Target, failed, seconds_text
from nerve.checks.connection import UNIX_SOCKET, Connection, Place, connect, reason_of, socket_problems
from nerve.checks.expectation import HEADER_NAME, SECRET_HEADER_VALUE, Answer, Expectation, doubled
from nerve.checks.tls import Tls
from smartstack.forms import HOST, PORT, TcpAddress, UnixSocket
from smartstack.model import Form

BODY_LIMIT = 65_536
"""How much of a body is read, in bytes; the rest of a longer one is left unread."""

ANSWER_LIMIT = 1_048_576
"""How much is read of an answer in all, in bytes: headers, and a body in chunks of one byte."""

Method = Literal["GET", "HEAD", "OPTIONS", "POST", "PUT"]

_HEADERS = {"User-Agent": "smartstack-nerve", "Accept": "*/*", "Accept-Encoding": "identity"}
_OURS = frozenset({"connection", "content-length", "transfer-encoding", "upgrade", "expect", "te", "trailer"})
_SAFE_IN_PATH = "!$%&'()*+,-./:;=?@[]_~"


def _path(value: object) -> str:
    if not isinstance(value, str) or not value.startswith("/") or not value.isprintable() or " " in value:
        raise ValueError("must be a path that starts with '/' and has no spaces, such as /health")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpCheck(Pace):
    """Ask for a path. Passes when the answer (up to 64 KiB of its body) was there in time and is as expected.

    Redirects are an answer and are not followed. Proxies and credentials of the environment are not used.
    """

    kind: ClassVar[str] = "http"

    path: Annotated[str, "the path that is asked for", Form(_path, {"type": "string", "pattern": "^/[^ ]*$"})] = "/"
    method: Annotated[Method, "how it is asked for; a body is never sent"] = "GET"
    headers: Annotated[
        Mapping[Annotated[str, HEADER_NAME], Annotated[str, SECRET_HEADER_VALUE]],
        "more headers of the request, such as {Host: web.example.com}",
    ] = field(default_factory=dict, repr=False)
    host: Annotated[str | None, "whom to ask, if not the instance's address", HOST] = None
    port: Annotated[int | None, "whom to ask, if not the instance's port", PORT] = None
    unix_socket: Annotated[str | None, "whom to ask, if not an address: a socket's absolute path", UNIX_SOCKET] = None
    tls: Annotated[Tls | None, "ask by HTTPS; {} verifies against the system's authorities"] = None
    expect: Annotated[Expectation, "what the answer must be"] = field(default_factory=Expectation)

    def problems(self) -> Iterable[tuple[str, str]]:
        """Rules over several keys: the dotted key, and what is wrong."""
        yield from socket_problems(self.unix_socket, self.host, self.port)
        yield from doubled(self.headers)
        for name in self.headers:
            if name.lower() in _OURS:
                yield "headers", f"{name} is nerve's own business"
        if self.method == "HEAD" and self.expect.body is not None:
            yield "expect.body", "cannot be: the answer to HEAD has no body"
        if self.method == "HEAD" and self.expect.body_regex is not None:
            yield "expect.body_regex", "cannot be: the answer to HEAD has no body"

    def run(self, target: Target) -> Outcome:
        """Raises nothing for what the network or the answer do."""
        deadline = time.monotonic() + self.timeout
        address = TcpAddress(self.host or target.address.host, self.port or target.address.port)
        place: Place = address if self.unix_socket is None else UnixSocket(self.unix_socket)
        try:
            with connect(place, deadline, tls=self.tls, name=address.host, protocols=("http/1.1",)) as connection:
                connection.send(self._request(place))
                return self._read(connection, deadline)
        except TimeoutError:
            return failed(f"no answer in {seconds_text(self.timeout)}")
        except http.client.RemoteDisconnected:
            return failed("closed without an answer")
        except OSError as error:
            return failed(reason_of(error))
        except (http.client.HTTPException, ValueError) as error:  # a ValueError for a chunk of -5 bytes
            return failed(f"answered something that is no HTTP: {str(error).strip()}")

    def _request(self, place: Place) -> bytes:
        headers = {"Host": self._host_header(place), **_HEADERS}
        if self.method in ("POST", "PUT"):
            headers["Content-Length"] = "0"
        headers |= {name.title(): value for name, value in self.headers.items()}
        headers["Connection"] = "close"
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"{self.method} {quote(self.path, safe=_SAFE_IN_PATH)} HTTP/1.1\r\n{lines}\r\n".encode("ascii")

    def _host_header(self, place: Place) -> str:
        if isinstance(place, UnixSocket):
            return "localhost"
        ordinary = 80 if self.tls is None else 443
        return str(place).removesuffix(f":{ordinary}") if place.port == ordinary else str(place)

    def _read(self, connection: Connection, deadline: float) -> Outcome:
        # It asks its socket for a file to read from, and for nothing else.
        response = http.client.HTTPResponse(cast(socket.socket, _Readable(connection)), method=self.method)
        with response:
            response.begin()
            status = f"HTTP {response.status}"
            try:
                body = response.read(BODY_LIMIT)
            except TimeoutError:
                return failed(f"{status}, but its body was not there in {seconds_text(self.timeout)}")
            except http.client.IncompleteRead:
                return failed(f"{status}, but its body ended too early")
            if len(body) < BODY_LIMIT and response.length:
                return failed(f"{status}, but its body ended too early")
            headers: dict[str, str] = {}
            for name, value in response.getheaders():
                key = name.lower()
                headers[key] = f"{headers[key]}, {value.strip()}" if key in headers else value.strip()
            return self.expect.judge(Answer(status=response.status, headers=headers, body=body), deadline)


class _Readable(io.RawIOBase):
    """A connection as http.client reads it, up to a limit: each of its reads ends at the connection's deadline, where
    a socket's own time-out begins anew with every byte."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._left = ANSWER_LIMIT

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._connection.receive_into(memoryview(buffer)[: self._left]) if self._left else 0
        self._left -= count
        return count
