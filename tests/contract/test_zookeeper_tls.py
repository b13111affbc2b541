"""TLS to a real ZooKeeper: what is believed, what is not, and what is said about it."""

import datetime
import ssl
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from smartstack.errors import RegistryRefused
from smartstack.forms import ZooKeeperUrl
from smartstack.registry import open_reader, open_writer
from smartstack.registry.options import TlsOptions, ZooKeeperOptions
from tests.support.eventually import eventually
from tests.support.zookeeper import ZooKeeperServer
from tests.support.zookeeper_links import Links, addresses, mine, place, put
from tests.support.zookeeper_secure import Authority, BatchingProxy, SecureServer

TLS_1_3 = "ssl.protocol=TLSv1.3\nssl.enabledProtocols=TLSv1.3\nssl.ciphersuites=TLS_AES_256_GCM_SHA384\n"
"""The server's default is 1.2; with 1.3 a refusal of our certificate comes after the handshake."""


def own(server: SecureServer) -> ZooKeeperOptions:
    """TLS as it should be: the servers' CA, and a certificate of ours."""
    certificate, key = server.authority.client()
    return ZooKeeperOptions(tls=TlsOptions(ca=server.authority.ca, certificate=certificate, key=key))


def detail(links: Links, hosts: str, options: ZooKeeperOptions) -> str:
    """What is said of a writer that cannot come to these servers."""
    writer = links.writer(ZooKeeperUrl(hosts=hosts, root=""), options=options, connected=False)
    text = eventually(lambda: text if "(" in (text := writer.status().detail) else "")
    assert not writer.status().connected
    return text


@pytest.mark.parametrize("version", ["", TLS_1_3], ids=["TLS 1.2", "TLS 1.3"])
def test_both_sides_prove_who_they_are_and_all_goes_on_as_without_tls(
    links: Links, secure_zookeeper: SecureServer, version: str
) -> None:
    """Hundreds of requests at once, watches, and a restart of the server."""
    secure_zookeeper.with_tls(client_auth="need")
    secure_zookeeper.extra_configuration += version
    secure_zookeeper.start()
    url, options = ZooKeeperUrl(hosts=secure_zookeeper.secure_hosts, root="/smartstack"), own(secure_zookeeper)
    writer = links.writer(url, options=options, session_timeout_seconds=10)
    reader = links.reader(url, options=options)
    for number in range(1, 251):
        put(writer, number)
    assert len(addresses(reader)) == 250
    assert len(writer.held([])) == 250
    put(writer, 1, weight=0)
    eventually(lambda: sorted(addresses(reader))[0] == "10.0.0.100:8080" and writer.held([place()])[place()].mine)
    session = writer.status().session
    secure_zookeeper.restart()
    eventually(lambda: writer.status().connected and reader.status().connected, within=10)
    assert writer.status().session == session
    assert eventually(lambda: writer.held([place(2)]))[place(2)] == mine(2)[place(2)]


def test_answers_that_come_in_one_record_are_all_heard_at_once(
    links: Links, zookeeper: ZooKeeperServer, tmp_path: Path
) -> None:
    """A proxy that speaks TLS for the servers packs them together; the last may not wait for the next ping."""
    authority = Authority(tmp_path / "authority")
    proxy = BatchingProxy(zookeeper, authority.issue("localhost"))
    url = ZooKeeperUrl(hosts=proxy.hosts, root=f"/batches-{uuid.uuid4().hex[:12]}")
    options = ZooKeeperOptions(tls=TlsOptions(ca=authority.ca))
    try:
        writer = links.writer(url, options=options, session_timeout_seconds=60)
        nodes = [place(number) for number in range(50)]
        started = time.monotonic()
        assert writer.held(nodes) == {}
        assert time.monotonic() - started < 4
    finally:
        links.stop()
        proxy.stop()


def test_a_server_need_not_ask_for_a_certificate_of_ours(links: Links, secure_zookeeper: SecureServer) -> None:
    """The CA is enough then."""
    secure_zookeeper.with_tls(client_auth="none")
    secure_zookeeper.start()
    options = ZooKeeperOptions(tls=TlsOptions(ca=secure_zookeeper.authority.ca))
    writer = links.writer(ZooKeeperUrl(hosts=secure_zookeeper.secure_hosts, root=""), options=options)
    put(writer)


