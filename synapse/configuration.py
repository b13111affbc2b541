"""haproxy.cfg on disk: checked before it is swapped in, kept when it was good, put aside with its error when not."""

import contextlib
import os
import re
from pathlib import Path

from smartstack.errors import SmartStackError
from smartstack.process import write_atomically
from synapse.haproxy import program
from synapse.haproxy.errors import ConfigurationRefused


class ConfigurationFile:
    """One haproxy.cfg and what lies beside it: `.candidate` while it is checked, `.rejected` and `.rejected.txt`
    (HAProxy's words) after it was refused."""

    def __init__(self, path: str, binary: str) -> None:
        self.path = path
        self._binary = binary
        self._content: str | None = None

    def content(self) -> str | None:
        """What stands in the file; None when there is none that can be read."""
        if self._content is None:
            with contextlib.suppress(OSError, UnicodeDecodeError):
                self._content = Path(self.path).read_text(encoding="utf-8")
        return self._content

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
            program.check(self._binary, candidate)
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
        if text == self.content() and Path(self.path).exists():
            return False
        write_atomically(self.path, text.encode(), 0o600)
        self._content = text
        return True
