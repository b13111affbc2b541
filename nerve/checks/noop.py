"""The `noop` check: always passes, for load tests and for services that cannot be asked."""

from dataclasses import dataclass
from typing import ClassVar

from nerve.checks.base import Outcome, Pace, Target, passed


@dataclass(frozen=True, slots=True, kw_only=True)
class NoopCheck(Pace):
    """Ask nobody. Always passes."""

    kind: ClassVar[str] = "noop"

    def run(self, target: Target) -> Outcome:
        """Raises nothing."""
        return passed("not asked")
