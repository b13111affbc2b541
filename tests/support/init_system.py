"""An init system's stand-in: it owns a HAProxy, with an operator's file and synapse's, and synapse may only ask it."""

import os
import subprocess
from contextlib import suppress
from pathlib import Path

from tests.support.clients import ask
from tests.support.eventually import eventually
from tests.support.pair import Host

OPERATORS_PORT = 3299
OPERATORS_WORDS = "the operator's own"


class Unit:
    """The HAProxy of a host, started as a systemd unit would: `haproxy -W -f OPERATOR'S -f SYNAPSE'S`.

    `reload_script` and `start_script` do what `systemctl reload` and `systemctl start` would.
    """

    def __init__(self, host: Host, binary: str = "haproxy") -> None:
        self._host = host
        self._run = host.directory / "run"
        self._pid_file = host.directory / "unit.pid"
        self.synapses_file = host.state / "haproxy.cfg"
        self.operators_file = host.directory / "operator.cfg"
        self.write_operators_file()
        files = f"-f {self.operators_file} -f {self.synapses_file}"
        start = f"mkdir -p {self._run}; exec {binary} -D -W {files} -p {self._pid_file} -S {self._run}/master.sock"
        check = f"{binary} -c -q {files} >&2 || exit 3"
        self.start_script = self._script("start", start)
        self.reload_script = self._script("reload", f"{check}\nexec kill -USR2 $(cat {self._pid_file})")

    def write_operators_file(self, more: str = "") -> None:
        """A site's haproxy.cfg as it was before there was a synapse, with something of its own that it serves."""
        words = f'http-request return status 200 content-type text/plain string "{OPERATORS_WORDS}"'
        lines = [
            "global",
            "    maxconn 500",
            "    hard-stop-after 5s",
            more,
            "defaults",
            "    mode http",
            "    timeout client 5s",
            "frontend own",
            f"    bind {self._host.address}:{OPERATORS_PORT}",
            f"    {words}",
        ]
        self.operators_file.write_text("\n".join([*lines, ""]))

    def start(self) -> None:
        """Start HAProxy; its file must be there."""
        subprocess.run([self.start_script], check=True, timeout=10)

    def own_words(self) -> str:
        """What the operator's own frontend answers."""
        return ask(self._host.address, OPERATORS_PORT)

    def reload(self) -> None:
        """Reload HAProxy, past synapse."""
        subprocess.run([self.reload_script], check=True, timeout=10)

    def kill(self) -> None:
        """End it, all of it, without warning."""
        for pid in self._host.haproxy_processes():
            with suppress(ProcessLookupError):
                os.kill(pid, 9)
        eventually(lambda: not self._host.haproxy_processes())

    def _script(self, name: str, body: str) -> Path:
        path = self._host.write(f"unit-{name}", f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return path
