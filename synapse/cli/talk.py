"""The synapse that synapse's commands talk to."""

from typing import Any
from urllib.parse import quote

from smartstack.talk import RunningDaemon, running_options
from synapse.settings import Settings

running = running_options("synapse")


class Daemon(RunningDaemon[Settings]):
    """The synapse that runs on this host."""

    def __init__(self, path: str, admin: str | None) -> None:
        super().__init__(Settings, path, admin)

    def look_at(self, service: str) -> dict[str, Any]:
        """Its /status of one service, with HAProxy asked anew. Raises SmartStackError when it does not answer."""
        return self.get(f"/explain/{quote(service, safe='')}")
