"""The `tcp` check: somebody accepts a connection, and answers as expected if something is."""

import time
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from nerve.checks.base import Outcome, Pace, Target, excerpt, failed, passed, seconds_text
from nerve.checks.connection import Connection, connect, reason_of
from nerve.checks.tls import Tls
from smartstack.forms import HOST, PORT, TcpAddress
from smartstack.model import Form

ANSWER_LIMIT = 65_536
"""How much of an answer is looked at, in bytes."""

_TEXT_LIMIT = 1000


def _text(value: Any) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= _TEXT_LIMIT:
        raise ValueError(f'must be a text of 1 to {_TEXT_LIMIT} characters, in quotes: "PING\\r\\n"')
    return value


_SCHEMA = {"type": "string", "minLength": 1, "maxLength": _TEXT_LIMIT}
TEXT = Form(_text, _SCHEMA)
"""A text that may hold line ends and other control characters, which YAML writes in double quotes."""
SECRET_TEXT = Form(_text, _SCHEMA, secret=True)
"""The same, where it may hold a password."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpCheck(Pace):
    """Connect, and close again. Passes when the connection was made in time, and `expect` was heard in time."""

    kind: ClassVar[str] = "tcp"

    host: Annotated[str | None, "where to connect, if not to the instance's address", HOST] = None
    port: Annotated[int | None, "where to connect, if not to the instance's port", PORT] = None
    tls: Annotated[Tls | None, "speak TLS; {} verifies against the system's authorities"] = None
    send: Annotated[str | None, "what to say once connected", SECRET_TEXT] = field(default=None, repr=False)
    expect: Annotated[str | None, "a text that must be in the first 64 KiB of the answer", TEXT] = None

    def run(self, target: Target) -> Outcome:
        """Raises nothing: whatever the network answers is an outcome."""
        deadline = time.monotonic() + self.timeout
        place = TcpAddress(self.host or target.address.host, self.port or target.address.port)
        try:
            with connect(place, deadline, tls=self.tls, name=place.host) as connection:
                if self.send is not None:
                    connection.send(self.send.encode())
                return passed("connected") if self.expect is None else self._hear(connection, self.expect)
        except TimeoutError:
            return failed(f"no connection in {seconds_text(self.timeout)}")
        except OSError as error:
            return failed(reason_of(error))

    def _hear(self, connection: Connection, wanted: str) -> Outcome:
        heard = bytearray()
        try:
            while wanted.encode() not in heard:
                part = connection.receive(ANSWER_LIMIT - len(heard))
                if not part:  # the end, or enough
                    said = f"the answer begins with {excerpt(heard)}" if heard else "closed without an answer"
                    return failed(f"no '{wanted}': {said}")
                heard += part
        except TimeoutError:
            only = f", only {excerpt(heard)}" if heard else ""
            return failed(f"no '{wanted}' in {seconds_text(self.timeout)}{only}")
        return passed(f"answered '{wanted}'")
