"""What is installed beside this package: the settings of daemons and the kinds of check, found by entry points."""

from importlib.metadata import entry_points

from smartstack.model import Families


def settings_models() -> dict[str, type]:
    """The settings of each daemon, by its name (group `smartstack.settings`)."""
    return _models("smartstack.settings")


def check_families() -> Families:
    """The kinds of check, by the `type` that picks them (group `smartstack.checks`)."""
    return {"check": _models("smartstack.checks")}


def _models(group: str) -> dict[str, type]:
    return {point.name: point.load() for point in sorted(entry_points(group=group), key=lambda point: point.name)}
