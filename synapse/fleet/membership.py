"""This host's part in the fleet: an address for other hosts that only answers, and its node in the registry."""

import ipaddress
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from smartstack.admin import AdminServer
from smartstack.errors import RegistryError, SmartStackError
from smartstack.forms import RegistryUrl, TcpAddress
from smartstack.instance import encode
from smartstack.logs import EventLog
from smartstack.own_address import address_towards
from smartstack.registry.protocol import RegistryWriter
from smartstack.wake import Wake
from synapse.fleet.peer import place, registration

RETRY_SECONDS: Final = 2.0
RESYNC_SECONDS: Final = 30.0
"""How often the node is looked at, rung or not."""

PATIENCE_SECONDS: Final = 5.0
"""What goes wrong for so long is worth a line in the log: a registry that is just being connected to is not."""

STOP_SECONDS: Final = 3.0

_log = EventLog("fleet")


class Membership:
    """Serves and announces until it is stopped.

    All of it happens on a thread of its own: neither a registry that hangs nor an address that is taken holds up the
    loop, and both are tried again. What is announced is served, and goes with the process or its session. `serve` makes
    the server for an address, not started; `open_writer` a writer, not started.
    """

    def __init__(
        self,
        listen: TcpAddress,
        registry: RegistryUrl,
        *,
        host: str,
        serve: Callable[[TcpAddress], AdminServer],
        open_writer: Callable[[], RegistryWriter],
        truce_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`host` is this host's name. A place is not taken from another twice within `truce_seconds`."""
        self._listen = listen
        self._registry = registry
        self._host = host
        self._serve = serve
        self._open_writer = open_writer
        self._truce_seconds = truce_seconds
        self._clock = clock
        self._wake = Wake()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fleet", daemon=True)
        self._server: AdminServer | None = None
        self._writer: RegistryWriter | None = None
        self._address: TcpAddress | None = None
        self._announced: TcpAddress | None = None
        self._taken_over = float("-inf")
        self._problem: str | None = "it was not tried yet"
        self._wrong_since = clock()
        self._told: str | None = None

    def start(self) -> None:
        """Begin, without waiting for anything."""
        self._thread.start()

    def status(self) -> dict[str, Any]:
        """For people; from any thread. `announced` is the address that stands in the registry as far as is known."""
        announced, problem = self._announced, self._problem
        return {
            "listen": str(self._listen),
            "announced": None if announced is None else str(announced),
            "problem": problem,
        }

    def stop(self) -> None:
        """Take the node back and close the address, if it was begun; takes a few seconds at most."""
        self._stopping.set()
        self._wake.ring()
        if self._thread.ident is not None:
            self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._turn()
            except SmartStackError as error:
                self._note(str(error))
            else:
                self._note(None)
            self._wake.wait(RESYNC_SECONDS if self._problem is None else RETRY_SECONDS)
        if self._writer is not None:
            self._writer.stop()
        if self._server is not None:
            self._server.stop()

    def _turn(self) -> None:
        """Bring what stands in the registry in step, if it is not. Raises SmartStackError."""
        if self._server is None:
            server = self._serve(self._listen)
            server.start()
            self._server = server
        writer = self._writer
        if writer is None:
            writer = self._open_writer()
            writer.start(self._wake.ring)
            self._writer = writer
        address = self._own_address()
        instance = registration(self._host, address)
        node, payload = place(instance), encode(instance)
        try:
            held = writer.held([node])
        except RegistryError:
            self._announced = None
            raise
        there = held.get(node)
        if there is None or not there.mine or there.payload != payload:
            self._announced = None
            if there is not None and not there.mine:
                self._take_over(address)
            before = next((other for other, one in held.items() if one.mine and other != node), None)
            writer.put(node, payload, instead_of=before)
        self._announced = address

    def _take_over(self, address: TcpAddress) -> None:
        """What a synapse that died left behind is replaced; who takes it back at once lives."""
        now = self._clock()
        if now - self._taken_over < self._truce_seconds:
            raise SmartStackError(f"another synapse announces {address} too: give each host an address of its own")
        self._taken_over = now

    def _own_address(self) -> TcpAddress:
        """The address that others are told. Raises SmartStackError where there is none."""
        if not ipaddress.ip_address(self._listen.host).is_unspecified:
            return self._listen
        try:
            self._address = TcpAddress(address_towards(self._registry), self._listen.port)
        except OSError as error:
            if self._address is None:
                raise SmartStackError(
                    f"this host has no address that reaches {self._registry}: "
                    f"{(error.strerror or str(error)).lower()}; give one as fleet.listen"
                ) from error
        return self._address

    def _note(self, problem: str | None) -> None:
        now = self._clock()
        if self._problem is None and problem is not None:
            self._wrong_since = now
        self._problem = problem
        if problem is None and self._told != str(self._announced):
            self._told = str(self._announced)
            _log.info("this synapse is announced to the fleet", address=self._told)
        elif problem is not None and problem != self._told and now - self._wrong_since >= PATIENCE_SECONDS:
            self._told = problem
            _log.warning("this synapse is not announced to the fleet", why=problem)
