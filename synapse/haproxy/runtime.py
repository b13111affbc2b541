"""HAProxy's runtime socket: one short connection a question, so that a reload never leaves us talking to the past."""

import socket
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from synapse.haproxy.answers import (
    Info,
    Processes,
    Reloaded,
    parse_backend_id,
    parse_info,
    parse_load,
    parse_processes,
    parse_reload,
    parse_server_loads,
    parse_servers,
    split_replies,
    succeeded,
)
from synapse.haproxy.commands import batches, command
from synapse.haproxy.errors import HAProxyAway
from synapse.plan import Action, Enable
from synapse.proxy import Load, Slot

ANSWER_SECONDS = 5.0
"""How long an answer may take; 10,000 servers take 9 ms."""

ANSWER_LIMIT = 64 * 1_048_576
"""Most bytes of an answer: the state of 10,000 servers takes about one MB."""

_MASTER_SECONDS = 2.0
"""The master has little to do; one that is stopped must not hold up what is done at run time."""

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
    """The runtime API of one HAProxy: `path` is the worker's socket, `master` the master's, None when it has none. The
    worker has `answer_seconds` for an answer."""

    path: str
    master: str | None
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    answer_seconds: float = ANSWER_SECONDS

    def info(self) -> Info:
        """Who serves. Raises `HAProxyAway`."""
        info = parse_info(self._ask("show info"))
        if info is None:
            raise HAProxyAway(f"the answer of {self.path} to 'show info' is not one of HAProxy")
        return info

    def processes(self) -> Processes:
        """The master and its workers. Raises `HAProxyAway`."""
        processes = parse_processes(self._ask_master("show proc", _MASTER_SECONDS))
        if processes is None:
            raise HAProxyAway(f"the answer of {self.master} to 'show proc' is not one of HAProxy's master")
        return processes

    def reload(self, seconds: float) -> Reloaded:
        """Ask the master to reload, and give it so many seconds. Raises `HAProxyAway`."""
        return parse_reload(self._ask_master("reload", seconds))

    def servers(self, backends: Collection[str] | None = None) -> Mapping[str, tuple[Slot, ...]]:
        """The slots of these backends, or of all. One that does not exist is left out. Raises `HAProxyAway`."""
        if backends is None or len(backends) > _MANY:
            found = parse_servers(self._ask("show servers state"))
            return found if backends is None else {name: found[name] for name in backends if name in found}
        slots: dict[str, tuple[Slot, ...]] = {}
        for backend in sorted(backends):
            slots.update(parse_servers(self._ask(f"show servers state {backend}")))
        return slots

    def ask(self, text: str) -> str:
        """The worker's answer to commands, of which one may have a payload. Raises `HAProxyAway`."""
        return self._ask(text)

    def load(self, backend: str) -> tuple[int, int]:
        """How many requests this backend has under way, and how many wait for a free place. Raises `HAProxyAway`."""
        # By its number: a frontend has the same name, and is found first.
        number = parse_backend_id(self._ask(f"show servers state {backend}"))
        return (0, 0) if number is None else parse_load(self._ask(f"show stat {number} 6 -1"))

    def server_loads(self, backend: str) -> Mapping[str, Load]:
        """What this backend's slots have to do, by their names. Raises `HAProxyAway`."""
        number = parse_backend_id(self._ask(f"show servers state {backend}"))
        return {} if number is None else parse_server_loads(self._ask(f"show stat {number} 4 -1"))

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
            if not away.nobody_listens or self.master is None:
                raise
            try:
                return self._send(self.master, f"@1;{line}")
            except HAProxyAway as also:
                if also.nobody_listens:
                    raise away from also
                raise

    def _ask_master(self, line: str, seconds: float) -> str:
        if self.master is None:
            raise HAProxyAway("HAProxy's master cannot be asked: no master_socket is given", nobody_listens=True)
        return self._send(self.master, line, seconds)

    def _send(self, path: str, line: str, seconds: float | None = None) -> str:
        answer = bytearray()
        seconds = self.answer_seconds if seconds is None else seconds
        deadline = self.clock() + seconds
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(seconds)
                connection.connect(path)
                connection.sendall(line.encode("ascii") + b"\n")
                connection.shutdown(socket.SHUT_WR)
                while chunk := connection.recv(65_536):
                    answer += chunk
                    left = deadline - self.clock()
                    if left <= 0:
                        raise TimeoutError("timed out: the answer has no end")
                    if len(answer) > ANSWER_LIMIT:
                        raise HAProxyAway(f"HAProxy's answer on {path} is over {ANSWER_LIMIT // 1_048_576} MB")
                    connection.settimeout(left)
        except OSError as error:
            gone = isinstance(error, FileNotFoundError | ConnectionRefusedError)
            why = error.strerror or str(error)
            raise HAProxyAway(f"HAProxy does not answer on {path}: {why}", nobody_listens=gone) from error
        return answer.decode("utf-8", "replace")
