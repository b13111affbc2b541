"""What a source of instances is: the protocol that each kind keeps, those of other packages too.

A kind is a model, a frozen dataclass with the keys of its mapping, found by its entry point in the group
`smartstack.sources`. `open` makes a source of it: one for each definition that has it, for as long as it has it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, runtime_checkable

from smartstack.registry.protocol import Listing, Ring, Unknown
from synapse.sources.registries import Registries

T = TypeVar("T")


class Source(Protocol):
    """Where one service's instances are found. Every method is called by the loop's thread only.

    A source that waits for something does so on a thread of its own, which keeps what it learns and rings.
    """

    def start(self, ring: Ring) -> None:
        """Begin, without waiting for anything; ring whenever `read` may answer something new."""

    def read(self) -> Listing | Unknown:
        """What is known now, at once. Never raises for what the world does.

        The same object comes back while nothing changed. `Unknown` is for what may heal, an empty listing for the
        knowledge that there is no instance.
        """

    def due_in(self) -> float | None:
        """In how many seconds `read` should be called if nobody rings, None when only a ring brings news."""

    def stop(self) -> None:
        """End what was started, every thread of it."""


class Shared:
    """What several sources use together, such as one thread for all: one object of each class, made when asked for."""

    def __init__(self) -> None:
        self._made: dict[type, Any] = {}

    def of(self, wanted: Callable[[], T]) -> T:
        """The one object of this class."""
        assert isinstance(wanted, type)
        if wanted not in self._made:
            self._made[wanted] = wanted()
        made: T = self._made[wanted]
        return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """For whom a source is opened: the service, the port of its definition, its path in a registry."""

    service: str
    port: int
    path: str
    registries: Registries = field(compare=False)
    shared: Shared = field(compare=False)


@runtime_checkable
class Kind(Protocol):
    """The model of a source."""

    def open(self, place: Place) -> Source:
        """A source, not started. Raises `SmartStackError` when it cannot be had, which is tried again later."""


class Fixed:
    """A source that says one thing, always."""

    def __init__(self, answer: Listing | Unknown) -> None:
        self._answer = answer

    def start(self, ring: Ring) -> None:
        """Nothing is begun."""

    def read(self) -> Listing | Unknown:
        return self._answer

    def due_in(self) -> float | None:
        return None

    def stop(self) -> None:
        """Nothing was begun."""
