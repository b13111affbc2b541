"""The `ttl` check: the service reports itself, and must do so often enough. Nobody is asked."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from nerve.checks.base import Outcome, Pace, Target, failed, passed
from smartstack.forms import between, duration, write_duration


@dataclass(frozen=True, slots=True, kw_only=True)
class TtlCheck(Pace):
    """Look at the service's last heartbeat (`nerve heartbeat web`). Passes when it is young enough and said so."""

    kind: ClassVar[str] = "ttl"

    ttl: Annotated[float, "a heartbeat counts for so long", duration("10ms")]
    rise: Annotated[int, "passes in a row that bring a failed instance back", between(1, 1000)] = 1
    fall: Annotated[int, "failures in a row that make an instance fail", between(1, 1000)] = 1

    def run(self, target: Target) -> Outcome | None:
        """No verdict while a service that was never heard of may still be about to report. Raises nothing."""
        heartbeat = target.heartbeat
        if heartbeat is None:
            waited = target.now - target.watched_since
            if waited < self.ttl:
                return None
            return failed(f"no heartbeat since nerve began to watch it, {waited:.0f} s")
        age = target.now - heartbeat.at
        if age > self.ttl:
            return failed(f"the last heartbeat was {age:.0f} s ago, ttl {write_duration(self.ttl)}")
        if heartbeat.passed:
            return passed(heartbeat.note or "heartbeat")
        return failed(heartbeat.note or "the service reports itself as not well")
