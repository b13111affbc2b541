"""nerve as a process: everything that it has is made here, started in order, and stopped in order."""

import os
import random
import socket
from pathlib import Path

from nerve.advertised import Advertised
from nerve.loop import LIVE, Nerve
from nerve.runner import Runner
from nerve.settings import Settings
from nerve.status import describe, ready
from smartstack.admin import AdminServer, standard_routes
from smartstack.definitions import load_settings
from smartstack.installed import check_families
from smartstack.live import LiveConfiguration
from smartstack.logs import EventLog
from smartstack.process import Heartbeat, ProcessLock, install_signals, run_loop
from smartstack.registry import open_writer
from smartstack.wake import Wake

LOCK_FILE = "nerve.lock"


def run(path: str, log: EventLog) -> int:
    """Run until SIGTERM or SIGINT, then deregister everything; the exit code.

    Raises ConfigError when the settings are wrong, SmartStackError when another nerve has the state directory, the
    admin address is taken, or the registry cannot be used.
    """
    path = os.path.abspath(path)
    settings = load_settings(Settings, path, os.environ)
    wake = Wake()
    with ProcessLock(Path(settings.state_directory) / LOCK_FILE):
        live = LiveConfiguration(Settings, path, families=check_families(), live=LIVE)
        writer = open_writer(settings.registry, session_timeout_seconds=settings.session_timeout)
        runner = Runner(wake.ring, random.Random())
        nerve = Nerve(
            live,
            writer,
            runner,
            host_name=socket.gethostname(),
            advertised=Advertised(path, settings.state_directory, log),
            log=log,
        )
        stopping = install_signals(wake, nerve.resync)
        heartbeat = Heartbeat()
        admin = _admin(settings, nerve, heartbeat)
        try:
            if admin is not None:
                admin.start()
            writer.start(wake.ring)
            live.watch(wake.ring)
            log.info("nerve runs", registry=settings.registry, admin=settings.admin, pid=os.getpid())
            run_loop(nerve.cycle, wake, stopping, heartbeat, log)
            log.info("nerve stops, and takes back what it registered")
        finally:
            # Before anything else: from now on no new request should come here.
            writer.stop()
            runner.stop()
            live.stop()
            if admin is not None:
                admin.stop()
    return stopping.exit_code


def _admin(settings: Settings, nerve: Nerve, heartbeat: Heartbeat) -> AdminServer | None:
    if settings.admin is None:
        return None
    routes = standard_routes(
        heartbeat=heartbeat,
        ready=lambda: ready(nerve.status),
        status=lambda: describe(nerve.status),
        metrics=nerve.metrics.registry,
    )
    return AdminServer(settings.admin, routes)
