"""Everything of the fleet that a synapse has, as its process uses it: its own part, and its eyes for the others."""

import socket
from collections.abc import Mapping
from functools import partial
from typing import Any

from smartstack.admin import AdminServer
from smartstack.forms import TcpAddress
from smartstack.logs import EventLog
from smartstack.registry import open_reader, open_writer
from smartstack.registry.protocol import RegistryReader, RegistryWriter
from smartstack.responses import Question, Route
from synapse.fleet.membership import Membership
from synapse.fleet.peers import Peers
from synapse.fleet.questions import KNOWN_SECONDS, fleet_questions, shared
from synapse.fleet.target_file import TargetFile
from synapse.settings import Settings

_log = EventLog("fleet")


class Fleet:
    """Makes what the settings ask for; starts nothing. `local` are the questions that this synapse answers of itself,
    `healthz` says whether its loop turns, `metrics` what is measured. `questions` are both its own and
    those of the whole fleet."""

    def __init__(self, settings: Settings, local: Mapping[str, Question], healthz: Route, metrics: Route) -> None:
        self._peers = Peers(partial(_reader, settings))
        self._targets: TargetFile | None = None
        if settings.prometheus is not None:
            known = partial(self._peers.known, KNOWN_SECONDS)
            self._targets = TargetFile(settings.prometheus.targets, settings.prometheus.nerve_port, known, _log)
        self._membership: Membership | None = None
        self.questions = {**local, **fleet_questions(local, self._peers)}
        if settings.fleet is not None:

            def serve(address: TcpAddress) -> AdminServer:
                return AdminServer(
                    address, {"/healthz": healthz, "/metrics": metrics}, questions=shared(local), name="fleet"
                )

            self._membership = Membership(
                settings.fleet.listen,
                settings.registry,
                host=socket.gethostname(),
                serve=serve,
                open_writer=partial(_writer, settings),
                truce_seconds=settings.session_timeout,
            )

    def start(self) -> None:
        """Begin to be there for others, if the settings say so; waits for nothing."""
        if self._membership is not None:
            self._membership.start()
        if self._targets is not None:
            self._targets.start()

    def status(self) -> dict[str, Any] | None:
        """For people: what came of being announced; None where this host takes no part."""
        return None if self._membership is None else self._membership.status()

    def stop(self) -> None:
        """Take back what is announced, and end every thread; safe to call without a start."""
        if self._targets is not None:
            self._targets.stop()
        if self._membership is not None:
            self._membership.stop()
        self._peers.stop()


def _reader(settings: Settings) -> RegistryReader:
    return open_reader(settings.registry, session_timeout_seconds=settings.session_timeout, options=settings.zookeeper)


def _writer(settings: Settings) -> RegistryWriter:
    return open_writer(settings.registry, session_timeout_seconds=settings.session_timeout, options=settings.zookeeper)
