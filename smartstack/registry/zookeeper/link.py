"""The life of the link to ZooKeeper: up or down and since when, and requests that never wait for ever.

A connection has a *generation*, a number that grows with every (re)connect. Watches live as long as a connection, so
what was learnt under another generation has to be read again.
"""

import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from kazoo.exceptions import (
    AuthFailedError,
    ConnectionLoss,
    OperationTimeoutError,
    RequestTimeoutError,
    SessionClosedRequireSaslError,
    SessionExpiredError,
    SessionMovedError,
    ThrottledOpError,
    ZookeeperError,
)
from kazoo.handlers.threading import KazooTimeoutError

from smartstack.errors import RegistryRefused, RegistryUnavailable
from smartstack.registry.options import NOBODY, ZooKeeperOptions
from smartstack.registry.protocol import LinkStatus, Ring
from smartstack.registry.zookeeper import access
from smartstack.registry.zookeeper.client import Client
from smartstack.registry.zookeeper.session_file import Identity
from smartstack.registry.zookeeper.wire import Event, Request, describe, exists

WINDOW = 200
"""Requests in flight at most: kazoo blocks its caller at 278 that cannot be sent, and more brings no speed."""

STOP_SECONDS = 1.5
"""How long the end of the session may take."""

LEAVE_SECONDS = 0.5
"""How long to wait for the server to hear from a session that is left."""

REFUSED_SECONDS = 10.0
"""How long to wait, at least, before a login that was refused is tried again."""

QUARREL_LOSSES = 4
QUARREL_SECONDS = 5.0
"""A session that was taken up from another process, and whose connection is lost so often in such a time, is one that
the other still uses: the two throw each other out about five times a second."""

