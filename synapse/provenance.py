"""Which line of a definition is behind what HAProxy says of a line of haproxy.cfg. Reads the definition's file, and
only when something is wrong with it."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from smartstack.definition import parent_name
from smartstack.errors import ConfigError, Problem
from smartstack.file_text import read_file
from smartstack.traffic import Proxy, Raw
from smartstack.tree import Items, Node, Scalar, Table, short
from smartstack.yaml_file import load
from synapse.quarantine import Charge, Line
from synapse.tls import tls_files

_KEYS = {
    "acl": "routes",
    "balance": "balance",
    "bind": "listen",
    "cookie": "sticky",
    "dynamic-cookie-key": "sticky",
    "hash-balance-factor": "hash.load_limit",
    "hash-type": "hash",
    "http-check": "health",
    "http-reuse": "reuse",
    "maxconn": "limits.clients",
    "mode": "mode",
    "option http-server-close": "keep_alive",
    "option httpchk": "health",
    "retries": "retries",
    "retry-on": "retry_on",
    "timeout check": "health.timeout",
    "timeout client": "timeouts.client",
    "timeout connect": "timeouts.connect",
    "timeout http-keep-alive": "timeouts.keep_alive",
    "timeout queue": "timeouts.queue",
    "timeout server": "timeouts.server",
    "timeout tunnel": "timeouts.tunnel",
    "use_backend": "routes",
}
"""The keys below `proxy` that the first words of a line come from."""

_SERVER_KEYS = {
    "ca-file": "tls.ca",
    "crt": "tls.certificate",
    "sni": "tls.server_name",
    "verifyhost": "tls.server_name",
    "ssl": "tls",
    "maxconn": "limits.instance",
    "maxqueue": "limits.instance_queue",
    "slowstart": "slow_start",
    "send-proxy": "send_proxy",
    "send-proxy-v2": "send_proxy",
    "observe": "health.observe",
    "error-limit": "health.errors",
    "inter": "health.interval",
    "fastinter": "health.fast_interval",
    "rise": "health.rise",
    "fall": "health.fall",
}
"""The same for the words of `server` and `default-server`, of which HAProxy names the one that is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A dotted key below `proxy`, and which line of its text; `index` is None where the key is not a text of lines."""

    name: str
    index: int | None = None


def key_of(charge: Charge, line: Line | None, proxy: Proxy) -> Key | None:
    """The key of a definition that a line of its part comes from; None when it is a template's alone."""
    if line is None:
        return _route(charge.words, proxy) or _quoted(charge.words, proxy.raw)
    index = _raw_index(line, proxy.raw)
    if index is not None:
        return Key(name=f"raw.{'frontend' if line.section == 'frontend' else 'backend'}", index=index)
    words = line.text.split()
    if words[:1] in (["server"], ["default-server"]):
        named = (
            key
            for word, key in _SERVER_KEYS.items()
            if word in words and re.search(rf"'{word}|\b{word}\b", charge.words)
        )
        return next((Key(name=key) for key in named), None)
    if words[:1] == ["bind"]:
        return Key(name=_bind(line.text, charge.words, proxy))
    if words[:1] == ["use_backend"]:
        return _route(line.text, proxy) or Key(name="routes")
    name = next((_KEYS[key] for key in (" ".join(words[:2]), *words[:1]) if key in _KEYS), None)
    return None if name is None else Key(name=name)


def address_key(why: str, proxy: Proxy) -> Key:
    """The key of the address that `why` speaks of."""
    return Key(name=_bind(why, "", proxy))


def _raw_index(line: Line, raw: Raw) -> int | None:
    """Which of the raw lines this is: they stand in the part as they are, one after the other."""
    own = raw.frontend if line.section == "frontend" else raw.backend
    if line.text not in own:
        return None
    lines = [each.strip() for each in line.part.split("\n")]
    for index, each in enumerate(own):
        begin = line.number - index
        if each == line.text and begin >= 0 and tuple(lines[begin : begin + len(own)]) == own:
            return index
    return own.index(line.text)


def _quoted(words: str, raw: Raw) -> Key | None:
    """The only raw line that has what HAProxy quotes."""
    quoted = set(re.findall(r"'([^' ]+)'", words))
    places = [
        Key(name=name, index=index)
        for name, lines in (("raw.frontend", raw.frontend), ("raw.backend", raw.backend))
        for index, line in enumerate(lines)
        if quoted & set(line.split())
    ]
    return places[0] if len(places) == 1 else None


