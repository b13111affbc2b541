"""synapse as a process: everything that it has is made here, started in order, and stopped in order."""

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from smartstack import __version__
from smartstack.admin import AdminServer, exposed, healthz, standard_routes
from smartstack.definitions import load_settings
from smartstack.errors import SmartStackError
from smartstack.forms import SOCKET_PATH_LIMIT
from smartstack.installed import source_families
from smartstack.live import LiveConfiguration
from smartstack.process import Heartbeat, ProcessLock, install_signals, run_loop
from smartstack.responses import Question
from smartstack.tokens import Token
from smartstack.wake import Wake
from synapse import dashboard
from synapse.actions import actions, explanation
from synapse.board import WAITING_LIMIT
from synapse.fleet.part import Fleet
from synapse.haproxy.process import Places
from synapse.loop import Synapse, log
from synapse.readiness import Readiness
from synapse.services import services
from synapse.settings import LIVE, Settings
from synapse.status import describe
from synapse.telemetry.exposition import Exposition
from synapse.telemetry.gauges import PATIENCE_SECONDS, Gauge, Gauges
from synapse.telemetry.questions import Telling, telemetry
from synapse.telemetry.taps import TAPS_LIMIT
from synapse.timeline import events

LOCK_FILE = "synapse.lock"


def run(path: str) -> int:
    """Run until somebody asks to stop; the exit code. Raises `SmartStackError` for what keeps it from running at all.

    Nothing of another synapse is touched before both of its directories are locked.
    """
    settings = load_settings(Settings, path, os.environ)
    for directory in (settings.state_directory, settings.run_directory):
        make_directory(directory)
    check_length(settings.run_directory)
    wake, heartbeat = Wake(), Heartbeat()
    with ExitStack() as locks:
        for directory in sorted({settings.state_directory, settings.run_directory}):
            locks.enter_context(ProcessLock(Path(directory) / LOCK_FILE))
        readiness = Readiness(heartbeat)
        synapse = Synapse(LiveConfiguration(Settings, path, families=source_families(), live=LIVE), wake)
        stopping = install_signals(wake, synapse.resync)
        gauge = Gauges(replace(synapse.process.runtime, answer_seconds=PATIENCE_SECONDS)).read
        traffic = Exposition(
            synapse.telemetry, settings.telemetry, gauge=gauge, shares=lambda: synapse.balancer.governor.shares
        )
        synapse.metrics.registry.register(traffic)
        fleet = Fleet(settings, _questions(synapse, gauge), healthz(heartbeat), exposed(synapse.metrics.registry))
        admin = _admin(synapse, settings, heartbeat, readiness, fleet)

        def turn() -> float:
            seconds = synapse.cycle()
            readiness.turned(synapse.snapshot)
            return seconds

        try:
            synapse.start()
            fleet.start()
            run_loop(turn, wake, stopping, heartbeat, log)
        finally:
            synapse.desk.inbox.close()
            fleet.stop()
            synapse.stop()
            if admin is not None:
                admin.stop()
            log.info("stopped", haproxy=settings.haproxy.on_stop)
    return stopping.exit_code


def check_length(run_directory: str) -> None:
    """HAProxy makes its sockets under longer names first. Raises `SmartStackError` when those would not fit."""
    most = SOCKET_PATH_LIMIT - len(Places(configuration="", run_directory="").socket) - len(".12345.tmp")
    if len(os.fsencode(run_directory)) > most:
        raise SmartStackError(
            f"the path of run_directory, {run_directory}, is too long for HAProxy's sockets: give one of at most "
            f"{most} bytes in synapse.yaml"
        )


def make_directory(path: str) -> None:
    """Make a directory for this user alone, if it is not there. Raises `SmartStackError`."""
    try:
        os.makedirs(path, mode=0o750, exist_ok=True)
    except OSError as error:
        raise SmartStackError(
            f"cannot make the directory {path}: {error.strerror}; give another one in synapse.yaml"
        ) from error


def _questions(synapse: Synapse, gauge: Callable[[], Gauge]) -> dict[str, Question]:
    """What may be asked of this host."""
    return {
        "/services": services(lambda: synapse.snapshot, synapse.publisher.board),
        "/explain": explanation(synapse.desk.inbox),
        "/events": events(synapse.timeline),
        **telemetry(_telling(synapse, gauge)),
    }


def _telling(synapse: Synapse, gauge: Callable[[], Gauge]) -> Telling:
    """What is told of requests."""
    known = synapse.telemetry
    return Telling(
        host=known.host,
        history=known.history,
        taps=known.taps,
        counts=lambda: known.counts,
        snapshot=lambda: synapse.snapshot,
        gauge=gauge,
        problems=lambda: known.problems,
    )


def _admin(
    synapse: Synapse, settings: Settings, heartbeat: Heartbeat, readiness: Readiness, fleet: Fleet
) -> AdminServer | None:
    if settings.admin is None:
        return None
    token = Token(settings.run_directory)
    token.write()
    if token.problem is not None:
        log.error("actions cannot be asked for", why=token.problem)
    routes = standard_routes(
        heartbeat=heartbeat,
        ready=lambda: readiness.answer(synapse.snapshot),
        status=lambda: {
            **describe(synapse.snapshot),
            "host": synapse.telemetry.host,
            "version": __version__,
            "actions_problem": token.problem,
            "fleet": fleet.status(),
        },
        metrics=synapse.metrics.registry,
    )
    server = AdminServer(
        settings.admin,
        {**routes, "/": dashboard.page},
        actions(synapse.desk.inbox),
        token,
        prefixes={"/dashboard/": dashboard.file},
        questions=fleet.questions,
        waiting=2 * WAITING_LIMIT + TAPS_LIMIT,
    )
    server.start()
    log.info("admin address", address=str(server.address))
    return server
