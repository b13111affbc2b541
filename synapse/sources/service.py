"""The sources of one service: opened and closed as its definition says, and what they say together."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from smartstack.definition import ServiceDefinition
from smartstack.errors import SmartStackError
from smartstack.instance import Instance
from smartstack.locality import Where
from smartstack.registry.protocol import Listing, Ring, Unknown
from synapse.sources.base import Fixed, Kind, Place, Source
from synapse.sources.combine import Said, fallback, keep, leader, unclaimed, union
from synapse.sources.registry import RegistrySource

FIRST_WORD_SECONDS = 2.0
"""How long a source that never said anything is waited for before the others are taken without it."""

REOPEN_SECONDS = 30.0
"""How often a source that could not be opened is tried again."""

HERE = (RegistrySource(),)
"""What a definition without sources has."""


@dataclass(slots=True, eq=False)
class _Part:
    """One open source. `known` is what it said at the last look, `last` when it last knew something."""

    model: object
    place: Place
    source: Source
    reopen_at: float | None = None
    known: Listing | Unknown | None = None
    last: Listing | None = None


class ServiceSources:
    """Used by the loop's thread only. The same object comes back from `look` while nothing changed."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self._parts: list[_Part] = []
        self._definition: ServiceDefinition | None = None
        self._kept = Listing()
        self._waiting_until: float | None = None
        self._answer: Listing | Unknown | None = None
        self._stale = True

    def arrange(self, definition: ServiceDefinition, place: Place, good: Sequence[Instance]) -> None:
        """Open the sources that the definition has, and close those that it had. `good` is what the service has now."""
        if definition is self._definition:
            return
        before, self._parts = self._parts, []
        fresh = False
        for model in definition.sources or HERE:
            part = next((each for each in before if each.model == model and each.place == place), None)
            if part is None:
                part, fresh = self._open(model, place), True
            else:
                before.remove(part)
            self._parts.append(part)
        for part in before:
            part.source.stop()
        if len(self._parts) == 1:
            self._waiting_until = None
        elif fresh:
            self._kept = keep(good)
            self._waiting_until = time.monotonic() + FIRST_WORD_SECONDS
        self._definition = definition
        self._stale = True

    def look(self) -> Listing | Unknown:
        """What is known of the service now."""
        for part in self._parts:
            self._read(part)
        if self._waiting_until is not None and (self._heard_all() or time.monotonic() >= self._waiting_until):
            self._waiting_until, self._stale = None, True
        if self._stale or self._answer is None:
            answer = self._combined()
            if answer != self._answer:
                self._answer = answer
            self._stale = False
        assert self._answer is not None
        return self._answer

    def due_in(self) -> float | None:
        """In how many seconds `look` should be called if nobody rings, None when only a ring brings news."""
        now = time.monotonic()
        dues = [part.source.due_in() for part in self._parts]
        dues += [part.reopen_at - now for part in self._parts if part.reopen_at is not None]
        if self._waiting_until is not None:
            dues.append(self._waiting_until - now)
        return min((max(0.0, due) for due in dues if due is not None), default=None)

    def stop(self) -> None:
        """Close everything."""
        for part in self._parts:
            part.source.stop()
        self._parts = []

    def _open(self, model: object, place: Place) -> _Part:
        try:
            if not isinstance(model, Kind):
                raise SmartStackError(f"{type(model).__name__} is no kind of source that is installed here")
            source = model.open(place)
            source.start(self._ring)
        except SmartStackError as error:
            failed = Fixed(Unknown(reason=str(error), since=time.time()))
            return _Part(model, place, failed, reopen_at=time.monotonic() + REOPEN_SECONDS)
        return _Part(model, place, source)

    def _read(self, part: _Part) -> None:
        if part.reopen_at is not None and time.monotonic() >= part.reopen_at:
            again = self._open(part.model, part.place)
            part.source, part.reopen_at = again.source, again.reopen_at
        known = part.source.read()
        if known is part.known:
            return
        self._stale = True
        part.known = known
        if isinstance(known, Listing):
            part.last = known

    def _heard_all(self) -> bool:
        return all(part.last is not None for part in self._parts)

    def _combined(self) -> Listing | Unknown:
        assert self._definition is not None
        said = [Said(now=part.known, last=part.last) for part in self._parts if part.known is not None]
        if self._definition.leader_only:
            where = self._definition.where
            said = [Said(now=leader(each.now, where), last=_leader_of(each.last, where)) for each in said]
            # Another source's leader would be a second one, as long as the first one's is not known to be gone.
            return fallback(said, waiting=True)
        if len(said) == 1:
            return said[0].now
        self._kept = Listing() if self._heard_all() else unclaimed(self._kept, said)
        combine = fallback if self._definition.combine == "fallback" else union
        return combine(said, self._kept, waiting=self._waiting_until is not None)


def _leader_of(last: Listing | None, where: Where) -> Listing | None:
    known = None if last is None else leader(last, where)
    return known if isinstance(known, Listing) else None
