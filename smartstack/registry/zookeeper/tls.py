"""TLS to a ZooKeeper server: the files that it needs, the handshake, and what went wrong in words.

kazoo's own connect is not used for it: it loads the system's CAs into every connection, also beside CAs of one's own,
and shows any mistake as a time-out.
"""

import contextlib
import os
import socket
import ssl
import stat

from smartstack.errors import RegistryRefused
from smartstack.registry.options import TlsOptions

_ENCRYPTED = "no passphrase: a daemon cannot ask for one"
_WRONG_NAME = (62, 64)
_EXPIRED = 10
_NOT_YET_VALID = 9
_UNKNOWN_ISSUER = (18, 19, 20, 21)
"""Numbers of `X509_V_ERR_*` in OpenSSL's x509_vfy.h."""


def context(options: TlsOptions) -> ssl.SSLContext:
    """What one connection needs, from the files as they are now. Raises `RegistryRefused` that names the wrong file."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.check_hostname = options.check_hostname
    if options.ca is None:
        made.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        _check_readable("ca", options.ca)
        try:
            made.load_verify_locations(options.ca)
        except (ssl.SSLError, OSError) as error:
            raise _refusal("ca", options.ca, "holds no certificate in PEM") from error
    if options.certificate is not None:
        _load_own(made, options.certificate, options.key)
    return made


def connect(options: TlsOptions, address: tuple[str, int], host: str, timeout_seconds: float) -> ssl.SSLSocket:
    """A connection to this address whose server has proved to be `host`.

    Raises OSError (`ssl.SSLError` among them) for the network's and the handshake's failures, `RegistryRefused` for
    our own files.
    """
    made = context(options)
    with contextlib.ExitStack() as opened:
        plain = opened.enter_context(socket.create_connection(address, timeout_seconds))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        encrypted = made.wrap_socket(plain, server_hostname=host)
        opened.pop_all()
        return encrypted


def explain(error: BaseException, options: TlsOptions | None, host: str) -> str | None:
    """Why TLS with this host failed, in words; None when that is not what failed."""
    if options is None:
        return None
    if isinstance(error, ssl.SSLCertVerificationError):
        return _explain_certificate(error, options, host)
    if isinstance(error, ssl.SSLEOFError | ConnectionResetError | ssl.SSLZeroReturnError):
        return "the server ended the TLS handshake: it speaks no TLS at this port, or no version that we speak"
    if isinstance(error, ssl.SSLError):
        reason = (error.reason or "").upper()
        if "ALERT" in reason:
            words = reason.lower().replace("_", " ")
            return f"the server refused the TLS handshake ({words}){_ours(options)}"
        if reason in ("WRONG_VERSION_NUMBER", "UNEXPECTED_EOF_WHILE_READING", "RECORD_LAYER_FAILURE"):
            return "the server does not speak TLS at this port: give the secure one, or leave tls out"
        return f"TLS failed ({reason.lower().replace('_', ' ') or error})"
    if isinstance(error, TimeoutError):
        return "the server did not answer the TLS handshake: does it speak TLS at this port?"
    return None


def _ours(options: TlsOptions) -> str:
    if options.certificate is None:
        return "; it may want a certificate of ours: give certificate and key"
    return f"; it may not believe the certificate in {options.certificate}"


def _explain_certificate(error: ssl.SSLCertVerificationError, options: TlsOptions, host: str) -> str:
    code = error.verify_code
    if code in _WRONG_NAME:
        return f"the server's certificate is not for {host}: give the name that it has, or another certificate"
    if code == _EXPIRED:
        return "the server's certificate has expired"
    if code == _NOT_YET_VALID:
        return "the server's certificate is not valid yet: is the clock right?"
    if code in _UNKNOWN_ISSUER:
        believed = f"the CA in {options.ca}" if options.ca else "a CA that this system knows: give ca"
        return f"the server's certificate is not signed by {believed}"
    return f"the server's certificate was refused ({error.verify_message})"


def _load_own(made: ssl.SSLContext, certificate: str, key: str | None) -> None:
    _check_readable("certificate", certificate)
    if key is not None:
        _check_readable("key", key)
    key_name, key_file = ("certificate", certificate) if key is None else ("key", key)
    try:
        made.load_cert_chain(certificate, key_file, password=_no_passphrase)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise _refusal(key_name, key_file, f"is not the key of the certificate in {certificate}") from error
        with contextlib.suppress(ssl.SSLError, OSError):
            ssl.create_default_context().load_verify_locations(certificate)
            raise _refusal(key_name, key_file, "holds no private key in PEM") from error
        raise _refusal("certificate", certificate, "holds no certificate in PEM") from error
    except ValueError as error:
        raise _refusal(key_name, key_file, "has a passphrase, and a daemon cannot ask for it") from error
    if os.stat(key_file).st_mode & stat.S_IROTH:
        raise _refusal(key_name, key_file, "holds a private key and may be read by every user here: chmod o-r it")


def _no_passphrase() -> str:
    raise ValueError(_ENCRYPTED)


def _check_readable(name: str, path: str) -> None:
    try:
        with open(path, "rb") as file:
            file.read(1)
    except OSError as error:
        raise _refusal(name, path, f"cannot be read: {(error.strerror or str(error)).lower()}") from error


def _refusal(name: str, path: str, reason: str) -> RegistryRefused:
    return RegistryRefused(f"cannot use TLS for ZooKeeper: tls.{name} {path} {reason}")
