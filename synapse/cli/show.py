"""Commands that ask the running synapse what it sees: status, explain, holds, instances."""

import json
from dataclasses import asdict
from typing import Any
from urllib.parse import quote

import click

from smartstack.instance import MAINTENANCE_LABEL, printable
from smartstack.talk import age, json_option, table
from synapse.cli.talk import Daemon, running
from synapse.explain import explain_lines, place_text, share_text, verdicts


@click.command(short_help="What the running synapse sees.")
@running
@json_option
def status(path: str, admin: str | None, as_json: bool) -> None:
    """Ask the running synapse what it sees: every service, its instances, and what is wrong."""
    answer = Daemon(path, admin).status()
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    for line in status_lines(answer):
        click.echo(line)


@click.command(short_help="Why each instance of a service gets traffic, or does not.")
@running
@click.argument("service")
@json_option
def explain(path: str, admin: str | None, service: str, as_json: bool) -> None:
    """Follow SERVICE from its sources over selection and placement to HAProxy, which is asked anew, and say of each
    instance that is known anywhere whether this host sends requests to it, and why."""
    answer = Daemon(path, admin).look_at(service)
    if as_json:
        told = [{**asdict(each), "verdict": each.words} for each in verdicts(answer, service)]
        click.echo(json.dumps({"service": answer["services"][service], "verdicts": told}, indent=2))
        return
    for line in explain_lines(answer, service):
        click.echo(line)


@click.command(short_help="What is held on this host.")
@running
@json_option
def holds(path: str, admin: str | None, as_json: bool) -> None:
    """List the instances that get no new requests from this host, because somebody holds them."""
    answer = Daemon(path, admin).status()
    found = answer["holds"]
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    if not found:
        click.echo("nothing is held")
        return
    rows = [("SERVICE", "ADDRESS", "FOR", "LEFT", "BY", "REASON")]
    for one in found:
        left = "until unheld" if one["until"] is None else age(one["until"] - answer["at"])
        since = age(answer["at"] - one["since"])
        rows.append((one["service"], one["address"], since, left, one["owner"], one["reason"]))
    for line in table(rows):
        click.echo(line)


@click.command(short_help="Where a service's instances are.")
@running
@click.argument("service")
@click.option("--all", "everybody", is_flag=True, help="Also backups and those that are draining, with their use.")
@json_option
def instances(path: str, admin: str | None, service: str, everybody: bool, as_json: bool) -> None:
    """Print the addresses of SERVICE that are for use from this host, one a line, as /services/<name> answers them."""
    answer = Daemon(path, admin).get(f"/services/{quote(service, safe='')}")
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    for each in answer["instances"]:
        if everybody:
            click.echo(f"{each['address']:<24} {each['use']}")
        elif each["use"] == "traffic":
            click.echo(each["address"])


def status_lines(answer: dict[str, Any]) -> list[str]:
    """/status for people."""
    haproxy, registry = answer.get("haproxy", {}), answer.get("registry", {})
    runs = f"running, pid {haproxy['pid']}" if haproxy.get("running") else "NOT RUNNING, or it does not answer"
    lines = [
        f"registry  {'connected' if registry.get('connected') else 'AWAY'}: {registry.get('detail', 'unknown')}",
        f"haproxy   {runs}",
    ]
    for name, other in answer.get("registries", {}).items():
        lines.append(f"registry  {name} {'connected' if other['connected'] else 'AWAY'}: {other['detail']}")
    if answer.get("error"):
        lines.append(f"error     {answer['error']}")
    for problems in answer.get("problems", {}).values():
        lines.extend(f"problem   {problem}" for problem in problems)
    fleet = answer.get("fleet")
    if fleet is not None:
        announced = fleet["announced"] and f"announced as {fleet['announced']}"
        lines.append(f"fleet     {announced or 'NOT ANNOUNCED: ' + printable(fleet['problem'] or 'not yet', 500)}")
    if answer.get("needs_restart"):
        lines.append(f"restart   needed for the edited settings: {', '.join(answer['needs_restart'])}")
    if answer.get("actions_problem"):
        lines.append(f"actions   cannot be asked for: {answer['actions_problem']}")
    for name, service in answer.get("services", {}).items():
        lines += _service_lines(name, service, answer["at"])
    return lines


def _service_lines(name: str, service: dict[str, Any], at: float) -> list[str]:
    lines = [f"\n{name}  {place_text(service)}  ({service['origin']}: {service['reason']})"]
    if service["refused_definition"]:
        lines.append(f"  definition not in use: {service['refused_definition']}")
    for each in service["instances"]:
        weight = "" if each["weight"] is None else f"  weight {each['weight']}"
        lines.append(f"  {each['address']:<24} {each['state']}{weight}{_remark(each, at)}")
    lines += [
        f"  {each['address']:<24} {each['state']}  no instance of the service any more" for each in service["strangers"]
    ]
    lines.extend(f"  refused node {each['node']}: {each['reason']}" for each in service["refused_nodes"])
    return lines


def _remark(each: dict[str, Any], at: float) -> str:
    """What is special about an instance: that it is held, a backup, not for this host, or why its nerve drains it."""
    if each["held"] is not None:
        held = each["held"]
        left = "" if held["until"] is None else f" for {age(held['until'] - at)} more"
        by = f" ({printable(held['owner'])})" if held["owner"] else ""
        return f"  held here{left}: {printable(held['reason'], 200)}{by}"
    if each["role"] in ("backup", "out"):
        why = f": {printable(each['why'], 200)}" if each["why"] else ""
        return f"  {'backup' if each['role'] == 'backup' else 'not for this host'}{why}"
    if each["balance"] is not None:
        return f"  {each['balance']['why'] if each['state'] == 'out' else share_text(each)}"
    reason = each["labels"].get(MAINTENANCE_LABEL)
    owner = each["labels"].get(f"{MAINTENANCE_LABEL}_owner")
    return "" if reason is None else f"  {printable(reason, 200)}" + (f" ({printable(owner)})" if owner else "")
