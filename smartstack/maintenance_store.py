"""The file that maintenance is kept in, so that it survives a restart."""

import os
from pathlib import Path
from typing import Final

from smartstack.errors import SmartStackError
from smartstack.maintenance import Maintenances, Wording, dump, load
from smartstack.process import write_atomically

SIZE_LIMIT: Final = 4_194_304
"""Largest file that is read, in bytes: thousands of drains."""


class MaintenanceStore:
    """One file in the state directory; used by the loop thread only. Unless it `writes`, it only looks."""

    def __init__(self, path: str | Path, wording: Wording, *, writes: bool = True) -> None:
        self._path = Path(path)
        self._wording = wording
        self._writes = writes
        self._written: bytes | None = None
        self.problem: str | None = None
        """A sentence about a file that could not be read, None where there is nothing to tell."""

    def load(self) -> Maintenances:
        """The drains that were kept, also those whose time is over by now.

        Where the file cannot be used, `problem` says so; it is put aside for somebody to look at, and nothing is
        drained by it. To drain everything instead would let one bad version, or one bad distribution of files, empty a
        whole fleet; what is wrongly put back to work still has to pass its checks.
        """
        try:
            with open(self._path, "rb") as file:
                data = file.read(SIZE_LIMIT + 1)
        except FileNotFoundError:
            return {}
        except OSError as error:
            return self._refuse(_reason(error))
        drains = load(data, self._wording) if len(data) <= SIZE_LIMIT else f"it is larger than {SIZE_LIMIT} bytes"
        if isinstance(drains, str):
            return self._refuse(drains)
        self._written = data
        return drains

    def save(self, drains: Maintenances) -> None:
        """Keep these; to be called before they take effect. Writes nothing that is there already.

        Raises SmartStackError when they cannot be kept (a full disk, a read-only directory): then nothing may change,
        because the next start would undo it.
        """
        data = dump(drains)
        if data == self._written or not self._writes:
            return
        try:
            write_atomically(self._path, data, 0o600)
        except SmartStackError as error:
            raise SmartStackError(
                f"cannot change what is {self._wording.done}, and nothing was changed: {error}"
            ) from error
        self._written = data

    def _refuse(self, reason: str) -> Maintenances:
        done = self._wording.done
        self.problem = (
            f"cannot tell what was {done} before this start, so nothing is: {self._path} cannot be used ({reason}); "
            f"{self._put_aside()}; {self._wording.noun} again what should be"
        )
        return {}

    def _put_aside(self) -> str:
        aside = self._path.with_name(f"{self._path.name}.corrupt")
        if not self._writes:
            return "it stays where it is"
        try:
            os.replace(self._path, aside)
        except OSError as error:
            return f"it cannot be put aside as {aside.name} ({_reason(error)})"
        return f"it is kept as {aside.name}"


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
