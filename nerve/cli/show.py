"""Commands that look: status, explain, maintenance list."""

import json
import time
from collections.abc import Iterator
from typing import Any

import click

from nerve.cli.talk import Daemon, running
from smartstack.errors import SmartStackError
from smartstack.instance import printable
from smartstack.talk import age, json_option, table


@click.command(short_help="What the running nerve sees.")
@running
@json_option
def status(path: str, admin: str | None, as_json: bool) -> None:
    """Ask the running nerve what it sees: every service, its checks, its registration, and what is wrong."""
    answer = Daemon(path, admin).status()
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    for line in status_lines(answer, time.time()):
        click.echo(line)


@click.command(short_help="Why a service is, or is not, registered.")
@running
@click.argument("service")
def explain(path: str, admin: str | None, service: str) -> None:
    """Follow a service from its definition over its checks to its nodes in the registry, and say what stands in the
    way, and what to do."""
    answer = Daemon(path, admin).status()
    for line in explain_lines(answer, service, time.time()):
        click.echo(line)


@click.group(short_help="What is in maintenance.")
def maintenance() -> None:
    """Maintenance: what is being drained, by whom, why, and until when."""


@maintenance.command("list", short_help="All maintenance of this host.")
@running
@json_option
def list_(path: str, admin: str | None, as_json: bool) -> None:
    """List what is in maintenance. `*` is every service of this host."""
    answer = Daemon(path, admin).status()
    found = answer.get("maintenance", {})
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    if not found:
        click.echo("nothing is in maintenance")
        return
    now = time.time()
    rows = [("SCOPE", "FOR", "LEFT", "BY", "REASON")]
    for scope, one in found.items():
        left = "until undrained" if one["until"] is None else age(one["until"] - now)
        rows.append((scope, age(now - one["since"]), left, one["owner"], one["reason"]))
    for line in table(rows):
        click.echo(line)


def status_lines(answer: dict[str, Any], now: float) -> list[str]:
    """/status for people; `now` in seconds since the epoch."""
    registry = answer.get("registry", {})
    error = answer.get("registry_error")
    lines = [f"registry  {_link(registry, error)}"]
    lines += [f"registry  {name} {_link(link, None)}" for name, link in answer.get("registries", {}).items()]
    if answer.get("needs_restart"):
        lines.append(f"restart   needed for the edited settings: {', '.join(answer['needs_restart'])}")
    if answer.get("actions_problem"):
        lines.append(f"actions   cannot be asked for: {answer['actions_problem']}")
    for problems in answer.get("problems", {}).values():
        lines.extend(f"problem   {printable(problem, 500)}" for problem in problems)
    rows = [("SERVICE", "STATE", "FOR", "ADDRESS", "REGISTERED", "REASON")]
    for name, service in answer.get("services", {}).items():
        rows.append(
            (
                name,
                service["state"].upper() if service["state"] == "down" else service["state"],
                age(now - service["since"]),
                service["address"],
                _registered(service),
                service["error"] or _remark(service, now) or service["reason"],
            )
        )
        if len(service["checks"]) > 1:
            for check, one in service["checks"].items():
                rows.append((f"  {check}", one["state"], age(now - one["since"]), "", "", _last(one)))
    return [*lines, "", *table(rows)]


def explain_lines(answer: dict[str, Any], service: str, now: float) -> list[str]:
    """The way of one service, step by step. Raises SmartStackError for one that is not announced here."""
    problems = answer.get("problems", {}).get(service, [])
    one = answer.get("services", {}).get(service)
    if one is None:
        if problems:
            return [
                f"{service} is not registered, because it cannot be announced:",
                *(f"  {text}" for text in problems),
            ]
        known = ", ".join(answer.get("services", {})) or "none"
        raise SmartStackError(f"{service} is not announced by the nerve of this host, which announces: {known}")
    return list(_steps(answer, service, one, problems, now))


