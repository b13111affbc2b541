"""What HAProxy reads beside its configuration: the live map, on disk and in the running worker, as it is wanted."""

from collections.abc import Callable
from pathlib import Path

from smartstack.errors import SmartStackError
from smartstack.process import write_atomically
from synapse.haproxy.answers import split_replies
from synapse.haproxy.map_commands import lines, parse_number, parse_shown, succeeded
from synapse.live_map import Entries, changes, text
from synapse.switches import LUA, Live


class LiveMap:
    """One file, and HAProxy's copy of it. For one thread only.

    `ask` has the running worker answer a command (`Runtime.ask`). `mode` is the file's."""

    def __init__(self, live: Live, ask: Callable[[str], str], *, mode: int = 0o600) -> None:
        self.path = live.path
        self._lua = live.lua
        self._ask = ask
        self._mode = mode
        self._wanted: Entries | None = None
        self._written: str | None = None
        self._told: tuple[int, Entries] | None = None
        self._touched = True

    def touch(self) -> None:
        """Somebody else may have changed it: compare at the next call, whatever is remembered."""
        self._touched = True

    def write(self, wanted: Entries) -> None:
        """Have the files as they are wanted, for the HAProxy that reads them next. Raises `SmartStackError`."""
        self._wanted = wanted
        content = text(wanted)
        if content == self._written and not self._touched:
            return
        for path, each in ((self.path, content), *(((self._lua, LUA),) if self._lua else ())):
            if _content(path) != each:
                write_atomically(path, each.encode(), self._mode)
        self._written = content

    def tell(self, worker: int) -> int:
        """Have the running worker's copy as the file is; answer how many entries somebody else had changed.

        One that has not loaded the file needs nothing: none of its rules reads it. Raises `HAProxyAway`, and
        `SmartStackError` for an answer that is not known; all is tried again at the next call then.
        """
        wanted = self._wanted
        if wanted is None or (self._told == (worker, wanted) and not self._touched):
            return 0
        foreign = self._told == (worker, wanted)
        self._told = None
        told = self._change(wanted)
        self._told = (worker, wanted)
        self._touched = False
        return told if foreign else 0

    def _change(self, wanted: Entries) -> int:
        number = parse_number(self._ask("show map"), self.path)
        if number is None:
            return 0
        answer = self._ask(f"show map #{number}")
        shown = parse_shown(answer)
        if shown is None:
            raise SmartStackError(f"HAProxy's answer to 'show map' is not known: {answer[:100]!r}")
        count = 0
        for line, run in lines(changes(shown, wanted), number):
            replies = split_replies(self._ask(line))
            for index, change in enumerate(run):
                words = replies[index] if index < len(replies) else "no reply"
                if not succeeded(change, words):
                    raise SmartStackError(f"HAProxy answered {words[:100]!r} to a change of the live map")
            count += len(run)
        return count


def _content(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
