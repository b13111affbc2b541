"""The `grpc` check against real gRPC servers, with TLS and without, and against what is none."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from nerve.checks.grpc import METHOD, MISSING, SERVICE, GrpcCheck, request, status_of
from nerve.checks.tls import Tls
from smartstack.forms import TcpAddress
from tests.support.check_servers import answer, drip, ignore, outcome_of, server
from tests.support.eventually import eventually

Judge = Callable[[bytes, grpc.ServicerContext], bytes]

SERVING = b"\x08\x01"
NOT_SERVING = b"\x08\x02"


@contextmanager
def health_server(
    judge: Judge, host: str = "127.0.0.1", credentials: grpc.ServerCredentials | None = None
) -> Iterator[TcpAddress]:
    """A gRPC server whose health service answers so; requests and answers are bytes."""
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(judge)
    service, _, method = METHOD.removeprefix("/").partition("/")
    with ThreadPoolExecutor(4) as pool:
        made = grpc.server(pool)
        made.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
        place = str(TcpAddress(host, 1)).removesuffix("1") + "0"
        port = made.add_secure_port(place, credentials) if credentials else made.add_insecure_port(place)
        made.start()
        try:
            yield TcpAddress(host, port)
        finally:
            made.stop(0).wait()


def always(status: bytes) -> Judge:
    """Every service is so."""
    return lambda _request, _context: status


def of_the_shop(asked: bytes, context: grpc.ServicerContext) -> bytes:
    """The server serves, its cart does not, and it has no other service."""
    match asked:
        case b"":
            return SERVING
        case b"\x0a\x09shop.Cart":
            return NOT_SERVING
    context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
    raise AssertionError


@pytest.mark.parametrize(
    ("service", "passed", "reason"),
    [
        pytest.param("", True, "SERVING", id="the server as a whole"),
        pytest.param("shop.Cart", False, "NOT_SERVING", id="a service that does not serve"),
        pytest.param("shop.Bill", False, "the server does not know the service 'shop.Bill'", id="an unknown service"),
    ],
)
def test_grpc_asks_for_its_service(service: str, passed: bool, reason: str) -> None:
    """SERVING passes, and nothing else."""
    with health_server(of_the_shop) as address:
        outcome = outcome_of(GrpcCheck(service=service, timeout=10.0), address)
    assert (outcome.passed, outcome.reason) == (passed, reason)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        pytest.param(b"", "UNKNOWN", id="no status"),
        pytest.param(b"\x08\x03", "SERVICE_UNKNOWN", id="of the streaming method"),
        pytest.param(b"\x08\x07", "status 7", id="of a later version"),
        pytest.param(b"\xff\xff", "answered something that is no HealthCheckResponse", id="no message"),
        pytest.param(b"\x12\xa0\x1f" + b"x" * 4000 + b"\x08\x02", "NOT_SERVING", id="with a field of a later version"),
        pytest.param(b"x" * 5000, None, id="5 KB"),
    ],
)
def test_any_other_status_is_a_failure(status: bytes, reason: str | None) -> None:
    """With its name, where it has one."""
    with health_server(always(status)) as address:
        outcome = outcome_of(GrpcCheck(timeout=10.0), address)
    assert not outcome.passed
    assert reason is None or outcome.reason == reason


def test_grpc_asks_whom_it_was_told_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another host and port than the instance's, by IPv6 and by name; no proxy of the environment."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with health_server(always(SERVING), "::1") as address:
        assert outcome_of(GrpcCheck(timeout=10.0), address).passed
        assert outcome_of(GrpcCheck(host="::1", port=address.port, timeout=10.0)).passed
    with health_server(always(SERVING)) as address:
        assert outcome_of(GrpcCheck(host="localhost", timeout=10.0), address).passed


def test_nobody_there_is_a_failure_in_few_words() -> None:
    """A refused connection, and at once."""
    outcome = outcome_of(GrpcCheck(timeout=10.0))
    assert (outcome.passed, outcome.reason) == (False, "connection refused")


def test_a_server_that_was_away_is_found_at_the_next_check() -> None:
    """No run waits for what an earlier one found."""
    with health_server(always(SERVING)) as address:
        assert outcome_of(GrpcCheck(timeout=10.0), address).passed
    for _ in range(5):
        assert not outcome_of(GrpcCheck(timeout=10.0), address).passed


def test_a_server_without_the_health_service_is_a_failure() -> None:
    """And the reason says what it does not offer."""
    with ThreadPoolExecutor(1) as pool:
        made = grpc.server(pool)
        port = made.add_insecure_port("127.0.0.1:0")
        made.start()
        outcome = outcome_of(GrpcCheck(timeout=10.0), TcpAddress("127.0.0.1", port))
        made.stop(0).wait()
    assert (outcome.passed, outcome.reason) == (False, "the server does not offer grpc.health.v1.Health")


def test_grpc_gives_up_at_its_time_out() -> None:
    """Whether the method hangs, or there is no gRPC at all behind the port; and the connection ends then too."""
    release = threading.Event()

    def hang(_asked: bytes, _context: grpc.ServicerContext) -> bytes:
        release.wait(10)
        return SERVING

    started = time.monotonic()
    with health_server(hang) as address:
        outcome = outcome_of(GrpcCheck(timeout=0.3), address)
        release.set()
    assert (outcome.passed, outcome.reason) == (False, "no answer in 0.3s")
    for speak in (answer("", stay=True), drip("")):
        with server(speak) as address:
            assert not outcome_of(GrpcCheck(timeout=0.3), address).passed
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("speak", [ignore, answer("HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n")])
def test_what_is_no_grpc_is_a_failure(speak: Callable[..., None]) -> None:
    """Something else at the port, in printable words."""
    with server(speak) as address:
        assert not outcome_of(GrpcCheck(timeout=1.0), address).passed


def test_grpc_speaks_tls(tmp_path: Path) -> None:
    """Verified against the authority and the name; a client's certificate where the server wants one; files that are
    not there are named."""
    authority = trustme.CA()
    ours, theirs = authority.issue_cert("nerve.example"), authority.issue_cert("web.example", "127.0.0.1")
    ca, certificate, key = (str(tmp_path / name) for name in ("ca.pem", "client.pem", "client.key"))
    authority.cert_pem.write_to_path(ca)
    ours.cert_chain_pems[0].write_to_path(certificate)
    ours.private_key_pem.write_to_path(key)
    pair = [(theirs.private_key_pem.bytes(), theirs.cert_chain_pems[0].bytes())]

    def run(tls: Tls, address: TcpAddress) -> tuple[bool, str]:
        outcome = outcome_of(GrpcCheck(tls=tls, timeout=10.0), address)
        return outcome.passed, outcome.reason

    with health_server(always(SERVING), credentials=grpc.ssl_server_credentials(pair)) as address:
        assert run(Tls(ca=ca), address) == (True, "SERVING")
        assert run(Tls(ca=ca, server_name="web.example"), address) == (True, "SERVING")
        assert not run(Tls(ca=ca, server_name="api.example"), address)[0]
        assert not run(Tls(), address)[0]
        assert run(Tls(ca="/none"), address) == (False, "cannot read ca file /none: no such file or directory")
        assert not run(Tls(ca=key), address)[0]
    credentials = grpc.ssl_server_credentials(pair, authority.cert_pem.bytes(), require_client_auth=True)
    with health_server(always(SERVING), credentials=credentials) as address:
        assert run(Tls(ca=ca, certificate=certificate, key=key), address) == (True, "SERVING")
        assert not run(Tls(ca=ca), address)[0]


def test_verification_cannot_be_turned_off() -> None:
    """grpcio has no way to, and to pretend would be worse."""
    assert [key for key, _ in GrpcCheck(tls=Tls(verify=False)).problems()] == ["tls.verify"]


def test_without_grpcio_the_check_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an extra; a definition that names the kind is valid all the same."""
    monkeypatch.setitem(sys.modules, "grpc", None)
    outcome = outcome_of(GrpcCheck(service="shop.Cart"))
    assert (outcome.passed, outcome.reason) == (False, MISSING)