def _wrong_ca(server: SecureServer, tmp_path: Path) -> tuple[str, ZooKeeperOptions]:
    return server.secure_hosts, ZooKeeperOptions(tls=TlsOptions(ca=Authority(tmp_path / "other").ca))


def _system_ca(server: SecureServer, tmp_path: Path) -> tuple[str, ZooKeeperOptions]:
    return server.secure_hosts, ZooKeeperOptions(tls=TlsOptions())


def _wrong_name(server: SecureServer, tmp_path: Path) -> tuple[str, ZooKeeperOptions]:
    return f"127.0.0.1:{server.secure_port}", own(server)


def _tls_to_the_plain_port(server: SecureServer, tmp_path: Path) -> tuple[str, ZooKeeperOptions]:
    return server.hosts, own(server)


def _plain_to_the_tls_port(server: SecureServer, tmp_path: Path) -> tuple[str, ZooKeeperOptions]:
    return server.secure_hosts, ZooKeeperOptions()


def _no_certificate(server: SecureServer, tmp_path: Path) -> tuple[str, ZooKeeperOptions]:
    return server.secure_hosts, ZooKeeperOptions(tls=TlsOptions(ca=server.authority.ca))


def _foreign_certificate(server: SecureServer, tmp_path: Path) -> tuple[str, ZooKeeperOptions]:
    certificate, key = Authority(tmp_path / "other").client()
    return server.secure_hosts, ZooKeeperOptions(
        tls=TlsOptions(ca=server.authority.ca, certificate=certificate, key=key)
    )


@pytest.mark.parametrize("version", ["", TLS_1_3], ids=["TLS 1.2", "TLS 1.3"])
def test_each_mistake_is_said_in_words(
    links: Links, secure_zookeeper: SecureServer, tmp_path: Path, version: str
) -> None:
    """kazoo shows all of these as one time-out."""
    mistakes: list[tuple[Callable[[SecureServer, Path], tuple[str, ZooKeeperOptions]], str]] = [
        (_wrong_ca, "certificate is not signed by the CA in"),
        (_system_ca, "certificate is not signed by a CA that this system knows: give ca"),
        (_wrong_name, "the server's certificate is not for 127.0.0.1"),
        (_tls_to_the_plain_port, "it speaks no TLS at this port, or"),
        (_plain_to_the_tls_port, "closed the connection without an answer, as one that wants TLS does"),
        (_no_certificate, "it may want a certificate of ours: give certificate and key"),
        (_foreign_certificate, "it may not believe the certificate in"),
    ]
    secure_zookeeper.with_tls(client_auth="need")
    secure_zookeeper.extra_configuration += version
    secure_zookeeper.start()
    for mistake, words in mistakes:
        assert words in detail(links, *mistake(secure_zookeeper, tmp_path)), mistake.__name__


def test_a_host_name_that_is_not_checked_on_purpose_may_be_any(links: Links, secure_zookeeper: SecureServer) -> None:
    """The CA is still believed alone."""
    secure_zookeeper.with_tls(client_auth="none", names=("zk1.example.com",))
    secure_zookeeper.start()
    ca = secure_zookeeper.authority.ca
    assert "not for localhost" in detail(links, secure_zookeeper.secure_hosts, ZooKeeperOptions(tls=TlsOptions(ca=ca)))
    unchecked = ZooKeeperOptions(tls=TlsOptions(ca=ca, check_hostname=False))
    links.writer(ZooKeeperUrl(hosts=secure_zookeeper.secure_hosts, root=""), options=unchecked)


def test_an_expired_certificate_is_refused_and_a_new_one_is_taken_without_a_restart_of_ours(
    links: Links, secure_zookeeper: SecureServer
) -> None:
    """Each connect is a new attempt, with the files as they are then."""
    authority = secure_zookeeper.authority
    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    secure_zookeeper.with_tls(client_auth="none")
    secure_zookeeper.present(authority._ca.issue_cert("localhost", not_after=yesterday))
    secure_zookeeper.start()
    options = ZooKeeperOptions(tls=TlsOptions(ca=authority.ca))
    writer = links.writer(ZooKeeperUrl(hosts=secure_zookeeper.secure_hosts, root=""), options=options, connected=False)
    eventually(lambda: "the server's certificate has expired" in writer.status().detail)
    secure_zookeeper.stop()
    secure_zookeeper.present(authority.issue("localhost"))
    secure_zookeeper.start()
    eventually(lambda: writer.status().connected, within=10)


