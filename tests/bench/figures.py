"""What a benchmark answers: figures, and the part of the benchmarks that they come from. Nothing here measures."""

import inspect
import math
import shlex
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

SAMPLES_FOR_P99: Final = 100
"""With fewer of them the 99th percentile is the largest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One thing that was measured, as often as there are samples.

    `size` is of what it was measured on, as far as the name does not say it. A `headline` stands in the README too.
    """

    name: str
    size: str
    unit: str
    samples: Sequence[float]
    headline: bool = False

    def __post_init__(self) -> None:
        if not self.samples:
            raise ValueError(f"{self.name}, {self.size}: no sample was taken")

    def quantile(self, share: float) -> float:
        """The sample at this share of them, by the nearest rank: 0 is the least, 1 the largest."""
        ranked = sorted(self.samples)
        return ranked[max(0, math.ceil(share * len(ranked)) - 1)]

    @property
    def median(self) -> float:
        """The sample in the middle, or what lies between the two that are."""
        return float(statistics.median(self.samples))

    @property
    def p99(self) -> float | None:
        """The 99th percentile; None where there are too few samples to tell."""
        return self.quantile(0.99) if len(self.samples) >= SAMPLES_FOR_P99 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One measurement of a program of this package.

    The keyword arguments of `measure`, with their defaults, are its options; its docstring says what is measured. It
    yields figures as it goes. `quick` are the options of a run of a few seconds, which shows that it works.
    """

    program: str
    title: str
    measure: Callable[..., Iterator[Figure]]
    quick: Mapping[str, Any]

    @property
    def name(self) -> str:
        """What it is called on the command line of its program."""
        return self.measure.__name__

    @property
    def file(self) -> str:
        """The name of its JSON."""
        return f"{self.program}.json" if self.name == self.program else f"{self.program}-{self.name}.json"

    @property
    def about(self) -> str:
        """What is measured, in one paragraph."""
        return " ".join((inspect.getdoc(self.measure) or "").split())

    @property
    def options(self) -> dict[str, Any]:
        """Its options with their defaults."""
        return {name: each.default for name, each in inspect.signature(self.measure).parameters.items()}

    def command(self, options: Mapping[str, Any]) -> str:
        """What repeats it with these options."""
        words = ["python", "-m", f"tests.bench.{self.program}"]
        if self.name != self.program:
            words.append(self.name)
        for name, value in options.items():
            words += [f"--{name.replace('_', '-')}", _word(value)]
        return " ".join(words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One run of a part, on one machine, with the command that repeats it. `load` is the machine's average of the last
    minute at the end of it: what exceeds the number of cores is other work, and makes figures worse."""

    title: str
    about: str
    command: str
    machine: str
    seconds: float
    load: float
    figures: Sequence[Figure] = field(default_factory=list)


def line(figure: Figure) -> str:
    """For a terminal."""
    spread = f"{shown(figure.quantile(0))} … {shown(figure.quantile(1))}" if len(figure.samples) > 1 else ""
    p99 = "" if figure.p99 is None else f"p99 {shown(figure.p99)}"
    words = f"{figure.name:<58} {figure.size:<34} {shown(figure.median):>8} {figure.unit:<10} {spread:<18} {p99}"
    return words.rstrip()


def shown(value: float) -> str:
    """A figure for people: three digits that count, and all before the point."""
    if value == 0:
        return "0"
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _word(value: Any) -> str:
    if isinstance(value, tuple):
        return shlex.quote(",".join(str(each) for each in value))
    return f"{value:g}" if isinstance(value, float) else str(value)
