"""Why an instance gets traffic from this host, or does not: read off /status, as any program may. Pure.

What HAProxy would do comes last. The first thing that stands in the way is the reason that is given.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from smartstack.errors import SmartStackError
from smartstack.instance import MAINTENANCE_LABEL, printable
from smartstack.maintenance import moment_text, span_text
from smartstack.validation import hint
from synapse.balancing.breaker import State
from synapse.placement import Placement, Role, ring_lines
from synapse.rings import Ring


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What becomes of one instance: whether new requests of this host go there, and why.

    `sources` is what the sources say of it, `role` what it is here, `slot` where it is in HAProxy and `state` what
    HAProxy does with it. A registration that was refused has the node's name in place of an address.
    """

    address: str
    traffic: bool
    why: str
    sources: str
    role: str
    slot: str | None
    state: str

    @property
    def words(self) -> str:
        """The verdict as one sentence."""
        if self.traffic:
            return f"gets traffic{f', {self.why}' if self.why else ''}"
        return f"gets no traffic: {self.why}"


def verdicts(answer: Mapping[str, Any], service: str) -> list[Verdict]:
    """One for each instance that is known anywhere: to the sources, from before, or to HAProxy only.

    Raises SmartStackError for a service that this host does not have, with what is wrong with its definition.
    """
    one = _service(answer, service)
    here = _Here.of(answer, one)
    found = [_verdict(each, one, here) for each in one["instances"]]
    found += [_stranger(each) for each in one["strangers"]]
    return found + [_refused(each) for each in one["refused_nodes"]]


def explain_lines(answer: Mapping[str, Any], service: str) -> list[str]:
    """The way of a service from its sources to HAProxy, and the verdict on each instance."""
    one = _service(answer, service)
    found = verdicts(answer, service)
    serving = sum(each.traffic for each in found)
    lines = [f"{service}  {place_text(one)}: {serving} of {len(found)} get traffic", ""]
    lines += _steps(answer, service, one)
    lines.append("")
    lines += _columns(found)
    return lines


def why_not(answer: Mapping[str, Any], service: str) -> str:
    """In one sentence, what keeps instances of this service from traffic; where nothing does, how many there are."""
    kept: dict[str, list[str]] = {}
    found = verdicts(answer, service)
    for each in found:
        if not each.traffic:
            kept.setdefault(each.why, []).append(each.address)
    if kept:
        return "; ".join(f"{', '.join(addresses[:3])}: {why}" for why, addresses in list(kept.items())[:3])
    if found:
        return "it has no more instances"
    return f"it has no instances ({_service(answer, service)['reason']})"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Here:
    """What holds for every instance of the service. `stopped` is why HAProxy sends nobody anywhere."""

    at: float
    stopped: str | None
    primaries_up: bool
    error: str | None

    @classmethod
    def of(cls, answer: Mapping[str, Any], one: Mapping[str, Any]) -> "_Here":
        stopped = None
        if one["listen"] is None and not one["discovery_only"]:
            stopped = f"the service is not offered, {one['refused_definition'] or 'its HAProxy is not ready yet'}"
        elif not one["discovery_only"] and not answer["haproxy"]["running"]:
            stopped = f"HAProxy does not run, or does not answer{_because(answer['error'])}"
        up = [each for each in one["instances"] if each["state"] == "serving" and each["role"] == Role.PRIMARY.value]
        return cls(at=answer["at"], stopped=stopped, primaries_up=bool(up), error=answer["error"])


def _verdict(each: Mapping[str, Any], one: Mapping[str, Any], here: _Here) -> Verdict:
    traffic, why = _judge(each, one, here)
    if traffic and each["listed"] is False:
        why = "; ".join(filter(None, [why, "though no source names it any more"]))
    return Verdict(
        address=each["address"],
        traffic=traffic,
        why=why,
        sources={True: "listed", False: "gone", None: "last known"}[each["listed"]],
        role=each["role"] or "unknown",
        slot=each["slot"],
        state=each["state"],
    )


def _judge(each: Mapping[str, Any], one: Mapping[str, Any], here: _Here) -> tuple[bool, str]:
    role = each["role"]
    if role == Role.OUT.value:
        return False, f"it is not for this host ({printable(each['why'], 200)})"
    if here.stopped is not None:
        return False, here.stopped
    if each["held"] is not None or role == Role.HELD.value:
        return False, f"held on this host{_hold(each['held'], here.at)}"
    if each["weight"] == 0:
        return False, _drained(each["labels"])
    balance = each["balance"]
    if balance is not None and balance["share"] == 0:
        return False, _out(balance, here.at)
    if one["discovery_only"]:
        return True, "from those who ask /services: the service is not proxied"
    if each["state"] == "down":
        return False, "HAProxy's own check finds it down"
    if each["state"] == "draining":
        return False, f"HAProxy has it draining{_because(here.error)}"
    if each["slot"] is None:
        return False, f"it is not in HAProxy yet{_because(here.error)}"
    if role == Role.BACKUP.value:
        why = f" ({printable(each['why'], 200)})" if each["why"] else ""
        if here.primaries_up:
            return False, f"it is a backup, for when no other is up{why}"
        return True, "as a backup, because no other is up"
    return True, "" if balance is None else share_text(each)


