"""From offers to the HAProxy that is wanted, incrementally: a service is rendered again only when it changed."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from smartstack.traffic import Proxy
from synapse.offers import Offer
from synapse.plan import Structure
from synapse.proxy import Admin, Observed, Refusal, Service, Target, slot_count, targets
from synapse.render import Renderer, TemplateError, seat


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What HAProxy should be."""

    services: Mapping[str, Service]
    structure: Structure


class Wanting:
    """The wanted services and their digests, kept from one look to the next.

    `accepted` is the `proxy` part of each definition that a running HAProxy was started with: what a service falls
    back to while its new one is refused, so that a mistake leaves it as it was.
    """

    def __init__(self, renderer: Renderer, accepted: Mapping[str, Proxy]) -> None:
        self.accepted = dict(accepted)
        self.refusals: dict[str, Refusal] = {}
        self._renderer = renderer
        self._services: dict[str, Service] = {}
        self._digests: dict[str, str] = {}
        self._rendered: dict[str, tuple[Proxy, int, int, str]] = {}
        self._structure: Structure | None = None
        self._texts: dict[str, tuple[Service, Mapping[str, Target], str]] = {}

    def update(
        self,
        offers: Mapping[str, Offer],
        changed: Collection[str],
        observed: Observed | None,
        *,
        may_shrink: bool = False,
    ) -> Wanted:
        """Take in the offers that changed. Raises `TemplateError` when the global part cannot be rendered, or a service
        that runs cannot be rendered as it runs: a template that broke takes nothing away."""
        for name in changed:
            service = self._service(name, offers[name], observed, may_shrink=may_shrink) if name in offers else None
            if service is None:
                for kept in (self._services, self._digests, self._rendered, self._texts):
                    kept.pop(name, None)
                if name not in offers:
                    self.refusals.pop(name, None)
            else:
                self._services[name] = service
        if (
            self._structure is None
            or self._structure.digests.keys() - {""} != self._digests.keys()
            or any(self._structure.digests[name] != self._digests[name] for name in changed if name in self._digests)
        ):
            self._structure = self._renderer.structure(self._digests)
        return Wanted(services=dict(self._services), structure=self._structure)

    def use(self, renderer: Renderer) -> None:
        """Render with these templates from now on; what was refused with others has another chance with these.

        Raises `TemplateError`, changing nothing, when a service cannot be rendered with them.
        """
        renderer.check()
        for service in self._services.values():
            renderer.digest(service)
        self._renderer = renderer
        self._rendered.clear()
        self._texts.clear()
        self._structure = None
        self.refusals.clear()

    def refuse(self, name: str, offer: Offer, reason: str, *, lasting: bool = False) -> None:
        """Leave this service as it was until its definition changes, or until a retry unless the reason is `lasting`.

        Refused again while it is as it was, it is left out.
        """
        if name in self.refusals:
            self.accepted.pop(name, None)
        elif offer.definition.proxy is not None:
            self.refusals[name] = Refusal(proxy=offer.definition.proxy, reason=reason, lasting=lasting)

    def retry(self) -> set[str]:
        """Give every definition that may be taken by now another chance; answer which those are."""
        names = {name for name, refusal in self.refusals.items() if not refusal.lasting}
        for name in names:
            del self.refusals[name]
        return names

    def accept(self) -> None:
        """HAProxy runs with what is wanted now."""
        self.accepted = {name: service.proxy for name, service in self._services.items()}

    def listens(self) -> dict[str, str]:
        """Where each service is offered, by the definition that is in use."""
        return {name: ", ".join(map(str, service.proxy.addresses)) for name, service in self._services.items()}

    def file(self, wanted: Wanted, observed: Observed | None) -> str:
        """haproxy.cfg for what is wanted, with the instances in the slots where they are."""
        texts: dict[str, str] = {}
        for name, service in wanted.services.items():
            seats = seat(service, _seated(name, observed))
            cached = self._texts.get(name)
            if cached is None or cached[0] != service or cached[1] != seats:
                cached = self._texts[name] = (service, seats, self._renderer.text(service, seats))
            texts[name] = cached[2]
        return self._renderer.file(wanted.structure, texts)

    def _service(self, name: str, offer: Offer, observed: Observed | None, *, may_shrink: bool) -> Service | None:
        """The service as it should be, by its last accepted definition while the new one is refused; None when it is
        not to be offered at all."""
        proxy = offer.definition.proxy
        refusal = self.refusals.get(name)
        if refusal is not None and refusal.proxy != proxy:
            del self.refusals[name]
            refusal = None
        if refusal is not None:
            proxy = self.accepted.get(name)
        if proxy is None:
            return None
        running = observed.backends.get(name) if observed else None
        current = None if running is None else sum(not slot.backup for slot in running)
        chosen = targets(offer.placement, proxy)
        slots = slot_count(current, len(chosen), may_shrink=may_shrink)
        backups = 0
        if offer.definition.locality is not None:
            # Room for everybody on both sides: an instance changes sides without a reload.
            spare = None if running is None else len(running) - (current or 0)
            backups = slot_count(spare or None, len(chosen), may_shrink=may_shrink)
        service = Service(name=name, proxy=proxy, targets=chosen, slots=slots, backups=backups)
        try:
            self._digests[name] = self._digest(service)
        except TemplateError as error:
            if current is not None and self.accepted.get(name, proxy) == proxy:
                raise
            if refusal is not None:
                return None
            self.refuse(name, offer, str(error))
            return self._service(name, offer, observed, may_shrink=may_shrink)
        return service

    def _digest(self, service: Service) -> str:
        cached = self._rendered.get(service.name)
        if cached is None or cached[:3] != (service.proxy, service.slots, service.backups):
            digest = self._renderer.digest(service)
            cached = self._rendered[service.name] = (service.proxy, service.slots, service.backups, digest)
        return cached[3]


def _seated(name: str, observed: Observed | None) -> Mapping[str, Target]:
    """Which slots the running HAProxy has whom in."""
    if observed is None:
        return {}
    return {
        slot.name: Target(host=slot.host, port=slot.port, weight=slot.weight, backup=slot.backup)
        for slot in observed.backends.get(name, ())
        if slot.admin is not Admin.MAINT
    }
