"""The local HTTP of a daemon: who is asked (liveness, readiness), what is measured, what the loop sees, what to do."""

import ipaddress
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import waitress.server
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from waitress import wasyncore

from smartstack.actions import Action, BadRequest, read_arguments
from smartstack.errors import SmartStackError
from smartstack.forms import TcpAddress
from smartstack.http_accept import PatientAccept
from smartstack.http_limits import CONNECTIONS, LIMITS, LimitedChannel, Workers
from smartstack.inbox import Unanswered
from smartstack.process import Heartbeat
from smartstack.responses import PrefixRoute, Question, Response, Route, json_response, text_response
from smartstack.tokens import Token, refusal

HEARTBEAT_LIMIT_SECONDS: Final = 30.0
"""A loop that has not turned for so long is called dead."""

_QUERY_LIMIT: Final = 10
_LOOPBACK_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


class AdminServer:
    """Serves routes and actions on one address from threads of its own, until it is stopped.

    `routes` are exact paths that are asked with GET. `prefixes` end in `/`, and answer for all that is below. `actions`
    are exact paths too: only they change something, with POST, and only for who has the `token`; `other_tokens` says
    by path which more open one. `questions` answer for a path and all below it, with a query; as many of
    them as `waiting` may take their time without holding up the others.

    A request whose `Host` or `Origin` is not this machine's is refused, and one that a page of another site makes: a
    web page that an administrator's browser shows must neither read a daemon's answers nor keep it busy. No browser
    leaves the `Host` out, so that a plain probe of HTTP/1.0 may.
    Port 0 takes a free one, which `address` then says.
    """

    def __init__(
        self,
        address: TcpAddress,
        routes: Mapping[str, Route],
        actions: Mapping[str, Action] | None = None,
        token: Token | None = None,
        *,
        prefixes: Mapping[str, PrefixRoute] | None = None,
        other_tokens: Mapping[str, Token] | None = None,
        questions: Mapping[str, Question] | None = None,
        waiting: int = 0,
        name: str = "admin",
    ) -> None:
        """`name` is the key of the settings that gives the address, for whoever has to change it."""
        if actions and token is None:
            raise ValueError("actions need a token")
        self._wanted = address
        self._routes = dict(routes)
        self._actions = dict(actions or {})
        self._token = token
        self._prefixes = dict(prefixes or {})
        self._other_tokens = dict(other_tokens or {})
        self._questions = dict(questions or {})
        self._waiting = waiting
        self._name = name
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
                self._answer,
                map=self._map,
                _dispatcher=Workers(self._waiting),
                sockets=[listener],
                clear_untrusted_proxy_headers=False,
                **{**LIMITS, "connection_limit": CONNECTIONS + self._waiting},
            )
            self._server.channel_class = LimitedChannel
            self._server.accept = PatientAccept(self._server.accept)
        except OSError as error:
            if listener is not None:
                listener.close()
            raise SmartStackError(
                f"cannot serve the {self._name} address {self._wanted}: {(error.strerror or str(error)).lower()}; "
                f"stop what listens there, or set `{self._name}` to another address or to null"
            ) from error
        self._thread = threading.Thread(target=self._server.run, name=self._name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close every connection and the address; safe to repeat."""
        if self._thread is None:
            return
        # The map of connections belongs to the server's thread, so that thread has to close them.
        self._server.trigger.pull_trigger(self._close)
        self._thread.join(timeout=5)
        self._thread = None
        workers = self._server.task_dispatcher
        workers.shutdown(timeout=1)
        if not workers.threads:
            self._server.trigger.close()

    def _close(self) -> None:
        """Close all but the trigger: whoever pulls it in this moment, or after a long action, would write to a
        descriptor that is closed or somebody else's by then."""
        for each in list(self._map.values()):
            if each is not self._server.trigger:
                # What the server's own method does beyond this is to close the trigger.
                wasyncore.dispatcher.close(each)
        self._map.clear()

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        """The WSGI application. What a route raises beyond SmartStackError becomes waitress's 500 and its log line."""
        response = self._respond(environ)
        headers = [
            ("Content-Type", response.content_type),
            ("Content-Length", str(len(response.body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            *response.headers,
        ]
        start_response(f"{response.status} {_REASONS.get(response.status, 'Status')}", headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [response.body]

    def _respond(self, environ: Mapping[str, Any]) -> Response:
        host = environ.get("HTTP_HOST")
        if host is not None and not self._is_ours(f"//{host}"):
            return text_response(403, f"this address is asked by its own name only, not as the host {host!a}")
        origin = environ.get("HTTP_ORIGIN")
        if origin is not None and not self._is_ours(origin):
            return text_response(403, f"this address is asked by its own pages only, not by those of {origin!a}")
        if _is_by_another_site(environ):
            return text_response(403, "this address is asked by its own pages only: a page of another site made this")
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        route, action = self._route(path, environ.get("QUERY_STRING", "")), self._actions.get(path)
        if method in ("GET", "HEAD") and route is not None:
            return _ask(route)
        if method == "POST" and action is not None:
            return self._act(path, action, environ)
        if route is None and action is None:
            return text_response(404, f"no such path; there are: {' '.join(self._paths())}")
        allowed = [*(("GET", "HEAD") if route else ()), *(("POST",) if action else ())]
        sentence = f"{method!a} is not served here; only {' and '.join(allowed)} {'are' if route else 'is'}"
        return text_response(405, sentence, ("Allow", ", ".join(allowed)))

    def _route(self, path: str, query: str) -> Route | None:
        """What answers a GET of this path, which is decoded, but to one character for each byte."""
        if path in self._routes:
            return self._routes[path]
        # What is no UTF-8 is no name that anything has; it is looked for all the same, and not found.
        for prefix, below in self._prefixes.items():
            if path.startswith(prefix) and path != prefix:
                return partial(below, path.removeprefix(prefix).encode("latin-1").decode("utf-8", "replace"))
        for base, question in self._questions.items():
            if path == base or path.startswith(f"{base}/"):
                rest = path[len(base) + 1 :].encode("latin-1").decode("utf-8", "replace")
                return partial(_put, question, rest, query)
        return None

    def _paths(self) -> list[str]:
        below = [f"{prefix}<name>" for prefix in self._prefixes]
        below += [path for base in self._questions for path in (base, f"{base}/<name>")]
        return sorted([*self._routes, *below]) + [f"POST:{path}" for path in sorted(self._actions)]

    def _act(self, path: str, action: Action, environ: Mapping[str, Any]) -> Response:
        tokens = [token for token in (self._token, self._other_tokens.get(path)) if token is not None]
        refused = refusal(tokens, environ.get("HTTP_AUTHORIZATION"))
        if refused is not None:
            return refused
        try:
            return action(read_arguments(environ.get("CONTENT_TYPE", ""), environ["wsgi.input"].read()))
        except BadRequest as error:
            return text_response(400, str(error))
        except Unanswered as error:
            return text_response(503, str(error))
        except SmartStackError as error:
            return text_response(409, str(error))

    def _is_ours(self, url: str) -> bool:
        """Whether the host in this URL is this machine's; never by what a foreign name may resolve to."""
        try:
            host = (urlsplit(url).hostname or "").lower()
        except ValueError:
            return False
        return host in self._hosts or (self._any_literal and _is_literal(host))


def _is_by_another_site(environ: Mapping[str, Any]) -> bool:
    """Whether a browser says that a page of another site makes this request, such as one for an image, of which it
    tells no origin. Somebody who follows a link there is somebody who wants to see the answer."""
    return environ.get("HTTP_SEC_FETCH_SITE") == "cross-site" and environ.get("HTTP_SEC_FETCH_DEST") != "document"


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

    def readyz() -> Response:
        is_ready, details = ready()
        return json_response(200 if is_ready else 503, {**details, "ready": is_ready})

    return {
        "/healthz": healthz(heartbeat, heartbeat_limit_seconds),
        "/readyz": readyz,
        "/metrics": exposed(metrics),
        "/status": lambda: json_response(200, status()),
    }


def exposed(metrics: CollectorRegistry) -> Route:
    """What is measured, as Prometheus reads it."""
    return lambda: Response(200, generate_latest(metrics), CONTENT_TYPE_LATEST)


def healthz(heartbeat: Heartbeat, limit_seconds: float = HEARTBEAT_LIMIT_SECONDS) -> Route:
    """Whether the loop turns."""

    def answer() -> Response:
        age = heartbeat.age_seconds()
        if age >= limit_seconds:
            return text_response(503, f"the loop has not turned for {age:.1f} s (limit {limit_seconds:g} s)")
        failure = heartbeat.failure
        return text_response(200, "ok" if failure is None else f"the loop turns, but its last cycle failed: {failure}")

    return answer


def _put(question: Question, rest: str, query: str) -> Response:
    try:
        parameters = dict(parse_qsl(query, keep_blank_values=True, max_num_fields=_QUERY_LIMIT))
    except ValueError:
        raise BadRequest(f"a query has at most {_QUERY_LIMIT} parameters") from None
    return question(rest, parameters)


def _ask(route: Route) -> Response:
    try:
        return route()
    except BadRequest as error:
        return text_response(400, str(error))
    except Unanswered as error:
        return text_response(503, str(error))
    except SmartStackError as error:
        return text_response(500, str(error))


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_wildcard(host: str) -> bool:
    return _is_literal(host) and ipaddress.ip_address(host).is_unspecified
