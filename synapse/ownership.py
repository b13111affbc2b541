"""Whose HAProxy it is: made as the settings say, with its file."""

import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from synapse.configuration import ConfigurationFile
from synapse.haproxy import program
from synapse.haproxy.capabilities import Capabilities, Capability
from synapse.haproxy.external import Commands, ExternalHAProxy
from synapse.haproxy.owner import HAProxy
from synapse.haproxy.process import HAProxyProcess, Places
from synapse.haproxy.runtime import Runtime
from synapse.live_map import MAP_FILE
from synapse.pacing import Pace
from synapse.render import Renderer
from synapse.settings import HAProxySettings, Settings
from synapse.switches import Live, delays
from synapse.telemetry.line import Feed

OWN_MODE = 0o600
EXTERNAL_MODE = 0o640
"""Its owner may run HAProxy as another user, of the file's group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ownership:
    """A HAProxy, the file that synapse writes for it, and what it can do. `certificates` is the directory in which it
    finds the content of certificate files, `live` what else it reads; `mode` is what these have, and the file."""

    process: HAProxy
    file: ConfigurationFile
    capabilities: Capabilities
    certificates: str
    live: Live
    mode: int

    def renderer(self, settings: HAProxySettings, feed: Feed | None) -> Renderer:
        """Renders for this HAProxy, which tells `feed` of requests. Raises `TemplateError`."""
        can = self.capabilities
        return Renderer(
            settings,
            self.process.runtime.path,
            can.version,
            tls=can.has(Capability.HTTP_CLIENT_TLS),
            certificates=self.certificates,
            feed=feed,
            live=self.live,
        )


def pace(settings: HAProxySettings) -> Pace:
    """When it may be reloaded; this host's part of the splay goes by its name."""
    return Pace(
        interval_seconds=settings.reload_interval, splay_seconds=settings.reload_splay, host=socket.gethostname()
    )


def take(settings: Settings, ring: Callable[[], None]) -> Ownership:
    """Find the program and make the hand on the process; starts nothing. `ring` is called when HAProxy ends.

    Raises `HAProxyMissing`.
    """
    haproxy = settings.haproxy
    binary = program.find(haproxy.binary)
    places = Places(
        configuration=haproxy.configuration or str(Path(settings.state_directory) / "haproxy.cfg"),
        run_directory=settings.run_directory,
        worker_socket=haproxy.socket,
    )
    capabilities = program.probe(binary)
    certificates = str(Path(settings.state_directory) / "certificates")
    live = _live(settings, capabilities)
    if haproxy.owner == "synapse":
        return Ownership(
            process=HAProxyProcess(binary, places, ring),
            file=ConfigurationFile(places.configuration, binary, mode=OWN_MODE),
            capabilities=capabilities,
            certificates=certificates,
            live=live,
            mode=OWN_MODE,
        )
    file = ConfigurationFile(places.configuration, binary, haproxy.files, EXTERNAL_MODE)
    runtime = Runtime(places.socket, haproxy.master_socket)
    commands = Commands(reload=haproxy.reload, start=haproxy.start)
    process = ExternalHAProxy(runtime, places.configuration, commands, ring)
    return Ownership(
        process=process,
        file=file,
        capabilities=capabilities,
        certificates=certificates,
        live=live,
        mode=EXTERNAL_MODE,
    )


def _live(settings: Settings, capabilities: Capabilities) -> Live:
    directory = Path(settings.state_directory)
    path, allowed = str(directory / MAP_FILE), settings.faults == "allowed"
    if not allowed:
        return Live(path=path)
    lua = str(directory / "haproxy.lua") if capabilities.has(Capability.LUA) else ""
    delay, needed = delays(capabilities.version, lua)
    return Live(path=path, faults=True, delay=delay, lua=needed)
