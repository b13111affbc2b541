"""haproxy.cfg on disk: checked before it is swapped in, kept when it was good, put aside with its error when not."""

import contextlib
import os
import pwd
import re
from collections.abc import Sequence
from pathlib import Path

from smartstack.errors import SmartStackError
from smartstack.process import write_atomically
from synapse.haproxy import program
from synapse.haproxy.errors import ConfigurationRefused


class ConfigurationFile:
    """One haproxy.cfg and what lies beside it: `.candidate` while it is checked, `.rejected` and `.rejected.txt`
    (HAProxy's words) after it was refused. `foreign`: what stands there is known to be somebody else's."""

    def __init__(self, path: str, binary: str, others: Sequence[str] = (), mode: int = 0o600) -> None:
        """`others` are files of an operator that the same HAProxy is run with, before this one."""
        self.path = path
        self._binary = binary
        self._others = tuple(others)
        self._mode = mode
        self._content: str | None = None
        self._state: tuple[int, int, int] | None = None
        self.foreign = False

    def content(self) -> str | None:
        """What this synapse wrote there, or found there first; None when there is none that can be read."""
        if self._content is None:
            state = self._look()
            with contextlib.suppress(OSError, UnicodeDecodeError):
                self._content = Path(self.path).read_text(encoding="utf-8")
                self._state = state
        return self._content

    def edited(self) -> str | None:
        """In words, that somebody else changed the file since it was last written or read here; None when nobody did.

        It is said once. What `content` tells stays as it was, and the next `swap` puts the file right.
        """
        state = self._look()
        if self._content is None or self.foreign or state == self._state:
            return None
        with contextlib.suppress(OSError, UnicodeDecodeError):
            if Path(self.path).read_text(encoding="utf-8") == self._content:
                self._state = state
                return None
        self.foreign = True
        return f"{self.path} is gone" if state is None else f"{self.path} was changed by somebody else{_who(self.path)}"

    def _look(self) -> tuple[int, int, int] | None:
        """What changes when the file does; None when there is none."""
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    def description(self) -> str | None:
        """The name of the structure in the file; None when it has none."""
        match = re.search(r"^\s*description (\S+)$", self.content() or "", re.MULTILINE)
        return match[1] if match else None

    @property
    def candidate(self) -> str:
        """Where a text stands while HAProxy reads it."""
        return f"{self.path}.candidate"

    def check(self, text: str, *, keep: bool = True) -> None:
        """Have HAProxy read this text, and keep it aside if it is refused and `keep` says so.

        Raises `ConfigurationRefused`, or `SmartStackError` when HAProxy cannot read it.
        """
        candidate = self.candidate
        write_atomically(candidate, text.encode(), 0o600)
        try:
            program.check(self._binary, candidate, self._others)
        except ConfigurationRefused as refused:
            with contextlib.suppress(OSError, SmartStackError):
                if keep:
                    os.replace(candidate, f"{self.path}.rejected")
                    write_atomically(f"{self.path}.rejected.txt", f"{refused.words}\n".encode(), 0o600)
                else:
                    os.unlink(candidate)
            raise
        with contextlib.suppress(OSError):
            os.unlink(candidate)

    def swap(self, text: str) -> bool:
        """Make this the file, whole or not at all; answer whether it changed. Raises `SmartStackError`."""
        if text == self.content() and not self.foreign and Path(self.path).exists():
            return False
        write_atomically(self.path, text.encode(), self._mode)
        self._content = text
        self._state = self._look()
        self.foreign = False
        return True


def _who(path: str) -> str:
    """Whose the file is now, if that is somebody else."""
    try:
        owner = os.stat(path).st_uid
        return "" if owner == os.geteuid() else f" (it belongs to {pwd.getpwuid(owner).pw_name} now)"
    except (OSError, KeyError):
        return ""
