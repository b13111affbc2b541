"""One kazoo client, kept on a short lead: what it may wait for, what it may call, how it ends.

Seven of kazoo's inner functions are wrapped on the one client object, because kazoo has no setting for what they do, or
does not tell what they saw: that a host has no address, how long a connect and its answer may take, what is sent as
the last transaction seen, what TLS needs, and what an event is. All of them run on kazoo's connection thread, so
nothing in them waits for anything but the socket.
"""

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from kazoo.client import KazooClient
from kazoo.exceptions import AuthFailedError, ConnectionDropped, KazooException
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.protocol.states import KazooState

from smartstack.errors import RegistryRefused
from smartstack.registry.options import ZooKeeperOptions
from smartstack.registry.zookeeper import access, tls
from smartstack.registry.zookeeper.session_file import Identity
from smartstack.registry.zookeeper.wire import Event, Request, read_event

CONNECT_SECONDS = 2.0
"""Longest wait for a TCP connection to one server; kazoo's own is the whole session time-out for each."""

RETRY_SECONDS = 3.0
"""Longest pause between two rounds of connecting; it must stay well below the session time-out, because all sessions
start anew to age when ZooKeeper comes back."""

_log = logging.getLogger("kazoo")


class Client:
    """A client from its start to its end; a dead one is replaced, never revived.

    `on_state` hears on the connection thread that the link is up (True; the user is proved by then) or not, `on_event`
    what a watch reported. Neither may block. `identity` is a session to go on with.
    Raises `RegistryRefused` when the user's password cannot be read.
    """

    def __init__(
        self,
        hosts: str,
        session_timeout_seconds: float,
        *,
        options: ZooKeeperOptions,
        identity: Identity | None,
        on_state: Callable[["Client", bool], None],
        on_event: Callable[["Client", Event], None],
    ) -> None:
        self._session_timeout_seconds = session_timeout_seconds
        self._on_state = on_state
        self._on_event = on_event
        self._cut_off_since = time.monotonic()
        self._last_error = ""
        self._options = options
        self._access = access.read(options)
        self._up = False
        self._leaving = False
        self.refused: str | None = None
        pause = min(RETRY_SECONDS, session_timeout_seconds / 3)
        _log.setLevel(max(_log.level, logging.ERROR))  # each failed attempt is a warning; our status says it once
        self._kazoo: Any = KazooClient(
            hosts=hosts,
            timeout=session_timeout_seconds,
            connection_retry={"max_tries": -1, "delay": 0.1, "backoff": 2, "max_delay": pause},
            client_id=None if identity is None else (identity.session, identity.password),
            auth_data=list(self._access.auth_data),
            sasl_options=None if self._access.sasl is None else dict(self._access.sasl),
            logger=_log,
        )
        self._kazoo.add_listener(self._listen)
        self._connection: Any = self._kazoo._connection
        self._kazoo_expand_client_hosts = self._connection._expand_client_hosts
        self._connection._expand_client_hosts = self._expand_client_hosts
        self._kazoo_connect = self._connection._connect
        self._connection._connect = self._connect
        self._kazoo_invoke = self._connection._invoke
        self._connection._invoke = self._invoke
        self._connection._read_watch_event = self._read_watch_event
        self._kazoo_create_connection = self._kazoo.handler.create_connection
        self._kazoo.handler.create_connection = self._create_connection
        self._kazoo_select = self._kazoo.handler.select
        if options.tls is not None:
            self._kazoo.handler.select = self._select

    def start(self) -> None:
        """Begin to connect, without waiting."""
        self._kazoo.start_async()

    @property
    def identity(self) -> Identity | None:
        """The session, None while there is no connection."""
        identity = self._kazoo.client_id
        return None if identity is None else Identity(int(identity[0]), bytes(identity[1]))

    @property
    def rights(self) -> tuple[Any, ...]:
        """The ACL of what this client makes."""
        return self._access.rights

    @property
    def is_outdated(self) -> bool:
        """Whether a client that were made now would show something else: the password's file was changed."""
        try:
            return access.read(self._options) != self._access
        except RegistryRefused:
            return False

    @property
    def server(self) -> str:
        """The server at the other end, empty when there is none."""
        connection = self._connection._socket
        try:
            host, port = connection.getpeername()[:2]
        except (OSError, AttributeError):
            return ""
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def last_error(self) -> str:
        """Why the last attempt to connect failed, empty when none has."""
        return self._last_error

    @property
    def dead(self) -> bool:
        """Whether the connection thread has ended, which only a failure that kazoo does not expect makes it do."""
        thread = self._connection._connection_routine
        return thread is not None and not thread.is_alive()

    def send(self, request: Request) -> Any:
        """Queue a request; the result is kazoo's: `.get(timeout=)`, `.ready()`, `.rawlink(callback)`.

        Blocks only when more than about 270 requests wait unsent, so keep a window.
        """
        result = self._kazoo.handler.async_result()
        self._kazoo._call(request, result)
        return result

    def close(self, within_seconds: float) -> None:
        """End the session and the threads, waiting so long at most: a hung server's connection is cut."""
        self._end(self._close, within_seconds)

    def leave(self, within_seconds: float) -> None:
        """End the threads and the connection, not the session: it and its nodes stay for the session time-out, or
        until somebody goes on with it."""
        self._leaving = True
        self._kazoo._stopped.set()
        self._cut()
        self._end(self._release, within_seconds)

    def _end(self, how: Callable[[], None], within_seconds: float) -> None:
        closer = threading.Thread(target=how, name="zookeeper-close", daemon=True)
        closer.start()
        closer.join(within_seconds)
        if closer.is_alive():
            self._cut()
            closer.join(min(within_seconds, 0.3))

    def _cut(self) -> None:
        with contextlib.suppress(OSError, AttributeError):
            self._connection._socket.shutdown(socket.SHUT_RDWR)

    def _release(self) -> None:
        with contextlib.suppress(KazooException, OSError, AttributeError):
            self._kazoo._safe_close()
        if self._connection.connection_stopped.is_set():
            self._kazoo.close()

    def _close(self) -> None:
        with contextlib.suppress(KazooException, OSError, AttributeError):
            self._kazoo.stop()
        if self._connection.connection_stopped.is_set():
            self._kazoo.close()

    def _listen(self, state: str) -> None:
        """kazoo says that it is connected before it has proved who we are; that is said on only afterwards."""
        self._up = state == KazooState.CONNECTED
        if not self._up:
            self._cut_off_since = time.monotonic()
            self._on_state(self, False)

    def _expand_client_hosts(self) -> Any:
        addresses = self._kazoo_expand_client_hosts()
        if not addresses:
            self._last_error = "no address is known for this name"
        return addresses

    def _create_connection(self, *args: Any, **options: Any) -> Any:
        if options.get("timeout") is not None:
            options["timeout"] = min(options["timeout"], CONNECT_SECONDS)
        if self._options.tls is None:
            return self._kazoo_create_connection(*args, **options)
        try:
            return tls.connect(self._options.tls, options["address"], options["hostname"], options["timeout"])
        except RegistryRefused as error:
            raise ConnectionDropped(str(error)) from error

    def _select(self, readable: Any, writable: Any, exceptional: Any, timeout: Any = None) -> Any:
        """Two answers may come in one record of TLS: the second is here then, and no select of sockets sees it."""
        here = [each for each in readable if hasattr(each, "pending") and each.pending()]
        reads, *others = self._kazoo_select(readable, writable, exceptional, 0 if here else timeout)
        return [*here, *(each for each in reads if each not in here)], *others

    def _connect(self, *args: Any) -> Any:
        """A server that lost its data refuses every client that has seen a later transaction, for ever. Who was cut
        off for a session time-out has nothing to lose: it reads everything again, and may as well say that it has
        seen nothing. The session survives where the server still knows it."""
        if time.monotonic() - self._cut_off_since > self._session_timeout_seconds:
            self._kazoo.last_zxid = 0
        try:
            self._stay()
            answer = self._kazoo_connect(*args)
            self._stay()
        except (KazooTimeoutError, KazooException) as error:
            self._last_error = f"{args[0]}:{args[2]}: {self._explain(error, args[0])}"
            if isinstance(error, AuthFailedError):
                self.refused = self._last_error
            raise
        self._last_error = ""
        if self._up:
            self._on_state(self, True)
        return answer

    def _stay(self) -> None:
        """A connection that was being made while we left would keep the session alive."""
        if self._leaving:
            raise ConnectionDropped("left")

    def _explain(self, error: Exception, host: str) -> str:
        cause = error.__context__ if isinstance(error, ConnectionDropped) else error
        if isinstance(error, AuthFailedError):
            return (
                f"ZooKeeper did not accept us {access.who(self._options)}: wrong user or password, or the servers are "
                "not set up for it"
            )
        words = tls.explain(cause, self._options.tls, host) if cause is not None else None
        if words is None and self._options.tls is None and str(error) == "socket connection broken":
            words = "the server closed the connection without an answer, as one that wants TLS does"
        return words or str(error) or type(error).__name__

    def _invoke(self, timeout: float, *args: Any, **options: Any) -> Any:
        """A server that just starts accepts connections and never answers them; kazoo waits the session time-out."""
        return self._kazoo_invoke(min(timeout, self._session_timeout_seconds / 3), *args, **options)

    def _read_watch_event(self, buffer: bytes, offset: int) -> None:
        """Told at once, and so before any answer that the server sent later."""
        event = read_event(buffer, offset)
        if event is not None:
            self._on_event(self, event)
