"""TLS of checks: who is believed, who is refused, and what is said of files that cannot be used."""

import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from nerve.checks.base import Check
from nerve.checks.expectation import Expectation
from nerve.checks.http import HttpCheck
from nerve.checks.redis import RedisCheck
from nerve.checks.tcp import TcpCheck
from nerve.checks.tls import Tls, client_context
from smartstack.model import anchored
from tests.support.check_servers import answer, outcome_of, server

OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass(frozen=True, kw_only=True)
class Certificates:
    """An authority, and files in a directory: the authority's, a client's and its key's, all in PEM."""

    authority: trustme.CA
    ca: str
    certificate: str
    key: str

    def server(self, *names: str, wants_client: bool = False) -> ssl.SSLContext:
        """A server that has a certificate for these names."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(*names).configure_cert(context)
        if wants_client:
            context.verify_mode = ssl.CERT_REQUIRED
            self.authority.configure_trust(context)
        return context


@pytest.fixture
def certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Certificates:
    """New ones in the current directory, old enough to be kept in memory."""
    monkeypatch.chdir(tmp_path)
    authority = trustme.CA()
    client = authority.issue_cert("nerve.example")
    made = Certificates(authority=authority, ca="ca.pem", certificate="client.pem", key="client.key")
    authority.cert_pem.write_to_path(made.ca)
    client.cert_chain_pems[0].write_to_path(made.certificate)
    client.private_key_pem.write_to_path(made.key)
    for path in (made.ca, made.certificate, made.key):
        os.utime(path, (1, 1))
    return made


def http(tls: Tls | None) -> HttpCheck:
    """An http check with these settings."""
    return HttpCheck(tls=tls, timeout=5.0)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda tls: HttpCheck(tls=tls, timeout=5.0, expect=Expectation(body="ok")), id="http"),
        pytest.param(lambda tls: TcpCheck(tls=tls, timeout=5.0, send="x", expect="ok"), id="tcp"),
    ],
)
def test_a_certificate_of_the_authority_for_the_host_is_believed(
    make: Callable[[Tls], Check], certificates: Certificates
) -> None:
    """By address, and by the name that `server_name` gives, which the server hears as well."""
    asked: list[str | None] = []
    context = certificates.server("web.example", "127.0.0.1")
    context.sni_callback = lambda _socket, name, _context: asked.append(name)
    with server(answer(OK), tls=context) as address:
        assert outcome_of(make(Tls(ca=certificates.ca)), address).passed
        assert outcome_of(make(Tls(ca=certificates.ca, server_name="web.example")), address).passed
    assert asked == [None, "web.example"]


def test_redis_speaks_tls_too(certificates: Certificates) -> None:
    """The same settings mean the same."""
    with server(answer("+PONG\r\n"), tls=certificates.server("127.0.0.1")) as address:
        assert outcome_of(RedisCheck(tls=Tls(ca=certificates.ca), timeout=5.0), address).passed


@pytest.mark.parametrize(
    ("names", "tls", "reason"),
    [
        pytest.param(("127.0.0.1",), {}, "unable to get local issuer certificate", id="by the system's authorities"),
        pytest.param(
            ("web.example",),
            {"ca": "CA"},
            "IP address mismatch, certificate is not valid for '127.0.0.1'; tls.server_name says which name",
            id="another host",
        ),
        pytest.param(
            ("web.example",),
            {"ca": "CA", "server_name": "api.example"},
            "Hostname mismatch, certificate is not valid for 'api.example'; tls.server_name says which name",
            id="another name",
        ),
    ],
)
def test_a_certificate_that_is_not_believed_is_refused(
    names: tuple[str, ...], tls: dict[str, str], reason: str, certificates: Certificates
) -> None:
    """Verification is on unless it is turned off, and the reason says what is wrong with the certificate."""
    settings = Tls(**{key: certificates.ca if value == "CA" else value for key, value in tls.items()})  # type: ignore[arg-type]
    with server(answer(OK), tls=certificates.server(*names)) as address:
        outcome = outcome_of(http(settings), address)
        assert not outcome.passed
        assert outcome.reason.startswith(f"TLS: the certificate is refused: {reason}")
        assert outcome_of(http(Tls(verify=False)), address).passed


def test_a_server_that_wants_a_certificate_gets_ours(certificates: Certificates) -> None:
    """With it the check passes; without it the server says what is missing."""
    with server(answer(OK), tls=certificates.server("127.0.0.1", wants_client=True)) as address:
        with_ours = Tls(ca=certificates.ca, certificate=certificates.certificate, key=certificates.key)
        assert outcome_of(http(with_ours), address).passed
        outcome = outcome_of(http(Tls(ca=certificates.ca)), address)
    assert not outcome.passed
    # Whether its alert comes before its end is a race in TLS 1.3, where the client speaks first.
    assert "certificate" in outcome.reason or outcome.reason in ("connection reset by peer", "broken pipe")


def test_one_file_may_hold_certificate_and_key(certificates: Certificates, tmp_path: Path) -> None:
    """Without `key` it is looked for beside the certificate."""
    both = tmp_path / "both.pem"
    both.write_text(Path(certificates.certificate).read_text() + Path(certificates.key).read_text())
    with server(answer(OK), tls=certificates.server("127.0.0.1", wants_client=True)) as address:
        assert outcome_of(http(Tls(ca=certificates.ca, certificate=str(both))), address).passed


def encrypted_key(made: Certificates) -> str:
    """The client's key with a passphrase."""
    key = load_pem_private_key(Path(made.key).read_bytes(), None)
    path = "encrypted.key"
    Path(path).write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))
    return path


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        pytest.param(lambda c: Tls(ca="none"), "cannot read ca file none: no such file or directory", id="no ca"),
        pytest.param(lambda c: Tls(ca="."), "cannot read ca file .: is a directory", id="a directory"),
        pytest.param(
            lambda c: Tls(ca=c.key),
            "cannot use ca file client.key: it holds no certificate in PEM form",
            id="a key",
        ),
        pytest.param(
            lambda c: Tls(ca="empty"),
            "cannot use ca file empty: it holds no certificate in PEM form",
            id="empty",
        ),
        pytest.param(
            lambda c: Tls(ca="garbled"),
            "cannot use ca file garbled: it holds no certificate in PEM form",
            id="garbled",
        ),
        pytest.param(lambda c: Tls(ca="pipe"), "cannot read ca file pipe: it is not a file", id="a pipe"),
        pytest.param(
            lambda c: Tls(ca="large"),
            "cannot read ca file large: it is larger than 1048576 bytes",
            id="large",
        ),
        pytest.param(
            lambda c: Tls(ca=c.ca, certificate=c.certificate, key="none"),
            "cannot read key file none: no such file or directory",
            id="no key",
        ),
        pytest.param(
            lambda c: Tls(ca=c.ca, certificate=c.certificate),
            "cannot use key file client.pem: it holds no private key in PEM form",
            id="no key in the certificate's file",
        ),
        pytest.param(
            lambda c: Tls(ca=c.ca, certificate=c.key, key=c.key),
            "cannot use certificate file client.key: it holds no certificate in PEM form",
            id="no certificate",
        ),
        pytest.param(
            lambda c: Tls(ca=c.ca, certificate=c.ca, key=c.key),
            "cannot use key file client.key: it is not the key of ca.pem",
            id="another key",
        ),
        pytest.param(
            lambda c: Tls(ca=c.ca, certificate=c.certificate, key=encrypted_key(c)),
            "cannot use key file encrypted.key: it has a passphrase; store the key without one",
            id="a passphrase",
        ),
        pytest.param(
            lambda c: Tls(ca=c.ca, certificate=c.certificate, key="garbled.key"),
            "wrong PEM in certificate file client.pem or in key file garbled.key",
            id="a garbled key",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_a_failure_that_names_it(
    make: Callable[[Certificates], Tls], reason: str, certificates: Certificates
) -> None:
    """One sentence; nothing is raised, nobody is asked for a passphrase, and no pipe is waited for."""
    Path("empty").touch()
    Path("garbled").write_text(Path(certificates.ca).read_text().replace("M", "!"))
    Path("garbled.key").write_text(Path(certificates.key).read_text().replace("M", "A"))
    Path("large").write_bytes(b"x" * 1_100_000)
    os.mkfifo("pipe")
    with server(answer(OK), tls=certificates.server("127.0.0.1")) as address:
        outcome = outcome_of(http(make(certificates)), address)
    assert (outcome.passed, outcome.reason) == (False, reason)


def test_renewed_files_count_at_the_next_check(certificates: Certificates, tmp_path: Path) -> None:
    """Written over in place or renamed into place, at any date: the next check uses what stands there then."""
    other = trustme.CA()
    tls = Tls(ca=str(tmp_path / "trusted.pem"))
    with server(answer(OK), tls=certificates.server("127.0.0.1")) as address:
        other.cert_pem.write_to_path(tls.ca or "")
        assert not outcome_of(http(tls), address).passed
        shutil.copy(certificates.ca, tls.ca or "")
        assert outcome_of(http(tls), address).passed
        other.cert_pem.write_to_path(str(tmp_path / "new"))
        os.utime(tmp_path / "new", (1, 1))
        (tmp_path / "new").rename(tls.ca or "")
        assert not outcome_of(http(tls), address).passed
        os.unlink(tls.ca or "")
        assert "no such file" in outcome_of(http(tls), address).reason
        certificates.authority.cert_pem.write_to_path(tls.ca or "")
        assert outcome_of(http(tls), address).passed


def test_files_are_read_once_while_they_stay_the_same(certificates: Certificates) -> None:
    """To read a system's authorities takes 20 ms: not at each check."""
    ours = Tls(ca=certificates.ca, certificate=certificates.certificate, key=certificates.key)
    for tls in (Tls(), Tls(verify=False), ours):
        assert client_context(tls) is client_context(tls)
    kept = client_context(ours)
    os.utime(certificates.key, (2, 2))
    assert client_context(ours) is not kept


@pytest.mark.parametrize("check", [HttpCheck(tls=Tls(), timeout=0.2), TcpCheck(tls=Tls(), timeout=0.2)])
def test_a_handshake_that_is_not_answered_ends_at_the_time_out(check: Check) -> None:
    """Also when the server says a byte now and then."""

    def silent(connection: socket.socket) -> None:
        while connection.recv(1000):
            pass

    def slow(connection: socket.socket) -> None:
        connection.sendall(b"\x16\x03\x03\x40\x00\x02")
        end = time.monotonic() + 5
        while time.monotonic() < end:
            connection.sendall(b"\x00")
            connection.settimeout(0.02)
            try:
                if not connection.recv(1000):
                    return
            except TimeoutError:
                continue

    for speak in (silent, slow):
        with server(speak) as address:
            started = time.monotonic()
            assert "in 0.2s" in outcome_of(check, address).reason
        assert time.monotonic() - started < 3


def test_a_server_without_tls_is_a_failure_that_says_so() -> None:
    """The words are those of the TLS library."""
    with server(answer(OK)) as address:
        outcome = outcome_of(http(Tls()), address)
    assert (outcome.passed, outcome.reason) == (False, "TLS: wrong version number")


def test_relative_paths_are_made_absolute() -> None:
    """Against the directory of the file that names them, as everywhere."""
    check = anchored(http(Tls(ca="tls/ca.pem", certificate="/etc/c.pem", key="k.pem")), "/etc/smartstack")
    assert check.tls == Tls(ca="/etc/smartstack/tls/ca.pem", certificate="/etc/c.pem", key="/etc/smartstack/k.pem")


@pytest.mark.parametrize(
    ("tls", "key"),
    [
        pytest.param(Tls(key="/k"), "key", id="a key without its certificate"),
        pytest.param(Tls(ca="/ca", verify=False), "ca", id="an authority and no verification"),
    ],
)
def test_what_cannot_be_together_is_refused(tls: Tls, key: str) -> None:
    """One problem, at the key that is to be taken out or completed."""
    assert [found for found, _ in tls.problems()] == [key]


@pytest.mark.parametrize(
    ("modules", "dear"),
    [
        pytest.param("nerve.checks.http", {"regex", "requests", "encodings.idna"}, id="http"),
        pytest.param("nerve.checks.tcp, nerve.checks.redis, nerve.checks.grpc", {"ssl", "grpc"}, id="the others"),
    ],
)
def test_what_is_dear_is_imported_only_where_it_is_used(modules: str, dear: set[str]) -> None:
    """A host whose checks need no TLS, no regular expression and no gRPC does not pay for them in memory."""
    code = (
        f"import sys, {modules}\n"
        "from nerve.checks.base import Target; from smartstack.forms import TcpAddress\n"
        "target = Target(service='web', address=TcpAddress('127.0.0.1', 1))\n"
        f"for name in '{modules}'.split(', '):\n"
        "    kind = name.rpartition('.')[2].title()\n"
        "    kind == 'Grpc' or getattr(sys.modules[name], f'{kind}Check')().run(target)\n"
        "print(*sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert dear & set(found.stdout.split()) == set()
    assert set(modules.split(", ")) <= set(found.stdout.split())
