"""What must stay flat: series of samples, held against what they may grow by. Pure."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

WARM_UP_SECONDS: Final = 30.0
"""A process that lives longer is judged from then on; one that lives less is not judged for what it grew."""

SLOPE_SECONDS: Final = 600.0
"""A shorter series says nothing of an hour."""

LEAST_SAMPLES: Final = 8

Sample = tuple[float, float]
"""When, in seconds since the soak began, and how much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """From the first quarter of a series to its last, in medians; `per_hour` is the slope of its regression line, None
    where the series is too short for one."""

    first: float
    last: float
    most: float
    per_hour: float | None

    @property
    def grown(self) -> float:
        """How much."""
        return self.last - self.first


def growth(samples: Sequence[Sample]) -> Growth | None:
    """Of one series; None where it is too short to say."""
    warm = [sample for sample in samples if sample[0] - samples[0][0] >= WARM_UP_SECONDS]
    if len(warm) < LEAST_SAMPLES:
        return None
    quarter = len(warm) // 4
    values = [value for _, value in warm]
    return Growth(
        first=median(values[:quarter]),
        last=median(values[-quarter:]),
        most=max(values),
        per_hour=3600 * _slope(warm) if warm[-1][0] - warm[0][0] >= SLOPE_SECONDS else None,
    )


def _slope(samples: Sequence[Sample]) -> float:
    middle = sum(at for at, _ in samples) / len(samples)
    mean = sum(value for _, value in samples) / len(samples)
    spread = sum((at - middle) ** 2 for at, _ in samples)
    return sum((at - middle) * (value - mean) for at, value in samples) / spread if spread else 0.0


class Series:
    """Samples by what they are of: `RSS`, `nerve on h3`, and the process, whose successor is another series."""

    def __init__(self) -> None:
        self._samples: dict[tuple[str, str, int], list[Sample]] = defaultdict(list)

    def add(self, what: str, of: str, life: int, at: float, value: float) -> None:
        """One sample; `life` tells processes apart, 0 for what is none."""
        self._samples[what, of, life].append((at, value))

    def growths(self) -> dict[tuple[str, str], Growth]:
        """By what and of whom: of several lives the one that grew most."""
        found: dict[tuple[str, str], Growth] = {}
        for (what, of, _), samples in self._samples.items():
            one = growth(samples)
            if one is not None and (found.get((what, of)) is None or found[what, of].grown < one.grown):
                found[what, of] = one
        return found

    def most(self) -> dict[str, float]:
        """The largest value of each kind that was ever seen."""
        most: dict[str, float] = {}
        for (what, _, _), samples in self._samples.items():
            most[what] = max([most.get(what, 0.0), *(value for _, value in samples)])
        return most


def too_much(growths: Mapping[tuple[str, str], Growth], bounds: Mapping[str, float]) -> list[str]:
    """In words, what grew by more than its bound."""
    return [
        f"{what} of {of} grew by {one.grown:.1f}, from {one.first:.1f} to {one.last:.1f}; {bounds[what]:g} is the bound"
        for (what, of), one in sorted(growths.items())
        if what in bounds and one.grown > bounds[what]
    ]
