"""The nerve that nerve's commands talk to."""

from nerve.settings import Settings
from smartstack.talk import RunningDaemon, running_options

running = running_options("nerve")


class Daemon(RunningDaemon[Settings]):
    """The nerve that runs on this host."""

    def __init__(self, path: str, admin: str | None) -> None:
        super().__init__(Settings, path, admin)
