"""The forms of values in a definition's `proxy`: what may stand where HAProxy reads names, paths and lines. Pure."""

import re
from typing import Any

from smartstack.addresses import host_name
from smartstack.model import Form

_RETRY_EVENTS = ("connection", "empty", "timeout", "junk")
_RETRY_STATUSES = (401, 403, 404, 408, 425, 500, 501, 502, 503, 504)
"""The statuses that HAProxy can retry on."""

# HTTP allows more in a name, but HAProxy takes some of it for quotes, parentheses or comments.
_TOKEN = re.compile(r"[A-Za-z0-9_.-]{1,100}")
CALLER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,99}")
"""Who calls a service: what is safe in a header, in a log line, and in HAProxy's configuration."""

_URL_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/-]{0,500}")
_URL_TARGET = re.compile(_URL_PATH.pattern + r"(\?[A-Za-z0-9._~!$&'()*+,;=:@%/?-]{0,500})?")
_SEGMENT = r"(\{[A-Za-z_][A-Za-z0-9_]*\}|[A-Za-z0-9._~!$&'()+,;=:@%-]*)"
_PATH_TEMPLATE = re.compile(rf"(?=.{{1,256}}$)(/{_SEGMENT})*/({_SEGMENT}|\*)")
_HEADER_LIMIT = 1000
_RAW_LIMIT = 20_000
_RAW_MODIFIER = re.compile(r"^(no|default) +")
_RAW_WORD = re.compile(r"[a-z][a-z0-9_-]*(?= |$)")
_SECTIONS = frozenset(
    {
        *("global", "defaults", "frontend", "backend", "listen", "userlist", "peers", "mailers", "program"),
        *("resolvers", "cache", "ring", "http-errors", "fcgi-app", "log-forward", "log-profile", "crt-store"),
        *("traces", "acme", "namespace_list"),
    }
)
_SERVERS = frozenset(("server", "server-template", "load-server-state-from-file"))


def _token(value: Any) -> str:
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise ValueError("must be a name of letters, digits, '-', '_' and '.'")
    return value


def _caller(value: Any) -> str:
    if not isinstance(value, str) or not CALLER_NAME.fullmatch(value):
        quotes = ", in quotes" if isinstance(value, int | float | bool) else ""
        allowed = "1 to 100 letters, digits, '_', '.', '@' and '-', beginning with a letter or a digit"
        raise ValueError(f"must be the name of who calls: {allowed}{quotes}")
    return value


def _server_name(value: Any) -> str:
    name = host_name(value) if isinstance(value, str) else None
    if name is None:
        raise ValueError("must be a host name: HAProxy verifies no IP addresses in certificates")
    return name


def _url_path(value: Any) -> str:
    if not isinstance(value, str) or not _URL_PATH.fullmatch(value):
        raise ValueError("must be the beginning of a URL's path, such as /api/, without spaces, quotes, '?' and '#'")
    return value


def _path_template(value: Any) -> str:
    if not isinstance(value, str) or not _PATH_TEMPLATE.fullmatch(value):
        raise ValueError(
            "must be a path such as /users/{id} or /static/*: {name} is a whole segment, * is the last, and there are "
            "no spaces, quotes, '?' and '#'"
        )
    return value


def path_shape(template: str) -> str:
    """The same for path templates that fit the same paths."""
    return "/".join("{}" if segment.startswith("{") else segment for segment in template.split("/"))


def _url_target(value: Any) -> str:
    if not isinstance(value, str) or not _URL_TARGET.fullmatch(value):
        raise ValueError("must be a path, with a query or without, such as /health, without spaces, quotes and '#'")
    return value


def _header_value(value: Any) -> str:
    plain = isinstance(value, str) and value.isascii() and value.isprintable()
    if not plain or not 0 < len(value) <= _HEADER_LIMIT or value != value.strip():
        quotes = "; put it in quotes" if isinstance(value, int | float | bool) else ""
        raise ValueError(f"must be one line of ASCII text, not empty, without spaces at its ends{quotes}")
    return str(value)


def _raw(value: Any) -> tuple[str, ...]:
    wanted = "must be lines of HAProxy's configuration"
    if not isinstance(value, str) or len(value) > _RAW_LIMIT:
        raise ValueError(f"{wanted}: a text of at most {_RAW_LIMIT} characters, such as `|` begins")
    lines = tuple(line.strip() for line in value.splitlines())
    if not all(line.isprintable() for line in lines):
        raise ValueError(f"{wanted}, without control characters")
    for line in lines:
        word = _RAW_WORD.match(_RAW_MODIFIER.sub("", line))
        if line and not line.startswith("#") and word is None:
            raise ValueError(f"{wanted}, each beginning with one of its words, without quotes")
        if word is not None and word[0] in _SECTIONS:
            raise ValueError(f"{wanted} for a section that is there; `{word[0]}` begins another")
        if word is not None and word[0] == "bind":
            raise ValueError(f"{wanted}, without `bind`: whether an address is free is only asked of `listen`")
        if word is not None and word[0] in _SERVERS:
            raise ValueError(
                f"{wanted}, without `{word[0]}`: the servers are synapse's, and `default-server` adds words to all"
            )
    return lines


def _retry_on(value: Any) -> str:
    if (type(value) is int and value in _RETRY_STATUSES) or (isinstance(value, str) and value in _RETRY_EVENTS):
        return str(value)
    raise ValueError(f"must be one of {', '.join(_RETRY_EVENTS)}, or a status: {', '.join(map(str, _RETRY_STATUSES))}")


def _write_retry_on(value: str) -> int | str:
    return int(value) if value.isdigit() else value


TOKEN = Form(_token, {"type": "string", "pattern": f"^{_TOKEN.pattern}$"})
"""A header's, a cookie's or a query parameter's name."""

CALLER = Form(_caller, {"type": "string", "pattern": f"^{CALLER_NAME.pattern}$"})

SERVER_NAME = Form(_server_name, {"type": "string", "minLength": 1, "pattern": r"^[A-Za-z0-9_.-]+$"})
"""A name that a certificate may have."""

URL_PATH = Form(_url_path, {"type": "string", "pattern": f"^{_URL_PATH.pattern}$"})
PATH_TEMPLATE = Form(_path_template, {"type": "string", "pattern": f"^{_PATH_TEMPLATE.pattern}$"})
"""A path in which `{name}` stands for one segment, and `*` at the end for all that is below."""
URL_TARGET = Form(_url_target, {"type": "string", "pattern": f"^{_URL_TARGET.pattern}$"})
HEADER_VALUE = Form(_header_value, {"type": "string", "minLength": 1, "maxLength": _HEADER_LIMIT})
"""Without spaces at its ends, which are no part of a header's value in HTTP."""
RETRY_ON = Form(_retry_on, {"enum": [*_RETRY_EVENTS, *_RETRY_STATUSES]}, _write_retry_on)
"""The field holds a status as text."""
RAW = Form(_raw, {"type": "string"}, "\n".join)
"""Lines of a HAProxy section; the field holds them without their indentation, empty ones and comments too, so that the
n-th here is the n-th in the file."""
