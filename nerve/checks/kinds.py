"""Which kinds of check there are: those of this package and of every other one that offers some."""

from collections.abc import Mapping
from importlib.metadata import entry_points

from smartstack.errors import SmartStackError

GROUP = "smartstack.checks"
"""The entry point group: a name is what users write as `type`, its object a model as `nerve.checks.base.Check` says."""


def check_kinds() -> Mapping[str, type]:
    """The models by their `type`. Raises SmartStackError when an installed kind cannot be loaded."""
    kinds: dict[str, type] = {}
    for point in entry_points(group=GROUP):
        try:
            kinds[point.name] = point.load()
        except (ImportError, AttributeError) as error:
            package = point.dist.name if point.dist else "an unknown package"
            raise SmartStackError(
                f"cannot load the check kind '{point.name}' of {package}: {error}; reinstall or remove that package"
            ) from error
    return kinds
