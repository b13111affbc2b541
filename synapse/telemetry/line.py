"""The lines in which HAProxy tells of requests: how it is told to write them, and how they are read. Pure.

A line is fields with a TAB between them. What clients may choose (the path) is last, and HAProxy writes control
characters as `#09`, so that nothing that a client sends can be taken for another field.
"""

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from smartstack.forms import TcpAddress
from smartstack.traffic import Mode
from smartstack.traffic_forms import CALLER_NAME
from synapse.telemetry.request import Request, SourceKind
from synapse.telemetry.source import KIND_VARIABLE, SOURCE_VARIABLE, Caller, nobody

LINE_LIMIT: Final = 1024
"""Bytes of a line; HAProxy cuts off what is beyond, which is a part of the path."""

SHARE_VARIABLE: Final = "txn.share"
"""HAProxy's variable for the share of the requests that is told of, where that is not every one, in parts of
`SHARE_PARTS`."""

SHARE_PARTS: Final = 1_000_000

_MAGIC: Final = "S1"
_HTTP_ONLY: Final = {"%ST": "0", "%Ta": "%Tt", "%Tr": "-1", "%HM": "", "%HPO": ""}
"""What stands in the place of a field that mode tcp does not have."""

_FIELDS: Final = (
    *("%f", "%b", "%s", "%si", "%sp", "%ST", "%Ta", "%Tr", "%Tw", "%Tc", "%ts", "%rc", "%B", "%U"),
    *("%ci", "%cp", "%fi", "%fp"),
    *(f"%[var({name})]" for name in (SOURCE_VARIABLE, KIND_VARIABLE, SHARE_VARIABLE)),
    *("%HM", "%HPO"),
)
_SPLITS: Final = 3 + len(_FIELDS) - 1
_KINDS: Final[dict[str, SourceKind]] = {"listener": "listener", "header": "header"}
_MODES: Final[dict[str, Mode]] = {"http": "http", "tcp": "tcp"}
_NUMBER_LIMIT: Final = 1 << 53
_BAD_REQUEST: Final = "<BADREQ>"
_NOTICE: Final = b"Proxy "


Unnamed = Callable[[str, int, str, int], Caller]
"""Who calls, by the address and port that it calls from, and those that it called."""


class Bad(enum.Enum):
    """Why a datagram is no request of HAProxy's."""

    NOTICE = "notice"
    """It tells of itself: an old process says of each of its frontends that it stops."""

    UNPARSED = "unparsed"
    FORGED = "forged"
    """It has the form of one and not the key, which only synapse and its HAProxy know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """Where HAProxy sends its lines, and the key that each begins with."""

    address: TcpAddress
    key: str

    @property
    def log(self) -> str:
        """What follows the word `log` in a frontend."""
        return f"{self.address} len {LINE_LIMIT} format raw local0 info"

    def log_format(self, mode: Mode) -> str:
        """What follows the word `log-format` in a frontend of that mode."""
        fields = _FIELDS if mode == "http" else [_HTTP_ONLY.get(field, field) for field in _FIELDS]
        return '"' + "\\t".join((_MAGIC, self.key, mode, *fields)) + '"'


def parse(datagram: bytes, key: str, unnamed: Unnamed = nobody) -> Request | Bad:
    """What HAProxy told. Whatever the bytes are, the answer is one of the two; a request's path may be cut off.

    `unnamed` says who calls where HAProxy does not know.
    """
    # A line that was cut off has no end of line.
    fields = datagram.decode("ascii", "replace").rstrip("\n").split("\t", _SPLITS)
    if len(fields) != _SPLITS + 1 or fields[0] != _MAGIC:
        return Bad.NOTICE if datagram.startswith(_NOTICE) else Bad.UNPARSED
    if fields[1] != key:
        return Bad.FORGED
    # One of these lines costs as much as the next: ten thousand requests a second come by here.
    # fmt: off
    (
        _, _, mode, frontend, service, slot, host, port, status, total, response, queue, connect, termination, retries,
        sent, received, client, client_port, listener, listener_port, source, kind, share, method, path,
    ) = fields
    # fmt: on
    try:
        numbers = [*map(int, (status, total, response, queue, connect, retries, sent, received, client_port))]
        answered, took, responded, queued, connected, tried, out, into, called_from = numbers
        called_at = int(listener_port)
        target = 0 if port == "-" else int(port)
        told = SHARE_PARTS if share == "-" else int(share)
        known = _MODES[mode]
        how = None if source == "-" else _KINDS[kind]
    except (ValueError, KeyError):
        return Bad.UNPARSED
    if max(numbers) > _NUMBER_LIMIT or not 0 < told <= SHARE_PARTS:
        return Bad.UNPARSED
    if how is not None and not CALLER_NAME.fullmatch(source):
        return Bad.UNPARSED
    caller = unnamed(client, called_from, listener, called_at) if how is None else Caller(name=source, kind=how)
    # A time of -1: that phase was not reached.
    return Request(
        mode=known,
        service=service,
        frontend=frontend,
        slot="" if slot == "<NOSRV>" else slot,
        host="" if host == "-" else host,
        port=target,
        status=answered if answered > 0 else 0,
        total_ms=took if took > 0 else 0,
        response_ms=responded if responded >= 0 else None,
        queue_ms=queued if queued >= 0 else None,
        connect_ms=connected if connected >= 0 else None,
        termination=termination,
        retries=tried,
        redispatched=retries.startswith("+"),
        sent_bytes=out,
        received_bytes=into,
        client_host=client,
        client_port=called_from,
        source=caller.name,
        source_kind=caller.kind,
        share=told / SHARE_PARTS,
        method="" if method == _BAD_REQUEST else method,
        path="" if path == _BAD_REQUEST else path,
    )
