"""The feed: what a real HAProxy tells synapse of each request, and who called."""

import contextlib
import threading
from collections.abc import Iterator, Sequence

import pytest

from smartstack.forms import TcpAddress
from smartstack.logs import EventLog
from synapse.telemetry.line import Feed
from synapse.telemetry.receiver import Receiver
from synapse.telemetry.request import Request
from tests.support.eventually import eventually
from tests.support.pair import Host
from tests.support.stage import ask


class Kept:
    """A sink that keeps everything."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def take(self, requests: Sequence[Request], now: float) -> None:
        self.requests.extend(requests)

    def tick(self, now: float) -> None:
        pass


@contextlib.contextmanager
def listening(host: Host) -> Iterator[Kept]:
    """What a HAProxy, whose synapse has been stopped, goes on to tell."""
    kept = Kept()
    key = (host.state / "telemetry.key").read_text().strip()
    feed = Feed(address=TcpAddress(host.address, 3200), key=key)
    receiver = Receiver(feed, [kept], threading.Lock(), EventLog("test"), changed=lambda: None)
    receiver.start()
    try:
        yield kept
    finally:
        receiver.stop()


@pytest.fixture
def feed(host: Host) -> Iterator[Kept]:
    """A host that offers `web` with two instances, and what its HAProxy tells."""
    host.serve("web", 3210, instances=2)
    host.start()
    host.synapse.stop()
    with listening(host) as kept:
        yield kept


def test_each_request_is_told_of(host: Host, feed: Kept) -> None:
    """Service, instance, status, sizes and path of a request arrive; its query does not."""
    assert ask(host, target="/a/b?secret=1").status == 200
    [told] = eventually(lambda: feed.requests)
    assert (told.mode, told.service, told.frontend, told.status, told.method) == ("http", "web", "web", 200, "GET")
    assert told.path == "/a/b"
    assert told.instance in {host.instance(number).address for number in (1, 2)}
