"""The parts of the demo: what counts as a failed request, what it tells, what it needs to be installed."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from smartstack.demo import zookeeper
from smartstack.demo.client import Client, request
from smartstack.demo.layout import Layout
from smartstack.demo.screen import News, live_line
from smartstack.errors import SmartStackError
from smartstack.forms import TcpAddress
from tests.support.eventually import eventually

GOOD = b"HTTP/1.1 200 OK\r\nX-Instance: host1\r\nContent-Length: 3\r\n\r\nok\n"


@contextmanager
def _server(answer: bytes, *, reset: bool = False) -> Iterator[TcpAddress]:
    """Answers every request with these bytes and closes, by a reset if asked for."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                link, _ = listener.accept()
            except OSError:
                return
            with link:
                link.recv(4096)
                link.sendall(answer)
                if reset:
                    link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield TcpAddress(*listener.getsockname())
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def test_a_whole_answer_of_the_service_is_good() -> None:
    """A request has not failed when the service's whole answer came back, with the instance that gave it."""
    with _server(GOOD) as address:
        assert request(address) == ("host1", None)


@pytest.mark.parametrize(
    ("answer", "reset", "reason"),
    [
        pytest.param(b"HTTP/1.1 503 No\r\nContent-Length: 4\r\n\r\nnone", False, "HTTP 503 none", id="an error"),
        pytest.param(GOOD[:-1], False, "IncompleteRead", id="a truncated body"),
        pytest.param(GOOD[:30], False, "cut off", id="truncated headers"),
        pytest.param(b"", False, "RemoteDisconnected", id="no answer"),
        pytest.param(b"", True, "ConnectionResetError", id="a reset"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", False, "not the service's", id="somebody else"),
        pytest.param(b"hello\r\n\r\n", False, "BadStatusLine", id="not HTTP"),
    ],
)
def test_everything_else_is_a_failure(answer: bytes, reset: bool, reason: str) -> None:
    """Errors, truncated answers, resets and strangers are failed requests, each with its reason."""
    with _server(answer, reset=reset) as address:
        instance, why = request(address)
    assert instance == ""
    assert why is not None
    assert reason in why


def test_a_refused_connection_is_counted_with_time_and_reason() -> None:
    """The client counts failures beside answers, and keeps when and why for the end."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = TcpAddress(*closed.getsockname())
        client = Client()
        with _server(GOOD) as address:
            client.ask("web", address, 100)
            client.ask("api", nobody, 100)
            eventually(lambda: client.tally("web").ok >= 3 and client.tally("api").failed >= 3)
            client.stop()
    assert client.tally("web").answers == {"host1": client.tally("web").ok}
    assert client.tally("web").failed == 0
    assert client.total().failed == client.tally("api").failed
    assert client.total().total == client.tally("web").ok + client.tally("api").failed
    assert {failure.service for failure in client.failures()} == {"api"}
    assert all("ConnectionRefusedError" in str(failure) for failure in client.failures())
    assert live_line(client, ("web",)).endswith(f" failed | web host1 {client.tally('web').ok}")


def _told(pid: int | None = 7, problems: dict[str, list[str]] | None = None, **services: list[str]) -> dict[str, Any]:
    return {
        "haproxy": {"pid": pid},
        "problems": problems or {},
        "services": {
            name: {"instances": [{"address": address, "state": "serving"} for address in addresses]}
            for name, addresses in services.items()
        },
    }


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        pytest.param(_told(web=["a", "b"]), _told(web=["a"]), ["web: b left, 1 serves"], id="left"),
        pytest.param(_told(web=["a"]), _told(web=["a", "b"]), ["web: b came, 2 serve"], id="came"),
        pytest.param(_told(), _told(web=["a"]), ["web: a came, 1 serves"], id="a new service"),
        pytest.param(_told(), _told(problems={"web": ["f:1:1: bad"]}), ["web: f:1:1: bad"], id="a mistake"),
        pytest.param(
            _told(problems={"web": ["bad"]}), _told(), ["web: the definition is right again"], id="a mistake undone"
        ),
        pytest.param(_told(), _told(pid=8), ["HAProxy has pid 8"], id="a reload"),
        pytest.param(_told(), _told(pid=None), ["HAProxy is gone"], id="HAProxy gone"),
        pytest.param(_told(web=["a"]), {}, [], id="synapse gone"),
        pytest.param(_told(web=["a"]), {"services": {}, "error": "not yet"}, [], id="synapse that has not looked yet"),
        pytest.param(_told(web=["a"]), _told(web=["a"]), [], id="nothing new"),
    ],
)
def test_news_are_what_changed(before: dict[str, Any], after: dict[str, Any], lines: list[str]) -> None:
    """Each change in synapse's /status is one line; silence is no news."""
    news = News(before)
    assert news.look(after) == lines
    assert news.look(after) == []


def test_news_after_a_silence_are_compared_with_what_was_before_it() -> None:
    """A synapse that was away for a while has not lost its instances."""
    news = News(_told(web=["a", "b"]))
    assert news.look({}) == []
    assert news.look(_told(web=["a"])) == ["web: b left, 1 serves"]


@pytest.mark.parametrize("registry", ["file", "zookeeper"])
def test_all_ports_move_with_the_base(registry: str) -> None:
    """Two demos with bases that are far enough apart share no address."""
    first, second = (set(Layout(directory="/d", registry=registry, port_base=base).listened) for base in (3210, 4210))
    assert len(first) == len(second) == (13 if registry == "file" else 14)
    assert not first & second
    assert {address.port + 1000 for address in first} == {address.port for address in second}


def test_a_missing_zookeeper_is_said_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Java and the jars there is one sentence that names the packages."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(zookeeper, "JARS", {"/nowhere/zookeeper.jar": "libzookeeper-java"})
    with pytest.raises(SmartStackError, match="apt-get install libzookeeper-java default-jre-headless") as caught:
        zookeeper.command("zoo.cfg")
    assert "--registry file" in str(caught.value)
