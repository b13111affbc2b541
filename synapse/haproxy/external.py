"""A HAProxy that somebody else owns, an init system as a rule: it is looked at and asked to reload, and never ended.

Its owner starts it with a file that synapse writes. Whether it runs is seen by its socket, and by /proc where the
socket was removed and HAProxy is on this machine.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from synapse.haproxy.answers import Info
from synapse.haproxy.errors import HAProxyAway, HAProxyError, NotOursToStart
from synapse.haproxy.owner import CONFIRM_SECONDS, await_worker, failed_reloads
from synapse.haproxy.proc import EndWatch, runs_with, serving_with
from synapse.haproxy.runtime import Runtime
from synapse.operator_command import run_command

COMMAND_SECONDS = 20.0
"""How long a command of the owner's may take; `systemctl reload` has HAProxy check its files first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Commands:
    """How its owner has it reloaded and started: programs with their arguments; empty when there is none."""

    reload: Sequence[str] = ()
    start: Sequence[str] = ()


class ExternalHAProxy:
    """The HAProxy that runs with this configuration file. `ring` is called when its worker ends."""

    def __init__(self, runtime: Runtime, configuration: str, commands: Commands, ring: Callable[[], None]) -> None:
        self.runtime = runtime
        self._configuration = configuration
        self._commands = commands
        self._end = EndWatch(ring)
        self._worker: int | None = None

    def running(self) -> bool:
        """Whether its socket is there with somebody behind it, or a process runs with its file."""
        try:
            self.runtime.info()
        except HAProxyAway as away:
            return not away.nobody_listens or serving_with(self._configuration)
        return True

    def observe(self) -> Info | None:
        """Who serves, None when it is not running. Raises `HAProxyAway` when it is and does not answer."""
        try:
            info = self.runtime.info()
        except HAProxyAway as away:
            if not away.nobody_listens:
                raise
            if not serving_with(self._configuration):
                return None
            if self.runtime.master is not None:
                raise
            raise HAProxyAway(
                f"HAProxy runs, but its socket {self.runtime.path} is gone, and a reload does not make it again: "
                "restart HAProxy, or give haproxy.master_socket in synapse.yaml"
            ) from away
        if info.pid != self._worker:
            self._worker = info.pid
            if runs_with(info.pid, self._configuration):  # else it is in another container, with other process ids
                self._end.follow(info.pid)
        return info

    def start(self, description: str) -> Info:
        """By its owner's command, if there is one; then wait until it serves. Raises `HAProxyError`."""
        if not self._commands.start:
            raise NotOursToStart(
                "HAProxy is not running, and it is not synapse's to start: start it with "
                f"{self._configuration} as one of its files, or give haproxy.start in synapse.yaml",
                nobody_listens=True,
            )
        run("start", self._commands.start)
        info = await_worker(self.runtime, description, None, lambda: False)
        if info is None:
            raise HAProxyError(
                f"cannot start HAProxy: within {CONFIRM_SECONDS:g} s after {' '.join(self._commands.start)} nobody "
                f"serves {description} at {self.runtime.path}; does it run with {self._configuration}?"
            )
        return info

    def reload(self, description: str) -> Info:
        """By its owner's command, else by its master's socket; then wait until a new worker serves. Raises
        `HAProxyError`, with the words of the command or of HAProxy."""
        try:
            before: int | None = self.runtime.info().pid
        except HAProxyAway:
            before = None
        failures = failed_reloads(self.runtime)
        if self._commands.reload:
            how = " ".join(self._commands.reload)
            run("reload", self._commands.reload)
        else:
            how = f"the reload by {self.runtime.master}"
            answer = self.runtime.reload(COMMAND_SECONDS)
            if answer.success is False:
                words = answer.words or "it does not say why; its own log does"
                raise HAProxyError(f"cannot reload HAProxy: {words}")
        info = await_worker(self.runtime, description, before, lambda: failed_reloads(self.runtime) > failures)
        if info is None:
            raise HAProxyError(
                f"cannot reload HAProxy: after {how}, no new process serves {description} at {self.runtime.path}; its "
                f"own log may say why, and whether it runs with {self._configuration}"
            )
        return info

    def stop(self) -> None:
        """It is its owner's to end."""

    def end_leftovers(self) -> None:
        """They are its owner's to end."""


def run(what: str, command: Sequence[str]) -> None:
    """Run a command of the owner's. Raises `HAProxyError` with its last words when it fails or takes too long.

    One that takes too long is ended by itself: what it started may be HAProxy, which is not ours to end.
    """
    why = run_command(command, COMMAND_SECONDS)
    if why is not None:
        raise HAProxyError(f"cannot {what} HAProxy: {why}")
