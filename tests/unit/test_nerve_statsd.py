"""The metrics of Airbnb's nerve: what is sent, as the datagrams that an agent on loopback gets."""

import logging
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from nerve.admission import Admission, HeldBack
from nerve.health import Result, State
from nerve.settings import Settings
from nerve.settings import Statsd as StatsdSettings
from nerve.statsd import Statsd
from smartstack.errors import ConfigError, SmartStackError
from smartstack.forms import TcpAddress
from smartstack.tree import Node
from smartstack.validation import validate
from smartstack.yaml_file import load

PASSED = Result(passed=True, reason="connected", duration_seconds=0.001, at=1.0)
FAILED = replace(PASSED, passed=False)


class Agent:
    """A socket of UDP where a statsd agent would listen."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(5)
        self.address = TcpAddress(*self.socket.getsockname())

    def heard(self) -> str:
        """The next datagram; waits for it."""
        return self.socket.recv(65_536).decode()

    def everything(self) -> list[str]:
        """All that has come so far."""
        self.socket.setblocking(False)
        found = []
        try:
            while True:
                found.append(self.heard())
        except BlockingIOError:
            return found


@pytest.fixture
def agent() -> Iterator[Agent]:
    """An agent that listens."""
    made = Agent()
    yield made
    made.socket.close()


WAITING = Admission(held_back=HeldBack.RATE, throttled=1)
SHADOWED = Admission(admitted=True, shadowed=HeldBack.RATE, throttled=1)


@pytest.mark.parametrize(
    ("event", "datagram"),
    [
        pytest.param(lambda statsd: statsd.start(), "nerve.start:1|c", id="start"),
        pytest.param(
            lambda statsd: statsd.stop(), "nerve.stop:1|c|#stop_avenue:clean,stop_location:main_loop", id="stop"
        ),
        pytest.param(lambda statsd: statsd.turned(0.0125), "nerve.main_loop.elapsed_time:12.5|ms", id="a turn, in ms"),
        pytest.param(lambda statsd: statsd.configured(), "nerve.config.update:1|c", id="an edit"),
        pytest.param(
            lambda statsd: statsd.launched("web", update=False),
            "nerve.watcher.launch:1|c|#launch_reason:new,watcher_name:web",
            id="a new service",
        ),
        pytest.param(
            lambda statsd: statsd.launched("web", update=True),
            "nerve.watcher.launch:1|c|#launch_reason:update,watcher_name:web",
            id="an edited service",
        ),
        pytest.param(
            lambda statsd: statsd.reaped("web", update=False),
            "nerve.watcher.reap:1|c|#reap_reason:old,reap_result:success,watcher_name:web",
            id="a service that is not announced any more",
        ),
        pytest.param(
            lambda statsd: statsd.reaped("web", update=True),
            "nerve.watcher.reap:1|c|#reap_reason:update,reap_result:success,watcher_name:web",
            id="the service before an edit",
        ),
        pytest.param(
            lambda statsd: statsd.check("web", "http", PASSED),
            "nerve.watcher.status.service_check:1|c|#check_result:up,service_name:web,check_name:http",
            id="a pass",
        ),
        pytest.param(
            lambda statsd: statsd.check("web", "http", FAILED),
            "nerve.watcher.status.service_check:1|c|#check_result:down,service_name:web,check_name:http",
            id="a failure",
        ),
        pytest.param(
            lambda statsd: statsd.transition("web", State.DOWN),
            "nerve.watcher.status.transition:1|c|#new_status:down,service_name:web",
            id="a transition",
        ),
        pytest.param(
            lambda statsd: statsd.action("web", True),
            "nerve.watcher.status.report.count:1|c|#report_result:success,service_name:web",
            id="a report",
        ),
        pytest.param(
            lambda statsd: statsd.action("web", False),
            "nerve.watcher.status.report.count:1|c|#report_result:failure,service_name:web",
            id="a report that failed",
        ),
        pytest.param(
            lambda statsd: statsd.held_back("web", None, WAITING),
            "nerve.watcher.throttled:1|c|#service_name:web,shadow_mode:false",
            id="held back",
        ),
        pytest.param(
            lambda statsd: statsd.held_back("web", Admission(), SHADOWED),
            "nerve.watcher.throttled:1|c|#service_name:web,shadow_mode:true",
            id="would be held back",
        ),
    ],
)
def test_each_event_is_the_datagram_that_airbnbs_nerve_sends(
    agent: Agent, event: Callable[[Statsd], None], datagram: str
) -> None:
    """Name, type and tags as dashboards know them: without a prefix, without sampling, one datagram for each event."""
    event(Statsd(agent.address))
    assert agent.heard().rstrip("\n") == datagram
    assert agent.everything() == []


def test_what_is_no_news_is_not_sent(agent: Agent) -> None:
    """A service that nobody knows yet made no transition, and one that waits is counted once."""
    statsd = Statsd(agent.address)
    statsd.transition("web", State.UNKNOWN)
    statsd.held_back("web", WAITING, WAITING)
    statsd.held_back("web", None, Admission())
    assert agent.everything() == []


def test_where_nobody_listens_nothing_happens(caplog: pytest.LogCaptureFixture) -> None:
    """The agent is being restarted: what is sent is lost, nothing raises, waits, or fills the log."""
    nowhere = Agent()
    nowhere.socket.close()
    statsd = Statsd(nowhere.address)
    with caplog.at_level(logging.DEBUG):
        for _ in range(100):
            statsd.check("web", "http", PASSED)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_without_an_address_nothing_is_sent() -> None:
    """`statsd` absent: no client is made, and every event is silence."""
    statsd = Statsd(None)
    statsd.start()
    statsd.turned(1.0)
    statsd.stop()


def test_a_client_that_is_not_installed_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an extra: who configures it is told what to install."""
    monkeypatch.setitem(sys.modules, "datadog.dogstatsd.base", None)
    Statsd(None)
    with pytest.raises(SmartStackError) as caught:
        Statsd(TcpAddress("127.0.0.1", 8125))
    assert str(caught.value) == (
        "cannot send statsd metrics: its client is not installed; "
        "install smartstack-py[statsd], or take `statsd` out of nerve.yaml"
    )


def settings(address: str) -> Node:
    """nerve.yaml with this address."""
    return load(f"registry: file:/r\nstatsd: {{address: '{address}'}}\n".encode(), "nerve.yaml", {})


@pytest.mark.parametrize("address", ["127.0.0.1:8125", "[::1]:8125", "localhost:8125", "10.0.0.9:8125"])
def test_an_agent_has_an_ip_address(address: str) -> None:
    """Or is on this host."""
    statsd = validate(Settings, settings(address), path="nerve.yaml").statsd
    assert isinstance(statsd, StatsdSettings)
    assert str(statsd.address) == address


def test_an_agent_is_not_given_by_name() -> None:
    """The name would be looked up by the loop, again and again: a name server that hangs would hold everything up."""
    with pytest.raises(ConfigError, match=r"statsd.address: must be an IP address, or localhost"):
        validate(Settings, settings("statsd.example.com:8125"), path="nerve.yaml")
