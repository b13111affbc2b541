"""The forms of values: how durations, addresses, paths and names are written in a configuration file.

Each form says what a value must be, as a sentence and as JSON Schema, and never shows the value, which may come from
an environment variable and be a secret. What passes here is safe to print in HAProxy's configuration: canonical
addresses, numbers in range, text without control characters.
"""

import posixpath
import re
from dataclasses import dataclass
from typing import Any, TypeAlias

from smartstack.addresses import ADDRESS, canonical_ip, host_name, is_clean, names_no_machine, split_port
from smartstack.instance import LABEL_LIMIT, NAME
from smartstack.model import Form, FormError

SOCKET_PATH_LIMIT = 100
"""Longest path of a unix socket, in bytes: the kernel takes 107, and HAProxy binds a longer temporary name first."""

ZOOKEEPER_PORT = 2181

_TEXT_LIMIT = 1000
_SOCKET_PATH = re.compile(r"(/[A-Za-z0-9_.-]+)+")
_DURATION = re.compile(r"([0-9]{1,10}(?:\.[0-9]{1,9})?) ?(ms|s|m|h)")
_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,9})?) ?%")
_UNITS = {"h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """An IP address, or a host name where the form allows one, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixSocket:
    """The absolute path of a unix socket."""

    path: str

    def __str__(self) -> str:
        return self.path


Listen: TypeAlias = TcpAddress | UnixSocket


@dataclass(frozen=True, slots=True)
class ZooKeeperUrl:
    """An ensemble, `zk1:2181,zk2:2181`, and the node below which everything is: `/smartstack`, or empty."""

    hosts: str
    root: str

    def __str__(self) -> str:
        return f"zookeeper://{self.hosts}{self.root}"


@dataclass(frozen=True, slots=True)
class DirectoryUrl:
    """The directory of a `file:` registry; relative until the file that names it is known."""

    path: str

    def __str__(self) -> str:
        return f"file:{self.path}"


RegistryUrl: TypeAlias = ZooKeeperUrl | DirectoryUrl


def between(least: int, most: int) -> Form:
    """A whole number in a range."""

    def parse(value: Any) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        # Text that looks like a number is in quotes, or is a number of YAML 1.1 (0777, 12:30, 0x1F, 1_000).
        plainly = ", in plain digits and without quotes" if isinstance(value, str) and value[:1].isdigit() else ""
        raise ValueError(f"must be a whole number from {least} to {most}{plainly}")

    return Form(parse, {"type": "integer", "minimum": least, "maximum": most})


def duration(least: str = "1ms", most: str = "480h") -> Form:
    """A number with its unit, within two others; the field holds seconds. 480h because HAProxy counts milliseconds
    in 31 bits, which is 24 days."""

    def parse(value: Any) -> float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            raise ValueError("must have a unit, such as 500ms, 2s, 1m or 1h")
        seconds = _seconds(value) if isinstance(value, str) else None
        if seconds is None:
            raise ValueError("must be a duration with a unit, such as 500ms, 2s, 1m or 1h")
        if not (_seconds(least) or 0.0) <= seconds <= (_seconds(most) or 0.0):
            raise ValueError(f"must be a duration from {least} to {most}")
        return seconds

    schema = {"type": "string", "pattern": f"^{_DURATION.pattern}$", "examples": ["500ms", "2s", "1m"]}
    return Form(parse, schema, write_duration)


def _seconds(text: str) -> float | None:
    match = _DURATION.fullmatch(text)
    return float(match[1]) * _UNITS[match[2]] / 1000 if match else None


def write_duration(seconds: float) -> str:
    """`1m`, `2s`, `250ms`: the largest unit in which it is a whole number."""
    milliseconds = round(seconds * 1000, 3)
    for unit, size in _UNITS.items():
        if milliseconds % size == 0:
            return f"{milliseconds / size:.0f}{unit}"
    return f"{milliseconds:.3f}ms"


def _percent(value: Any) -> float:
    match = _PERCENT.fullmatch(value) if isinstance(value, str) else None
    if match is None or float(match[1]) > 100:
        raise ValueError("must be a percentage from 0 % to 100 %, such as 50 %")
    return float(match[1]) / 100


def _listen(value: Any) -> Listen:
    if isinstance(value, str) and value.startswith("/"):
        if len(value) > SOCKET_PATH_LIMIT or not _SOCKET_PATH.fullmatch(value) or not is_clean(value):
            allowed = "made of letters, digits, '_', '.', '-' and '/'"
            raise ValueError(f"must be a path of at most {SOCKET_PATH_LIMIT} bytes, {allowed}, without '..'")
        return UnixSocket(value)
    wanted = "must be a port (3210), an IP address and a port ('0.0.0.0:3210', '[::1]:3210') or an absolute path"
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 65_535:
        return TcpAddress("127.0.0.1", value)
    if isinstance(value, str):
        split = split_port(value)
        host = canonical_ip(split[0]) if split else None
        if split and host:
            return TcpAddress(host, split[1])
    raise ValueError(wanted)


def _listens(value: Any) -> tuple[Listen, ...]:
    if not isinstance(value, list):
        return (_listen(value),)
    wrong: dict[str | int, str] = {}
    found: list[Listen] = []
    for index, one in enumerate(value):
        try:
            listen = _listen(one)
        except ValueError as error:
            wrong[index] = str(error)
        else:
            if listen in found:
                wrong[index] = "is in the list twice"
            found.append(listen)
    if wrong:
        raise FormError(wrong)
    return tuple(found)


def _write_listens(value: tuple[Listen, ...]) -> list[int | str] | int | str:
    written = [_write_listen(one) for one in value]
    return written[0] if len(written) == 1 else written


def _write_listen(value: Listen) -> int | str:
    return value.port if isinstance(value, TcpAddress) and value.host == "127.0.0.1" else str(value)


def _admin(value: Any) -> TcpAddress:
    split = split_port(value) if isinstance(value, str) else None
    host = (canonical_ip(split[0]) or host_name(split[0])) if split else None
    if split is None or host is None:
        raise ValueError("must be an address and a port, such as '127.0.0.1:3199', or null")
    return TcpAddress(host, split[1])


def _host(value: Any) -> str:
    address = canonical_ip(value) if isinstance(value, str) else None
    host = address and (None if names_no_machine(address) else address)
    if not address and isinstance(value, str):
        host = host_name(value)
    if not host:
        raise ValueError("must be the IP address or the name of one machine")
    return host


def _path(value: Any) -> str:
    if not isinstance(value, str) or not value or not value.isprintable() or len(value) > _TEXT_LIMIT:
        raise ValueError("must be a path: a text without control characters, not empty")
    return value


def _anchor_path(value: str, directory: str) -> str:
    # '..' stays: after a symbolic link it is not the part before it.
    parts = [part for part in posixpath.join(directory, value).split("/") if part not in ("", ".")]
    return "/" + "/".join(parts)


def _anchor_program(value: str, directory: str) -> str:
    return _anchor_path(value, directory) if "/" in value else value


def _anchor_registry(value: RegistryUrl, directory: str) -> RegistryUrl:
    return DirectoryUrl(_anchor_path(value.path, directory)) if isinstance(value, DirectoryUrl) else value


def _registry(value: Any) -> RegistryUrl:
    forms = "zookeeper://host:port,host:port/path or file:/directory"
    if not isinstance(value, str):
        raise ValueError(f"must be {forms}")
    scheme, separator, rest = value.partition(":")
    if scheme == "file" and separator:
        # file:///path is how other programs write file:/path; file://host/path would be another machine's.
        path = rest[2:] if rest.startswith("///") else rest
        if path.startswith("//") or not path or not path.isprintable() or len(path) > _TEXT_LIMIT:
            raise ValueError("must be file: and the path of a directory, such as file:/var/lib/smartstack/registry")
        return DirectoryUrl(path)
    if scheme != "zookeeper" or not rest.startswith("//"):
        raise ValueError(f"must begin with a known scheme: {forms}")
    hosts, _, root = rest[2:].partition("/")
    return ZooKeeperUrl(",".join(map(_ensemble_member, hosts.split(","))), _node_path("/" + root) if root else "")


def _ensemble_member(text: str) -> str:
    with_port = text if ADDRESS.fullmatch(text) else f"{text}:{ZOOKEEPER_PORT}"
    split = split_port(with_port)
    host = (canonical_ip(split[0]) or host_name(split[0])) if split else None
    if split is None or host is None:
        raise ValueError("must name hosts as host or host:port with commas between them: zookeeper://zk1:2181,zk2:2181")
    return str(TcpAddress(host, split[1]))


def _node_path(path: str) -> str:
    parts = path.removeprefix("/").split("/")
    fine = all(part.isprintable() and " " not in part and len(part.encode()) <= 255 for part in parts)
    if not fine or not is_clean(path) or len(path) > _TEXT_LIMIT:
        raise ValueError(
            "must be a path without '.', '..', empty parts, spaces, control characters or a '/' at the end"
        )
    return path


def _registry_path(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a path in the registry, such as /nerve/services/web/services")
    return _node_path(value)


def _instance_id(value: Any) -> str:
    return _name(value, "must be")


def _name(value: Any, verb: str) -> str:
    if not isinstance(value, str) or not NAME.fullmatch(value):
        allowed = "1 to 100 letters, digits, '_', '.' and '-', beginning with a letter or a digit"
        quotes = ", in quotes" if isinstance(value, int | float | bool) else ""
        raise ValueError(f"{verb} {allowed}{quotes}")
    return value


def _labels(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError("must be a mapping of labels, such as {zone: us-east-1a}")
    if len(value) > LABEL_LIMIT:
        raise ValueError(f"must be at most {LABEL_LIMIT} labels")
    wrong: dict[str | int, str] = {}
    for key, text in value.items():
        if not isinstance(text, str):
            wrong[key] = "must be a text" + ("; put it in quotes" if isinstance(text, int | float | bool) else "")
        elif not _is_label(text) or not _is_label(key) or not key:
            wrong[key] = f"must be one line of at most {_TEXT_LIMIT} characters without control characters"
    if wrong:
        raise FormError(wrong)
    return value


def _is_label(text: str) -> bool:
    return len(text) <= _TEXT_LIMIT and text.isprintable()


def _use(value: Any) -> tuple[str, ...] | None:
    if value == "all":
        return None
    if not isinstance(value, list):
        raise ValueError("must be all, or a list of services, such as [web, api]")
    wrong: dict[str | int, str] = {}
    seen: set[str] = set()
    for index, name in enumerate(value):
        try:
            if _name(name, "must be a service's name:") in seen:
                wrong[index] = "is in the list twice"
            seen.add(name)
        except ValueError as error:
            wrong[index] = str(error)
    if wrong:
        raise FormError(wrong)
    return tuple(value)


_NAME_SCHEMA = {"type": "string", "pattern": f"^{NAME.pattern}$"}
_PATH_SCHEMA = {"type": "string", "minLength": 1}

PORT = between(1, 65_535)
DURATION = duration()
PERCENT = Form(_percent, {"type": "string", "pattern": f"^{_PERCENT.pattern}$"}, lambda share: f"{share * 100:g} %")
LISTEN = Form(
    _listen,
    {"anyOf": [PORT.schema, {"type": "string", "pattern": f"^(/.*|{ADDRESS.pattern})$"}]},
    _write_listen,
)
LISTENS = Form(
    _listens,
    {"anyOf": [*LISTEN.schema["anyOf"], {"type": "array", "items": LISTEN.schema, "uniqueItems": True}]},
    _write_listens,
)
"""One address, or a list of them."""
ADMIN = Form(_admin, {"type": "string", "pattern": f"^{ADDRESS.pattern}$"}, str)
HOST = Form(_host, {"type": "string", "minLength": 1, "pattern": r"^[A-Za-z0-9_.:-]+$"})
PATH = Form(_path, _PATH_SCHEMA, anchor=_anchor_path)
PROGRAM = Form(_path, _PATH_SCHEMA, anchor=_anchor_program)
"""A path, or a bare name that is looked up in PATH."""
REGISTRY = Form(_registry, {"type": "string", "pattern": "^(zookeeper://|file:).+"}, str, _anchor_registry)
REGISTRY_PATH = Form(_registry_path, {"type": "string", "pattern": "^/?[^/]+(/[^/]+)*$"})
INSTANCE_ID = Form(_instance_id, _NAME_SCHEMA)
LABELS = Form(
    _labels, {"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": LABEL_LIMIT}, dict
)
USE = Form(
    _use,
    {"anyOf": [{"const": "all"}, {"type": "array", "items": _NAME_SCHEMA, "uniqueItems": True}]},
    lambda names: "all" if names is None else list(names),
    null=False,
)
