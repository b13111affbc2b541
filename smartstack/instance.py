"""The registration format: one instance of a service, as Airbnb's SmartStack writes it, and its safe alphabet.

Nothing that comes out of a registry is trusted. `decode` is the door: what it lets through is an address of canonical
form, a port, numbers in range and text without control characters; everything else is a `str` that says why not.
"""

import base64
import binascii
import codecs
import ipaddress
import json
import re
from dataclasses import dataclass
from typing import Any

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
"""What a service, an instance or a HAProxy object may be called; use with `fullmatch`."""

PAYLOAD_LIMIT = 65_536
"""Largest payload that is looked at, in bytes; Airbnb's nerve refuses to write a longer encoded name."""

LABEL_LIMIT = 64
"""Most labels that one instance may carry."""

WEIGHT_RANGE = range(0, 257)
"""HAProxy's range of server weights; 0 means draining."""

MAINTENANCE_LABEL = "maintenance"
"""The label that says why an instance with weight 0 is drained; who did it, since and until when stand beside it, with
a suffix each."""

_TEXT_LIMIT = 1000
_ENCODED_NAME = re.compile(r"base64_(\d{1,6})_([A-Za-z0-9_=-]*?)(?:_(-?\d{10,}))?")
_SEQUENCE = re.compile(r".*_(-?\d{10})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One instance of a service: where it listens and what it says of itself.

    `host` is a canonical IP address. `weight` None means that the instance gave none. `name` is the instance id of
    the nerve that announced it. `haproxy_server_options` is carried for other readers and never rendered.
    """

    host: str
    port: int
    name: str | None = None
    weight: int | None = None
    haproxy_server_options: str | None = None
    labels: tuple[tuple[str, str], ...] = ()

    @property
    def address(self) -> str:
        """`10.0.0.5:8080`, or `[2001:db8::1]:8080`: the identity of an instance."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def encode(instance: Instance) -> bytes:
    """The payload: compact JSON in UTF-8, keys in Airbnb's order, absent ones left out."""
    payload: dict[str, Any] = {"host": instance.host, "port": instance.port}
    if instance.name is not None:
        payload["name"] = instance.name
    if instance.weight is not None:
        payload["weight"] = instance.weight
    if instance.haproxy_server_options is not None:
        payload["haproxy_server_options"] = instance.haproxy_server_options
    if instance.labels:
        payload["labels"] = dict(instance.labels)
    return json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode()


def decode(payload: bytes) -> Instance | str:
    """The instance in a payload, or in a few words why it is refused. Never raises.

    Requires `host` (an IP address) and `port`; takes numbers written as text, as Airbnb's readers do; ignores keys
    that it does not know and keys that are null.
    """
    if len(payload) > PAYLOAD_LIMIT:
        return f"payload of {len(payload)} bytes is over the limit of {PAYLOAD_LIMIT}"
    try:
        data = json.loads(payload.decode("utf-8"))
    except UnicodeDecodeError:
        return "payload is not UTF-8"
    except (ValueError, RecursionError):
        return "payload is not JSON"
    if not isinstance(data, dict):
        return "payload is not a JSON object"
    try:
        return Instance(
            host=_host(data.get("host")),
            port=_number(data.get("port"), "port", range(1, 65_536)),
            name=_name(data.get("name")),
            weight=None if data.get("weight") is None else _number(data["weight"], "weight", WEIGHT_RANGE),
            haproxy_server_options=_options(data.get("haproxy_server_options")),
            labels=_labels(data.get("labels")),
        )
    except _Refusal as refusal:
        return str(refusal)


def node_name(instance: Instance) -> str:
    """The node's name in Airbnb's form `<id>_<10 digits>`, made from the address alone.

    The digits are the port, so that a retry, a restart and a second nerve all find the same node: one address, one
    node.
    """
    return f"{instance.host}_{instance.port:010d}"


def encoded_node_name(instance: Instance) -> str | None:
    """The node's name with the payload in it (`base64_<len>_<payload>_<10 digits>`), so that no reader has to read
    the node; None when it would be longer than Airbnb's limit."""
    text = base64.urlsafe_b64encode(encode(instance)).decode("ascii")
    return None if len(text) > PAYLOAD_LIMIT else f"base64_{len(text)}_{text}_{instance.port:010d}"


def payload_in_name(node: str) -> bytes | None:
    """The payload that a node's name carries, or None when it carries none and the node has to be read."""
    match = _ENCODED_NAME.fullmatch(node)
    if match is None or len(match[2]) != int(match[1]):
        return None
    try:
        return base64.b64decode(match[2].encode("ascii"), altchars=b"-_", validate=True)
    except binascii.Error:
        return None


def sequence_in_name(node: str) -> int:
    """The ten digits at the end of a node's name, 0 when there are none: of two nodes of one address made by
    Airbnb's nerve the larger is the newer."""
    match = _SEQUENCE.fullmatch(node)
    return int(match[1]) if match else 0


_escape = codecs.getencoder("unicode_escape")
# Looked up before there is need of it: the codec is a file, and who is out of descriptors wants to say so.


def printable(text: str, limit: int = 80) -> str:
    """Any text as one short line of printable ASCII, for logs and statuses."""
    shown = _escape(text)[0].decode("ascii")
    return shown if len(shown) <= limit else shown[: limit - 1] + "~"


class _Refusal(Exception):
    """A value that does not pass; the text says why."""


def _host(value: object) -> str:
    if not isinstance(value, str):
        raise _Refusal("host is missing" if value is None else "host is not text")
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        raise _Refusal(f"host is not an IP address: {printable(value)}") from None
    if address.is_unspecified or address.is_multicast or getattr(address, "scope_id", None):
        raise _Refusal(f"host is not an address of one machine: {printable(value)}")
    return str(address)


def _number(value: object, key: str, allowed: range) -> int:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,10}", value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _Refusal(f"{key} is missing" if value is None else f"{key} is not a whole number")
    if value not in allowed:
        raise _Refusal(f"{key} {printable(str(value), 24)} is not in {allowed.start} to {allowed.stop - 1}")
    return value


def _name(value: object) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise _Refusal(f"name is not made of letters, digits, '_', '.' and '-': {printable(str(value))}")
    return value


def _options(value: object) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not _is_text(value):
        raise _Refusal("haproxy_server_options is not one line of text")
    return value


def _labels(value: object) -> tuple[tuple[str, str], ...]:
    if value is None:
        return ()
    if not isinstance(value, dict) or len(value) > LABEL_LIMIT:
        raise _Refusal(f"labels is not an object of at most {LABEL_LIMIT} keys")
    labels = []
    for key, item in value.items():
        text = str(item).lower() if isinstance(item, bool) else str(item) if isinstance(item, int | float) else item
        if not isinstance(text, str) or not _is_text(text) or not _is_text(key):
            raise _Refusal(f"label {printable(key, 40)} is not text")
        labels.append((key, text))
    return tuple(sorted(labels))


def _is_text(value: str) -> bool:
    return len(value) <= _TEXT_LIMIT and value.isprintable()
