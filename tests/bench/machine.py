"""The machine that a benchmark runs on, in one line."""

import os
import platform
import re
import subprocess
from pathlib import Path

from tests.bench.rivals import RIVALS
from tests.support.zookeeper import JARS

_ANSWER_SECONDS = 10.0
_VERSION = re.compile(r"\d+\.\d+\.\d+")


def machine() -> str:
    """Cores, CPU, kernel, and the versions of what is measured and compared."""
    words = [f"{os.cpu_count()} cores", _cpu(), f"Linux {platform.release()}", f"Python {platform.python_version()}"]
    for rival in RIVALS.values():
        if (program := rival.program()) is not None:
            words.append(f"{rival.title} {_version(program, rival.version)}")
    for jar in sorted(Path(JARS[0]).parent.glob("zookeeper-[0-9]*.jar")):
        words.append(f"ZooKeeper {jar.stem.removeprefix('zookeeper-')}")
    return ", ".join(words)


def _cpu() -> str:
    match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return match[1].strip() if match else platform.machine()


def _version(program: str, option: str) -> str:
    """The first thing that looks like one in what the program says."""
    try:
        done = subprocess.run([program, option], capture_output=True, text=True, check=False, timeout=_ANSWER_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return "(does not answer)"
    match = _VERSION.search(done.stdout + done.stderr)
    return match[0] if match else "(says no version)"
