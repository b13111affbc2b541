"""The process behind a client's port: socket, control group or process, systemd unit or container.

Where the kernel says whose control group a socket belongs to (v2, Linux 5.7), one question is enough. Otherwise, and
for what is in no unit and no container, the descriptors of all processes are looked through, which costs more and finds
only what this user may see: it is done by a thread of its own, and rarely.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Final

from smartstack.logs import EventLog
from synapse.telemetry.netlink import Owner, SocketTable
from synapse.telemetry.source import of_cgroup, safe

KNOWN_SECONDS: Final = 30.0
"""How long, to twice that, what was found of a connection is believed. Its port may be another's by then."""

CONNECTIONS_LIMIT: Final = 4096
ASKED_LIMIT: Final = 50
ASKED_SECONDS: Final = 0.1
"""Questions to the kernel in so long; each costs 11 µs. Whoever is not asked about is counted as the host's."""

SEARCH_SECONDS: Final = 0.2
"""Least time between two searches."""

SEARCH_SHARE: Final = 0.02
"""Most time that searches may take: after one, fifty times as long passes before the next."""

_GROUPS_LIMIT: Final = 10_000
_SEARCHED_LIMIT: Final = 1000

Connection = tuple[str, int, str, int]
"""Address and port that a client calls from, and those that it called."""


class Callers:
    """Names the processes behind connections, as well as that goes without holding up who asks.

    `name` is for one thread. What a search finds is known from the next request of its connection on.
    """

    def __init__(self, log: EventLog, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._table: SocketTable | None = None
        self._known: dict[Connection, str | None] = {}
        self._older: dict[Connection, str | None] = {}
        self._turned = self._filled = clock()
        self._left = ASKED_LIMIT
        self._groups: Mapping[int, str | None] = {}
        self._lock = threading.Lock()
        self._unnamed: dict[Connection, Owner] = {}
        self._news = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to search."""
        try:
            self._table = SocketTable()
        except OSError as error:
            self._log.warning("which process calls is not known", why=(error.strerror or str(error)).lower())
            return
        self._groups = dict(groups())
        self._thread = threading.Thread(target=self._run, name="callers", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Search no more; safe to repeat."""
        self._stopping.set()
        self._news.set()
        if self._thread is not None:
            self._thread.join(timeout=5)
            self._thread = None
        if self._table is not None:
            self._table.close()
            self._table = None

    def name(self, connection: Connection) -> str | None:
        """Who is behind this connection to HAProxy from a client on this host; None where that is not known."""
        with suppress(KeyError):
            return self._known[connection]
        self._pass_time(self._clock())
        if self._left > 0 and self._table is not None:
            self._left -= 1
            owner = self._owner(self._table, connection)
            if owner is not None:
                name = self._known[connection] = self._groups.get(owner.cgroup) or self._older.get(connection)
                if name is None:
                    self._search_later(connection, owner)
                return name
        return self._older.get(connection)

    def _pass_time(self, now: float) -> None:
        if now - self._filled >= ASKED_SECONDS:
            self._filled, self._left = now, ASKED_LIMIT
        if now - self._turned >= KNOWN_SECONDS or len(self._known) >= CONNECTIONS_LIMIT:
            self._turned = now
            self._older, self._known = self._known, {}

    def _owner(self, table: SocketTable, connection: Connection) -> Owner | None:
        """None where the client has hung up."""
        client, client_port, listener, listener_port = connection
        try:
            owner = table.owner((client, client_port), (listener, listener_port))
        except OSError:
            return None
        return owner if owner is not None and owner.inode else None

    def _search_later(self, connection: Connection, owner: Owner) -> None:
        with self._lock:
            if len(self._unnamed) < _SEARCHED_LIMIT:
                self._unnamed[connection] = owner
        self._news.set()

    def _run(self) -> None:
        while True:
            self._news.wait()
            if self._stopping.is_set():
                return
            self._news.clear()
            began = time.monotonic()
            self._search()
            took = time.monotonic() - began
            self._stopping.wait(max(SEARCH_SECONDS, took / SEARCH_SHARE))

    def _search(self) -> None:
        """Find out about the connections of which the kernel's answer said too little."""
        with self._lock:
            wanted, self._unnamed = self._unnamed, {}
        if any(owner.cgroup not in self._groups for owner in wanted.values()):
            # A unit or a container that has started since.
            self._groups = dict(groups())
        found = {at: self._groups.get(owner.cgroup) for at, owner in wanted.items()}
        inodes = {owner.inode: at for at, owner in wanted.items() if found[at] is None}
        if inodes:
            found.update((inodes[inode], name) for inode, name in holders(set(inodes)))
        for connection, name in found.items():
            if name is not None:
                self._known[connection] = name


def groups() -> Iterator[tuple[int, str | None]]:
    """Each control group's number, and the unit or container that it belongs to."""
    for root in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup"):
        if os.path.exists(f"{root}/cgroup.procs"):
            yield from _groups(root)
            return


def _groups(root: str) -> Iterator[tuple[int, str | None]]:
    left, directories = _GROUPS_LIMIT, [root]
    with suppress(OSError):
        yield os.stat(root).st_ino, None
    while directories and left > 0:
        with suppress(OSError), os.scandir(directories.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    left -= 1
                    directories.append(entry.path)
                    yield entry.inode(), of_cgroup(entry.path.removeprefix(root))


def holders(inodes: set[int]) -> Iterator[tuple[int, str]]:
    """Which process has each of these sockets open, by its unit or container, else by its own name."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    pids: list[str] = []
    with suppress(OSError):  # no descriptor left: they stay unknown
        pids = [name for name in os.listdir("/proc") if name.isdigit()]
    for pid in pids:
        if not wanted:
            return
        with suppress(OSError), os.scandir(f"/proc/{pid}/fd") as entries:
            for entry in entries:
                with suppress(OSError):
                    inode = wanted.pop(os.readlink(entry.path), None)
                    if inode is not None:
                        yield inode, _process(pid)


def _process(pid: str) -> str:
    with suppress(OSError), open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="replace") as file:
        for line in file:
            name = of_cgroup(line.rstrip("\n").split(":", 2)[-1])
            if name is not None:
                return name
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return safe(file.read().rstrip("\n"))
    except OSError:
        return "unknown"