def _out(balance: Mapping[str, Any], at: float) -> str:
    """Why the breaker lets nothing there, and for how long."""
    left = max(0.0, (balance["until"] or at) - at)
    return f"the breaker is open, for {left:.1f} s more: {balance['why']}"


def share_text(each: Mapping[str, Any]) -> str:
    """How much of its weight an instance of /status gets, and why not all: `weight 3 of 100: slow, 51 ms against 2
    ms`."""
    balance, weight = each["balance"], 100 if each["weight"] is None else each["weight"]
    part = f"weight {max(1, round(balance['share'] * weight))} of {weight}"
    tried = "a few requests try it after " if balance["breaker"] == State.HALF_OPEN.value else ""
    return f"{part}: {tried}{balance['why']}"


def _stranger(each: Mapping[str, Any]) -> Verdict:
    serving = each["state"] == "serving"
    why = "though it is no instance of the service any more" if serving else "it is no instance of the service any more"
    return Verdict(
        address=each["address"],
        traffic=serving,
        why=why,
        sources="gone",
        role="none",
        slot=each["slot"],
        state=each["state"],
    )


def _refused(node: Mapping[str, Any]) -> Verdict:
    why = f"its registration cannot be used ({printable(node['reason'], 200)})"
    name = f"node {printable(node['node'], 60)}"
    return Verdict(
        address=name, traffic=False, why=why, sources="refused", role="none", slot=None, state="not in HAProxy"
    )


def _steps(answer: Mapping[str, Any], service: str, one: Mapping[str, Any]) -> Iterator[str]:
    at = answer["at"]
    since = "" if one["since"] is None else f" (as it is for {span_text(at - one['since'])})"
    yield f"sources      {one['origin']}: {one['reason']}{since}"
    if one["unknown_since"] is not None:
        yield f"             nothing was heard for {span_text(at - one['unknown_since'])}"
    if one["origin"] == "held back":
        until = one["held_back_until"]
        when = "" if until is None else f"believed at {moment_text(until)}, in {span_text(until - at)}; "
        yield f"HELD BACK    {when}`synapse accept {service}` believes it now"
    rings = Placement(rings=tuple(Ring(**ring) for ring in one["rings"]), reason=one["placement"])
    for number, line in enumerate(ring_lines(rings)):
        yield f"{'' if number else 'rings':<13}{line}"
    for problem in answer["problems"].get(service, ()):
        stays = "" if one["definition_in_use"] else "; what was in use stays in use"
        yield f"definition   {printable(problem, 500)}{stays}"
    if one["refused_definition"]:
        yield f"definition   NOT IN USE: {printable(one['refused_definition'], 1000)}"
    elif one["definition_in_use"]:
        yield "definition   is in use as it stands in its file"
    haproxy = answer["haproxy"]
    runs = f"running, pid {haproxy['pid']}, {one['slots']} slots" if haproxy["running"] else "NOT RUNNING, or silent"
    yield f"haproxy      {'not used: discovery only' if one['discovery_only'] else runs}"
    if answer["error"]:
        yield f"error        {printable(answer['error'], 1000)}"
    for address, hold in one["held"].items():
        if address not in {each["address"] for each in one["instances"]}:
            yield f"held         {address}, which is no instance now{_hold(hold, at)}"


def _columns(found: list[Verdict]) -> list[str]:
    """One line for each instance."""
    if not found:
        return ["no instance is known"]
    rows = [(each.address, each.sources, each.role, each.slot or "-", each.state, each.words) for each in found]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return ["  ".join([*map(str.ljust, row[:5], widths), row[5]]) for row in rows]


def _service(answer: Mapping[str, Any], service: str) -> Mapping[str, Any]:
    services: Mapping[str, Mapping[str, Any]] = answer["services"]
    if service in services:
        return services[service]
    problems = answer.get("problems", {}).get(service, ())
    if problems:
        raise SmartStackError(f"{service} is not offered, because its definition is wrong: {problems[0]}")
    if "haproxy" not in answer:
        raise SmartStackError(f"nothing is known of {printable(service, 100)} yet: {answer['error']}")
    known = answer.get("known_services", services)
    raise SmartStackError(f"{printable(service, 100)} is no service of this host{hint(service, known)}")


def place_text(one: Mapping[str, Any]) -> str:
    """Where a service of /status is offered: `127.0.0.1:3210`, or how else it is reached."""
    if one["discovery_only"]:
        return "discovery only"
    if one["listen"] is None:
        return "not offered"
    return one["listen"] or "by routes of others only"


def _hold(hold: Mapping[str, Any] | None, at: float) -> str:
    if hold is None:
        return ""
    until = "until it is let go" if hold["until"] is None else f"for {span_text(hold['until'] - at)} more"
    by = f" by {printable(hold['owner'], 80)}" if hold["owner"] else ""
    return f"{by}, {until}: {printable(hold['reason'], 200)}"


def _drained(labels: Mapping[str, str]) -> str:
    """Why its nerve registered it with weight 0, as far as that is known."""
    reason = labels.get(MAINTENANCE_LABEL)
    if reason is None:
        return "it is registered with weight 0"
    owner = labels.get(f"{MAINTENANCE_LABEL}_owner")
    by = f" by {printable(owner, 80)}" if owner else ""
    return f"it is drained everywhere{by}: {printable(reason, 200)}"


def _because(error: str | None) -> str:
    return "" if error is None else f": {printable(error, 500)}"
