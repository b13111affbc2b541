"""A second pair of eyes on a registry: when a service with one instance is in it, and when it is not."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

LIMIT_SECONDS = 20.0
_POLL_SECONDS = 0.0005


class Watch(Protocol):
    """Sees one service of a registry."""

    name: str

    def seconds_until(self, present: bool, change: Callable[[], None]) -> float:
        """From the call of `change` until the instance is there, or is not. Raises TimeoutError when it never is."""

    def close(self) -> None:
        """Look no more."""


class ZooKeeperWatch:
    """A client of its own, told by ZooKeeper when the service's children change."""

    name = "zookeeper"

    def __init__(self, client: Any, path: str) -> None:
        self._client = client
        self._path = path
        self._changed = threading.Event()
        self._at = 0.0

    def seconds_until(self, present: bool, change: Callable[[], None]) -> float:
        """See `Watch`. The time is that at which the notification came."""
        self._look()
        began = time.monotonic()
        change()
        while self._changed.wait(LIMIT_SECONDS):
            at = self._at
            if self._look() is present:
                return at - began
        raise TimeoutError(f"{self._path} did not change within {LIMIT_SECONDS:g} s")

    def close(self) -> None:
        """See `Watch`."""
        self._client.stop()
        self._client.close()

    def _look(self) -> bool:
        self._changed.clear()
        return bool(self._client.get_children(self._path, watch=self._notified))

    def _notified(self, _event: object) -> None:
        self._at = time.monotonic()
        self._changed.set()


class DirectoryWatch:
    """Looks into the service's directory every half millisecond, which is its resolution."""

    name = "file"

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def seconds_until(self, present: bool, change: Callable[[], None]) -> float:
        """See `Watch`."""
        began = time.monotonic()
        change()
        while time.monotonic() - began < LIMIT_SECONDS:
            if any(name.endswith(".json") and name[0] != "." for name in os.listdir(self._directory)) is present:
                return time.monotonic() - began
            time.sleep(_POLL_SECONDS)
        raise TimeoutError(f"{self._directory} did not change within {LIMIT_SECONDS:g} s")

    def close(self) -> None:
        """See `Watch`."""
