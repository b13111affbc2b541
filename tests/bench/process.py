"""What a process costs, as the kernel counts it (proc(5))."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench.figures import Figure

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """A process at one moment: memory in MB, and the seconds of CPU that it has used since its start."""

    rss: float
    pss: float
    threads: int
    descriptors: int
    cpu_seconds: float

    def figures(self, name: str, size: str, *, headline: bool = False) -> Iterator[Figure]:
        """All but the CPU, of the process with this name."""
        yield Figure(name=f"RSS of {name}", size=size, unit="MB", samples=[self.rss], headline=headline)
        yield Figure(name=f"PSS of {name}", size=size, unit="MB", samples=[self.pss])
        yield Figure(name=f"threads of {name}", size=size, unit="", samples=[self.threads])
        yield Figure(name=f"descriptors of {name}", size=size, unit="", samples=[self.descriptors])


def cost(pid: int) -> Cost:
    """What it costs now."""
    directory = Path(f"/proc/{pid}")
    memory = (directory / "smaps_rollup").read_text()
    # The name of the program is in parentheses and may hold anything; `state` is the first word after it.
    words = (directory / "stat").read_text().rpartition(")")[2].split()
    user, system, threads = int(words[11]), int(words[12]), int(words[17])
    return Cost(
        rss=_megabytes(memory, "Rss"),
        pss=_megabytes(memory, "Pss"),
        threads=threads,
        descriptors=len(os.listdir(directory / "fd")),
        cpu_seconds=(user + system) / _TICKS_PER_SECOND,
    )


def _megabytes(memory: str, kind: str) -> float:
    match = re.search(rf"^{kind}:\s+(\d+) kB", memory, re.MULTILINE)
    return int(match[1]) / 1024 if match else float("nan")
