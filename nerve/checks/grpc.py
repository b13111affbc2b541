"""The `grpc` check: a server says by the standard health protocol that it serves. The only home of grpcio.

The protocol is grpc.health.v1: https://github.com/grpc/grpc/blob/master/doc/health-checking.md. Its two messages have
one field each, so that they are written and read here by hand, and protobuf is not needed.
"""

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from nerve.checks.base import Outcome, Pace, Target, failed, passed, seconds_text
from nerve.checks.files import UnusableFile, read_file
from nerve.checks.tls import Tls, system_authorities
from smartstack.addresses import canonical_ip
from smartstack.forms import HOST, PORT, TcpAddress
from smartstack.model import Form

if TYPE_CHECKING:
    import grpc

METHOD = "/grpc.health.v1.Health/Check"
ANSWER_LIMIT = 4096
"""Longest answer that is taken, in bytes; a sound one has two."""

MISSING = "the grpc check needs grpcio, which is not installed: pip install 'smartstack-py[grpc]'"

_STATUSES = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
_SERVING = 1
_OPTIONS = (
    # A proxy of the environment is not used.
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
    # Otherwise the next run finds the broken connection of this one, and waits until it may be made again.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.max_receive_message_length", ANSWER_LIMIT),
)


def _service(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 200 or not value.isascii() or not value.isprintable():
        raise ValueError("must be the name of a gRPC service, such as shop.v1.Cart, or '' for the server as a whole")
    return value


SERVICE = Form(_service, {"type": "string", "maxLength": 200})


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcCheck(Pace):
    """Ask a gRPC server's health service. Passes when it answers SERVING in time.

    Needs grpcio (`pip install 'smartstack-py[grpc]'`), and fails without it.
    """

    kind: ClassVar[str] = "grpc"

    service: Annotated[str, "the gRPC service that is asked about; '' is the server as a whole", SERVICE] = ""
    host: Annotated[str | None, "whom to ask, if not the instance's address", HOST] = None
    port: Annotated[int | None, "whom to ask, if not the instance's port", PORT] = None
    tls: Annotated[Tls | None, "speak TLS; {} verifies against the system's authorities"] = None

    def problems(self) -> Iterable[tuple[str, str]]:
        """Rules over several keys: the dotted key, and what is wrong."""
        if self.tls is not None and not self.tls.verify:
            yield "tls.verify", "cannot be: grpcio always verifies; name the authority to trust as tls.ca"

    def run(self, target: Target) -> Outcome:
        """Raises nothing for what the network or the answer do. Imports grpcio on first use: it costs 11 MB."""
        # Its native part writes lines of its own about every failed handshake.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        try:
            import grpc
        except ImportError:
            return failed(MISSING)

        # Not before the import, which takes a part of a second.
        deadline = time.monotonic() + self.timeout
        address = TcpAddress(self.host or target.address.host, self.port or target.address.port)
        try:
            channel = self._channel(address)
        except UnusableFile as error:
            return failed(str(error))
        with channel:
            check: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
            try:
                return _judged(check(request(self.service), timeout=max(deadline - time.monotonic(), 0.001)))
            except grpc.RpcError as error:
                return failed(self._reason(error))

    def _channel(self, address: TcpAddress) -> "grpc.Channel":
        import grpc

        if not canonical_ip(address.host):
            place = f"dns:///{address}"
        else:
            place = f"ipv6:{address}" if ":" in address.host else f"ipv4:{address}"
        # How long the library goes on with a handshake that nobody waits for any more; its own 20 s would pile up.
        options: list[tuple[str, Any]] = [*_OPTIONS, ("grpc.min_reconnect_backoff_ms", round(self.timeout * 1000))]
        if self.tls is None:
            return grpc.insecure_channel(place, [*options, ("grpc.default_authority", str(address))])
        name = self.tls.server_name or address.host
        options += [("grpc.ssl_target_name_override", name), ("grpc.default_authority", name)]
        return grpc.secure_channel(place, _credentials(self.tls), options)

    def _reason(self, error: "grpc.RpcError") -> str:
        code = error.code().name
        details = error.details() or ""
        match code:
            case "DEADLINE_EXCEEDED":
                return f"no answer in {seconds_text(self.timeout)}"
            case "NOT_FOUND":
                return f"the server does not know the service '{self.service}'"
            case "UNIMPLEMENTED":
                return "the server does not offer grpc.health.v1.Health"
            case "UNAVAILABLE":
                return _cause(details)
        return f"{code}: {details}" if details else code


def _credentials(tls: Tls) -> "grpc.ChannelCredentials":
    import grpc

    authorities = read_file("ca file", tls.ca)[0] if tls.ca else system_authorities()
    if tls.certificate is None:
        return grpc.ssl_channel_credentials(authorities)
    certificate = read_file("certificate file", tls.certificate)[0]
    key = read_file("key file", tls.key or tls.certificate)[0]
    return grpc.ssl_channel_credentials(authorities, key, certificate)


def _cause(details: str) -> str:
    """`connection refused` of `failed to connect to all addresses; last error: UNKNOWN: ipv4:…: Failed to …`."""
    last = details.partition("last error: ")[2] or details
    return last.rpartition("remote host: ")[2].lower() if "remote host: " in last else last


def request(service: str) -> bytes:
    """The message HealthCheckRequest: field 1 is the service's name."""
    name = service.encode("ascii")
    if not name:
        return b""
    return b"\x0a" + _varint(len(name)) + name


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])


def _judged(answer: bytes) -> Outcome:
    status = status_of(answer)
    if status is None:
        return failed("answered something that is no HealthCheckResponse")
    name = _STATUSES.get(status, f"status {status}")
    return passed(name) if status == _SERVING else failed(name)


def status_of(answer: bytes) -> int | None:
    """Field 1 of the message HealthCheckResponse, 0 when it is not there; None when this is no such message."""
    status = 0
    at = 0
    try:
        while at < len(answer):
            key, at = _read_varint(answer, at)
            match key & 7:
                case 0:
                    value, at = _read_varint(answer, at)
                    status = value if key >> 3 == 1 else status
                case 1:
                    at += 8
                case 2:
                    length, at = _read_varint(answer, at)
                    at += length
                case 5:
                    at += 4
                case _:
                    return None
    except IndexError:
        return None
    return status if at == len(answer) else None


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    """A number and where it ends. Raises IndexError when there is none."""
    number = 0
    for index in range(10):
        byte = data[at + index]
        number |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return number, at + index + 1
    raise IndexError
