"""From offers to the HAProxy that is wanted, incrementally: a service is rendered again only when it changed."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from smartstack.traffic import Proxy
from synapse.fragments import DESCRIPTION, slot_counts, with_dead_ends, with_slots
from synapse.offers import Offer
from synapse.plan import Structure
from synapse.proxy import Admin, Observed, Refusal, Service, Slot, Target, slot_count, targets
from synapse.quarantine import Candidate, holds
from synapse.render import Renderer, TemplateError, digest, seat, slot_lines
from synapse.routing import Routing
from synapse.standing import Stand, Standing

_Text: TypeAlias = tuple[Service, Sequence[Slot] | None, Mapping[str, Target], str]
"""A service, its slots as they were observed, who sits in which, and the text that this makes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What HAProxy should be."""

    services: Mapping[str, Service]
    structure: Structure


_Shape: TypeAlias = tuple[Proxy, int, int, Mapping[str, str], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rendered:
    """A service's text with every slot empty, while that is worth keeping, and its digest. `shape` is what it is of."""

    shape: _Shape
    digest: str
    text: str


class Wanting:
    """The wanted services and their digests, kept from one look to the next.

    `accepted` is the `proxy` part of each definition that a running HAProxy was started with, `texts` what it made:
    what a service falls back to while its new one is refused, so that a mistake leaves it as it was.
    `template_problem` is what keeps the template of the global part from use, while the text that it made last is used.
    `routing` says whose routes lead where.
    """

    def __init__(
        self, renderer: Renderer, accepted: Mapping[str, Proxy], texts: Mapping[str, str] | None = None
    ) -> None:
        self.standing = Standing(accepted, texts or {})
        self.template_problem: str | None = None
        self.routing = Routing()
        self._waiting: dict[str, None] = {}
        self._renderer = renderer
        self._services: dict[str, Service] = {}
        self._rendered: dict[str, _Rendered] = {}
        self._structure: Structure | None = None
        self._texts: dict[str, _Text] = {}
        self._listens: dict[str, str] = {}

    @property
    def refusals(self) -> Mapping[str, Refusal]:
        """The definitions that are not in use, and why."""
        return self.standing.refusals

    def update(
        self,
        offers: Mapping[str, Offer],
        changed: Collection[str],
        observed: Observed | None,
        *,
        may_shrink: bool = False,
    ) -> Wanted:
        """Take in the offers that changed. Raises `TemplateError` when the global part cannot be rendered, or a service
        that runs cannot be offered as it runs: a template that broke takes nothing away."""
        looked_at = self._look_at(offers, changed, observed, may_shrink=may_shrink)
        before = self._structure.digests if self._structure is not None else {}
        if (
            self._structure is None
            or before.keys() - {""} != self._rendered.keys()
            or any(before[name] != self._rendered[name].digest for name in looked_at if name in self._rendered)
        ):
            self._structure = self._make_structure()
        if observed is not None and observed.description == self._structure.description:
            self.standing.confirm()
        return Wanted(services=dict(self._services), structure=self._structure)

    def use(self, renderer: Renderer) -> None:
        """Render with these templates from now on; what was refused with others has another chance with these.

        Raises `TemplateError`, changing nothing, when a service cannot be rendered with them.
        """
        renderer.check()
        made = {name: _made(renderer, replace(service, kept=False)) for name, service in self._services.items()}
        self._renderer = renderer
        self._rendered = made
        self._texts.clear()
        self._structure = None
        self.template_problem = None
        self.standing.forget_all()

    def refuse(self, name: str, offer: Offer, reason: str, *, lasting: bool = False) -> None:
        """Leave this service as it was until its definition changes, or until a retry unless the reason is `lasting`.

        Refused again while it is as it was, it is left out.
        """
        if offer.definition.proxy is not None:
            self.standing.refuse(name, offer.definition.proxy, reason, lasting=lasting)

    def is_last(self, name: str, offer: Offer) -> bool:
        """Whether the service is left out if it is refused as it is wanted now."""
        proxy = offer.definition.proxy
        return proxy is None or self.standing.below(name, proxy) is Stand.OUT

    def refuse_global(self, reason: str) -> bool:
        """Use the global part that was good before instead of the template's; answer whether there is one."""
        if "" not in self.standing.texts or self.template_problem is not None:
            return False
        self.template_problem = reason
        self._structure = None
        return True

    def accept(self) -> None:
        """HAProxy runs with what is wanted now."""
        # A kept text stays as it was made, whatever stands in its slots and wherever its routes lead now.
        fresh = (name for name, service in self._services.items() if not service.kept)
        texts = {name: self._rendered[name].text for name in fresh if self._rendered[name].text}
        if self.template_problem is not None:
            texts[""] = self.standing.texts[""]
        elif self._renderer.keeps:
            texts[""] = self._renderer.global_part(DESCRIPTION)
        self.standing.accept({name: service.proxy for name, service in self._services.items()}, texts)

    def listens(self) -> dict[str, str]:
        """Where each service is offered, by the definition that is in use."""
        return dict(self._listens)

    def file(self, wanted: Wanted, observed: Observed | None, only: Collection[str] | None = None) -> Candidate:
        """haproxy.cfg for what is wanted, with the instances in the slots where they are. With `only` these services,
        and the others as backends without servers, so that whatever speaks of them finds them.

        Raises `TemplateError`, also when the file would not have everything that it must have.
        """
        parts = {}
        for name, service in wanted.services.items():
            if only is not None and name not in only:
                parts[name] = f"backend {name}\n    mode {service.proxy.mode}\n"
                continue
            running = observed.backends.get(name) if observed is not None else None
            cached = self._texts.get(name)
            if cached is None or cached[0] is not service or cached[1] is not running:
                seats = seat(service, _seated(running))
                if cached is None or cached[0] != service or cached[2] != seats:
                    text = self._text(service, seats)
                else:
                    text = cached[3]
                cached = self._texts[name] = (service, running, seats, text)
            parts[name] = cached[3]
        return self._renderer.file(wanted.structure, parts, self._kept_global(wanted.structure.description))

    def _look_at(
        self, offers: Mapping[str, Offer], changed: Collection[str], observed: Observed | None, *, may_shrink: bool
    ) -> set[str]:
        """Bring these services up to date, and those whose routes lead to one that came or went; answer which."""
        # Those with routes last: what they lead to is known by then.
        self._waiting.update(dict.fromkeys(sorted(changed, key=lambda name: _has_routes(offers.get(name)))))
        looked_at = set()
        while self._waiting:
            name = next(iter(self._waiting))
            offer = offers.get(name)
            service = self._service(name, offer, observed, may_shrink=may_shrink) if offer is not None else None
            del self._waiting[name]
            looked_at.add(name)
            if service is None:
                for kept in (self._services, self._rendered, self._texts, self._listens):
                    kept.pop(name, None)
                if offer is None:
                    self.standing.forget(name)
            else:
                self._services[name] = service
                self._listens[name] = ", ".join(map(str, service.proxy.addresses))
            definition = None if offer is None else offer.definition
            routers = self.routing.take(name, definition, None if service is None else service.proxy)
            self._waiting.update(dict.fromkeys(routers))
        return looked_at

    def _service(self, name: str, offer: Offer, observed: Observed | None, *, may_shrink: bool) -> Service | None:
        """The service as it should be, by its last accepted definition while the new one is refused; None when it is
        not to be offered at all."""
        proxy = offer.definition.proxy
        running = observed.backends.get(name) if observed else None
        if proxy is None:
            self.standing.forget(name)
            return None
        while (stand := self.standing.of(name, proxy)) is not Stand.OUT:
            in_use = proxy if stand is Stand.DEFINED else self.standing.accepted[name]
            service = self._shape(offer, in_use, stand, running, name=name, may_shrink=may_shrink)
            try:
                self._render(service)
            except TemplateError as error:
                if running is not None and self.standing.below(name, proxy) is Stand.OUT:
                    raise
                self.refuse(name, offer, str(error), lasting=True)  # until the template is edited, which forgets it
            else:
                return service
        return None

    def _shape(
        self,
        offer: Offer,
        proxy: Proxy,
        stand: Stand,
        running: Sequence[Slot] | None,
        *,
        name: str,
        may_shrink: bool,
    ) -> Service:
        """The service with its slots: as many as it needs, and as it has."""
        current = None if running is None else sum(not slot.backup for slot in running)
        measured = self._renderer.measured
        chosen = targets(offer.placement, proxy, offer.shares, measured=measured)
        slots = slot_count(current, len(chosen), may_shrink=may_shrink)
        backups = 0
        if offer.definition.locality is not None:
            # Room for everybody on both sides: an instance changes sides without a reload.
            spare = None if running is None else len(running) - (current or 0)
            backups = slot_count(spare or None, len(chosen), may_shrink=may_shrink)
        kept = stand is Stand.KEPT
        if kept and not slot_counts(self.standing.texts[name])[1]:
            backups, chosen = 0, tuple(replace(target, backup=False) for target in chosen)
        absent = self.routing.absent(name, proxy)
        return Service(
            name=name,
            proxy=proxy,
            targets=chosen,
            slots=slots,
            backups=backups,
            absent=absent,
            kept=kept,
            measured=measured,
        )

    def _render(self, service: Service) -> None:
        """Bring the service's digest up to date. Raises `TemplateError`."""
        cached = self._rendered.get(service.name)
        if cached is None or cached.shape != _shape(service):
            text = self._text(service, {}) if service.kept else None
            self._rendered[service.name] = _made(self._renderer, service, text)

    def _text(self, service: Service, seats: Mapping[str, Target]) -> str:
        kept = self.standing.texts.get(service.name) if service.kept else None
        if kept is None:
            return self._renderer.text(service, seats)
        return with_dead_ends(with_slots(kept, slot_lines(service, seats)), service.absent)

    def _make_structure(self) -> Structure:
        digests = {name: rendered.digest for name, rendered in self._rendered.items()}
        if self.template_problem is None:
            try:
                return self._renderer.structure(digests)
            except TemplateError as error:
                if not self.refuse_global(str(error)):
                    raise
        return self._renderer.structure(digests, self._kept_global(""))

    def _kept_global(self, description: str) -> str | None:
        """The global part that was good before, while the template's is not used."""
        if self.template_problem is None:
            return None
        return self.standing.texts[""].replace(DESCRIPTION, description)


def _has_routes(offer: Offer | None) -> bool:
    proxy = None if offer is None else offer.definition.proxy
    return proxy is not None and bool(proxy.routes or proxy.split)


def _shape(service: Service) -> _Shape:
    return service.proxy, service.slots, service.backups, service.absent, service.kept


def _made(renderer: Renderer, service: Service, kept: str | None = None) -> _Rendered:
    """What a service makes of the templates, or of the text that it had. Raises `TemplateError`."""
    text = renderer.text(service, {}) if kept is None else kept
    if not holds(service.name, text):
        raise TemplateError(f"service.cfg.j2 makes no whole `backend {service.name}`, with an end of its last line")
    worth_keeping = renderer.keeps or kept is not None
    return _Rendered(shape=_shape(service), digest=digest(text), text=text if worth_keeping else "")


def _seated(running: Sequence[Slot] | None) -> Mapping[str, Target]:
    """Which slots the running HAProxy has whom in."""
    return {
        slot.name: Target(host=slot.host, port=slot.port, weight=slot.weight, backup=slot.backup)
        for slot in running or ()
        if slot.admin is not Admin.MAINT
    }
