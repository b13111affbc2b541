"""The `redis` check: Redis (or what speaks like it) answers PING, and is in the role that it should be in."""

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from nerve.checks.base import Outcome, Pace, Target, failed, passed, seconds_text
from nerve.checks.connection import UNIX_SOCKET, Connection, Place, connect, reason_of, socket_problems
from nerve.checks.files import read_file
from nerve.checks.tls import Tls
from smartstack.forms import HOST, PATH, PORT, TcpAddress, UnixSocket
from smartstack.model import Form

Role = Literal["master", "replica"]

LINE_LIMIT = 4096
"""Longest line of an answer, in bytes; nothing that is read here is longer."""

_SECRET_LIMIT = 1000
_ERROR_CODE = re.compile(rb"-([A-Z]{2,20})(?: .*)?")
_BULK_LENGTH = re.compile(rb"\$([0-9]{1,3})")
_ROLE_NAMES = {"slave": "replica"}
"""Redis's own words for the roles, where they are not ours."""


def _secret(value: Any) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= _SECRET_LIMIT:
        quotes = "; put it in quotes" if isinstance(value, int | float) else ""
        raise ValueError(f"must be a text of 1 to {_SECRET_LIMIT} characters{quotes}")
    return value


SECRET = Form(_secret, {"type": "string", "minLength": 1, "maxLength": _SECRET_LIMIT}, secret=True)


class _NotRedis(Exception):
    """The answer is none of Redis; the text is what was answered, or why it was not read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisCheck(Pace):
    """PING a Redis. Passes when it answers PONG in time, and has the role that it is to have."""

    kind: ClassVar[str] = "redis"

    host: Annotated[str | None, "where to connect, if not to the instance's address", HOST] = None
    port: Annotated[int | None, "where to connect, if not to the instance's port", PORT] = None
    unix_socket: Annotated[str | None, "where to connect, if not to an address: an absolute path", UNIX_SOCKET] = None
    tls: Annotated[Tls | None, "speak TLS; {} verifies against the system's authorities"] = None
    username: Annotated[str | None, "who asks, if not the default user", SECRET] = None
    password: Annotated[str | None, "its password", SECRET] = field(default=None, repr=False)
    password_file: Annotated[str | None, "the file that holds the password, read at each check", PATH] = None
    role: Annotated[Role | None, "the role that it must have"] = None

    def problems(self) -> Iterable[tuple[str, str]]:
        """Rules over several keys: the dotted key, and what is wrong."""
        yield from socket_problems(self.unix_socket, self.host, self.port)
        if self.password is not None and self.password_file is not None:
            yield "password_file", "stands beside password; give one of them"
        if self.username is not None and self.password is None and self.password_file is None:
            yield "username", "needs a password or a password_file beside it"

    def run(self, target: Target) -> Outcome:
        """Raises nothing: whatever the network answers is an outcome."""
        deadline = time.monotonic() + self.timeout
        address = TcpAddress(self.host or target.address.host, self.port or target.address.port)
        place: Place = address if self.unix_socket is None else UnixSocket(self.unix_socket)
        try:
            password = self._password()
            with connect(place, deadline, tls=self.tls, name=address.host) as connection:
                return self._ask(_Dialogue(connection), password)
        except TimeoutError:
            return failed(f"no answer in {seconds_text(self.timeout)}")
        except OSError as error:
            return failed(reason_of(error))
        except _NotRedis as error:
            return failed(f"answered something that is not Redis: {error}")

    def _password(self) -> bytes | None:
        if self.password_file is not None:
            return read_file("password_file", self.password_file)[0].rstrip(b"\r\n")
        return None if self.password is None else self.password.encode()

    def _ask(self, dialogue: "_Dialogue", password: bytes | None) -> Outcome:
        if password is not None:
            user = [] if self.username is None else [self.username.encode()]
            answer = dialogue.ask(b"AUTH", *user, password)
            if answer != b"+OK":
                # The code alone: some servers repeat what was sent to them.
                code = _ERROR_CODE.fullmatch(answer)
                return failed(f"AUTH is refused: {code[1].decode() if code else 'no answer of Redis'}")
        answer = dialogue.ask(b"PING")
        if answer != b"+PONG":
            return failed(_said(answer))
        if self.role is None:
            return passed("PONG")
        answer = dialogue.ask(b"ROLE")
        if not answer.startswith(b"*") or answer in (b"*0", b"*-1"):
            return failed(_said(answer))
        found = dialogue.bulk()
        role = _ROLE_NAMES.get(found, found)
        return passed(f"PONG, {role}") if role == self.role else failed(f"is {role}, expected {self.role}")


def _said(answer: bytes) -> str:
    """An error of Redis in its own words."""
    if _ERROR_CODE.fullmatch(answer):
        return answer[1:].decode("utf-8", "replace")
    raise _NotRedis(answer.decode("utf-8", "replace"))


class _Dialogue:
    """Commands and answers in Redis's protocol (RESP 2), as far as they are needed here."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._heard = bytearray()

    def ask(self, *words: bytes) -> bytes:
        """Send a command; the first line of its answer, without its end."""
        self._connection.send(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))
        return self._line()

    def bulk(self) -> str:
        """The text that comes next in an answer."""
        length = _BULK_LENGTH.fullmatch(header := self._line())
        text = self._line()
        if length is None or len(text) != int(length[1]):
            raise _NotRedis((header + b" " + text).decode("utf-8", "replace"))
        return text.decode("utf-8", "replace")

    def _line(self) -> bytes:
        while (end := self._heard.find(b"\r\n")) < 0:
            if len(self._heard) >= LINE_LIMIT:
                raise _NotRedis(self._heard[:LINE_LIMIT].decode("utf-8", "replace"))
            part = self._connection.receive(LINE_LIMIT)
            if not part:
                raise _NotRedis(self._heard.decode("utf-8", "replace") if self._heard else "closed the connection")
            self._heard += part
        line = bytes(self._heard[:end])
        del self._heard[: end + 2]
        return line