def resources() -> tuple[int, int]:
    """Threads and open files of this process."""
    return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))


def test_grpc_leaves_no_thread_and_no_connection() -> None:
    """The channel of each run is closed with it."""
    with health_server(always(SERVING)) as address:
        for _ in range(20):
            assert outcome_of(GrpcCheck(timeout=10.0), address).passed
        threads, files = resources()
        for _ in range(100):
            assert outcome_of(GrpcCheck(timeout=10.0), address).passed
            outcome_of(GrpcCheck(timeout=10.0))

        def settled() -> bool:
            now = resources()
            return now[0] <= threads + 2 and now[1] <= files + 4

        eventually(settled)


@pytest.mark.parametrize("value", [5, None, "a\nb", "ü", "x" * 201])
def test_what_is_no_service_is_refused(value: object) -> None:
    """A name in ASCII on one line."""
    with pytest.raises(ValueError, match="must be the name"):
        SERVICE.parse(value)


@given(name=st.text("abc.", max_size=200))
def test_a_request_is_its_one_field(name: str) -> None:
    """Tag 1 of wire type 2, the length as a varint, the name; nothing for an empty one."""
    message = request(name)
    if not name:
        assert message == b""
        return
    length = message[1] if message[1] < 128 else (message[1] & 127) + (message[2] << 7)
    assert (message[0], length) == (0x0A, len(name))
    assert message.endswith(name.encode())


@given(data=st.binary(max_size=40))
def test_any_bytes_are_a_status_or_none(data: bytes) -> None:
    """Nothing is raised, and a status that stands before or behind other fields is found."""
    found = status_of(data)
    assert found is None or found >= 0
    for other in (b"\x12" + bytes([len(data)]) + data, b"\x10\x07", b"\x11" + b"x" * 8, b"\x15" + b"x" * 4):
        assert status_of(other + SERVING) == status_of(SERVING + other) == 1
