"""TLS of checks: the key `tls`, and what is made of its files. Imports ssl on first use: many hosts have no such
check."""

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from nerve.checks.files import UnusableFile, fingerprint_now, read_file
from smartstack.file_text import NO_FINGERPRINT, Fingerprint
from smartstack.forms import HOST, PATH

if TYPE_CHECKING:
    import ssl

_KEPT_LIMIT = 64
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Speak TLS. The server's certificate is verified against the system's authorities, if no other ones are named."""

    ca: Annotated[str | None, "PEM file of the authorities to trust, if not the system's", PATH] = None
    certificate: Annotated[str | None, "PEM file of the certificate to show, with those that signed it", PATH] = None
    key: Annotated[str | None, "PEM file of its key, if not in the same file; without a passphrase", PATH] = None
    server_name: Annotated[str | None, "the name to ask for and to verify, if not the check's host", HOST] = None
    verify: Annotated[bool, "false: any certificate will do"] = True

    def problems(self) -> Iterable[tuple[str, str]]:
        """Rules over several keys: the dotted key, and what is wrong."""
        if self.key and not self.certificate:
            yield "key", "needs a certificate beside it"
        if self.ca and not self.verify:
            yield "ca", "is of no use with verify: false"


@dataclass(frozen=True, slots=True)
class _Kept:
    """A context and the files that it was made of, as they were then."""

    context: "ssl.SSLContext"
    files: tuple[tuple[str, Fingerprint], ...]

    def is_fresh(self) -> bool:
        return all(found != NO_FINGERPRINT and fingerprint_now(path) == found for path, found in self.files)


_kept: dict[tuple[Tls, tuple[str, ...]], _Kept] = {}
_lock = threading.Lock()


def client_context(tls: Tls, protocols: tuple[str, ...] = ()) -> "ssl.SSLContext":
    """What to wrap a socket with; `protocols` are offered by ALPN. Made anew only when one of the files changed,
    because to read the system's authorities takes 20 ms.

    Raises UnusableFile.
    """
    with _lock:
        kept = _kept.get((tls, protocols))
        if kept is None or not kept.is_fresh():
            kept = _made(tls, protocols)
            if len(_kept) >= _KEPT_LIMIT:  # those of definitions that are gone
                _kept.clear()
            _kept[tls, protocols] = kept
        return kept.context


def _made(tls: Tls, protocols: tuple[str, ...]) -> _Kept:
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    files: list[tuple[str, Fingerprint]] = []
    if protocols:
        context.set_alpn_protocols(protocols)
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif tls.ca is None:
        system = ssl.get_default_verify_paths()
        files += [(path, fingerprint_now(path)) for path in (system.cafile, system.capath) if path]
        context.load_default_certs()
    else:
        authorities, found = read_file("ca file", tls.ca)
        files.append((tls.ca, found))
        try:
            context.load_verify_locations(cadata=authorities.decode("ascii", "ignore"))
        except (ssl.SSLError, ValueError) as error:
            raise UnusableFile(f"cannot use ca file {tls.ca}: it holds no certificate in PEM form") from error
    if tls.certificate is not None:
        files += _load_certificate(context, tls.certificate, tls.key or tls.certificate)
    return _Kept(context, tuple(files))


def _load_certificate(context: "ssl.SSLContext", certificate: str, key: str) -> list[tuple[str, Fingerprint]]:
    import ssl

    shown, found = read_file("certificate file", certificate)
    secret, found_key = read_file("key file", key)
    if b"CERTIFICATE-----" not in shown:
        raise UnusableFile(f"cannot use certificate file {certificate}: it holds no certificate in PEM form")
    if b"PRIVATE KEY-----" not in secret:
        raise UnusableFile(f"cannot use key file {key}: it holds no private key in PEM form")

    def no_passphrase() -> str:
        # Without this OpenSSL would ask for one at the terminal, and wait.
        raise UnusableFile(f"cannot use key file {key}: it has a passphrase; store the key without one")

    try:
        context.load_cert_chain(certificate, key, password=no_passphrase)
    except UnusableFile:
        raise
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise UnusableFile(f"cannot use key file {key}: it is not the key of {certificate}") from error
        raise UnusableFile(f"wrong PEM in certificate file {certificate} or in key file {key}") from error
    except OSError as error:  # it went away since it was read
        raise UnusableFile(f"cannot read certificate file {certificate} and key file {key}") from error
    return [(certificate, found), (key, found_key)]


def system_authorities() -> bytes | None:
    """The system's authorities as one PEM text, for a library that brings others; None where there is no such file.

    Raises UnusableFile.
    """
    import ssl

    for path in (ssl.get_default_verify_paths().cafile, *_BUNDLES):
        if path and fingerprint_now(path) != NO_FINGERPRINT:
            return read_file("the system's authorities", path)[0]
    return None
