"""nerve is stopped, killed and edited again and again, with a second watcher that records every event."""

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

from smartstack.forms import ZooKeeperUrl
from tests.bench.nerve_host import NerveHost
from tests.support.eventually import eventually
from tests.support.zookeeper_links import Recorder, deletions, gaps

SETTLED_SECONDS = 60.0
SERVICES = ["api", "web"]
SETTINGS = {"on_stop": "leave", "session_timeout": "30s"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to disturb nerve, again and again: what the watcher saw, and how many seconds each time took."""

    way: str
    events: int
    replaced: int
    gaps: int
    seconds: list[float]


def restart(registry: ZooKeeperUrl, times: int) -> Iterator[Way]:
    """Disturb a nerve in each way so many times."""
    for name, act in (("stop, on_stop: leave", _stop), ("kill -9", _kill), ("edit of a weight", _edit)):
        with closing(NerveHost(registry)) as host, closing(_Closing(Recorder(registry))) as watcher:
            host.define(SERVICES, {"type": "tcp", "interval": "1s"})
            host.serve(len(SERVICES))
            host.start(SERVICES, **SETTINGS)
            before = len(watcher.recorder.heard())
            seconds = []
            for number in range(times):
                began = time.monotonic()
                act(host, number)
                seconds.append(time.monotonic() - began)
            yield Way(
                way=name,
                events=len(watcher.recorder.heard()) - before,
                replaced=deletions(watcher.recorder),
                gaps=len(gaps(watcher.recorder)),
                seconds=seconds,
            )


class _Closing:
    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.close: Callable[[], None] = recorder.stop


def _stop(host: NerveHost, number: int) -> None:
    host.nerve.stop(signal.SIGTERM)
    _start(host)


def _kill(host: NerveHost, number: int) -> None:
    host.nerve.kill()
    _start(host)


def _start(host: NerveHost) -> None:
    host.nerve.start()
    eventually(lambda: host.sum("nerve_registered") == len(SERVICES), within=SETTLED_SECONDS)


def _edit(host: NerveHost, number: int) -> None:
    """Another weight for one of the services."""
    file = host.directory / "nerve.yaml"
    configuration = json.loads(file.read_text())
    configuration["announce"]["web"] = {"weight": number % 200 + 1}
    temporary = file.with_name(".new")
    temporary.write_text(json.dumps(configuration))
    temporary.rename(file)
    weight = float(number % 200 + 1)
    eventually(lambda: host.sum("nerve_weight", service="web") == weight, within=SETTLED_SECONDS)
    eventually(lambda: host.sum("nerve_registered") == len(SERVICES), within=SETTLED_SECONDS)
