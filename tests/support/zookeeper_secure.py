"""A ZooKeeper that wants to know who comes: TLS on a second port, with or without client certificates, and SASL.

It is always a child process of Debian's jars: an image's configuration is its own.
"""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from tests.support.eventually import eventually
from tests.support.zookeeper import JARS, START_SECONDS, LocalServer, ZooKeeperServer, _free_port

_TLS = """\
secureClientPort={port}
secureClientPortAddress=127.0.0.1
serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory
ssl.keyStore.location={key_store}
ssl.keyStore.type=PEM
ssl.trustStore.location={trust_store}
ssl.trustStore.type=PEM
ssl.clientAuth={client_auth}
"""

_SASL = """\
authProvider.1=org.apache.zookeeper.server.auth.SASLAuthenticationProvider
"""

_USERS = """\
Server {{
    org.apache.zookeeper.server.auth.DigestLoginModule required
    {users};
}};
"""


class Authority:
    """A CA, and files made of what it signs."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self._directory = directory
        self._ca = trustme.CA()
        self.ca = str(directory / "ca.pem")
        self._ca.cert_pem.write_to_path(self.ca)

    def key_store(self, made: trustme.LeafCert, name: str) -> str:
        """A key and its certificates in one file, the key as Java reads it."""
        key = load_pem_private_key(made.private_key_pem.bytes(), None)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        path = self._directory / name
        path.write_bytes(pem + b"".join(each.bytes() for each in made.cert_chain_pems))
        path.chmod(0o600)
        return str(path)

    def issue(self, name: str, *names: str) -> trustme.LeafCert:
        """A certificate for these names."""
        return self._ca.issue_cert(name, *names)

    def client(self) -> tuple[str, str]:
        """The files of a client's certificate and of its key."""
        made = self.issue("nerve@example.com")
        certificate, key = self._directory / "client.pem", self._directory / "client.key"
        made.cert_chain_pems[0].write_to_path(str(certificate))
        made.private_key_pem.write_to_path(str(key))
        key.chmod(0o600)
        return str(certificate), str(key)


class SecureServer(LocalServer):
    """The plain port stays open too, for commands and for those who take it for the secure one."""

    jars = (*JARS, "/usr/share/java/netty-codec.jar", "/usr/share/java/netty-resolver.jar")

    def __init__(self) -> None:
        super().__init__()
        self.secure_port = _free_port()
        self.authority = Authority(self.directory / "authority")
        self._has_tls = False

    @property
    def secure_hosts(self) -> str:
        """What a client connects to by TLS, under the name that the certificate has."""
        return f"localhost:{self.secure_port}"

    def with_tls(self, *, client_auth: str = "need", names: tuple[str, ...] = ("localhost",)) -> None:
        """Offer TLS from the next start on, under these names."""
        self.present(self.authority.issue(*names))
        self._has_tls = True
        self.extra_configuration += _TLS.format(
            port=self.secure_port,
            key_store=self.directory / "authority" / "server.pem",
            trust_store=self.authority.ca,
            client_auth=client_auth,
        )

    def wait_until_ready(self) -> None:
        """At both ports: ZooKeeper opens the plain one first and answers there already."""
        super().wait_until_ready()
        if self._has_tls:
            eventually(self._takes_tls_connections, within=START_SECONDS, message="the secure port takes connections")

    def _takes_tls_connections(self) -> bool:
        self.check_alive()
        with suppress(OSError), socket.create_connection((self.host, self.secure_port), 1.0):
            return True
        return False

    def present(self, certificate: trustme.LeafCert) -> None:
        """Show this certificate from the next start on."""
        self.authority.key_store(certificate, "server.pem")

    def with_users(self, users: dict[str, str]) -> None:
        """Know these users and their passwords from the next start on."""
        path = self.directory / "jaas.conf"
        path.write_text(_USERS.format(users="\n".join(f'user_{user}="{word}"' for user, word in users.items())))
        if not self.properties:
            self.extra_configuration += _SASL
        self.properties = (f"java.security.auth.login.config={path}",)


@pytest.fixture
def secure_zookeeper() -> Iterator[SecureServer]:
    """Not started yet: the test says first what it wants."""
    if not SecureServer.possible():
        pytest.fail("install Debian's libzookeeper-java, libnetty-java and a JRE for these tests", pytrace=False)
    server = SecureServer()
    yield server
    server.dispose()


class BatchingProxy:
    """Speaks TLS for a server that does not, and sends what comes from it in bursts: several answers in one record."""

    def __init__(self, server: ZooKeeperServer, certificate: trustme.LeafCert) -> None:
        self._server = server
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(self._context)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.hosts = f"localhost:{self._listener.getsockname()[1]}"
        self._open: list[socket.socket] = [self._listener]
        threading.Thread(target=self._serve, daemon=True).start()

    def stop(self) -> None:
        """Cut every connection."""
        for each in self._open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client = self._context.wrap_socket(self._listener.accept()[0], server_side=True)
                plain = socket.create_connection((self._server.host, self._server.port))
                self._open += [client, plain]
                threading.Thread(target=self._pass_on, args=(client, plain), daemon=True).start()

    def _pass_on(self, client: ssl.SSLSocket, plain: socket.socket) -> None:
        """One thread for both ways, because an SSLSocket is not for two."""
        client.setblocking(False)
        plain.settimeout(0.02)
        with suppress(OSError):
            while True:
                with suppress(ssl.SSLWantReadError):
                    while data := client.recv(65_536):
                        plain.sendall(data)
                    return
                burst = b""
                with suppress(TimeoutError):
                    while len(burst) < 12_000 and (data := plain.recv(4096)):
                        burst += data
                    if not burst:
                        return
                if burst:
                    client.setblocking(True)
                    client.sendall(burst)
                    client.setblocking(False)
