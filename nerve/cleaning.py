"""Cleaning: from what stands in the registries to what of it is this host's, what goes, what stays, and why. Pure."""

import enum
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from nerve.registrations import MAIN, Host, registrations
from nerve.settings import Announcement
from smartstack.definition import ServiceDefinition
from smartstack.instance import Instance, decode, payload_in_name
from smartstack.registry.survey import Holder, Node, Survey, Unread

PARENTS = ("services",)
"""Where the services of every registry stand that have no path of their own."""

_NOWHERE = Host(address="127.0.0.1", instance_id="nobody", labels={}, node_names="address")


class Fate(enum.Enum):
    """What is to become of a node."""

    GOES = "goes"
    HELD = "held"
    STAYS = "stays"
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sessions:
    """The sessions of this host's nerve with one registry: of the one that runs, and of the last one that saved its
    own. None where there is none, or nobody knows."""

    running: str | None = None
    saved: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One place, what is to become of it, and why in a few words. `node` is what goes, None for what does not."""

    where: str
    fate: Fate
    why: str
    node: Node | None = None


def directories(definitions: Mapping[str, ServiceDefinition]) -> Mapping[str, frozenset[str]]:
    """Every directory that these definitions name, by registry: whether this host announces them or not."""
    found: dict[str, set[str]] = {MAIN: set()}
    for name, definition in definitions.items():
        for place in registrations(_NOWHERE, name, definition, Announcement()):
            found.setdefault(place.registry, set()).add(place.node.path)
    return {registry: frozenset(paths) for registry, paths in found.items()}


def may_matter(name: str, hosts: Collection[str]) -> bool:
    """Whether a node has to be looked at: only one that says in its name that it is another host's has not.

    `hosts` are this host's canonical addresses, here and below.
    """
    payload = payload_in_name(name)
    if payload is None:
        return True
    instance = decode(payload)
    return isinstance(instance, str) or instance.host in hosts


def verdicts(survey: Survey, hosts: Collection[str], sessions: Sessions) -> tuple[Verdict, ...]:
    """What is to become of each node that is this host's or may be, in the order of places."""
    found = [judge(node, hosts, sessions) for node in survey.nodes]
    found += [_unread(one, hosts) for one in survey.unread]
    return tuple(sorted((one for one in found if one is not None), key=lambda verdict: verdict.where))


def judge(node: Node, hosts: Collection[str], sessions: Sessions) -> Verdict | None:
    """What is to become of a node; None for another host's, and for what is no node.

    Only what nobody holds goes, and only if it says that it is this host's: by its payload, or by its name if the
    payload says nothing. What says nothing at all may be anybody's.
    """
    instance = decode(node.payload)
    is_ours = instance.host in hosts if isinstance(instance, Instance) else names_host(node.name, hosts)
    if not is_ours:
        if isinstance(instance, Instance) or node.holder is not Holder.NOBODY or node.has_children:
            return None
        return Verdict(
            where=node.where,
            fate=Fate.UNCLEAR,
            why=f"nobody holds it, and it does not say whose it is ({_shortly(instance, node)}); look at it yourself",
        )
    if node.holder is Holder.ALIVE:
        return _held(node, sessions)
    if node.holder is Holder.HAND:
        return Verdict(where=node.where, fate=Fate.STAYS, why='somebody wrote it by hand, and it says "static": true')
    if node.has_children:
        return Verdict(where=node.where, fate=Fate.STAYS, why="nobody holds it, but there are nodes below it")
    more = "" if isinstance(instance, Instance) else f", and says nothing ({_shortly(instance, node)})"
    return Verdict(where=node.where, fate=Fate.GOES, why=f"nobody holds it{more}", node=node)


def names_host(name: str, hosts: Collection[str]) -> bool:
    """Whether a node is called `<address>_<10 digits>`, with one of these addresses."""
    address, _, digits = name.rpartition("_")
    return address in hosts and len(digits) == 10 and digits.isascii() and digits.isdigit()


def _held(node: Node, sessions: Sessions) -> Verdict:
    fate = Fate.HELD
    if node.session is None:
        why = "the process that wrote it lives"
    elif node.session == sessions.running:
        why = f"the nerve that runs here holds it (session {node.session})"
    elif node.session == sessions.saved:
        why = f"nerve's saved session holds it (session {node.session}): the next nerve takes it up, or it runs out"
    else:
        fate = Fate.STAYS
        why = (
            f"session {node.session} holds it, which is not that of this host's nerve: another nerve announces this "
            "address, or one was killed, and then the session runs out by itself"
        )
    return Verdict(where=node.where, fate=fate, why=why)


def _unread(one: Unread, hosts: Collection[str]) -> Verdict | None:
    if one.name is None or not (names_host(one.name, hosts) or payload_in_name(one.name) is not None):
        return None
    return Verdict(where=one.where, fate=Fate.UNCLEAR, why=f"it cannot be read: {one.reason}")


def _shortly(reason: Instance | str, node: Node) -> str:
    return "it is empty" if not node.payload else str(reason)