def _steps(answer: dict[str, Any], service: str, one: dict[str, Any], problems: list[str], now: float) -> Iterator[str]:
    yield f"{service} at {one['address']}: {_conclusion(one)}"
    yield ""
    for text in problems:
        yield f"definition   {printable(text, 500)}"
    if not problems:
        yield "definition   is in use as it stands in its file"
    if one["follows"]:
        yield f"health       is that of {one['follows']}: this is another port of it, without a check of its own"
    yield f"health       {one['state']} for {age(now - one['since'])}: {one['reason']}"
    for name, check in one["checks"].items():
        yield f"check        {name} is {check['state']}, {check['passes']} passed and {check['failures']} failed"
        for result in check["recent"]:
            word = "passed" if result["passed"] else "failed"
            took = result["duration_seconds"] * 1000
            yield f"               {word} {age(now - result['at'])} ago in {took:.1f} ms: {result['reason']}"
    yield f"tether       {one['tether']}"
    if one["held_back"]:
        yield f"held back    {one['held_back']}"
    if one["maintenance"]:
        yield f"maintenance  {_maintenance(one['maintenance'], now)}; end it with: nerve undrain {_scope(one, service)}"
    for place in one["places"]:
        link = answer["registry"] if not place["registry"] else answer["registries"][place["registry"]]
        where = f"{place['registry']}: " if place["registry"] else ""
        yield f"registry     {where}{_link(link, answer.get('registry_error') if not place['registry'] else None)}"
        owner = f", owned by session {place['session']}" if place["session"] else ""
        yield f"node         {where}{place['path']}/{place['node']}: {_place(place)}{owner}"
        if place["error"]:
            yield f"               {place['error']}"
    yield f"payload      {one['payload']}"


def _conclusion(one: dict[str, Any]) -> str:
    if one["registered"] is None:
        return "nobody knows, the registry does not answer"
    if one["contested"]:
        return "another nerve has its place in the registry; find out which host announces this address too"
    if one["registered"]:
        if one["maintenance"]:
            return "registered with weight 0, because it is in maintenance"
        return "registered" if one["state"] == "up" else "still registered; no verdict yet of its checks"
    if one["state"] != "up":
        return "not registered, because its checks say that it is not well"
    if one["held_back"]:
        return f"well, and not registered yet: {one['held_back']}"
    return "well, and not registered: see the error below" if one["error"] else "well, and about to be registered"


def _place(place: dict[str, Any]) -> str:
    if place["contested"]:
        return "somebody else's"
    return {True: "there, as wanted", False: "not there as wanted", None: "unknown"}[place["registered"]]


def _remark(service: dict[str, Any], now: float) -> str:
    if service["maintenance"]:
        return _maintenance(service["maintenance"], now)
    return f"well, and kept out for now: {service['held_back']}" if service["held_back"] else ""


def _maintenance(one: dict[str, Any], now: float) -> str:
    until = "until it is undrained" if one["until"] is None else f"for {age(one['until'] - now)} more"
    return f"in maintenance since {age(now - one['since'])}, {until}, by {one['owner']}: {one['reason']}"


def _scope(one: dict[str, Any], service: str) -> str:
    scope = one["maintenance"]["scope"]
    return "--all" if scope == "*" else str(scope)


def _link(registry: dict[str, Any], error: str | None) -> str:
    connected = registry.get("connected")
    link = "connected" if connected and not error else "AWAY"
    session = f" (session {registry['session']})" if registry.get("session") else ""
    # Of a link that is down its own words say why; what the loop ran into says only that it is.
    detail = (connected and error) or registry.get("detail", "unknown")
    return f"{link}: {detail}{session}"


def _last(check: dict[str, Any]) -> str:
    last = check["last"]
    return f"{last['reason']} ({last['duration_seconds'] * 1000:.0f} ms)" if last else "no result yet"


def _registered(service: dict[str, Any]) -> str:
    if service["contested"]:
        return "CONTESTED"
    if service["registered"] and service["maintenance"]:
        return "draining"
    return {True: "yes", False: "no", None: "unknown"}[service["registered"]]
