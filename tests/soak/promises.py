"""What must not last: each state that a promise forbids, with when it began, and the longest that was seen. Pure: the
time is an argument, in seconds since the soak began."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A promise that was not kept."""

    at: float
    promise: str
    about: str
    words: str


class Promises:
    """`bounds` says how long each may be broken, in seconds. `worst` is the longest that each was, and of what."""

    def __init__(self, bounds: Mapping[str, float]) -> None:
        self.worst: dict[str, tuple[float, str]] = dict.fromkeys(bounds, (0.0, ""))
        self.violations: list[Violation] = []
        self._bounds = bounds
        self._since: dict[tuple[str, str], float] = {}
        self._told: set[tuple[str, str]] = set()

    def look(self, promise: str, about: str, now: float, *, wrong: str = "") -> None:
        """It is as `wrong` says, or right when that is empty. A violation is told once for as long as it lasts."""
        key = promise, about
        if not wrong:
            self._since.pop(key, None)
            self._told.discard(key)
            return
        lasted = now - self._since.setdefault(key, now)
        self.worst[promise] = max(self.worst[promise], (lasted, about))
        if lasted > self._bounds[promise] and key not in self._told:
            self._told.add(key)
            self.violations.append(
                Violation(at=now, promise=promise, about=about, words=f"{wrong}, for {lasted:.1f} s so far")
            )
