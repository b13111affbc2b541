"""Orders: what somebody asks of a running nerve, as values that the loop carries out. Pure."""

from dataclasses import dataclass
from typing import TypeAlias

from nerve.maintenance_orders import DrainOrder, UndrainOrder


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckNow:
    """Check a service at once; if it passes, it is well."""

    service: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A service says of itself how it is."""

    service: str
    passed: bool
    note: str


Order: TypeAlias = DrainOrder | UndrainOrder | CheckNow | Report