def _files(tmp_path: Path) -> dict[str, str]:
    authority, other = Authority(tmp_path / "one"), Authority(tmp_path / "other")
    certificate, key = authority.client()
    _, foreign_key = other.client()
    nonsense = tmp_path / "nonsense"
    nonsense.write_text("not PEM\n")
    nonsense.chmod(0o600)
    open_key = tmp_path / "open.key"
    open_key.write_bytes(Path(key).read_bytes())
    open_key.chmod(0o644)
    return {
        "ca": authority.ca,
        "certificate": certificate,
        "key": key,
        "foreign key": foreign_key,
        "nonsense": str(nonsense),
        "missing": str(tmp_path / "missing"),
        "open key": str(open_key),
        "directory": str(tmp_path),
        "encrypted": _encrypted(tmp_path, key),
    }


def _encrypted(tmp_path: Path, key: str) -> str:
    from cryptography.hazmat.primitives import serialization as pem

    loaded = pem.load_pem_private_key(Path(key).read_bytes(), None)
    path = tmp_path / "encrypted.key"
    secret = pem.BestAvailableEncryption(b"secret")
    path.write_bytes(loaded.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, secret))
    path.chmod(0o600)
    return str(path)


@pytest.mark.parametrize("opener", [open_reader, open_writer])
@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        pytest.param(("missing", None, None), "tls.ca .*/missing cannot be read: no such file", id="no CA file"),
        pytest.param(("directory", None, None), "tls.ca .* cannot be read: is a directory", id="a directory"),
        pytest.param(("nonsense", None, None), "tls.ca .* holds no certificate in PEM", id="a CA that is not PEM"),
        pytest.param(("key", None, None), "tls.ca .* holds no certificate in PEM", id="a key for a CA"),
        pytest.param(("ca", "missing", "key"), "tls.certificate .*/missing cannot be read", id="no certificate"),
        pytest.param(("ca", "nonsense", "key"), "tls.certificate .* holds no certificate in PEM", id="not PEM"),
        pytest.param(("ca", "certificate", "missing"), "tls.key .*/missing cannot be read", id="no key file"),
        pytest.param(("ca", "certificate", "nonsense"), "tls.key .* holds no private key in PEM", id="key not PEM"),
        pytest.param(("ca", "certificate", None), "tls.certificate .* holds no private key", id="no key in it"),
        pytest.param(("ca", "certificate", "foreign key"), "tls.key .* is not the key of", id="another's key"),
        pytest.param(("ca", "certificate", "open key"), "tls.key .* chmod o-r", id="a key for all to read"),
        pytest.param(("ca", "certificate", "encrypted"), "tls.key .* has a passphrase", id="a key with a passphrase"),
    ],
)
def test_a_wrong_file_is_named_when_the_registry_is_opened(
    tmp_path: Path, wrong: tuple[str | None, str | None, str | None], says: str, opener: Callable[..., object]
) -> None:
    """Before anything is connected, in one sentence."""
    files = _files(tmp_path)
    ca, certificate, key = (None if name is None else files[name] for name in wrong)
    tls = TlsOptions(ca=ca, certificate=certificate, key=key)
    with pytest.raises(RegistryRefused, match=says):
        opener(ZooKeeperUrl(hosts="127.0.0.1:1", root=""), session_timeout_seconds=4, options=ZooKeeperOptions(tls=tls))


def test_only_the_cas_that_are_named_are_believed(tmp_path: Path) -> None:
    """A CA of one's own is there to be the only one; and old versions of TLS are not spoken."""
    from smartstack.registry.zookeeper import tls

    made = tls.context(TlsOptions(ca=Authority(tmp_path / "one").ca))
    assert len(made.get_ca_certs()) == 1
    assert made.verify_mode is ssl.CERT_REQUIRED
    assert made.check_hostname
    assert made.minimum_version >= ssl.TLSVersion.TLSv1_2
