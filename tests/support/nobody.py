"""Runs a piece of Python in a child process without root's rights, so that permissions mean something."""

import os
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
DROP_RIGHTS = """
import os
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
"""


def run_as_nobody(imports: str, code: str, *arguments: object) -> list[str]:
    """Run `code` after `imports`, which still happen with all rights, and return the lines it printed."""
    child = subprocess.run(
        [sys.executable, "-c", f"import sys\n{imports}\n{DROP_RIGHTS}\n{code}", *map(str, arguments)],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )
    assert child.returncode == 0, child.stdout
    return child.stdout.splitlines()
