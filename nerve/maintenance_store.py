"""The file that the drains of this host are kept in, so that they survive a restart."""

from pathlib import Path
from typing import Final

from nerve.maintenance import WORDING
from smartstack import maintenance_store

FILE: Final = "maintenance.json"


class MaintenanceStore(maintenance_store.MaintenanceStore):
    """`maintenance.json` in the state directory."""

    def __init__(self, directory: str) -> None:
        super().__init__(Path(directory) / FILE, WORDING)
