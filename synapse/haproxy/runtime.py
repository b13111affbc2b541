"""HAProxy's runtime socket: one short connection a question, so that a reload never leaves us talking to the past."""

import socket
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from synapse.haproxy.answers import (
    Info,
    Processes,
    parse_info,
    parse_processes,
    parse_servers,
    split_replies,
    succeeded,
)
from synapse.haproxy.commands import batches, command
from synapse.haproxy.errors import HAProxyAway
from synapse.plan import Action, Enable
from synapse.proxy import Slot

ANSWER_SECONDS = 5.0
"""How long an answer may take; 10,000 servers take 9 ms."""

_ADDRESS_SECONDS = 1.0
_POLL_SECONDS = 0.002
_MANY = 20
"""From this many backends on, one question for all is cheaper than one for each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An action that HAProxy did not take, and its words."""

    action: Action
    words: str


@dataclass(frozen=True, slots=True)
class Runtime:
    """The runtime API of one HAProxy: `path` is the worker's socket, `master` the master's."""

    path: str
    master: str
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def info(self) -> Info:
        """Who serves. Raises `HAProxyAway`."""
        info = parse_info(self._ask("show info"))
        if info is None:
            raise HAProxyAway(f"the answer of {self.path} to 'show info' is not one of HAProxy")
        return info

    def processes(self) -> Processes:
        """The master and its workers. Raises `HAProxyAway`."""
        processes = parse_processes(self._send(self.master, "show proc"))
        if processes is None:
            raise HAProxyAway(f"the answer of {self.master} to 'show proc' is not one of HAProxy's master")
        return processes

    def servers(self, backends: Collection[str] | None = None) -> Mapping[str, tuple[Slot, ...]]:
        """The slots of these backends, or of all. One that does not exist is left out. Raises `HAProxyAway`."""
        if backends is None or len(backends) > _MANY:
            found = parse_servers(self._ask("show servers state"))
            return found if backends is None else {name: found[name] for name in backends if name in found}
        slots: dict[str, tuple[Slot, ...]] = {}
        for backend in sorted(backends):
            slots.update(parse_servers(self._ask(f"show servers state {backend}")))
        return slots

    def execute(self, actions: Sequence[Action]) -> list[Failure]:
        """Do these actions in order; each that HAProxy did not take is returned, the others are done all the same.

        An `Enable` is sent only once its slot shows its address. Raises `HAProxyAway`.
        """
        failures: list[Failure] = []
        for batch in batches(actions):
            ready, late = self._await_addresses(batch)
            failures.extend(Failure(action=action, words="the slot does not show its address") for action in late)
            if not ready:
                continue
            replies = split_replies(self._ask(";".join(command(action) for action in ready)))
            for index, action in enumerate(ready):
                words = replies[index] if index < len(replies) else "no reply"
                if not succeeded(words):
                    failures.append(Failure(action=action, words=words))
        return failures

    def _await_addresses(self, batch: Sequence[Action]) -> tuple[list[Action], list[Action]]:
        """The batch, less the slots that cannot be enabled because they do not show their address."""
        enables = [action for action in batch if isinstance(action, Enable)]
        if not enables:
            return list(batch), []
        backends = {action.backend for action in enables}
        deadline = self.clock() + _ADDRESS_SECONDS
        while True:
            shown = {
                (backend, slot.name): (slot.host, slot.port)
                for backend, slots in self.servers(backends).items()
                for slot in slots
            }
            late = [
                action for action in enables if shown.get((action.backend, action.slot)) != (action.host, action.port)
            ]
            if not late or self.clock() >= deadline:
                return [action for action in batch if action not in late], list(late)
            self.sleep(_POLL_SECONDS)

    def _ask(self, line: str) -> str:
        """The worker's answer, by way of the master when the worker's socket is not there.

        A reload does not make that socket anew, because the new worker takes over the open one; the master's it does.
        """
        try:
            return self._send(self.path, line)
        except HAProxyAway as away:
            if not away.nobody_listens:
                raise
            try:
                return self._send(self.master, f"@1;{line}")
            except HAProxyAway as also:
                if also.nobody_listens:
                    raise away from also
                raise

    def _send(self, path: str, line: str) -> str:
        answer = bytearray()
        deadline = self.clock() + ANSWER_SECONDS
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(ANSWER_SECONDS)
                connection.connect(path)
                connection.sendall(line.encode("ascii") + b"\n")
                connection.shutdown(socket.SHUT_WR)
                while chunk := connection.recv(65_536):
                    answer += chunk
                    connection.settimeout(max(0.001, deadline - self.clock()))
        except OSError as error:
            gone = isinstance(error, FileNotFoundError | ConnectionRefusedError)
            why = error.strerror or str(error)
            raise HAProxyAway(f"HAProxy does not answer on {path}: {why}", nobody_listens=gone) from error
        return answer.decode("utf-8", "replace")
