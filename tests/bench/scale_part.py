"""`tests.bench.scale` as a part of all benchmarks: its phases as figures. It has a page of its own, docs/scale.md."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench.figures import Figure, Part


def scale(
    *,
    hosts: int = 500,
    services: int = 100,
    instances: int = 10,
    uses: int = 20,
    changes: float = 5.0,
    seconds: float = 10.0,
) -> Iterator[Figure]:
    """A real ZooKeeper under a simulated fleet, whose hosts ask what the daemons ask, each following so many of the
    services: what each phase took until every host knew the truth, and what it cost ZooKeeper. More in scale.md."""
    options = {"hosts": hosts, "services": services, "instances": instances, "uses": uses}
    words = [f"--{name}={value}" for name, value in {**options, "changes": changes, "seconds": seconds}.items()]
    with tempfile.TemporaryDirectory(prefix="bench-scale-") as directory:
        file = Path(directory) / "scale.json"
        command = [sys.executable, "-m", "tests.bench.scale", *words, "--json", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"the simulated fleet: {done.stderr.strip()[-1000:]}")
        phases = json.loads(file.read_text())["phases"]
    size = f"{hosts} hosts, {services} x {instances}"
    for phase in phases:
        name = phase["phase"]
        spread = phase["spread"]
        if spread:
            yield Figure(name=f"{name}: until the last host knew of one", size=size, unit="ms", samples=[spread["p50"]])
        asked = sum(phase["requests"].values())
        if asked:
            yield Figure(name=f"{name}: until all settled", size=size, unit="s", samples=[phase["seconds"]])
        yield Figure(name=f"{name}: requests", size=size, unit="", samples=[asked])
        yield Figure(name=f"{name}: CPU of ZooKeeper", size=size, unit="s", samples=[phase["cpu_seconds"]])


PARTS = (
    Part(
        program="scale",
        title="ZooKeeper under a simulated fleet",
        measure=scale,
        quick={"hosts": 10, "services": 4, "instances": 2, "uses": 2, "seconds": 1.0},
    ),
)
