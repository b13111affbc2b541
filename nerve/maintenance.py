"""Drains: what is in maintenance on this host, and what is registered of it. Pure.

A drain has a scope: everything on this host, or a service. A service's name covers the service and its further ports
(`web` covers `web.admin`).
"""

from typing import Final

from smartstack import maintenance as kept
from smartstack.instance import MAINTENANCE_LABEL, NAME
from smartstack.maintenance import (
    OWNER_LIMIT,
    Maintenance,
    Maintenances,
    Wording,
    moment_text,
    one_line,
    reason_text,
)

EVERYTHING: Final = "*"
"""The scope of a drain of all services of this host."""

LABELS: Final = (MAINTENANCE_LABEL, *(f"{MAINTENANCE_LABEL}_{word}" for word in ("owner", "since", "until")))
"""The labels that a drained instance carries."""


def is_scope(scope: str) -> bool:
    """Whether a drain may have this scope."""
    return scope == EVERYTHING or NAME.fullmatch(scope) is not None


WORDING: Final = Wording(daemon="nerve", noun="drain", done="drained", is_scope=is_scope)


def covers(scope: str, service: str, port_of: str | None = None) -> bool:
    """Whether a drain of this scope holds for a service, which may be a further port of another one (`port_of`)."""
    return scope in (service, port_of, EVERYTHING)


def covering(drains: Maintenances, service: str, port_of: str | None = None) -> Maintenance | None:
    """The drain that holds for a service, None when it is not drained: its own, else that of the service whose port it
    is, else that of everything."""
    scopes = [service, *([] if port_of is None else [port_of]), EVERYTHING]
    return next((drains[scope] for scope in scopes if scope in drains), None)


def text(maintenance: Maintenance, now: float) -> str:
    """One sentence for people."""
    what = "everything on this host" if maintenance.scope == EVERYTHING else maintenance.scope
    return kept.text(maintenance, f"{what} is drained", now)


def labels(maintenance: Maintenance) -> dict[str, str]:
    """What the registration of a drained instance says of it, in a form that every reader takes, whatever was typed."""
    said = (
        reason_text(maintenance),
        one_line(maintenance.owner, OWNER_LIMIT) or None,
        moment_text(maintenance.since),
        None if maintenance.until is None else moment_text(maintenance.until),
    )
    return {label: value for label, value in zip(LABELS, said, strict=True) if value is not None}
