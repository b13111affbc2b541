"""When HAProxy may be started or reloaded after something failed, on a clock of the test's own."""

from pathlib import Path

import pytest

from smartstack.logs import EventLog
from synapse.configuration import ConfigurationFile
from synapse.haproxy import program
from synapse.haproxy.answers import Info
from synapse.haproxy.certificates import Certificates
from synapse.haproxy.errors import HAProxyAway, HAProxyError
from synapse.haproxy.process import HAProxyProcess, Places
from synapse.metrics import Metrics
from synapse.pacing import Pace
from synapse.provenance import Provenance
from synapse.proxy import Observed
from synapse.reload import Reloader
from synapse.render import Renderer
from synapse.settings import HAProxySettings
from synapse.store import Store
from synapse.wanted import Wanting

OLD = Observed(pid=7, description="smartstack-old", backends={})


class Failing(HAProxyProcess):
    """A HAProxy that can be neither started nor reloaded."""

    def start(self, description: str) -> Info:
        raise HAProxyError("it does not start")

    def reload(self, description: str) -> Info:
        raise HAProxyError("it does not reload")


class Clock:
    """Time that passes only when the test says so, in seconds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """A reloader of a HAProxy that always fails."""

    def __init__(self, directory: Path) -> None:
        places = Places(configuration=str(directory / "haproxy.cfg"), run_directory=str(directory))
        binary = program.find("haproxy")
        self.clock = Clock()
        self.wanting = Wanting(Renderer(HAProxySettings(), places.socket, (2, 6)), {})
        process, metrics, log = Failing(binary, places, lambda: None), Metrics(), EventLog("synapse")
        self.reloader = Reloader(
            process=process,
            configuration=ConfigurationFile(places.configuration, binary),
            wanting=self.wanting,
            provenance=Provenance(str(directory)),
            certificates=Certificates(str(directory / "certificates"), process.runtime.ask, metrics, log),
            store=Store(str(directory)),
            running=None,
            pace=Pace(interval_seconds=0.1),
            metrics=metrics,
            log=log,
            clock=self.clock,
        )

    def fail(self, observed: Observed | None) -> None:
        """One reload that fails, or one start where nothing is observed."""
        wanted = self.wanting.update({}, [], observed)
        outcome = self.reloader.replace(wanted, {}, observed, ("changed",), distrusted=False)
        assert outcome.problem is not None
        assert not outcome.replaced

    def waits(self) -> tuple[float, float]:
        """In how many seconds HAProxy may be started, and reloaded."""
        return self.reloader.wait_seconds(starting=True), self.reloader.wait_seconds(starting=False)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_reloads_that_fail_hold_up_no_start(bench: Bench) -> None:
    """Each failed reload doubles the time to the next; a HAProxy that dies meanwhile is started at once."""
    waits = []
    for _ in range(4):
        bench.fail(OLD)
        waits.append(bench.waits())
        bench.clock.now += bench.waits()[1]
    assert waits == [(0, 1), (0, 2), (0, 4), (0, 8)]
    assert bench.waits() == (0, 0)


def test_a_revival_that_fails_holds_up_no_start(bench: Bench) -> None:
    """The same for the reload that makes a lost socket again, which is not tried before its time either."""
    with pytest.raises(HAProxyError, match="it does not reload"):
        bench.reloader.revive()
    assert bench.waits() == (0, 1)
    with pytest.raises(HAProxyAway, match=r"it is reloaded in 1\.0 s"):
        bench.reloader.revive()


def test_starts_that_fail_are_slowed_down(bench: Bench) -> None:
    """Each failed start doubles the time to the next, up to a minute."""
    waits = []
    for _ in range(8):
        bench.fail(None)
        waits.append(bench.waits()[0])
        bench.clock.now += waits[-1]
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
