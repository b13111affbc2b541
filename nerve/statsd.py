"""The metrics of Airbnb's nerve under their own names, for dashboards that a fleet already has. The only home of the
`datadog` client, which is imported only where `statsd` is configured.

Names and tags are those of airbnb/nerve 0.9: datagrams in DogStatsD's form, without a prefix and without sampling.
"""

import logging
from typing import TYPE_CHECKING

from nerve.admission import Admission
from nerve.health import Result, State
from smartstack.errors import SmartStackError
from smartstack.forms import TcpAddress

if TYPE_CHECKING:
    from datadog.dogstatsd.base import DogStatsd


class Statsd:
    """Sends what happens as it happens; never waits, and a datagram that nobody takes is lost.

    Without an address it does nothing. Raises SmartStackError when the client is not installed.
    """

    def __init__(self, address: TcpAddress | None) -> None:
        self._client: DogStatsd | None = None if address is None else _open(address)

    def start(self) -> None:
        """nerve runs."""
        self._count("nerve.start")

    def stop(self) -> None:
        """nerve ends as it should."""
        self._count("nerve.stop", "stop_avenue:clean", "stop_location:main_loop")

    def turned(self, seconds: float) -> None:
        """The loop has turned, in so many seconds."""
        if self._client is not None:
            self._client.timing("nerve.main_loop.elapsed_time", seconds * 1000)

    def configured(self) -> None:
        """Something that is announced was added, edited or taken away."""
        self._count("nerve.config.update")

    def launched(self, service: str, *, update: bool) -> None:
        """A service is watched from now on, or in another way."""
        reason = "update" if update else "new"
        self._count("nerve.watcher.launch", f"launch_reason:{reason}", f"watcher_name:{service}")

    def reaped(self, service: str, *, update: bool) -> None:
        """A service is not watched any more, or not in this way."""
        reason = "update" if update else "old"
        self._count("nerve.watcher.reap", f"reap_reason:{reason}", "reap_result:success", f"watcher_name:{service}")

    def check(self, service: str, check: str, result: Result) -> None:
        """A check gave a result."""
        word = "up" if result.passed else "down"
        tags = (f"check_result:{word}", f"service_name:{service}", f"check_name:{check}")
        self._count("nerve.watcher.status.service_check", *tags)

    def transition(self, service: str, to: State) -> None:
        """A service came into another state."""
        if to is not State.UNKNOWN:
            self._count("nerve.watcher.status.transition", f"new_status:{to.value}", f"service_name:{service}")

    def action(self, service: str, succeeded: bool) -> None:
        """A registry was asked for a change."""
        word = "success" if succeeded else "failure"
        self._count("nerve.watcher.status.report.count", f"report_result:{word}", f"service_name:{service}")

    def held_back(self, service: str, before: Admission | None, now: Admission) -> None:
        """A service that is well may be kept out of the registry."""
        for _ in range(now.throttled - (before.throttled if before else 0)):
            shadow = str(now.shadowed is not None).lower()
            self._count("nerve.watcher.throttled", f"service_name:{service}", f"shadow_mode:{shadow}")

    def _count(self, name: str, *tags: str) -> None:
        if self._client is not None:
            self._client.increment(name, tags=list(tags))


def _open(address: TcpAddress) -> "DogStatsd":
    try:
        from datadog.dogstatsd.base import DogStatsd
    except ImportError:
        raise SmartStackError(
            "cannot send statsd metrics: its client is not installed; "
            "install smartstack-py[statsd], or take `statsd` out of nerve.yaml"
        ) from None
    # That nobody takes a datagram would be a warning for each of them.
    logging.getLogger("datadog.dogstatsd").setLevel(logging.CRITICAL)
    return DogStatsd(
        host=address.host,
        port=address.port,
        disable_buffering=True,
        disable_telemetry=True,
        origin_detection_enabled=False,
        track_instance=False,
    )
