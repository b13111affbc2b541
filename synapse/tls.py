"""TLS of a service's proxy: the words of its `bind` and `server` lines, and the files behind them. Pure.

HAProxy reads no file that people write, but a copy below the state directory, which changes only for content that can
be used. A renewal that is half written when HAProxy is reloaded, or starts again, or a file that is gone by then, so
takes nothing away from anybody.
"""

import datetime
import enum
import hashlib
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from smartstack.definition import ServiceDefinition
from smartstack.traffic import Bind, InstanceTls, ListenTls, Mode, Proxy

_OLDEST = "ssl-min-ver TLSv1.2"
_READABLE = 40
_OVERDUE_SECONDS = 14 * 86_400.0


class Kind(enum.Enum):
    """What a file is for."""

    CERTIFICATE = "certificate"
    AUTHORITIES = "authorities"


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFile:
    """A file that a definition names. `key` is the file of a certificate's key, None when it is in the same one."""

    kind: Kind
    path: str
    key: str | None = None

    @property
    def copy(self) -> str:
        """The name of its copy: a digest that no other has, and what people know it by. It ends with `.pem`, because
        HAProxy takes `set ssl cert web.crt` for a part of the file `web`."""
        whole = "\0".join((self.kind.value, self.path, self.key or ""))
        readable = re.sub(r"[^A-Za-z0-9_.-]", "_", self.path.rpartition("/")[2])
        readable = readable.removesuffix(".pem")[-_READABLE:]
        return f"{hashlib.sha256(whole.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}-{readable}.pem"

    def __str__(self) -> str:
        return self.path if self.key is None else f"{self.path} with {self.key}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsState:
    """What HAProxy has of a file. `expires` is in seconds since the epoch, of the certificate or of the authority that
    lasts longest; it and `serials` are of what HAProxy shows, None and empty when it has not loaded the file.
    `problem` is why the content of the file is not in use, `warning` that it should have been renewed by now."""

    file: TlsFile
    serials: tuple[str, ...] = ()
    expires: float | None = None
    problem: str | None = None
    warning: str | None = None


def overdue(begins: float, expires: float, now: float) -> str | None:
    """In words, that a certificate should have been renewed by now; None when it need not. That is two weeks before its
    end, or a fifth of its time where that is less. All in seconds since the epoch."""
    if now < expires - min(_OVERDUE_SECONDS, (expires - begins) / 5):
        return None
    at = datetime.datetime.fromtimestamp(expires, datetime.UTC)
    return f"{'expired' if now >= expires else 'expires'} at {at:%Y-%m-%d %H:%M} UTC and has not been renewed"


def tls_files(proxy: Proxy) -> Iterator[tuple[str, TlsFile]]:
    """Each file of a service's proxy, with the dotted key that names it."""
    if proxy.tls is not None:
        yield from _instance_files(proxy.tls)
    for index, bind in enumerate(proxy.also_listen):
        if bind.tls is not None:
            yield f"also_listen[{index}].tls.certificate", _shown(bind.tls.certificate, bind.tls.key)
            if bind.tls.client_ca is not None:
                yield f"also_listen[{index}].tls.client_ca", _believed(bind.tls.client_ca)


def directories(definitions: Mapping[str, ServiceDefinition]) -> Sequence[str]:
    """Where the files of these services may change."""
    proxies = (definition.proxy for definition in definitions.values() if definition.proxy is not None)
    paths = (path for proxy in proxies for _, file in tls_files(proxy) for path in (file.path, file.key) if path)
    return sorted({path.rpartition("/")[0] or "/" for path in paths})


def in_place(proxy: Proxy, directory: str) -> Proxy:
    """The same proxy with the copies in this directory instead of the files."""
    if proxy.tls is None and all(bind.tls is None for bind in proxy.also_listen):
        return proxy
    tls = proxy.tls
    if tls is not None:
        tls = replace(
            tls,
            ca=None if tls.ca is None else f"{directory}/{_believed(tls.ca).copy}",
            certificate=None if tls.certificate is None else f"{directory}/{_shown(tls.certificate, tls.key).copy}",
            key=None,
        )
    return replace(proxy, tls=tls, also_listen=tuple(_bind_in_place(bind, directory) for bind in proxy.also_listen))


def server_words(tls: InstanceTls | None, mode: Mode) -> Sequence[str]:
    """The words of a `server` line. The name stands there three times: asked for and verified when a request is sent
    (`sni`), asked for by the health check (`check-sni`), and verified by it (`verifyhost`)."""
    if tls is None:
        return ()
    words = [f"ssl {_OLDEST} verify {tls.verify}"]
    if tls.ca is not None:
        words.append(f"ca-file {shlex.quote(tls.ca)}")
    if tls.certificate is not None:
        words.append(f"crt {shlex.quote(tls.certificate)}")
    if tls.server_name is not None:
        words.append(f"sni str({tls.server_name}) check-sni {tls.server_name}")
        if tls.verify == "required":
            words.append(f"verifyhost {tls.server_name}")
    if mode == "http":
        words.append("alpn http/1.1")
    return words


def bind_words(tls: ListenTls | None, mode: Mode) -> Sequence[str]:
    """The words of a `bind` line."""
    if tls is None:
        return ()
    words = [f"ssl {_OLDEST} crt {shlex.quote(tls.certificate)}"]
    if tls.client_ca is not None:
        words.append(f"ca-file {shlex.quote(tls.client_ca)} verify required")
    if mode == "http":
        words.append("alpn h2,http/1.1")
    return words


def _instance_files(tls: InstanceTls) -> Iterator[tuple[str, TlsFile]]:
    if tls.ca is not None:
        yield "tls.ca", _believed(tls.ca)
    if tls.certificate is not None:
        yield "tls.certificate", _shown(tls.certificate, tls.key)


def _bind_in_place(bind: Bind, directory: str) -> Bind:
    if bind.tls is None:
        return bind
    certificate = f"{directory}/{_shown(bind.tls.certificate, bind.tls.key).copy}"
    client_ca = None if bind.tls.client_ca is None else f"{directory}/{_believed(bind.tls.client_ca).copy}"
    return replace(bind, tls=ListenTls(certificate=certificate, client_ca=client_ca))


def _shown(path: str, key: str | None) -> TlsFile:
    return TlsFile(kind=Kind.CERTIFICATE, path=path, key=key)


def _believed(path: str) -> TlsFile:
    return TlsFile(kind=Kind.AUTHORITIES, path=path)
