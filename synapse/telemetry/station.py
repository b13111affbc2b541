"""Telemetry as a whole: the feed and everybody who is told of it, as the loop and the admin address use it."""

import os
import re
import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from smartstack.errors import SmartStackError
from smartstack.logs import EventLog
from smartstack.process import write_atomically
from synapse.settings import Settings
from synapse.telemetry.line import Feed
from synapse.telemetry.receiver import Counts, Receiver, Sink

KEY_FILE: Final = "telemetry.key"
_KEY: Final = re.compile(r"[0-9a-f]{16}")


class Telemetry:
    """What is known of requests. Making one starts nothing, and writes the key of the feed if it has none (`writes`).

    `sinks` are told of each request under `lock`; others who read what they hold take that lock, for a moment. `feed`
    is what HAProxy's configuration needs, None where the feed is off.
    """

    def __init__(self, settings: Settings, log: EventLog, changed: Callable[[], None], *, writes: bool) -> None:
        self.lock = threading.Lock()
        self.sinks: list[Sink] = []
        self.feed: Feed | None = None
        self._receiver: Receiver | None = None
        self._key_problem: str | None = None
        address = settings.feed
        if address is not None:
            self.feed = Feed(address=address, key=self._key(Path(settings.state_directory) / KEY_FILE, writes))
            self._receiver = Receiver(self.feed, self.sinks, self.lock, log, changed)

    @property
    def counts(self) -> Counts:
        """What was received, and lost; all zero where the feed is off."""
        return Counts() if self._receiver is None else self._receiver.counts

    @property
    def problems(self) -> tuple[str, ...]:
        """Why nothing, or not all, is known of requests."""
        found = (self._key_problem, None if self._receiver is None else self._receiver.problem)
        return tuple(problem for problem in found if problem is not None)

    def start(self) -> None:
        """Begin to receive."""
        if self._receiver is not None:
            self._receiver.start()

    def stop(self) -> None:
        """Receive no more."""
        if self._receiver is not None:
            self._receiver.stop()

    def _key(self, path: Path, writes: bool) -> str:
        """What each line begins with, so that no other user of this machine can invent requests: kept, because HAProxy
        goes on with it when synapse is started again."""
        try:
            kept = path.read_text(encoding="ascii", errors="replace").strip()
            if _KEY.fullmatch(kept) and path.stat().st_uid == os.geteuid():
                return kept
        except OSError:
            pass
        key = secrets.token_hex(8)
        if writes:
            try:
                write_atomically(path, key.encode() + b"\n", 0o600)
            except SmartStackError as error:
                self._key_problem = f"{error}; after the next start, HAProxy is reloaded for a new one"
        return key
