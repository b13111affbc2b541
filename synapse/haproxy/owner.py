"""What synapse may do with a HAProxy, whoever owns it: synapse itself (`process`) or an init system (`external`)."""

import time
from collections.abc import Callable
from typing import Protocol

from synapse.haproxy.answers import Info
from synapse.haproxy.errors import HAProxyAway
from synapse.haproxy.proc import POLL_SECONDS
from synapse.haproxy.runtime import Runtime

CONFIRM_SECONDS = 10.0
"""How long a start or a reload may take: 10,000 servers take 0.2 s."""


class HAProxy(Protocol):
    """The one HAProxy that is kept in step."""

    @property
    def runtime(self) -> Runtime:
        """Its sockets."""
        ...

    def running(self) -> bool:
        """Whether it runs, whether or not it answers."""
        ...

    def observe(self) -> Info | None:
        """Who serves, None when it is not running. Raises `HAProxyAway` when it is and does not answer."""
        ...

    def start(self, description: str) -> Info:
        """Have it started, and wait until it serves the structure of this description. Raises `HAProxyError`, and of
        that `NotOursToStart` where only its owner can."""
        ...

    def reload(self, description: str) -> Info:
        """Have it read its file again, and wait until a new worker serves. Raises `HAProxyError`; the old worker goes
        on then."""
        ...

    def stop(self) -> None:
        """End it, if it is ours to end."""
        ...

    def end_leftovers(self) -> None:
        """End what is left of one that does not run any more, if it is ours to end."""
        ...


def await_worker(runtime: Runtime, description: str, before: int | None, failed: Callable[[], bool]) -> Info | None:
    """Wait for a worker other than `before` that serves the description, asking a fresh connection each time.

    None when it `failed`, or did not come in time.
    """
    deadline = time.monotonic() + CONFIRM_SECONDS
    while time.monotonic() < deadline:
        try:
            info = runtime.info()
            if info.pid != before and info.description == description and not info.stopping:
                return info
        except HAProxyAway:
            pass
        if failed():
            break
        time.sleep(POLL_SECONDS)
    return None


def failed_reloads(runtime: Runtime) -> int:
    """How many reloads have failed since the last good one, as far as the master tells; 0 when it does not."""
    try:
        return runtime.processes().failed_reloads
    except HAProxyAway:
        return 0
