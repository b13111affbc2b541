"""The runtime commands for certificates, and HAProxy's answers to them. Pure."""

import datetime
import enum
import re
from dataclasses import dataclass

from synapse.tls import Kind

COMMAND_LIMIT = 15_000
"""Longest command with its payload, in bytes. HAProxy 2.6.12 took 16,359 bytes and hung up at 17,038, without a word
(`tune.bufsize` is 16,384)."""

_PLAIN = re.compile(r"/[A-Za-z0-9_./+@:=,-]+")
"""Paths that a command may have in it: none of their characters means anything to HAProxy."""

_PAYLOAD = re.compile(r"(-----BEGIN [A-Z0-9 ]+-----\n([A-Za-z0-9+/=]{1,64}\n)+-----END [A-Z0-9 ]+-----\n)+")
_WORD = {Kind.CERTIFICATE: "cert", Kind.AUTHORITIES: "ca-file"}
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DATE = re.compile(r"([A-Z][a-z]{2}) +(\d{1,2}) (\d\d):(\d\d):(\d\d) (\d{4}) GMT")
_STEPS = re.compile(
    r"transaction (created|updated) for |Committing |Success!|Can't commit |Can't update ", re.IGNORECASE
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A certificate that HAProxy has loaded. The dates are in seconds since the epoch, `fingerprint` is its SHA-1."""

    serial: str
    fingerprint: str
    begins: float
    expires: float


class Loading(enum.Enum):
    """What came of loading a file at run time."""

    DONE = "done"
    REFUSED = "refused"
    IMPOSSIBLE = "not possible at run time"


def show(kind: Kind, path: str) -> str | None:
    """The command that asks what is loaded of a file, None for a path that no command may have."""
    return f"show ssl {_WORD[kind]} {path}" if _PLAIN.fullmatch(path) else None


def load(kind: Kind, path: str, pem: str) -> str | None:
    """The commands that load this content of a file, with its payload; None when HAProxy would not take them.

    `pem` is as `synapse.pem` writes it. Raises `ValueError` for any other: after an empty line HAProxy would take the
    rest for commands. That is a defect.
    """
    if not _PAYLOAD.fullmatch(pem):
        raise ValueError("this text may not be sent to HAProxy")
    if not _PLAIN.fullmatch(path):
        return None
    word = _WORD[kind]
    commands = f"set ssl {word} {path} <<\n{pem}\ncommit ssl {word} {path}"
    return commands if len(commands) <= COMMAND_LIMIT else None


def abort(kind: Kind, path: str) -> str:
    """The command that ends a transaction which could not be committed."""
    return f"abort ssl {_WORD[kind]} {path}"


def parse_shown(text: str) -> tuple[Shown, ...] | None:
    """The answer to `show`: what is loaded of the file, nothing when it is not; None when HAProxy cannot tell."""
    if text.strip().startswith("Can't display "):
        return ()
    found = []
    for part in re.split(r"^Serial: ", text, flags=re.MULTILINE)[1:]:
        lines = part.splitlines()
        fields = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
        begins, expires = _date(fields.get("notBefore", "")), _date(fields.get("notAfter", ""))
        fingerprint = fields.get("SHA1 FingerPrint", "")
        if begins is not None and expires is not None and fingerprint:
            found.append(Shown(serial=lines[0], fingerprint=fingerprint, begins=begins, expires=expires))
    return tuple(found) if found else None


def parse_loaded(text: str) -> tuple[Loading, str]:
    """The answer to `load`, with HAProxy's words where it was not done."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if "Success!" in lines:
        return Loading.DONE, ""
    if not lines or "Unknown command" in text:
        return Loading.IMPOSSIBLE, ""
    return Loading.REFUSED, " ".join(line for line in lines if not _STEPS.match(line)) or lines[-1]


def _date(text: str) -> float | None:
    """`Jan  1 00:00:00 2030 GMT`, as OpenSSL prints a time."""
    match = _DATE.fullmatch(text.strip())
    if match is None or match[1] not in _MONTHS:
        return None
    month, year = _MONTHS.index(match[1]) + 1, int(match[6])
    try:
        at = datetime.datetime(
            year, month, int(match[2]), int(match[3]), int(match[4]), int(match[5]), tzinfo=datetime.UTC
        )
    except ValueError:
        return None
    return at.timestamp()
