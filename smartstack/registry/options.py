"""How to come into ZooKeeper: who we are, and whom we believe. Pure: files are only named here.

A secret is held in a `Secret`, which shows itself nowhere, and the forms of secrets are marked so that no message about
a configuration file shows them either.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from smartstack.forms import PATH
from smartstack.model import Form

Auth = Literal["digest", "sasl"]

_USER = re.compile(r"[A-Za-z0-9_.@/-]{1,100}")


@dataclass(frozen=True, slots=True)
class Secret:
    """A text that is not for showing: `reveal` is the one way to it."""

    _text: str = field(repr=False)

    def reveal(self) -> str:
        """The text itself, for the one place that needs it."""
        return self._text


def _secret(value: Any) -> Secret:
    if not isinstance(value, str):
        raise ValueError("must be a text; put it in quotes")
    if not value or not value.isprintable():
        raise ValueError("must be one line without control characters, and not empty")
    return Secret(value)


def _user(value: Any) -> str:
    if not isinstance(value, str) or not _USER.fullmatch(value):
        raise ValueError("must be 1 to 100 letters, digits, '_', '.', '@', '/' and '-'")
    return value


SECRET = Form(_secret, {"type": "string", "minLength": 1}, Secret.reveal, secret=True)
USER = Form(_user, {"type": "string", "pattern": f"^{_USER.pattern}$"}, secret=True)
"""Marked too: `user:password` is an easy mistake."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsOptions:
    """The connections are encrypted, and the server has to prove who it is. An empty mapping is enough where the
    servers' certificates are signed by a CA that this system knows."""

    ca: Annotated[str | None, "the only CAs that are believed, as PEM; default: those of the system", PATH] = None
    certificate: Annotated[str | None, "what we show to servers that ask who we are, as PEM", PATH] = None
    key: Annotated[str | None, "its private key; default: it stands in the certificate's file", PATH] = None
    check_hostname: Annotated[bool, "the server's certificate must name the host that the URL names"] = True

    def problems(self) -> Iterable[tuple[str, str]]:
        """Rules over several keys: the dotted key, and what is wrong."""
        if self.key is not None and self.certificate is None:
            yield "key", "is the key of a certificate; give certificate too"


@dataclass(frozen=True, slots=True, kw_only=True)
class ZooKeeperOptions:
    """How to come into ZooKeeper. With a user, what nerve writes can be read by all and changed by that user only."""

    user: Annotated[str | None, "who we are; absent: nobody, and what is written is open to all", USER] = None
    password: Annotated[Secret | None, "its password; better ${VARIABLE} or password_file", SECRET] = None
    password_file: Annotated[str | None, "a file that holds the password and not all may read", PATH] = None
    auth: Annotated[Auth, "how the user is proved: digest needs nothing on the server, sasl is DIGEST-MD5"] = "digest"
    tls: Annotated[TlsOptions | None, "absent: the connections are not encrypted"] = None

    def problems(self) -> Iterable[tuple[str, str]]:
        """Rules over several keys: the dotted key, and what is wrong."""
        if self.password is not None and self.password_file is not None:
            yield "password_file", "stands beside password; give one of them"
        has_password = self.password is not None or self.password_file is not None
        if self.user is not None and not has_password:
            yield "user", "has no password; give password_file, or password: ${VARIABLE}"
        if self.user is None and has_password:
            yield "user", "is missing; it is whose password is given"
        if self.user is None and self.auth == "sasl":
            yield "auth", "sasl needs a user and a password"


NOBODY = ZooKeeperOptions()
"""Nobody in particular, on connections that are not encrypted."""
