"""What HAProxy is asked when somebody wants to know."""

import socket
import time
from pathlib import Path

import pytest

from synapse.haproxy.answers import Info
from synapse.haproxy.errors import HAProxyAway
from synapse.haproxy.runtime import ANSWER_SECONDS, Runtime
from synapse.telemetry.gauges import Gauge, Gauges, parse_connections

STAT = (
    "# pxname,svname,qcur,qmax,scur,smax\n"
    'web,FRONTEND,,,3,9,"a, b"\n'
    "web,BACKEND,0,0,7,7\n"
    "api,FRONTEND,,,0,1\n"
    "odd,FRONTEND,,,x,1\n"
    "\n"
)


class FakeHAProxy:
    """Answers, or is away."""

    def __init__(self) -> None:
        self.asked = 0
        self.away = False

    def ask(self, text: str) -> str:
        self.asked += 1
        if self.away:
            raise HAProxyAway("gone")
        return STAT if text == "show stat -1 1 -1" else ""

    def info(self) -> Info:
        return Info(pid=1, description="", version="2.6.12", stopping=False, dropped_logs=2)


def test_connections_are_those_of_the_frontends() -> None:
    """Of the clients, by service; what is no number is left out, and any other text is nothing."""
    assert parse_connections(STAT) == {"web": 3, "api": 0}
    assert parse_connections("") == {}
    assert parse_connections("Unknown command\n") == {}
    assert parse_connections("# pxname\nweb\n") == {}


def test_haproxy_is_asked_once_a_second_and_left_alone_while_it_is_away() -> None:
    """However many ask; what is not known is nothing, never an old value."""
    now, haproxy = [0.0], FakeHAProxy()
    gauges = Gauges(haproxy, lambda: now[0])
    assert [gauges.read() for _ in range(3)] == [Gauge(connections={"web": 3, "api": 0}, dropped=2)] * 3
    assert haproxy.asked == 1
    now[0], haproxy.away = 1.0, True
    assert gauges.read() == Gauge()
    now[0], haproxy.away = 10.9, False
    assert gauges.read() == Gauge()
    assert haproxy.asked == 2
    now[0] = 11.0
    assert gauges.read().dropped == 2


def test_whoever_asks_does_not_wait_as_long_as_the_loop_may(tmp_path: Path) -> None:
    """A HAProxy that hangs, as one that is stopped, takes connections and says nothing: the patience is its asker's."""
    path = str(tmp_path / "haproxy.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as hanging:
        hanging.bind(path)
        hanging.listen()
        began = time.monotonic()
        with pytest.raises(HAProxyAway, match="timed out"):
            Runtime(path, None, answer_seconds=0.05).ask("show info")
        assert time.monotonic() - began < ANSWER_SECONDS
