"""A kind of source as another package would bring it: this is all that it needs."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from smartstack.errors import SmartStackError
from synapse.sources.base import Fixed, Place, Source
from synapse.sources.listing import listing_of


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherSource:
    """One instance, whose address is looked up in a table."""

    answers: ClassVar[dict[str, str]] = {"10.0.0.7": "10.0.0.7"}

    answer: Annotated[str, "what to look up"]

    def open(self, place: Place) -> Source:
        """Raises SmartStackError when the table has nothing."""
        if self.answer not in self.answers:
            raise SmartStackError("other: there is no answer")
        return Fixed(listing_of([(place.service, {"host": self.answers[self.answer], "port": place.port})]))
