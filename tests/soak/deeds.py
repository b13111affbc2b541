"""How each fault is done, undone, and seen to be healed."""

import json
import os
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from tests.soak.faults import EVERYWHERE, EXTRA, Fault
from tests.soak.fleet import Instance, SoakFleet, SoakHost
from tests.support.pair import Daemon

SLOW = {"after": 0.2}
FAILING = {"status": 500}
TOUCHES = 100


@dataclass(slots=True, kw_only=True)
class Deed:
    """One fault on the fleet. `suspended` are the daemons that others have at the moment, as `nerve on h1`: nobody
    waits for those. `pids` and `session` are what it was done to, for later."""

    fleet: SoakFleet
    fault: Fault
    suspended: frozenset[str] = frozenset()
    pids: list[int] = field(default_factory=list)
    session: str | None = None

    @property
    def host(self) -> SoakHost:
        """The host that it happens to."""
        return self.fleet.hosts[self.fault.host]

    @property
    def instance(self) -> Instance:
        """The instance that it happens to."""
        return self.host.instances[self.fault.service]


class NotNow(Exception):
    """HAProxy is just being reloaded, so that nobody can say which of its processes is meant: try again."""


Step = Callable[[Deed], None]
Check = Callable[[Deed], str]
"""What is missing until it is healed, in words; empty when it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How one kind is done. `missing` is asked after `undo` until nothing is."""

    do: Step
    undo: Step = lambda _: None
    missing: Check = lambda _: ""


# Services


def _mood(mood: Mapping[str, Any] | None) -> Step:
    def set_it(deed: Deed) -> None:
        if mood is None:
            deed.instance.mood.unlink(missing_ok=True)
            return
        # Whole, under another name first: it is read with each request.
        temporary = deed.instance.mood.with_suffix(".new")
        temporary.write_text(json.dumps(mood))
        temporary.rename(deed.instance.mood)

    return set_it


def _announced(announcement: Mapping[str, Any] | None) -> Step:
    """By the nerve of its host, with these settings; None: not any more."""

    def announce(deed: Deed) -> None:
        deed.host.announced.pop(deed.fault.service, None)
        if announcement is not None:
            deed.host.announced[deed.fault.service] = dict(announcement)
        deed.host.announce()

    return announce


def _drain(deed: Deed) -> None:
    deed.host.order("nerve", "/drain", {"services": [deed.fault.service], "reason": "soak", "for_seconds": 600})


def _undrain(deed: Deed) -> None:
    deed.host.order("nerve", "/undrain", {"services": [deed.fault.service]})


def _hold(deed: Deed) -> None:
    order = {"service": deed.fault.service, "address": deed.instance.address}
    deed.fleet.hosts[deed.fault.by].order("synapse", "/hold", {**order, "reason": "soak", "force": True})


def _unhold(deed: Deed) -> None:
    order = {"service": deed.fault.service, "address": deed.instance.address}
    deed.fleet.hosts[deed.fault.by].order("synapse", "/unhold", order)


# Definitions


def _defined(**proxy: Any) -> Step:
    def define(deed: Deed) -> None:
        for host in deed.fleet:
            host.define(deed.fault.service, **proxy)

    return define


def _break(deed: Deed) -> None:
    for host in deed.fleet:
        host.host.write(f"services/{deed.fault.service}.yaml", "port: 9001\nproxy: {listen: [\n")


def _touch(deed: Deed) -> None:
    for host in deed.fleet:
        for _ in range(TOUCHES):
            host.define(deed.fault.service)


def _add(deed: Deed) -> None:
    for host in deed.fleet:
        host.define(EXTRA)
        host.announced[EXTRA] = {}
        host.announce()


def _remove(deed: Deed) -> None:
    for host in deed.fleet:
        del host.announced[EXTRA]
        host.announce()
        host.undefine(EXTRA)


# Daemons


def _daemon(deed: Deed) -> Daemon:
    return deed.host.daemons[_which(deed)]


def _which(deed: Deed) -> str:
    return "synapse" if deed.fault.kind.name.startswith("synapse") else "nerve"


def _launch(deed: Deed) -> None:
    _daemon(deed).wait()
    _daemon(deed).launch()


def _works(deed: Deed) -> str:
    if not deed.host.ready(_which(deed)):
        return "it is not ready"
    return "" if deed.host.connected(_which(deed)) else "it does not know the registry"


def _expire(deed: Deed) -> None:
    file = deed.host.host.directory / "state-1" / "session.json"
    assert file.exists(), "the session is not on disk, which was full: nerve tries again within a minute"
    saved = json.loads(file.read_text())
    deed.session = _session(deed)
    deed.fleet.zookeeper.expire_session(saved["session"], bytes.fromhex(saved["password"]))


def _session(deed: Deed) -> str | None:
    status = deed.host.status("nerve") or {}
    session: str | None = (status.get("registry") or {}).get("session")
    return session


def _has_new_session(deed: Deed) -> str:
    return "" if deed.host.connected("nerve") and _session(deed) != deed.session else "it has no new session"


