"""What the demo shows: where things are, what to try, and a live line of requests."""

import shutil
import sys
import time
from typing import Any

from smartstack.demo import observe
from smartstack.demo.client import Client
from smartstack.demo.fleet import REVIVE_SECONDS, Fleet, console_script

PLAIN_SECONDS = 5.0
"""How often a line is printed where nobody can redraw it."""


class Screen:
    """Prints lines, and on a terminal keeps one live line below them."""

    def __init__(self) -> None:
        self._redraws = sys.stdout.isatty()
        self._printed_at = time.monotonic()
        self._line = ""

    def tell(self, line: str) -> None:
        """A line that stays."""
        print(f"\r\x1b[K{line}" if self._line else line, flush=True)
        self._draw()

    def live(self, line: str) -> None:
        """What the live line is now."""
        if self._redraws:
            width = shutil.get_terminal_size().columns - 1
            self._line = line if len(line) <= width else line[: width - 1] + "…"
            self._draw()
        elif time.monotonic() - self._printed_at >= PLAIN_SECONDS:
            self._printed_at = time.monotonic()
            print(line, flush=True)

    def end_live(self) -> None:
        """Leave the live line as it is; what follows is below it."""
        if self._line:
            print(flush=True)
        self._line = ""

    def _draw(self) -> None:
        if self._line:
            print(f"\r\x1b[K{self._line}", end="", flush=True)


def live_line(client: Client, services: tuple[str, ...]) -> str:
    """`2668 ok, 0 failed | web host1 508 host2 507 host3 508 | api host1 572 host2 573`"""
    total = client.total()
    parts = [f"{total.ok} ok, {total.failed} failed"]
    for service in services:
        hosts = [f"{host} {count}" for host, count in sorted(client.tally(service).answers.items())]
        parts.append(" ".join([service, *hosts]))
    return " | ".join(parts)


def introduction(fleet: Fleet) -> list[str]:
    """Where things are."""
    layout = fleet.layout
    lines = []
    for service in ("web", "api"):
        pids = [f"{each.host} pid {fleet.services[each].pid}" for each in layout.members if each.service == service]
        lines.append(f"{service:<9} http://{layout.listen(service)}/         {', '.join(pids)}")
    nerves = ", ".join(f"{host} pid {child.pid}" for host, child in fleet.nerves.items())
    haproxy = observe.haproxy_pid(observe.status(layout.synapse_admin))
    lines.append(f"nerve     http://{layout.nerve_admin('host1')}/status  {nerves}")
    lines.append(f"synapse   http://{layout.synapse_admin}/status   pid {fleet.synapse.pid}, HAProxy pid {haproxy}")
    lines.append(f"dashboard http://{layout.synapse_admin}/")
    lines.append(f"registry  {layout.registry_url}")
    lines.append(f"files     {layout.directory} (YAML and logs)")
    return lines


def hints(fleet: Fleet) -> list[str]:
    """What to try."""
    layout = fleet.layout
    return [
        "Try in another terminal, and watch the line below:",
        f"  curl http://{layout.listen('web')}/",
        f"  kill -9 {fleet.services[layout.member('web', 'host2')].pid}    # web on host2",
        f"  kill -USR1 {fleet.services[layout.member('web', 'host3')].pid}    # web on host3 is slow; again: quick",
        f"  kill -9 {fleet.nerves['host1'].pid}    # nerve on host1",
        f"  kill -9 {fleet.synapse.pid}    # synapse",
        f"  ${{EDITOR:-vi}} {layout.service_yaml('web')}",
        f"  {console_script('synapse')} stat -w -c {layout.synapse_yaml}    # also: status, tap web, edges, events -w",
        f"What was killed is started again after {REVIVE_SECONDS:g} s. Ctrl-C ends everything.",
    ]


class News:
    """What changed in synapse's /status since the last look, in words."""

    def __init__(self, told: dict[str, Any]) -> None:
        self._told = told

    def look(self, told: dict[str, Any]) -> list[str]:
        """One line for each change; nothing while synapse does not answer or has not looked yet."""
        if "haproxy" not in told:
            return []
        before, self._told = self._told, told
        lines = []
        for service in sorted({*before.get("services", {}), *told["services"]}):
            was, now = observe.serving(before, service), observe.serving(told, service)
            lines += [f"{service}: {address} left, {_count(now)}" for address in sorted(was - now)]
            lines += [f"{service}: {address} came, {_count(now)}" for address in sorted(now - was)]
        for service in sorted({*before.get("problems", {}), *told["problems"]}):
            was_wrong, now_wrong = observe.problem(before, service), observe.problem(told, service)
            if now_wrong != was_wrong:
                lines.append(f"{service}: {now_wrong or 'the definition is right again'}")
        pid = observe.haproxy_pid(told)
        if pid != observe.haproxy_pid(before):
            lines.append("HAProxy is gone" if pid is None else f"HAProxy has pid {pid}")
        return lines


def _count(now: frozenset[str]) -> str:
    return f"{len(now)} serve{'s' if len(now) == 1 else ''}"
