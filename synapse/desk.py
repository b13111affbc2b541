"""The desk: what people ask of a running synapse, carried out on the loop's thread, and answered when it is done."""

from collections.abc import Collection, Mapping

from smartstack.inbox import Inbox
from synapse.orders import Order


class Desk:
    """Used by the loop's thread only, but for the inbox."""

    def __init__(self, inbox: Inbox[Order]) -> None:
        self.inbox = inbox

    def work(self, services: Collection[str]) -> None:
        """Carry out what was asked of these services, and end what has run out."""

    @property
    def accepted(self) -> Collection[str]:
        """The services whose shrunken listing somebody takes at its word in this turn."""
        return ()

    @property
    def held(self) -> Mapping[str, frozenset[str]]:
        """The addresses that are held on this host, by service."""
        return {}

    def due_in(self) -> float | None:
        """In how many seconds a hold runs out, None when none will."""
        return None

    def answer(self) -> None:
        """The turn is done: answer whoever asked in it."""
