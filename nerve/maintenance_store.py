"""The file that the drains of this host are kept in, so that they survive a restart."""

import os
from pathlib import Path
from typing import Final

from nerve.maintenance import Maintenances, dump, load
from smartstack.errors import SmartStackError
from smartstack.process import write_atomically

FILE: Final = "maintenance.json"
SIZE_LIMIT: Final = 4_194_304
"""Largest file that is read, in bytes: thousands of drains."""


class MaintenanceStore:
    """`maintenance.json` in the state directory; used by the loop thread only."""

    def __init__(self, directory: str) -> None:
        self._path = Path(directory) / FILE
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
        drains = load(data) if len(data) <= SIZE_LIMIT else f"it is larger than {SIZE_LIMIT} bytes"
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
        if data == self._written:
            return
        try:
            write_atomically(self._path, data, 0o600)
        except SmartStackError as error:
            raise SmartStackError(f"cannot change what is drained, and nothing was changed: {error}") from error
        self._written = data

    def _refuse(self, reason: str) -> Maintenances:
        aside = self._path.with_name(f"{FILE}.corrupt")
        try:
            os.replace(self._path, aside)
            kept = f"it is kept as {aside.name}"
        except OSError as error:
            kept = f"it cannot be put aside as {aside.name} ({_reason(error)})"
        self.problem = (
            f"cannot tell what was drained before this start, so nothing is: {self._path} cannot be used ({reason}); "
            f"{kept}; drain again what should be"
        )
        return {}


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
