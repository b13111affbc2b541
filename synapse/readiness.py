"""Readiness: once synapse was ready it stays so while its loop turns, whatever goes away later."""

from smartstack.admin import HEARTBEAT_LIMIT_SECONDS
from smartstack.process import Heartbeat
from synapse.status import Snapshot, degraded, missing


class Readiness:
    """Latched by the first turn in which every service was seen and HAProxy served.

    What is missing afterwards is `degraded`, and no reason to take a host out of service: a registry that is away is
    away for every host at once, and HAProxy goes on with what was known.
    """

    def __init__(self, heartbeat: Heartbeat, limit_seconds: float = HEARTBEAT_LIMIT_SECONDS) -> None:
        self._heartbeat = heartbeat
        self._limit_seconds = limit_seconds
        self._reached = False

    def turned(self, snapshot: Snapshot | None) -> None:
        """A turn of the loop is done."""
        self._reached = self._reached or not missing(snapshot)

    def answer(self, snapshot: Snapshot | None) -> tuple[bool, dict[str, object]]:
        """Whether synapse is ready; what is missing for that, or what is not as it should be all the same."""
        if not self._reached or snapshot is None:
            return False, {"missing": missing(snapshot), "degraded": []}
        age = self._heartbeat.age_seconds()
        if age >= self._limit_seconds:
            return False, {"missing": [f"a turn of the loop since {age:.0f} s"], "degraded": degraded(snapshot)}
        return True, {"missing": [], "degraded": degraded(snapshot)}
