"""Certificates and keys as PEM text (RFC 7468): read strictly, written anew. Pure.

Nothing of a file is passed on but bytes that were decoded here: no comment, no empty line and no other text of it
reaches HAProxy, which takes an empty line for the end of a payload and what follows for commands.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from smartstack.errors import SmartStackError

_EDGE = re.compile(rb"-----(BEGIN|END) ([A-Z0-9 ]{1,40})-----")
_CERTIFICATES = ("CERTIFICATE", "X509 CERTIFICATE")
_KEYS = ("PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY")
_PARAMETERS = ("EC PARAMETERS", "DH PARAMETERS")
_LINE = 64


class UnusablePem(SmartStackError):
    """A text is not what it should be, and why: it continues a sentence that begins with the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One thing of a PEM text."""

    label: str
    data: bytes

    @property
    def text(self) -> str:
        """As PEM, in the one form that everything is written in."""
        body = base64.b64encode(self.data).decode("ascii")
        lines = (body[begin : begin + _LINE] for begin in range(0, len(body), _LINE))
        return "\n".join((f"-----BEGIN {self.label}-----", *lines, f"-----END {self.label}-----", ""))


def blocks(text: bytes) -> tuple[Block, ...]:
    """Everything that is in a PEM text. Raises `UnusablePem` for one that is cut off or garbled."""
    found: list[Block] = []
    label: str | None = None
    body = bytearray()
    for line in text.splitlines():
        edge = _EDGE.fullmatch(line.strip())
        if edge is None:
            body += line.strip()
        elif edge[1] == b"BEGIN" and label is None:
            label = edge[2].decode("ascii")
            body.clear()
        elif edge[1] == b"END" and label is not None and label == edge[2].decode("ascii"):
            found.append(_block(label, bytes(body)))
            label = None
        else:
            raise UnusablePem("is garbled: what begins and what ends in it does not fit together")
    if label is not None:
        raise UnusablePem(f"is cut off: a {label.lower()} in it begins and does not end")
    return tuple(found)


def _block(label: str, body: bytes) -> Block:
    if label == "ENCRYPTED PRIVATE KEY" or body.startswith(b"Proc-Type:"):
        raise UnusablePem("has a key with a passphrase; store the key without one")
    try:
        data = base64.b64decode(body, validate=True)
    except binascii.Error:
        data = b""
    if not data:
        raise UnusablePem(f"is garbled: a {label.lower()} in it is not in PEM form")
    return Block(label=label, data=data)


def certificate_text(certificate: bytes, key: bytes | None) -> str:
    """A certificate, those that signed it, and its key, from one PEM text or from two. Raises `UnusablePem`."""
    shown = blocks(certificate)
    secret = shown if key is None else blocks(key)
    chain = _distinct(block for block in shown if block.label in _CERTIFICATES)
    keys = [block for block in secret if block.label in _KEYS]
    if not chain:
        raise UnusablePem("holds no certificate in PEM form")
    if not keys:
        raise UnusablePem(
            "is without its private key in PEM form" + (" (give its file as `key`)" if key is None else "")
        )
    if len(keys) > 1:
        raise UnusablePem("has more than one private key")
    parameters = [block for block in secret if block.label in _PARAMETERS]
    return "".join(block.text for block in (*parameters, *keys, *chain))


def authorities_text(authorities: bytes) -> str:
    """The certificates of authorities. Raises `UnusablePem`."""
    found = _distinct(block for block in blocks(authorities) if block.label in _CERTIFICATES)
    if not found:
        raise UnusablePem("holds no certificate in PEM form")
    return "".join(block.text for block in found)


def fingerprints(text: str) -> tuple[str, ...]:
    """SHA-1 of each certificate of a PEM text, as HAProxy shows it. Raises `UnusablePem`."""
    certificates = (block for block in blocks(text.encode()) if block.label in _CERTIFICATES)
    return tuple(hashlib.sha1(block.data, usedforsecurity=False).hexdigest().upper() for block in certificates)


def _distinct(found: Iterable[Block]) -> Sequence[Block]:
    """Each once, under the usual one of its labels."""
    return list(dict.fromkeys(Block(label=_CERTIFICATES[0], data=block.data) for block in found))
