"""Who calls: how it is known, the best first, and how HAProxy is told to find it out and to pass it on. Pure.

1. The listener used, where the definition says whose that is (`also_listen[].client`).
2. The request header `X-Smartstack-Source`, believed from this host alone: at a loopback address or a unix socket.
3. The process behind the client's port, by its systemd unit or container (`synapse.telemetry.callers`).
4. The one service that is announced from this host, 5. the host itself; or what `telemetry.source` says of both. Who
   calls from another host, and is not named by 1, is `outside`.

HAProxy knows the first two, and passes them on to the instance in the same header, which is removed where it came from
outside. The others are found by synapse when it hears of the request; the instance is told 4 or 5 then, because 3 is
not known before.
"""

import ipaddress
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from smartstack.forms import Listen, UnixSocket
from smartstack.traffic import Proxy
from smartstack.traffic_forms import CALLER_NAME
from synapse.telemetry.request import SourceKind

HEADER: Final = "X-Smartstack-Source"
"""The request header that says who calls."""

SOURCE_VARIABLE: Final = "txn.source"
KIND_VARIABLE: Final = "txn.source_kind"
"""HAProxy's variables for who calls, and for how that is known (a `SourceKind`)."""

_GUESS_VARIABLE: Final = "txn.caller"

_NAMED: Final = f"{{ var({SOURCE_VARIABLE}) -m found }}"
_IN_HEADER: Final = f"{{ req.hdr_cnt({HEADER}) eq 1 }} {{ req.hdr({HEADER}) -m reg '^{CALLER_NAME.pattern}$' }}"
_CONTAINER: Final = re.compile(
    r"(?:(?:docker|libpod|crio|cri-containerd|containerd|lxc)[-.])?([0-9a-f]{64})(?:\.scope)?"
)
_SESSION_MANAGER: Final = re.compile(r"user@[0-9]+\.service")
_ESCAPED: Final = re.compile(r"\\x([0-9a-f]{2})")
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_.@-]")
_NAME_LIMIT: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who calls, and how that is known."""

    name: str
    kind: SourceKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a frontend needs so that it knows who calls. `rules` are whole lines. `ids` is the number of each of its
    listeners, in the order of the definition; empty where nothing depends on the listener."""

    ids: tuple[int, ...]
    rules: tuple[str, ...]


OUTSIDE: Final = Caller(name="outside", kind="host")
"""Who calls from another host. One name for all of them: their addresses would be names without end."""


def nobody(client: str, client_port: int, listener: str, listener_port: int) -> Caller:
    """For who does not ask further."""
    return Caller(name="", kind="host")


def default(given: str | None, announced: Collection[str], host: str) -> Caller:
    """Who calls where nothing better is known: as `given`, else the one service that is announced from this host, else
    the host."""
    if given is None and len(announced) == 1:
        return Caller(name=safe(next(iter(announced))), kind="announced")
    return Caller(name=host if given is None else given, kind="host")


def safe(text: str) -> str:
    """A name of a host, a unit or a process as one of a caller: what may not stand there is `_`."""
    name = _UNSAFE.sub("_", text)[:_NAME_LIMIT].lstrip("_.@-")
    return name or "unknown"


def of_cgroup(path: str) -> str | None:
    """The container or the systemd unit that a control group belongs to, the innermost: `3f2a91c07b5d` of
    `/system.slice/docker-3f2a91c07b5d….scope`, `web` of `/system.slice/web.service`; None where it is neither, such as
    a user's shell."""
    for part in reversed(path.split("/")):
        container = _CONTAINER.fullmatch(part)
        if container is not None:
            return container[1][:12]
        if part.endswith(".service") and not _SESSION_MANAGER.fullmatch(part):
            return safe(_ESCAPED.sub(lambda escaped: chr(int(escaped[1], 16)), part.removesuffix(".service")))
    return None


def identity(proxy: Proxy, otherwise: str) -> Identity:
    """How HAProxy finds out who calls a service. `otherwise` is the sample of what instances are told of callers from
    this host of whom it does not know; without a value their requests have no such header."""
    clients = (*(None for _ in proxy.listen), *(more.client for more in proxy.also_listen))
    trusted = (
        *map(_only_from_here, proxy.listen),
        *(_only_from_here(more.address) and not more.accept_proxy for more in proxy.also_listen),
    )
    numbered = any(clients) or (proxy.mode == "http" and len(set(trusted)) > 1)
    ids = tuple(range(1, len(clients) + 1)) if numbered else ()
    verb = "http-request" if proxy.mode == "http" else "tcp-request content"
    rules = [
        f"{verb} set-var({SOURCE_VARIABLE}) str({client}) if {{ so_id {number} }}"
        for number, client in enumerate(clients, 1)
        if client is not None
    ]
    if rules:
        rules.append(f"{verb} set-var({KIND_VARIABLE}) str(listener) if {_NAMED}")
    if proxy.mode == "http":
        here = "" if all(trusted) else f" {{ so_id {' '.join(str(at) for at, one in enumerate(trusted, 1) if one)} }}"
        rules += _header_rules(rules, here) if any(trusted) else []
        rules += _passing_on(rules)
        rules += _guessing(otherwise, here) if any(trusted) else []
    return Identity(ids=ids, rules=tuple(rules))


def _header_rules(before: Collection[str], here: str) -> list[str]:
    """Believe the header where it can only come from this host, which `here` is the condition for."""
    unless, once = (f" !{_NAMED}", f" !{{ var({KIND_VARIABLE}) -m found }}") if before else ("", "")
    return [
        f"http-request set-var({SOURCE_VARIABLE}) req.hdr({HEADER}) if{unless}{here} {_IN_HEADER}",
        f"http-request set-var({KIND_VARIABLE}) str(header) if {_NAMED}{once}",
    ]


def _passing_on(before: Collection[str]) -> list[str]:
    """Tell the instance what is known, and nothing else."""
    if not before:
        return [f"http-request del-header {HEADER}"]
    return [
        f"http-request set-header {HEADER} %[var({SOURCE_VARIABLE})] if {_NAMED}",
        f"http-request del-header {HEADER} if !{_NAMED}",
    ]


def _guessing(otherwise: str, here: str) -> list[str]:
    """Tell the instance of others from this host what is most likely. It is no source for synapse, which may find out
    better."""
    return [
        f"http-request set-var({_GUESS_VARIABLE}) {otherwise} if !{_NAMED}{here}",
        f"http-request set-header {HEADER} %[var({_GUESS_VARIABLE})] if {{ var({_GUESS_VARIABLE}) -m found }}",
    ]


def _only_from_here(listen: Listen) -> bool:
    """Whether nobody on another host can connect there."""
    return isinstance(listen, UnixSocket) or ipaddress.ip_address(listen.host).is_loopback
