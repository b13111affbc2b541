"""What is installed beside this package, found by entry points: the settings of daemons, the kinds of check and of
source."""

from importlib.metadata import entry_points

from smartstack.errors import SmartStackError
from smartstack.model import Families


def settings_models() -> dict[str, type]:
    """The settings of each daemon, by its name (group `smartstack.settings`).

    Raises SmartStackError when one is declared and cannot be loaded.
    """
    return _models("smartstack.settings")


def check_families() -> Families:
    """The kinds of check, by the `type` that picks them (group `smartstack.checks`).

    Raises SmartStackError when one is declared and cannot be loaded.
    """
    return {"check": _models("smartstack.checks")}


def source_families() -> Families:
    """The kinds of source, by the `type` that picks them (group `smartstack.sources`).

    Raises SmartStackError when one is declared and cannot be loaded.
    """
    return {"source": _models("smartstack.sources")}


def every_family() -> Families:
    """What a whole definition is checked against, whichever daemon takes which part of it. Raises as the others."""
    return {**check_families(), **source_families()}


def _models(group: str) -> dict[str, type]:
    models: dict[str, type] = {}
    for point in sorted(entry_points(group=group), key=lambda point: point.name):
        try:
            models[point.name] = point.load()
        except (ImportError, AttributeError, SyntaxError) as error:
            package = point.dist.name if point.dist else "an unknown package"
            raise SmartStackError(
                f"cannot load '{point.name}' ({group}) of {package}: {error}; reinstall or remove that package"
            ) from error
    return models
