"""nerve as a process: everything that it has is made here, started in order, and stopped in order."""

import os
import random
import socket
import time
from collections.abc import Mapping
from pathlib import Path

from nerve.actions import HEARTBEAT, actions
from nerve.advertised import Advertised
from nerve.desk import Desk
from nerve.ending import LastTurns, Leaving
from nerve.lifelines import Lifelines
from nerve.loop import LIVE, Nerve
from nerve.maintenance_store import MaintenanceStore
from nerve.metrics import Metrics
from nerve.orders import Order
from nerve.registrars import Registrars
from nerve.registrations import MAIN
from nerve.runner import Runner
from nerve.settings import Settings
from nerve.statsd import Statsd
from nerve.status import describe, describe_services, ready
from nerve.teller import Teller
from smartstack.admin import AdminServer, standard_routes
from smartstack.definitions import load_settings
from smartstack.inbox import Inbox
from smartstack.installed import check_families
from smartstack.live import LiveConfiguration
from smartstack.logs import EventLog
from smartstack.process import Heartbeat, ProcessLock, install_signals, run_loop
from smartstack.registry import open_writer
from smartstack.responses import json_response, one_of
from smartstack.tokens import HEARTBEAT_TOKEN, Token
from smartstack.wake import Wake

LOCK_FILE = "nerve.lock"

SESSION_FILE = "session.json"
"""The registry session, in the state directory, for the next nerve to go on with."""


def run(path: str, log: EventLog) -> int:
    """Run until SIGTERM, SIGINT or SIGUSR2, and then do with what is registered as `on_stop` says; the exit code.

    Raises ConfigError when the settings are wrong, SmartStackError when another nerve has the state directory, the
    admin address is taken, or a registry cannot be used.
    """
    path = os.path.abspath(path)
    settings = load_settings(Settings, path, os.environ)
    with ProcessLock(Path(settings.state_directory) / LOCK_FILE):
        return _run(path, settings, log)


def _run(path: str, settings: Settings, log: EventLog) -> int:
    wake = Wake()
    live = LiveConfiguration(Settings, path, families=check_families(), live=LIVE)
    registrars = _registrars(settings)
    runner = Runner(wake.ring, random.Random())
    lifelines = Lifelines(wake.ring)
    inbox: Inbox[Order] = Inbox(wake.ring)
    store = MaintenanceStore(settings.state_directory)
    desk = Desk(inbox, store, log, time.monotonic)
    statsd = Statsd(None if settings.statsd is None else settings.statsd.address)
    token = Token(settings.run_directory)
    metrics = Metrics(lambda: nerve.status)
    nerve = Nerve(
        live=live,
        registrars=registrars,
        runner=runner,
        lifelines=lifelines,
        desk=desk,
        teller=Teller(metrics, statsd, log),
        host_name=socket.gethostname(),
        advertised=Advertised(path, settings.state_directory, log),
        actions_problem=lambda: None if settings.admin is None else token.problem,
        heartbeat_problem=lambda: heartbeat.problem,
    )
    stopping = install_signals(wake, nerve.resync)
    leaving = Leaving(wake, stopping)
    heartbeat = Heartbeat(file=None if settings.heartbeat_file is None else Path(settings.heartbeat_file))
    admin = _admin(
        settings=settings, nerve=nerve, metrics=metrics, inbox=inbox, heartbeat=heartbeat, token=token, log=log
    )
    try:
        if admin is not None:
            admin.start()
        registrars.start(wake.ring)
        live.watch(wake.ring)
        statsd.start()
        log.info("nerve runs", registry=settings.registry, admin=settings.admin, pid=os.getpid())
        run_loop(nerve.cycle, wake, stopping, heartbeat, log)
        if nerve.settings.on_stop == "drain" and not leaving.requested:
            again = install_signals(wake, nerve.resync)
            log.info("nerve stops when everything is drained; a second signal stops it at once")
            run_loop(LastTurns(nerve, desk, again, log).cycle, wake, again, heartbeat, log)
        log.info(_farewell(leave=leaving.requested or nerve.settings.on_stop == "leave"))
    finally:
        # Before anything else: from now on no new request should come here.
        registrars.stop(leave=leaving.requested or nerve.settings.on_stop == "leave")
        inbox.close()
        runner.stop()
        lifelines.stop()
        live.stop()
        if admin is not None:
            admin.stop()
        statsd.stop()
    return stopping.exit_code


def session_file(settings: Settings, registry: str) -> str:
    """Where the session with a registry is kept for the next nerve."""
    name = SESSION_FILE if registry == MAIN else f"session-{registry}.json"
    return str(Path(settings.state_directory) / name)


def _farewell(*, leave: bool) -> str:
    if leave:
        return "nerve stops, and leaves what it registered to the next one, for the session time-out at the most"
    return "nerve stops, and takes back what it registered"


def _registrars(settings: Settings) -> Registrars:
    """One writer for each registry; only the session of the main one outlives a restart."""
    seconds = settings.session_timeout
    writers = {
        MAIN: open_writer(
            settings.registry,
            session_timeout_seconds=seconds,
            options=settings.zookeeper,
            session_file=session_file(settings, MAIN),
        )
    }
    for name, other in settings.registries.items():
        writers[name] = open_writer(
            other.url,
            session_timeout_seconds=seconds,
            options=other.zookeeper,
            session_file=session_file(settings, name),
        )
    return Registrars(writers, seconds, time.monotonic)


def _admin(
    *,
    settings: Settings,
    nerve: Nerve,
    metrics: Metrics,
    inbox: Inbox[Order],
    heartbeat: Heartbeat,
    token: Token,
    log: EventLog,
) -> AdminServer | None:
    if settings.admin is None:
        return None
    tokens = [token]
    other_tokens = {}
    if settings.heartbeat_group is not None:
        tokens.append(Token(settings.run_directory, HEARTBEAT_TOKEN, group=settings.heartbeat_group))
        other_tokens[HEARTBEAT] = tokens[-1]
    for each in tokens:
        each.write()
        if each.problem is not None:
            log.error("actions cannot be asked for", why=each.problem)

    def services() -> Mapping[str, object]:
        status = nerve.status
        return {} if status is None else describe_services(status)

    routes = standard_routes(
        heartbeat=heartbeat,
        ready=lambda: ready(nerve.status),
        status=lambda: describe(nerve.status),
        metrics=metrics.registry,
    )
    routes["/services"] = lambda: json_response(200, services())
    return AdminServer(
        settings.admin,
        routes,
        actions(inbox, lambda: nerve.status),
        token,
        prefixes={"/services/": one_of(services, "service")},
        other_tokens=other_tokens,
    )
