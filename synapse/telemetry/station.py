"""Telemetry as a whole: the feed and everybody who is told of it, as the loop and the admin address use it."""

import os
import re
import secrets
import socket
import threading
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Final

from smartstack.errors import SmartStackError
from smartstack.logs import EventLog
from smartstack.process import write_atomically
from synapse.live_map import MAP_FILE, Said, told
from synapse.offers import Offer
from synapse.settings import Settings
from synapse.shifts import Shifts
from synapse.telemetry.callers import Callers
from synapse.telemetry.history import History
from synapse.telemetry.line import Feed
from synapse.telemetry.netlink import own_addresses
from synapse.telemetry.receiver import Counts, Receiver, Sink
from synapse.telemetry.sampling import Sampler
from synapse.telemetry.source import OUTSIDE, Caller, default, safe
from synapse.telemetry.taps import Taps
from synapse.telemetry.totals import Copy, Totals

KEY_FILE: Final = "telemetry.key"
HISTORY: Final = "telemetry"
"""The directory of the last hour, in the state directory."""
_UNIX: Final = "unix"
"""The address of a client that came by a unix socket, as HAProxy writes it."""

_KEY: Final = re.compile(r"[0-9a-f]{16}")


class Telemetry:
    """What is known of requests. Making one starts nothing, and writes the key of the feed if it has none (`writes`).

    `sinks` are told of each request under `lock`; others who read what they hold take that lock, for a moment. `feed`
    is what HAProxy's configuration needs, None where the feed is off, and so is `history`, the last hour. `host` is
    this host's name as a caller. `taps` show requests live.
    """

    def __init__(self, settings: Settings, log: EventLog, changed: Callable[[], None], *, writes: bool) -> None:
        self.lock = threading.Lock()
        self._totals = Totals(instances=settings.telemetry.instance_metrics)
        self.history: History | None = None
        self.taps = Taps()
        self.sinks: list[Sink] = [self._totals, self.taps]
        self.feed: Feed | None = None
        self.host = safe(socket.gethostname())
        self._log = log
        self._given = settings.telemetry.source
        self._default = default(self._given, (), self.host)
        self._callers = Callers(log) if self._given is None else None
        self._own: frozenset[str] = frozenset()
        self._announced: set[str] = set()
        self._receiver: Receiver | None = None
        self._sampler: Sampler | None = None
        self._key_problem: str | None = None
        address = settings.feed
        if address is not None:
            self.history = History(Path(settings.state_directory) / HISTORY, self.lock, log, writes=writes)
            self._sampler = Sampler(settings.telemetry.sample_above, changed, _known_shares(settings.state_directory))
            self.sinks += (self.history, self._sampler)
            self.feed = Feed(address=address, key=self._key(Path(settings.state_directory) / KEY_FILE, writes))
            self._receiver = Receiver(self.feed, self.sinks, self.lock, log, changed=changed, unnamed=self._caller)

    @property
    def counts(self) -> Counts:
        """What was received, and lost; all zero where the feed is off."""
        return Counts() if self._receiver is None else self._receiver.counts

    @property
    def shares(self) -> Mapping[str, float]:
        """The share of a service's requests that HAProxy is to tell of, where that is not every one."""
        return {} if self._sampler is None else self._sampler.shares

    def said(self, shifts: Shifts) -> Said:
        """What the live map is to hold beside the definitions, with what operators said."""
        return Said(shifts=shifts, told=self.shares, caller=self._default.name)

    def counted(self) -> Copy:
        """What was counted since the start, for /metrics."""
        with self.lock:
            return self._totals.copy()

    @property
    def problems(self) -> tuple[str, ...]:
        """Why nothing, or not all, is known of requests."""
        parts = (part.problem for part in (self._receiver, self.history) if part is not None)
        found = (self._key_problem, *parts)
        return tuple(problem for problem in found if problem is not None)

    def look(self, offers: Mapping[str, Offer], changed: Collection[str], *, everything: bool) -> None:
        """Take note of the routes of the services, and of which are announced from this host; `changed` are those to
        look at, all of them where this host's addresses may have changed too (`everything`)."""
        if not (changed or everything):
            return
        if self.history is not None and changed:
            self._take_paths(self.history, offers)
        if everything or not self._own:
            changed = {*changed, *(offers if self._learn_addresses() else ())}
        for name in changed:
            found = offers[name].choice.instances if name in offers else ()
            if any(instance.host in self._own for instance in found):
                self._announced.add(name)
            else:
                self._announced.discard(name)
        self._default = default(self._given, self._announced, self.host)

    def start(self) -> None:
        """Begin to receive."""
        if self._receiver is not None:
            if self._callers is not None:
                self._callers.start()
            self._learn_addresses()
            self._receiver.start()
        if self.history is not None:
            self.history.start()

    def stop(self) -> None:
        """Receive no more."""
        self.taps.close()
        if self._receiver is not None:
            self._receiver.stop()
        if self.history is not None:
            self.history.stop()
        if self._callers is not None:
            self._callers.stop()

    def _take_paths(self, history: History, offers: Mapping[str, Offer]) -> None:
        """Have the routes of services named as their definitions say."""
        proxies = {name: offer.definition.proxy for name, offer in offers.items()}
        history.know({name: proxy.paths for name, proxy in proxies.items() if proxy is not None and proxy.paths})
        self._totals.templates = history.templates

    def _caller(self, client: str, client_port: int, listener: str, listener_port: int) -> Caller:
        """Who calls, where HAProxy does not know; for the thread of the feed."""
        if client == _UNIX:
            return self._default
        if not (client in self._own or client.startswith("127.") or client == "::1"):
            return OUTSIDE
        name = None if self._callers is None else self._callers.name((client, client_port, listener, listener_port))
        return self._default if name is None else Caller(name=name, kind="process")

    def _learn_addresses(self) -> bool:
        """Whether this host has other addresses than it had."""
        try:
            own = own_addresses()
        except OSError as error:
            self._log.debug("the addresses of this host are not known", why=str(error))
            return False
        changed, self._own = own != self._own, own
        return changed

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


def _known_shares(state_directory: str) -> Mapping[str, float]:
    """What HAProxy tells of already, by the live map that a synapse before this one left."""
    try:
        return told((Path(state_directory) / MAP_FILE).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return {}