def _bind(line: str, words: str, proxy: Proxy) -> str:
    for index, bind in enumerate(proxy.also_listen):
        if re.search(rf"{re.escape(str(bind.address))}(?![0-9])", line):
            key = f"also_listen[{index}]"
            files = (named for named, file in tls_files(proxy) if file.copy in words or file.path in words)
            return next((named for named in files if named.startswith(f"{key}.")), f"{key}.address")
    for index, listen in enumerate(proxy.listen if len(proxy.listen) > 1 else ()):
        if re.search(rf"{re.escape(str(listen))}(?![0-9])", line):
            return f"listen[{index}]"
    return "listen"


def _route(words: str, proxy: Proxy) -> Key | None:
    for index, route in enumerate(proxy.routes):
        if route.to is not None and re.search(rf"use_backend:? '?{re.escape(route.to)}(?![A-Za-z0-9_.-])", words):
            return Key(name=f"routes[{index}].to")
    return None


def locate(text: bytes, root: Node, key: str, index: int | None = None) -> tuple[int, int]:
    """Line and column of a dotted key of a file, or of what is there of it; with `index`, of that line of its text."""
    node, place = root, (0, 0)
    for step in _steps(key):
        if isinstance(node, Table) and step in node.entries:
            entry = node.entries[step]
            node, place = entry.value, (entry.line, entry.column)
        elif isinstance(node, Items) and step.isdigit() and int(step) < len(node.items):
            node = node.items[int(step)]
            place = (node.line, node.column)
        else:
            return place
    if isinstance(node, Scalar):
        place = (node.line, node.column)
        if index is not None:
            lines = text.decode("utf-8", "replace").split("\n")
            if re.match(r"(&\S+ +)?\|", lines[node.line - 1][node.column - 1 :]) and node.line + index < len(lines):
                line = lines[node.line + index]
                place = (node.line + 1 + index, len(line) - len(line.lstrip()) + 1)
    return place


def _steps(key: str) -> Iterator[str]:
    yield from re.findall(r"[^.\[\]]+", key)


class Provenance:
    """Puts into words why a definition is not taken, with its place in the directory of definitions."""

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory)

    def refusal(self, service: str, proxy: Proxy, charge: Charge) -> str:
        """HAProxy's words, and the file, line and key that they are about."""
        line = charge.lines.get(service)
        key = key_of(charge, line, proxy)
        what = "it" if line is None else f"'{short(line.text)}'"
        whose = ", which a template says" if key is None and line is not None else ""
        return str(self._problem(service, key, f"HAProxy refuses {what}{whose}: {charge.words}"))

    def taken(self, service: str, proxy: Proxy, why: str) -> str:
        """Why it cannot listen at an address, and the file, line and key of that address."""
        return str(self._problem(service, address_key(why, proxy), why))

    def dead_end(self, service: str, proxy: Proxy, to: str, message: str) -> Problem:
        """What is wrong with where routes of a service lead, or its splits, with the place of the first that leads
        there."""
        leading = (
            (key, index)
            for key in ("routes", "split")
            for index, each in enumerate(getattr(proxy, key))
            if each.to == to
        )
        key, index = next(leading)
        return replace(self._problem(service, Key(name=f"{key}[{index}].to"), message), in_use=True)

    def named(self, service: str, key: str, why: str) -> str:
        """What is wrong with what a key names, and the file and line of that key."""
        return str(self._problem(service, Key(name=key), why))

    def _problem(self, service: str, key: Key | None, message: str) -> Problem:
        path, prefix = self._file(service)
        name = "" if key is None else f"{prefix}proxy.{key.name}"
        line, column = (0, 0) if key is None else _place(path, name, key.index)
        return Problem(path=str(path), line=line, column=column, key=name, message=message)

    def _file(self, service: str) -> tuple[Path, str]:
        """Where a service is defined: in a file of its name, or as a port of its parent."""
        for name, prefix in ((service, ""), (parent_name(service), f"ports.{service.rpartition('.')[2]}.")):
            for suffix in ("yaml", "yml") if name else ():
                path = self._directory / f"{name}.{suffix}"
                if path.exists():
                    return path, prefix
        return self._directory / f"{service}.yaml", ""


def _place(path: Path, key: str, index: int | None) -> tuple[int, int]:
    """As `locate`, in the file as it is now; (0, 0) where it cannot be read."""
    try:
        text, _ = read_file(str(path))
        return locate(text, load(text, str(path), os.environ), key, index)
    except (OSError, ConfigError):
        return 0, 0