_LINK_ERRORS = (
    AuthFailedError,
    ConnectionLoss,
    OperationTimeoutError,
    RequestTimeoutError,
    SessionExpiredError,
    SessionMovedError,
    ThrottledOpError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkState:
    """The link at one moment. `session` is None before the first connect; `since` in seconds since the epoch."""

    connected: bool
    generation: int
    session: int | None
    since: float


class Link:
    """Owns the client, replaces a dead one, and turns every failure of the link into `RegistryUnavailable`.

    `on_event` hears the generation and what a watch reported, on kazoo's thread; the ring follows by itself.
    `identity` is a session to go on with. `identity` and `note` are for the owner: the session that is there, and
    what should be known of it. Raises `RegistryRefused` when a file that the options name is wrong.
    """

    def __init__(
        self,
        hosts: str,
        session_timeout_seconds: float,
        on_event: Callable[[int, Event], None],
        *,
        options: ZooKeeperOptions = NOBODY,
        identity: Identity | None = None,
    ) -> None:
        access.check(options)
        self.hosts = hosts
        self.session_timeout_seconds = session_timeout_seconds
        self.answer_seconds = max(1.0, min(5.0, session_timeout_seconds / 3))
        self.options = options
        self.identity = identity
        self.note = ""
        self._taken_up = None if identity is None else identity.session
        self._losses: deque[float] = deque(maxlen=QUARREL_LOSSES)
        self._refused: str | None = None
        self._on_event = on_event
        self._ring: Ring = _silence
        self._client: Client | None = None
        self._lock = threading.Lock()
        self._state = LinkState(connected=False, generation=0, session=None, since=time.time())
        self._counters = {"requests": 0, "events": 0, "reconnects": 0, "sessions": 0}
        self._unanswered: Any = None
        self._unanswered_since = 0.0
        self._made_at = float("-inf")
        self._stopped = False

    @property
    def state(self) -> LinkState:
        """The link as it is now; may be called from any thread."""
        return self._state

    @property
    def usable(self) -> bool:
        """Whether the link is up and answers."""
        return self._state.connected and not self._is_stalled()

    @property
    def rights(self) -> tuple[Any, ...]:
        """The ACL of what is made here."""
        return access.OPEN.rights if self._client is None else self._client.rights

    def start(self, ring: Ring) -> None:
        """Begin to connect, without waiting. Raises `RegistryRefused` when the user's password cannot be read."""
        self._ring = ring
        self._new_client()

    def require(self) -> LinkState:
        """The state of a link that is up. Raises `RegistryUnavailable` at once when it is not, and `RegistryRefused`
        when that is because our login was refused."""
        client, state = self._client, self._state
        if client is not None and not self._stopped:
            if client.dead:
                self._replace(client)
            elif self._is_quarrel():
                self.renew("the session of before is used by another process too, and was left to it")
        if client is None or not state.connected:
            if refused := self._refusal():
                raise RegistryRefused(f"cannot use ZooKeeper at {self.hosts}: {refused}")
            raise RegistryUnavailable(f"no connection to ZooKeeper at {self.hosts}")
        if self._is_stalled():
            raise RegistryUnavailable(self._stall_text())
        return state

    def ask(self, requests: Iterable[Request]) -> Iterator[tuple[Request, Any]]:
        """Send these in a window, yield each with its answer, in order.

        An answer that is an error about the node itself is yielded as that exception (`ZookeeperError`, or a
        `ValueError` for an answer that cannot be read). Raises `RegistryUnavailable` when the link fails or one
        answer takes longer than `answer_seconds`; nothing is known of the requests that were not yielded.
        """
        outstanding: deque[tuple[Request, Any]] = deque()
        for request in requests:
            if len(outstanding) >= WINDOW:
                yield self._answer(*outstanding.popleft())
            outstanding.append((request, self._send(request)))
        while outstanding:
            yield self._answer(*outstanding.popleft())

    def status(self) -> LinkStatus:
        """The link for people; may be called from any thread."""
        client, state, stalled = self._client, self._state, self._is_stalled()
        if client is None or self._stopped:
            detail = "stopped" if self._stopped else "not started"
        elif not state.connected:
            begun = "lost the connection to" if state.generation else "connecting to"
            error = self._refusal() or client.last_error
            detail = f"{begun} ZooKeeper at {self.hosts}" + (f" ({error})" if error else "")
        else:
            detail = self._stall_text() if stalled else f"connected to ZooKeeper at {client.server or self.hosts}"
        return LinkStatus(
            connected=state.connected and not stalled,
            detail=detail,
            since=self._unanswered_since if stalled else state.since,
            session=None if state.session is None else f"{state.session & 0xFFFF_FFFF_FFFF_FFFF:#x}",
            counters=dict(self._counters),
        )

    def show_anew(self) -> None:
        """Where the password's file was changed since we showed it, begin a session that shows what it says now.
        Raises `RegistryUnavailable` then."""
        if self._client is not None and self._client.is_outdated:
            self.renew("")
            raise RegistryUnavailable(f"logging in to ZooKeeper at {self.hosts} with another password")

    def renew(self, note: str) -> None:
        """Leave the session as it is and begin another; `note` says why, for people."""
        client = self._client
        self.note = note
        self.identity = None
        self._taken_up = None
        self._losses.clear()
        self._new_client()
        if client is not None:
            client.leave(0)

    def stop(self, *, leave: bool = False) -> None:
        """End the session and the threads within about `STOP_SECONDS`, even when the server hangs.

        With `leave` the session goes on without us. Its time begins with the last that the server heard, so it hears
        something.
        """
        touched = None
        if leave and self.usable and self._client is not None:
            touched = self._client.send(exists("/", watch=False))
        self._stopped = True
        self._ring = _silence
        if self._client is not None and leave:
            if touched is not None:
                touched.wait(LEAVE_SECONDS)
            self._client.leave(STOP_SECONDS)
        elif self._client is not None:
            self._client.close(STOP_SECONDS)
        self._state = LinkState(
            connected=False, generation=self._state.generation, session=self._state.session, since=time.time()
        )

    def _send(self, request: Request) -> Any:
        client = self._client
        if client is None or not self._state.connected:
            raise RegistryUnavailable(f"lost the connection to ZooKeeper at {self.hosts}")
        self._counters["requests"] += 1
        return client.send(request)

    def _answer(self, request: Request, result: Any) -> tuple[Request, Any]:
        try:
            return request, result.get(timeout=self.answer_seconds)
        except KazooTimeoutError:
            self._unanswered_since = time.time()
            self._unanswered = result
            result.rawlink(self._answered_late)
            raise RegistryUnavailable(self._stall_text()) from None
        except _LINK_ERRORS as error:
            raise RegistryUnavailable(
                f"lost the connection to ZooKeeper at {self.hosts} during a request ({type(error).__name__})"
            ) from error
        except SessionClosedRequireSaslError as error:
            raise RegistryRefused(
                f"cannot use ZooKeeper at {self.hosts}: {describe(error)}; give user and password with auth: sasl"
            ) from error
        except (ZookeeperError, ValueError) as error:
            return request, error
        except struct.error as error:
            return request, ValueError(str(error))

    def _is_stalled(self) -> bool:
        """Whether a request waits beyond its time: until it is answered, or the connection ends, no other is sent."""
        return self._unanswered is not None and not self._unanswered.ready()

    def _stall_text(self) -> str:
        return f"ZooKeeper at {self.hosts} did not answer within {self.answer_seconds:.3g} s"

    def _answered_late(self, _result: object) -> None:
        self._ring()

    def _new_client(self) -> None:
        self._made_at = time.monotonic()
        client = Client(
            self.hosts,
            self.session_timeout_seconds,
            options=self.options,
            identity=self.identity,
            on_state=self._client_state,
            on_event=self._client_event,
        )
        with self._lock:
            self._client = client
            if self._state.connected:
                self._state = replace(self._state, connected=False, since=time.time())
        self._unanswered = None
        client.start()

    def _replace(self, dead: Client) -> None:
        """Put a new client in place of a dead one, but not again and again. It goes on with the session."""
        pause = max(self.session_timeout_seconds, REFUSED_SECONDS if dead.refused else 0.0)
        if time.monotonic() - self._made_at < pause:
            return
        try:
            self._new_client()
        except RegistryRefused as error:
            self._refused = str(error)
            return
        self._refused = dead.refused
        dead.close(0)

    def _refusal(self) -> str | None:
        """Why our login was refused, until one is accepted."""
        return self._refused or (self._client.refused if self._client is not None else None)

    def _is_quarrel(self) -> bool:
        losses = list(self._losses)
        return len(losses) == QUARREL_LOSSES and losses[-1] - losses[0] < QUARREL_SECONDS

    def _client_state(self, client: Client, connected: bool) -> None:
        with self._lock:
            if client is not self._client or self._stopped:
                return
            before = self._state
            identity = client.identity if connected else None
            session = before.session if identity is None else identity.session
            since = before.since if connected == before.connected else time.time()
            self._state = LinkState(
                connected=connected, generation=before.generation + connected, session=session, since=since
            )
            if before.connected and not connected and before.session == self._taken_up:
                self._losses.append(time.monotonic())
            if connected:
                self.identity = identity
                self._refused = None
                self._counters["reconnects"] += before.generation > 0
                self._counters["sessions"] += session != before.session
        self._ring()

    def _client_event(self, client: Client, event: Event) -> None:
        if client is not self._client:
            return
        self._counters["events"] += 1
        self._on_event(self._state.generation, event)
        self._ring()


def _silence() -> None:
    """The bell before the start and after the end."""
