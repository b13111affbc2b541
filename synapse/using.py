"""Which services this host offers, of those that are defined. Pure but for reading the configuration's last view."""

from collections.abc import Mapping

from smartstack.definition import ServiceDefinition, parent_name
from smartstack.errors import Problem
from smartstack.live import LiveConfiguration
from smartstack.validation import hint
from synapse.settings import Settings
from synapse.sources.registry import unknown_registries


def offered(
    definitions: Mapping[str, ServiceDefinition], use: tuple[str, ...] | None
) -> Mapping[str, ServiceDefinition]:
    """The definitions that this host uses, with the subsets of each; `use` None is all."""
    if use is None:
        return definitions
    known = [name for name in use if name in definitions]
    names = [each for name in known for each in (name, *(f"{name}.{subset}" for subset in definitions[name].subsets))]
    return {name: definitions[name] for name in names if name in definitions}


def unknown_names(configuration: LiveConfiguration[Settings]) -> tuple[Problem, ...]:
    """A problem for each name that stands for nothing: of a service in `use`, of a registry in a source."""
    settings = configuration.settings
    used = offered(configuration.view.definitions, settings.use)
    return *unknown_services(configuration), *unknown_registries(used, settings.registries, configuration.path)


def unknown_services(configuration: LiveConfiguration[Settings]) -> tuple[Problem, ...]:
    """A problem for each service that this host should use and that has no definition, good or bad."""
    view = configuration.view
    return tuple(
        Problem(
            path=configuration.path,
            key="use",
            message=f"{name} has no definition in {configuration.settings.services}{hint(name, view.definitions)}",
        )
        for name in configuration.settings.use or ()
        if name not in view.definitions and not {name, parent_name(name) or name} & view.problems.keys()
    )
