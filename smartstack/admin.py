"""The local HTTP of a daemon: who is asked (liveness, readiness), what is measured, what the loop sees. Only GET."""

import dataclasses
import enum
import ipaddress
import json
import math
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import waitress.server
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from waitress import wasyncore

from smartstack.errors import SmartStackError
from smartstack.forms import TcpAddress
from smartstack.process import Heartbeat

HEARTBEAT_LIMIT_SECONDS: Final = 30.0
"""A loop that has not turned for so long is called dead."""

_LOOPBACK_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_TEXT: Final = "text/plain; charset=utf-8"
_REASONS: Final = {
    200: "OK",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    500: "Internal Server Error",
    503: "Service Unavailable",
}

# An administrator's few requests, and no more memory for a stranger's many.
_LIMITS: Final = {
    "threads": 2,
    "connection_limit": 50,
    "backlog": 64,
    "channel_timeout": 10,
    "cleanup_interval": 5,
    "asyncore_loop_timeout": 5,
    "max_request_header_size": 16_384,
    "max_request_body_size": 16_384,
    # select() cannot take a descriptor above 1023.
    "asyncore_use_poll": True,
    "ident": "",
}


@dataclass(frozen=True, slots=True)
class Response:
    """What a route answers."""

    status: int
    body: bytes
    content_type: str = _TEXT


Route = Callable[[], Response]


class AdminServer:
    """Serves the routes on one address from threads of its own, until it is stopped.

    `routes` are exact paths. A request whose `Host` or `Origin` is not this machine's is refused: a web page that an
    administrator's browser shows must not read a daemon's answers. No browser leaves the `Host` out, so that a plain
    probe of HTTP/1.0 may. Port 0 takes a free one, which `address` then says.
    """

    def __init__(self, address: TcpAddress, routes: Mapping[str, Route]) -> None:
        self._wanted = address
        self._routes = dict(routes)
        self._hosts = _LOOPBACK_HOSTS | {address.host.lower()}
        self._any_literal = _is_wildcard(address.host)
        self._server: Any = None
        self._map: dict[int, Any] = {}
        self._thread: threading.Thread | None = None

    @property
    def address(self) -> TcpAddress:
        """Where it is served; with the real port once started."""
        if self._server is None:
            return self._wanted
        return TcpAddress(self._wanted.host, int(self._server.effective_port))

    def start(self) -> None:
        """Raises SmartStackError when the address cannot be had."""
        listener = None
        try:
            family, kind, protocol, _, place = socket.getaddrinfo(
                self._wanted.host, self._wanted.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            listener = socket.socket(family, kind, protocol)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(place)
            self._server = waitress.server.create_server(
                self._answer, map=self._map, sockets=[listener], clear_untrusted_proxy_headers=False, **_LIMITS
            )
        except OSError as error:
            if listener is not None:
                listener.close()
            raise SmartStackError(
                f"cannot serve the admin address {self._wanted}: {(error.strerror or str(error)).lower()}; "
                "stop what listens there, or set `admin` to another address or to null"
            ) from error
        self._thread = threading.Thread(target=self._server.run, name="admin", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close every connection and the address; safe to repeat."""
        if self._thread is None:
            return
        # The map of connections belongs to the server's thread, so that thread has to close them.
        self._server.trigger.pull_trigger(lambda: wasyncore.close_all(self._map))
        self._thread.join(timeout=5)
        self._thread = None
        self._server.task_dispatcher.shutdown(timeout=1)

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        """The WSGI application. What a route raises beyond SmartStackError becomes waitress's 500 and its log line."""
        response = self._respond(environ)
        headers = [
            ("Content-Type", response.content_type),
            ("Content-Length", str(len(response.body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
        ]
        if response.status == 405:
            headers.append(("Allow", "GET, HEAD"))
        reason = _REASONS.get(response.status, "Status")
        start_response(f"{response.status} {reason}", headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [response.body]

    def _respond(self, environ: Mapping[str, Any]) -> Response:
        host = environ.get("HTTP_HOST")
        if host is not None and not self._is_ours(f"//{host}"):
            return text_response(403, f"this address serves its own machine only, not the host {host!a}")
        origin = environ.get("HTTP_ORIGIN")
        if origin is not None and not self._is_ours(origin):
            return text_response(403, f"this address serves its own machine only, not pages of {origin!a}")
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return text_response(405, f"{environ['REQUEST_METHOD']!a} is not served here; only GET and HEAD are")
        route = self._routes.get(environ["PATH_INFO"])
        if route is None:
            return text_response(404, f"no such path; there are: {' '.join(sorted(self._routes))}")
        try:
            return route()
        except SmartStackError as error:
            return text_response(500, str(error))

    def _is_ours(self, url: str) -> bool:
        """Whether the host in this URL is this machine's; never by what a foreign name may resolve to."""
        try:
            host = (urlsplit(url).hostname or "").lower()
        except ValueError:
            return False
        return host in self._hosts or (self._any_literal and _is_literal(host))


def text_response(status: int, text: str) -> Response:
    """One line of text."""
    return Response(status, f"{text}\n".encode())


def json_response(status: int, value: object) -> Response:
    """Anything made of dataclasses, enumerations, mappings and sequences, as JSON with sorted keys."""
    body = json.dumps(plain(value), sort_keys=True, indent=2, allow_nan=False, ensure_ascii=False)
    return Response(status, f"{body}\n".encode("utf-8", "backslashreplace"), "application/json")


def plain(value: object) -> Any:
    """The same out of JSON's own types; what has no such form is its `str`, a number that is not finite is null."""
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {_key(key): plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((plain(item) for item in value), key=str)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def standard_routes(
    *,
    heartbeat: Heartbeat,
    ready: Callable[[], tuple[bool, dict[str, object]]],
    status: Callable[[], object],
    metrics: CollectorRegistry,
    heartbeat_limit_seconds: float = HEARTBEAT_LIMIT_SECONDS,
) -> dict[str, Route]:
    """The paths that both daemons have.

    `ready` says whether the first full cycle is done, and what is missing. `status` gives the loop's last snapshot.
    """

    def healthz() -> Response:
        age = heartbeat.age_seconds()
        if age >= heartbeat_limit_seconds:
            return text_response(503, f"the loop has not turned for {age:.1f} s (limit {heartbeat_limit_seconds:g} s)")
        failure = heartbeat.failure
        return text_response(200, "ok" if failure is None else f"the loop turns, but its last cycle failed: {failure}")

    def readyz() -> Response:
        is_ready, details = ready()
        return json_response(200 if is_ready else 503, {**details, "ready": is_ready})

    return {
        "/healthz": healthz,
        "/readyz": readyz,
        "/metrics": lambda: Response(200, generate_latest(metrics), CONTENT_TYPE_LATEST),
        "/status": lambda: json_response(200, status()),
    }


def _key(key: object) -> str:
    return str(key.value if isinstance(key, enum.Enum) else key)


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_wildcard(host: str) -> bool:
    return _is_literal(host) and ipaddress.ip_address(host).is_unspecified
