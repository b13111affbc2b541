"""A writer in a process of its own, to be killed: `python -m tests.support.zookeeper_child HOSTS ROOT FILE NUMBER...`

Puts these instances, prints its session, and then lives until it is killed or its input ends.
"""

import subprocess
import sys
from pathlib import Path

from smartstack.forms import ZooKeeperUrl
from smartstack.registry.zookeeper import ZooKeeperWriter
from tests.support.eventually import eventually
from tests.support.zookeeper_links import place, put

SESSION_SECONDS = 6.0


def start_child(url: ZooKeeperUrl, file: str, *numbers: int) -> tuple[subprocess.Popen[str], str]:
    """The process, and its session once everything is put."""
    command = [sys.executable, "-m", __name__, url.hosts, url.root, file, *map(str, numbers)]
    child = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )
    assert child.stdout is not None
    return child, child.stdout.readline().strip()


def main(hosts: str, root: str, file: str, *numbers: str) -> None:
    writer = ZooKeeperWriter(
        ZooKeeperUrl(hosts=hosts, root=root), session_timeout_seconds=SESSION_SECONDS, session_file=file
    )
    writer.start(lambda: None)
    eventually(lambda: writer.status().connected, within=10)
    for number in map(int, numbers):
        put(writer, number)
    assert len(writer.held([place(int(number)) for number in numbers])) == len(numbers)
    print(writer.status().session, flush=True)
    sys.stdin.read()
    writer.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
