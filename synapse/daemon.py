"""synapse as a process: everything that it has is made here, started in order, and stopped in order."""

import os
from pathlib import Path

from smartstack.admin import AdminServer, standard_routes
from smartstack.errors import SmartStackError
from smartstack.live import LiveConfiguration
from smartstack.process import Heartbeat, ProcessLock, install_signals, run_loop
from smartstack.wake import Wake
from synapse.loop import Synapse, log
from synapse.settings import Settings
from synapse.status import describe, ready


def run(configuration: LiveConfiguration[Settings]) -> None:
    """Run until somebody asks to stop. Raises `SmartStackError` for what keeps it from running at all."""
    settings = configuration.settings
    for directory in (settings.state_directory, settings.run_directory):
        make_directory(directory)
    wake, heartbeat = Wake(), Heartbeat()
    with ProcessLock(Path(settings.state_directory) / "synapse.lock"):
        synapse = Synapse(configuration, wake)
        stopping = install_signals(wake)
        admin = _admin(synapse, settings, heartbeat)
        try:
            synapse.start()
            run_loop(synapse.cycle, wake, stopping, heartbeat, log)
        finally:
            synapse.stop()
            if admin is not None:
                admin.stop()
            log.info("stopped", haproxy=settings.haproxy.on_stop)


def make_directory(path: str) -> None:
    """Make a directory for this user alone, if it is not there. Raises `SmartStackError`."""
    try:
        os.makedirs(path, mode=0o750, exist_ok=True)
    except OSError as error:
        raise SmartStackError(
            f"cannot make the directory {path}: {error.strerror}; give another one in synapse.yaml"
        ) from error


def _admin(synapse: Synapse, settings: Settings, heartbeat: Heartbeat) -> AdminServer | None:
    if settings.admin is None:
        return None
    routes = standard_routes(
        heartbeat=heartbeat,
        ready=lambda: ready(synapse.snapshot),
        status=lambda: describe(synapse.snapshot),
        metrics=synapse.metrics.registry,
    )
    server = AdminServer(settings.admin, routes)
    server.start()
    log.info("admin address", address=str(server.address))
    return server
