"""Registrations for tests of nerve."""

from dataclasses import replace

from nerve.health import State
from nerve.registrations import Host, Registration, registrations
from nerve.settings import Announcement
from smartstack.definition import ServiceDefinition


def registration(
    host: Host, service: str, definition: ServiceDefinition, announcement: Announcement, state: State
) -> Registration:
    """The main place of a service in this state."""
    return replace(registrations(host, service, definition, announcement)[0], state=state)
