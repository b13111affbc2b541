"""The clients that the other tests judge by: what they call a failure, and what not."""

import socket
import threading
from collections.abc import Iterator

import pytest

from tests.support.backends import Backends
from tests.support.clients import LoadClient, assert_none_failed
from tests.support.eventually import eventually

ADDRESS = ("127.19.7.1", 8080)


@pytest.fixture
def backends() -> Iterator[Backends]:
    """Servers, none open yet."""
    made = Backends()
    yield made
    made.stop()


@pytest.mark.parametrize("keep_alive", [False, True])
def test_a_server_that_dies_and_comes_back_costs_failures_and_then_none(backends: Backends, keep_alive: bool) -> None:
    """A refused or reset connection is a failure, with its reason; a server that is there again is used again."""
    backends.open(*ADDRESS)
    with LoadClient(*ADDRESS, keep_alive=keep_alive) as client:
        eventually(lambda: client.requests > 20)
        assert not client.failures
        backends.close(*ADDRESS)
        eventually(lambda: client.failures)
        backends.open(*ADDRESS)
        good = client.answers.total()
        eventually(lambda: client.answers.total() > good + 20)
    assert "Connection" in client.failures[0].reason or "connection" in client.failures[0].reason
    with pytest.raises(AssertionError, match="requests failed"):
        assert_none_failed([client], at_least=1)


def test_enough_requests_are_waited_for_and_a_client_that_has_ended_is_not(backends: Backends) -> None:
    """On a slow machine the requests that a judgement needs come late: no fixed time decides. Who sends no more has
    too few of them, and that is a failure of the test, whatever became of the few."""
    backends.open(*ADDRESS)
    with LoadClient(*ADDRESS, keep_alive=False, rate=60) as slow, LoadClient(*ADDRESS, keep_alive=True) as quick:
        assert_none_failed([quick, slow], at_least=30)
    assert min(slow.requests, quick.requests) >= 30
    with pytest.raises(AssertionError, match=r"only \d+ requests"):
        assert_none_failed([quick, slow], at_least=100_000)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param(b"", "before the head", id="nothing"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Le", "before the head", id="half a head"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "before the body", id="half a body"),
        pytest.param(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", "503", id="not a 200"),
    ],
)
def test_an_answer_that_is_not_whole_or_not_a_200_is_a_failure(answer: bytes, reason: str) -> None:
    """Early ends, truncated answers and errors all count, and say which they were."""
    with _answering(answer) as port, LoadClient("127.0.0.1", port, keep_alive=False, threads=1) as client:
        eventually(lambda: client.failures)
    assert reason in client.failures[0].reason
    assert not client.answers


@pytest.mark.parametrize(("announced", "failures"), [(True, False), (False, True)])
def test_a_connection_that_ends_after_an_answer_must_have_been_announced(announced: bool, failures: bool) -> None:
    """A keep-alive client takes `Connection: close` as it is meant, and an end without it as a failure."""
    header = b"Connection: close\r\n" if announced else b""
    answer = b"HTTP/1.1 200 OK\r\n" + header + b"Content-Length: 2\r\n\r\nok"
    with _answering(answer) as port, LoadClient("127.0.0.1", port, keep_alive=True, threads=1) as client:
        eventually(lambda: client.requests > 10)
    assert bool(client.failures) is failures


class _answering:
    """A server that gives each connection these bytes after its first request, and ends it."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> int:
        self._thread.start()
        return int(self._listener.getsockname()[1])

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65_536)
                connection.sendall(self._answer)
