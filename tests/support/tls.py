"""Certificates for tests, and a look at those that a server shows."""

import socket
import ssl
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from cryptography import x509

NAME = "web.example"


class Authority:
    """Signs certificates and writes them into a directory, whole, as a tool that renews them does."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self._ca = trustme.CA()

    @property
    def pem(self) -> str:
        """Its own certificate."""
        return self._ca.cert_pem.bytes().decode()

    def issue(self, *names: str, days_left: float = 60) -> tuple[str, str, str]:
        """A new certificate for these names, of 90 days: its PEM, its key's, and its serial number as HAProxy writes
        it."""
        ends = datetime.now(UTC) + timedelta(days=days_left)
        leaf = self._ca.issue_cert(*names, not_before=ends - timedelta(days=90), not_after=ends)
        certificate = leaf.cert_chain_pems[0].bytes()
        serial = f"{x509.load_pem_x509_certificate(certificate).serial_number:040X}"
        return certificate.decode(), leaf.private_key_pem.bytes().decode(), serial

    def renew(self, file: str, *names: str, days_left: float = 60) -> str:
        """Write a new certificate and its key into one file; its serial number."""
        certificate, key, serial = self.issue(*names, days_left=days_left)
        self.write(file, key + certificate)
        return serial

    def write(self, file: str, text: str) -> str:
        """Replace a file as a whole; its path."""
        path = self.directory / file
        temporary = path.with_name(f".{path.name}.new")
        temporary.write_text(text)
        return str(temporary.rename(path))

    def client(self, certificate: str | None = None) -> ssl.SSLContext:
        """A client that believes this authority, whatever the name, and shows that file."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(cadata=self.pem)
        if certificate is not None:
            context.load_cert_chain(certificate)
        return context


def serial_at(host: str, port: int, tls: ssl.SSLContext) -> str:
    """The serial number of the certificate that a server shows now. Raises AssertionError when it shows none."""
    try:
        with socket.create_connection((host, port), 5) as plain, tls.wrap_socket(plain) as connection:
            shown = connection.getpeercert()
    except OSError as error:
        raise AssertionError(f"{host}:{port}: {error}") from error
    assert shown is not None
    return str(shown["serialNumber"]).rjust(40, "0")


def serials(answers: Iterable[str]) -> set[str]:
    """The serial numbers in the answers of backends."""
    return {answer.partition(" ")[2].rjust(40, "0") for answer in answers}
