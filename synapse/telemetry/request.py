"""One request, or one connection of a service in mode tcp, as HAProxy told of it at its end. Pure."""

import enum
from dataclasses import dataclass
from typing import Literal

SourceKind = Literal["listener", "header", "process", "announced", "host"]
"""How it is known who called, the best first."""


class Outcome(enum.Enum):
    """How a request ended, for the success rate."""

    SUCCESS = "success"
    FAILURE = "failure"
    ABORTED = "aborted"
    """The client hung up: nobody's failure, and no success either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One line of the feed.

    `service` is whose backend answered, `frontend` whose address the client used. `host` and `port` are the instance
    that answered last, "" and 0 where none was reached; `slot` is its server line, "" where none was chosen. `status`
    is what the client got: 0 in mode tcp, and where it got none. Times are whole milliseconds, None where that phase
    was not reached. `termination` is HAProxy's two letters: `--` is a good end. `share` is which part of the service's
    requests is told of: each stands for 1/share of them. `source` is who called and `source_kind` how that is known,
    both as HAProxy knew it.
    """

    mode: Literal["http", "tcp"]
    service: str
    frontend: str
    slot: str
    host: str
    port: int
    status: int
    total_ms: int
    response_ms: int | None
    queue_ms: int | None
    connect_ms: int | None
    termination: str
    retries: int
    redispatched: bool
    sent_bytes: int
    received_bytes: int
    client_host: str
    client_port: int
    source: str
    source_kind: SourceKind
    share: float
    method: str
    path: str

    @property
    def instance(self) -> str:
        """`10.0.0.5:8080`, as an instance's address; "" where none was reached."""
        if not self.host:
            return ""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def outcome(self) -> Outcome:
        """What it counts as. HAProxy's manual, 8.5, gives the termination letters: the first says who ended it (`C` the
        client, `S` the instance, `P` HAProxy itself, `R` a lack of resources, `-` nobody)."""
        if self.termination[:1] in ("C", "c"):
            return Outcome.ABORTED
        if self.mode == "tcp":
            return Outcome.SUCCESS if self.termination[:1] == "-" else Outcome.FAILURE
        return Outcome.SUCCESS if 0 < self.status < 500 else Outcome.FAILURE

    @property
    def status_class(self) -> str:
        """`2xx` to `5xx`; `other` where there is no status."""
        return f"{self.status // 100}xx" if 200 <= self.status < 600 else "other"
