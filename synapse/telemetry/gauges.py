"""What only HAProxy knows of now: connections that are open, and lines of the feed that it could not send. It is asked
when somebody wants to know, once a second at most."""

import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from synapse.haproxy.answers import Info
from synapse.haproxy.errors import HAProxyError

FRESH_SECONDS: Final = 1.0
PATIENCE_SECONDS: Final = 1.0
"""How long HAProxy should have for an answer: whoever asks for the metrics waits for it, also while it hangs."""

AWAY_SECONDS: Final = 10.0
"""How long one that did not answer is not asked again: each question may keep its asker waiting."""

_NUMBER: Final = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauge:
    """`connections` are the clients' by service. `dropped` are the lines that HAProxy could not send since its last
    reload; None where that is not known."""

    connections: Mapping[str, int] = field(default_factory=dict)
    dropped: int | None = None


class Asked(Protocol):
    """HAProxy's runtime socket. Both raise `HAProxyError`."""

    def ask(self, text: str) -> str:
        """The answer to a command."""

    def info(self) -> Info:
        """The answer to `show info`."""


class Gauges:
    """What HAProxy says; any thread may read."""

    def __init__(self, haproxy: Asked, clock: Callable[[], float] = time.monotonic) -> None:
        self._haproxy = haproxy
        self._clock = clock
        self._lock = threading.Lock()
        self._gauge = Gauge()
        self._until: float | None = None

    def read(self) -> Gauge:
        """As it is now, or was a moment ago; nothing while HAProxy does not answer."""
        with self._lock:
            if self._until is None or self._clock() >= self._until:
                try:
                    self._gauge = Gauge(
                        connections=parse_connections(self._haproxy.ask("show stat -1 1 -1")),
                        dropped=self._haproxy.info().dropped_logs,
                    )
                    self._until = self._clock() + FRESH_SECONDS
                except HAProxyError:
                    self._gauge = Gauge()
                    self._until = self._clock() + AWAY_SECONDS
            return self._gauge


def parse_connections(text: str) -> dict[str, int]:
    """Open connections by frontend, out of `show stat -1 1 -1`; what does not fit is left out."""
    header, *lines = [line.split(",") for line in text.splitlines() if line] or [[]]
    columns = [name.removeprefix("# ") for name in header]
    # What may be quoted, and hold commas, stands far behind these columns.
    rows = [dict(zip(columns, fields, strict=False)) for fields in lines]
    return {
        row["pxname"]: int(row["scur"])
        for row in rows
        if row.get("svname") == "FRONTEND" and _NUMBER.fullmatch(row.get("scur", ""))
    }
