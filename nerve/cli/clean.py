"""`nerve clean`: what of this host's nodes has no owner."""

import json
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import click

from nerve.address import advertised_address
from nerve.advertised import kept_address
from nerve.cleaning import PARENTS, Fate, Sessions, Verdict, directories, may_matter, verdicts
from nerve.cli.talk import Daemon, running
from nerve.daemon import session_file
from nerve.registrations import MAIN
from nerve.settings import OtherRegistry, Settings
from smartstack.errors import ConfigError, RegistryError, RegistryRefused, SmartStackError
from smartstack.installed import check_families
from smartstack.instance import printable
from smartstack.live import LiveConfiguration
from smartstack.registry import open_surveyor
from smartstack.registry.survey import Surveyor

LOOK_UP_SECONDS = 3.0
"""How long a name server may take to say which address this host has."""

_PLACE_LIMIT = 300


REMOVED, WOULD_GO, FAILED = "removed", "would go", "failed"
"""What became of a node that was to go; of every other its fate is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one place, and why."""

    registry: str
    node: str
    result: str
    why: str


@dataclass(slots=True)
class Report:
    """What one run found and did, and what went wrong, in sentences."""

    hosts: frozenset[str]
    dry_run: bool = False
    looked_in: int = 0
    nodes: list[Outcome] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


@click.command(short_help="Remove this host's nodes that have no owner.")
@running
@click.option("--dry-run", is_flag=True, help="Say what would go, and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def clean(*, path: str, admin: str | None, dry_run: bool, as_json: bool) -> int:
    """Look for nodes of this host's address that no session and no process holds, in every registry and directory in
    which a service of this host may stand, and remove them. Nodes that somebody holds stay, and so do those that are
    marked as static or do not say whose they are.

    Exits with 1 when something could not be removed, or when a registry is away.
    """
    live = LiveConfiguration(Settings, path, families=check_families(), writes=False)
    for name in sorted(live.view.problems.keys() - live.view.definitions.keys()):
        for problem in live.view.problems[name]:
            click.echo(f"{printable(str(problem), 1000)} (its places in registries are not looked at)", err=True)
    settings = live.settings
    report = Report(hosts=_hosts(settings, path), dry_run=dry_run)
    paths = directories(live.view.definitions)
    with ExitStack() as stack:
        surveyors = dict(_started(settings, stack, report))
        running_sessions = _running_sessions(Daemon(path, admin))
        for registry, surveyor in surveyors.items():
            try:
                _clean(registry, surveyor, paths.get(registry, frozenset()), running_sessions.get(registry), report)
            except RegistryError as error:
                report.failures.append(_named(registry, str(error)))
    click.echo(json.dumps(_as_json(report), indent=2) if as_json else "\n".join(report_lines(report)))
    for failure in report.failures:
        click.echo(failure, err=True)
    return 1 if report.failures else 0


def report_lines(report: Report) -> list[str]:
    """The report for people. What this host's own nerve holds is only counted."""
    results = Counter(one.result for one in report.nodes)
    width = max(map(len, results), default=0)
    lines = [
        f"{one.result:{width}}  {_named(one.registry, printable(one.node, _PLACE_LIMIT))}: {one.why}"
        for one in report.nodes
        if one.result != Fate.HELD.value
    ]
    gone = f"{results[WOULD_GO]} would be removed" if report.dry_run else f"{results[REMOVED]} removed"
    held = f"{results[Fate.HELD.value]} held by this host's nerve"
    where = "1 directory" if report.looked_in == 1 else f"{report.looked_in} directories"
    lines.append(f"{gone}, {held}, in {where} (address {', '.join(sorted(report.hosts))})")
    return lines


def _clean(
    registry: str, surveyor: Surveyor, paths: frozenset[str], running_session: str | None, report: Report
) -> None:
    """Tidy up in one registry. Raises `RegistryError` when it is away; what was done by then is in the report."""
    survey = surveyor.survey(paths, PARENTS, lambda name: may_matter(name, report.hosts))
    report.looked_in += survey.looked_in
    report.failures += [
        _named(registry, f"cannot look into {printable(one.where, _PLACE_LIMIT)}: {one.reason}")
        for one in survey.unread
        if one.name is None
    ]
    for verdict in verdicts(survey, report.hosts, Sessions(running=running_session, saved=survey.saved_session)):
        result, why = _done(registry, surveyor, verdict, report)
        report.nodes.append(Outcome(registry=registry, node=verdict.where, result=result, why=why))


def _done(registry: str, surveyor: Surveyor, verdict: Verdict, report: Report) -> tuple[str, str]:
    """Do with a place what the verdict says; what became of it, and why. Raises `RegistryUnavailable`."""
    if verdict.node is None:
        return verdict.fate.value, verdict.why
    if report.dry_run:
        return WOULD_GO, verdict.why
    try:
        if surveyor.remove(verdict.node):
            return REMOVED, verdict.why
    except RegistryRefused as refusal:
        report.failures.append(_named(registry, str(refusal)))
        return FAILED, verdict.why
    return Fate.STAYS.value, "it became somebody's, or another, while this was running"


def _started(settings: Settings, stack: ExitStack, report: Report) -> Iterator[tuple[str, Surveyor]]:
    """A surveyor for each registry, the main one first; all of them connect at once."""
    main = OtherRegistry(url=settings.registry, zookeeper=settings.zookeeper)
    for name, one in {MAIN: main, **settings.registries}.items():
        try:
            surveyor = open_surveyor(one.url, options=one.zookeeper, session_file=session_file(settings, name))
            stack.callback(surveyor.stop)
            surveyor.start()
        except RegistryError as error:
            report.failures.append(_named(name, str(error)))
            continue
        yield name, surveyor


def _hosts(settings: Settings, path: str) -> frozenset[str]:
    """The addresses under which this host is announced, or was by the last nerve. Raises ConfigError when there is
    none, SmartStackError when a name server does not say in time."""
    kept = kept_address(settings.state_directory)
    found: list[str | ConfigError] = []

    def look_up() -> None:
        try:
            found.append(advertised_address(settings, path))
        except ConfigError as error:
            found.append(error)

    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(LOOK_UP_SECONDS)
    address = found[0] if found else None
    if isinstance(address, ConfigError) and kept is None:
        raise address
    hosts = frozenset(one for one in (address, kept) if isinstance(one, str))
    if not hosts:
        raise SmartStackError(
            f"cannot tell which address this host has: no name server answered within {LOOK_UP_SECONDS:g} s; "
            f"give an address as host in {path}"
        )
    return hosts


def _running_sessions(nerve: Daemon) -> Mapping[str, str]:
    """The session of the nerve that runs here with each registry; nothing when none answers, which is no failure."""
    try:
        status = nerve.status()
    except SmartStackError:
        return {}
    others = status.get("registries")
    links = {MAIN: status.get("registry"), **(others if isinstance(others, dict) else {})}
    sessions = {name: link.get("session") for name, link in links.items() if isinstance(link, dict)}
    return {name: session for name, session in sessions.items() if isinstance(session, str)}


def _named(registry: str, text: str) -> str:
    return text if registry == MAIN else f"registry {registry}: {text}"


def _as_json(report: Report) -> dict[str, Any]:
    return {
        "dry_run": report.dry_run,
        "hosts": sorted(report.hosts),
        "looked_in": report.looked_in,
        "nodes": [
            {"registry": one.registry, "node": one.node, "result": one.result, "why": one.why} for one in report.nodes
        ],
        "failures": report.failures,
    }
