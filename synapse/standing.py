"""By what each service is offered: its definition, or while that is refused what was good before. Pure."""

import enum
from collections.abc import Mapping

from smartstack.traffic import Proxy
from synapse.proxy import Refusal


class Stand(enum.Enum):
    """By what a service is offered, best first."""

    DEFINED = "as its definition says"
    ACCEPTED = "as the last definition said that a HAProxy ran with"
    KEPT = "by the text that this definition made, because it cannot be rendered any more"
    OUT = "not at all"


class Standing:
    """Remembers what was good, and what is refused.

    `accepted` is the `proxy` of each definition that a HAProxy ran with, `texts` is what it made where the templates
    are a site's own; that of the global part is under "". A refusal ends when the definition is edited, or when it was
    given another chance (`retry`) and HAProxy runs with it (`accept`); until then it stays to be seen.
    """

    def __init__(self, accepted: Mapping[str, Proxy], texts: Mapping[str, str]) -> None:
        self.accepted = dict(accepted)
        self.texts = dict(texts)
        self.refusals: dict[str, Refusal] = {}
        self._stands: dict[str, Stand] = {}
        self._on_trial: set[str] = set()

    def of(self, name: str, proxy: Proxy) -> Stand:
        """By what a service with this definition is offered; another one than the refused is another chance."""
        if name in self.refusals and self.refusals[name].proxy != proxy:
            self.forget(name)
        return self._stands.get(name, Stand.DEFINED)

    def below(self, name: str, proxy: Proxy) -> Stand:
        """What is left when it is refused as it is offered now."""
        stand = self.of(name, proxy)
        if stand is Stand.DEFINED and self.accepted.get(name, proxy) != proxy:
            return Stand.ACCEPTED
        if stand in (Stand.DEFINED, Stand.ACCEPTED) and name in self.texts and name in self.accepted:
            return Stand.KEPT
        return Stand.OUT

    def refuse(self, name: str, proxy: Proxy, reason: str, *, lasting: bool = False) -> None:
        """It cannot be offered as it is now: take what is left. The reason that stays is that of its definition."""
        below = self.below(name, proxy)
        if self.of(name, proxy) is Stand.DEFINED:
            self.refusals[name] = Refusal(proxy=proxy, reason=reason, lasting=lasting)
        self._stands[name] = below
        self._on_trial.discard(name)

    def retry(self) -> set[str]:
        """Give another chance to every definition that may be taken by now, and to what was good before of those that
        are not offered at all; answer whose they are."""
        names = set()
        for name, refusal in self.refusals.items():
            if not refusal.lasting and name not in self._on_trial:
                self._on_trial.add(name)
                self._stands.pop(name, None)
                names.add(name)
            elif refusal.lasting and self._stands.get(name) is Stand.OUT and name in self.accepted:
                self._stands[name] = Stand.ACCEPTED
                names.add(name)
        return names

    def confirm(self) -> None:
        """HAProxy runs with what is wanted: who was given another chance has used it."""
        for name in self._on_trial:
            self.refusals.pop(name, None)
        self._on_trial.clear()

    def accept(self, proxies: Mapping[str, Proxy], texts: Mapping[str, str]) -> None:
        """HAProxy runs with these; what was good before of those that are left out is kept."""
        self.confirm()
        good = {name: self.accepted[name] for name in self.refusals if name in self.accepted}
        self.accepted = {**good, **proxies}
        self.texts = {**{name: text for name, text in self.texts.items() if name in good}, **texts}

    def forget(self, name: str) -> None:
        """Nothing of this service is refused any more."""
        self.refusals.pop(name, None)
        self._stands.pop(name, None)
        self._on_trial.discard(name)

    def forget_all(self) -> None:
        """Nothing is refused any more."""
        for name in list(self.refusals):
            self.forget(name)
