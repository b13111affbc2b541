"""One kazoo client, kept on a short lead: what it may wait for, what it may call, how it ends.

Five of kazoo's inner functions are wrapped on the one client object, because kazoo has no setting for what they do, or
does not tell what they saw: that a host has no address, how long a connect and its answer may take, what is sent as
the last transaction seen, and what an event is. All of them run on kazoo's connection thread, so nothing in them waits
for anything but the socket.
"""

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from kazoo.client import KazooClient
from kazoo.exceptions import ConnectionDropped, KazooException
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.protocol.states import KazooState

from smartstack.registry.zookeeper.wire import Event, Request, read_event

CONNECT_SECONDS = 2.0
"""Longest wait for a TCP connection to one server; kazoo's own is the whole session time-out for each."""

RETRY_SECONDS = 3.0
"""Longest pause between two rounds of connecting; it must stay well below the session time-out, because all sessions
start anew to age when ZooKeeper comes back."""

_log = logging.getLogger("kazoo")


class Client:
    """A client from its start to its end; a dead one is replaced, never revived.

    `on_state` hears on the connection thread that the link is up (True) or not, `on_event` what a watch reported.
    Neither may block.
    """

    def __init__(
        self,
        hosts: str,
        session_timeout_seconds: float,
        *,
        on_state: Callable[["Client", bool], None],
        on_event: Callable[["Client", Event], None],
    ) -> None:
        self._session_timeout_seconds = session_timeout_seconds
        self._on_state = on_state
        self._on_event = on_event
        self._cut_off_since = time.monotonic()
        self._last_error = ""
        pause = min(RETRY_SECONDS, session_timeout_seconds / 3)
        _log.setLevel(max(_log.level, logging.ERROR))  # each failed attempt is a warning; our status says it once
        self._kazoo: Any = KazooClient(
            hosts=hosts,
            timeout=session_timeout_seconds,
            connection_retry={"max_tries": -1, "delay": 0.1, "backoff": 2, "max_delay": pause},
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

    def start(self) -> None:
        """Begin to connect, without waiting."""
        self._kazoo.start_async()

    @property
    def session(self) -> int | None:
        """The id of the session as the server signs ephemeral nodes with it, None while there is no connection."""
        identity = self._kazoo.client_id
        return None if identity is None else int(identity[0])

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
        closer = threading.Thread(target=self._close, name="zookeeper-close", daemon=True)
        closer.start()
        closer.join(within_seconds)
        if closer.is_alive():
            with contextlib.suppress(OSError, AttributeError):
                self._connection._socket.shutdown(socket.SHUT_RDWR)
            closer.join(min(within_seconds, 0.3))

    def _close(self) -> None:
        with contextlib.suppress(KazooException, OSError, AttributeError):
            self._kazoo.stop()
        if self._connection.connection_stopped.is_set():
            self._kazoo.close()

    def _listen(self, state: str) -> None:
        connected = state == KazooState.CONNECTED
        if not connected:
            self._cut_off_since = time.monotonic()
        self._on_state(self, connected)

    def _expand_client_hosts(self) -> Any:
        addresses = self._kazoo_expand_client_hosts()
        if not addresses:
            self._last_error = "no address is known for this name"
        return addresses

    def _create_connection(self, *args: Any, **options: Any) -> Any:
        if options.get("timeout") is not None:
            options["timeout"] = min(options["timeout"], CONNECT_SECONDS)
        return self._kazoo_create_connection(*args, **options)

    def _connect(self, *args: Any) -> Any:
        """A server that lost its data refuses every client that has seen a later transaction, for ever. Who was cut
        off for a session time-out has nothing to lose: it reads everything again, and may as well say that it has
        seen nothing. The session survives where the server still knows it."""
        if time.monotonic() - self._cut_off_since > self._session_timeout_seconds:
            self._kazoo.last_zxid = 0
        try:
            answer = self._kazoo_connect(*args)
        except (ConnectionDropped, KazooTimeoutError, KazooException) as error:
            self._last_error = f"{args[0]}:{args[2]}: {error or type(error).__name__}"
            raise
        self._last_error = ""
        return answer

    def _invoke(self, timeout: float, *args: Any, **options: Any) -> Any:
        """A server that just starts accepts connections and never answers them; kazoo waits the session time-out."""
        return self._kazoo_invoke(min(timeout, self._session_timeout_seconds / 3), *args, **options)

    def _read_watch_event(self, buffer: bytes, offset: int) -> None:
        """Told at once, and so before any answer that the server sent later."""
        event = read_event(buffer, offset)
        if event is not None:
            self._on_event(self, event)
