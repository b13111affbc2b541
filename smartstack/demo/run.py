"""The demo from its start to its end: the fleet with a live line until Ctrl-C, or the tour."""

import shutil
import tempfile
import time
from pathlib import Path

from smartstack.demo import observe
from smartstack.demo.children import Interrupted, Patience
from smartstack.demo.client import Client
from smartstack.demo.fleet import Fleet
from smartstack.demo.layout import Layout
from smartstack.demo.screen import News, Screen, hints, introduction, live_line
from smartstack.demo.tour import RATES, Tour
from smartstack.errors import SmartStackError

INTERRUPTED = 130
"""Exit code of a tour that did not come to its end."""

_LOOK_SECONDS = 0.25


def demo(*, registry: str, tour: bool, directory: str | None, port_base: int) -> int:
    """Run the demo and end what it started. Answers the exit code; raises SmartStackError when it cannot start.

    Without `directory` its files are in a temporary one, which is kept only when something went wrong.
    """
    patience = Patience()
    path = _working_directory(directory)
    keep = directory is not None
    screen = Screen()
    try:
        code, fine = _run(Layout(directory=path, registry=registry, port_base=port_base), patience, screen, tour)
        keep = keep or not fine
        return code
    except SmartStackError as error:
        logs = Path(path, "logs")
        if logs.exists() and any(logs.iterdir()):
            keep = True
            raise SmartStackError(f"{error} (the logs are in {logs})") from error
        raise
    finally:
        if not keep:
            shutil.rmtree(path, ignore_errors=True)


def _run(layout: Layout, patience: Patience, screen: Screen, tour: bool) -> tuple[int, bool]:
    """The exit code, and whether all went well."""
    fleet, client = Fleet(layout, patience), Client()
    try:
        screen.tell(f"starting 3 instances of web, 2 of api, 3 nerves and synapse on {layout.registry_url}")
        began = time.monotonic()
        fleet.start()
        screen.tell(f"everything runs after {time.monotonic() - began:.1f} s")
        for line in introduction(fleet):
            screen.tell(line)
        if tour:
            return _tour(fleet, client, screen)
        _watch(fleet, client, patience, screen)
    except Interrupted:
        screen.end_live()
    finally:
        client.stop()
        fleet.stop()
    screen.tell("everything is stopped")
    return (INTERRUPTED if tour else 0), True


def _tour(fleet: Fleet, client: Client, screen: Screen) -> tuple[int, bool]:
    every_step = Tour(fleet, client, screen.tell).run()
    client.stop()
    total = client.total()
    for failure in client.failures():
        screen.tell(f"failed: {failure}")
    fine = every_step and total.failed == 0
    if not fine:
        screen.tell(f"the logs are in {fleet.layout.directory}/logs")
    screen.tell(f"tour: {total.total} requests, {total.failed} failed")
    return (0 if fine else 1), fine


def _watch(fleet: Fleet, client: Client, patience: Patience, screen: Screen) -> None:
    """Show what happens, until somebody asks to stop (Interrupted)."""
    for line in ("", *hints(fleet), ""):
        screen.tell(line)
    layout = fleet.layout
    for service in ("web", "api"):
        client.ask(service, layout.listen(service), RATES[service])
    news = News(observe.status(layout.synapse_admin))
    ended: set[str] = set()
    failures = 0
    while True:
        patience.wait(_LOOK_SECONDS)
        now = time.strftime("%H:%M:%S")
        for child in fleet.ended():
            if child.name not in ended:
                screen.tell(f"{now} {child.how_it_ended()}")
            ended.add(child.name)
        for child in fleet.revive():
            screen.tell(f"{now} {child.name} is started again, pid {child.pid}")
            ended.discard(child.name)
        for line in news.look(observe.status(layout.synapse_admin)):
            screen.tell(f"{now} {line}")
        for failure in client.failures()[failures:]:
            screen.tell(f"failed: {failure}")
            failures += 1
        screen.live(live_line(client, ("web", "api")))


def _working_directory(wanted: str | None) -> str:
    """An empty directory, absolute. Raises SmartStackError."""
    try:
        if wanted is None:
            return tempfile.mkdtemp(prefix="smartstack-demo-")
        path = Path(wanted).absolute()
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise SmartStackError(f"{path} is not empty: give the demo a new directory, or an empty one")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SmartStackError(f"cannot make a directory for the demo, {error.filename}: {reason}") from error
    return str(path)
