"""What is known of one instance of a service: what its requests say, summed up. Time comes in as an argument. Pure."""

from synapse.balancing.breaker import CLOSED, NONE, Results
from synapse.balancing.ewma import IDLE_SECONDS, fade, faded, fold, log_ms
from synapse.balancing.policy import answer_ms, waited_ms, went_well
from synapse.telemetry.request import Request

GIVEN_UP_MS = 500
"""A client that hung up after having waited so long for an answer says that the instance failed; one that did so sooner
may have had its own reasons."""


class Gauge:
    """One instance. `typical_ms` is what an answer takes, None until there was one; `total_ms` is what `answers` took
    together, and both fade. `good` and `failed` fade over the breaker's window; `good_ever` and `failed_ever` only
    grow.

    `streak` is its failures in a row and `others` what the other instances had altogether when it began. `first` is how
    the first request since the last decision ended. `ended_at` is when a request ended there last, `expected` how many
    would have ended since then, had it had its part of what ended elsewhere; `asked_at` is since when HAProxy has
    requests under way there, `hung_seconds` how long it was silent then. `retried` is what HAProxy counted last of
    requests that it tried elsewhere, and when; `longest_ms` is the longest answer since the pool took it.
    """

    def __init__(self, ended_at: float) -> None:
        self.ended_at = ended_at
        self.typical_ms: float | None = None
        self.longest_ms = 0
        self.total_ms = self.answers = self.good = self.failed = 0.0
        self.good_ever = self.failed_ever = self.streak = 0.0
        self.others = NONE
        self.first: bool | None = None
        self.expected = 0.0
        self.asked_at: float | None = None
        self.hung_seconds: float | None = None
        self.retried: tuple[int, float] | None = None
        self.circuit = CLOSED
        self.share = 1.0
        self._logs = 0.0
        self._count = self._ended = 0

    @property
    def window(self) -> Results:
        """How its requests ended lately."""
        return Results(good=self.good, failed=self.failed)

    def take(self, request: Request, now: float, count: float = 1.0) -> bool | None:
        """A request ended here, which counts so much; whether the instance did its part."""
        self._ended += 1
        self.ended_at, self.expected, self.asked_at = now, 0.0, None
        well, took = went_well(request), None
        if well is not False:
            took = answer_ms(request)
        if took is not None:
            self._measure(took)
            self.longest_ms = max(self.longest_ms, took)
        else:
            waited = waited_ms(request)
            if waited is not None:
                if well is None and waited >= GIVEN_UP_MS:
                    well = False
                if self.typical_ms is None or waited > self.typical_ms:
                    self._measure(waited)  # the answer would have taken longer still
        if well is not None:
            self.result(well, count)
        return well

    def result(self, well: bool, count: float) -> None:
        """So many requests went well here, or failed, maybe without being told of."""
        if well:
            self.good += count
            self.good_ever += count
            self.streak = 0.0
            if self.first is None:
                self.first = True
            return
        self.failed += count
        self.failed_ever += count
        self.streak += count
        if self.first is None and self.streak >= 1:
            self.first = False

    def _measure(self, milliseconds: int) -> None:
        self._logs += log_ms(milliseconds)
        self._count += 1
        self.total_ms += milliseconds
        self.answers += 1

    def fold(self, seconds: float, window_seconds: float) -> int:
        """Take in what was heard in these last seconds; answer how many requests ended."""
        ended, self._ended = self._ended, 0
        if self._count:
            self.typical_ms = fold(self.typical_ms, self._logs / self._count, self._count, seconds)
            self._logs, self._count = 0.0, 0
        self.total_ms = faded(self.total_ms, seconds, IDLE_SECONDS)
        self.answers = faded(self.answers, seconds, IDLE_SECONDS)
        self.good = faded(self.good, seconds, window_seconds)
        self.failed = faded(self.failed, seconds, window_seconds)
        return ended

    def fade(self, toward_ms: float, seconds: float) -> None:
        """Nothing was heard in these seconds: come nearer to what others have."""
        if self.typical_ms is not None:
            self.typical_ms = fade(self.typical_ms, toward_ms, seconds)

    def clear(self) -> None:
        """Begin anew: what was before a pause says nothing of now."""
        self.typical_ms = None
        self.total_ms = self.answers = self.expected = self.streak = 0.0
        self.clear_window()
        self.first = self.asked_at = self.hung_seconds = None

    def clear_window(self) -> None:
        """Count anew how requests end."""
        self.good = self.failed = 0.0