def _signal(part: str, number: signal.Signals) -> Step:
    def send(deed: Deed) -> None:
        masters, workers = deed.host.haproxy("master"), deed.host.haproxy("worker")
        if len(masters) != 1 or len(workers) != 1:
            raise NotNow
        deed.pids = masters if part == "master" or (part == "either" and deed.fault.number % 2) else workers
        with suppress(ProcessLookupError):
            os.kill(deed.pids[0], number)

    return send


def _continue(deed: Deed) -> None:
    for pid in deed.pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def _has_haproxy(deed: Deed) -> str:
    return "" if deed.host.slots() and deed.host.haproxy("worker") else "HAProxy does not answer"


def _has_new_haproxy(deed: Deed) -> str:
    now = {*deed.host.haproxy("master"), *deed.host.haproxy("worker")}
    if not now or deed.host.slots() is None:
        return "no HAProxy answers"
    return f"the processes are {sorted(now)}" if now & set(deed.pids) else ""


# The registry


def _restart_zookeeper(deed: Deed) -> None:
    deed.fleet.zookeeper.stop()
    deed.fleet.zookeeper.launch()


def _all_connected(deed: Deed) -> str:
    try:
        if "Mode:" not in deed.fleet.zookeeper.command("srvr", timeout_seconds=0.5):
            return "ZooKeeper does not serve"
    except OSError:
        return "ZooKeeper does not answer"
    for host in deed.fleet:
        for daemon in host.daemons:
            if f"{daemon} on {host.name}" not in deed.suspended and not host.connected(daemon):
                return f"{daemon} on {host.name} does not know the registry"
    return ""


_STOP, _CONT, _KILL, _TERM = signal.SIGSTOP, signal.SIGCONT, signal.SIGKILL, signal.SIGTERM

WAYS: Final = {
    "service-killed": Way(
        do=lambda deed: deed.instance.kill(),
        undo=lambda deed: deed.instance.start(),
        missing=lambda deed: "" if deed.instance.answers() else "nobody listens",
    ),
    "service-hung": Way(do=lambda deed: deed.instance.send(_STOP), undo=lambda deed: deed.instance.send(_CONT)),
    "service-slow": Way(do=_mood(SLOW), undo=_mood(None)),
    "service-failing": Way(do=_mood(FAILING), undo=_mood(None)),
    "instance-leaves": Way(do=_announced(None), undo=_announced({})),
    "weight-changed": Way(do=_announced({"weight": 50}), undo=_announced({})),
    "drained": Way(do=_drain, undo=_undrain),
    "held": Way(do=_hold, undo=_unhold),
    "definition-edited": Way(do=_defined(timeouts={"server": "50s"}), undo=_defined()),
    "definition-broken": Way(do=_break, undo=_defined()),
    "definition-refused": Way(do=_defined(raw={"backend": "blance roundrobin"}), undo=_defined()),
    "definition-touched": Way(do=_touch),
    "service-added": Way(do=_add, undo=_remove),
    "nerve-killed": Way(do=lambda deed: _daemon(deed).kill(), undo=_launch, missing=_works),
    "nerve-restarted": Way(do=lambda deed: _daemon(deed).send(_TERM), undo=_launch, missing=_works),
    "nerve-hung": Way(
        do=lambda deed: _daemon(deed).suspend(), undo=lambda deed: _daemon(deed).send(_CONT), missing=_works
    ),
    "session-expired": Way(do=_expire, missing=_has_new_session),
    "synapse-killed": Way(do=lambda deed: _daemon(deed).kill(), undo=_launch, missing=_works),
    "synapse-restarted": Way(do=lambda deed: _daemon(deed).send(_TERM), undo=_launch, missing=_works),
    "synapse-hung": Way(
        do=lambda deed: _daemon(deed).suspend(), undo=lambda deed: _daemon(deed).send(_CONT), missing=_works
    ),
    "haproxy-killed": Way(do=_signal("either", _KILL), missing=_has_new_haproxy),
    "haproxy-hung": Way(do=_signal("worker", _STOP), undo=_continue, missing=_has_haproxy),
    "master-hung": Way(do=_signal("master", _STOP), undo=_continue, missing=_has_haproxy),
    "disk-full": Way(do=lambda deed: deed.host.fill(), undo=lambda deed: deed.host.free()),
    "zookeeper-killed": Way(
        do=lambda deed: deed.fleet.zookeeper.kill(),
        undo=lambda deed: deed.fleet.zookeeper.launch(),
        missing=_all_connected,
    ),
    "zookeeper-hung": Way(
        do=lambda deed: deed.fleet.zookeeper.suspend(),
        undo=lambda deed: deed.fleet.zookeeper.resume(),
        missing=_all_connected,
    ),
    "zookeeper-restarted": Way(do=_restart_zookeeper, missing=_all_connected),
}


def suspends(fault: Fault) -> frozenset[str]:
    """The daemons that cannot be asked while it is under way, as `nerve on h1`."""
    name, _, _ = fault.kind.name.partition("-")
    if fault.host == EVERYWHERE or name not in ("nerve", "synapse"):
        return frozenset()
    return frozenset({f"{name} on {fault.host}"})
