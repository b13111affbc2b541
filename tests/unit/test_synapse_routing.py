"""Whose routes lead to whom: a service that comes or goes is felt by those only whose routes lead to it."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from smartstack.definition import ServiceDefinition
from smartstack.instance import Instance
from smartstack.registry.protocol import Listing
from smartstack.traffic import Proxy, Route
from synapse.fragments import with_dead_ends
from synapse.offers import Offer
from synapse.proxy import Observed, Service, Target
from synapse.render import Renderer, TemplateError
from synapse.routing import Routing
from synapse.selection import Choice, Memory, Origin
from synapse.settings import HAProxySettings
from synapse.wanted import Wanted, Wanting
from tests.support.definitions import definition, placed, proxy

WEB = proxy(routes=(Route(path="/api", to="api"), Route(path="/more", to="more")))
NOT_USED, REFUSED, TCP = "which is not used on this host", "whose definition is refused", "which is mode tcp"


def test_who_comes_and_goes_is_told_to_whose_routes_lead_there() -> None:
    """Once each time, and not when something else of it changes."""
    routing = Routing()
    api = definition()
    routing.take("web", definition(), WEB)
    routing.take("other", definition(), proxy(routes=(Route(to="more"),)))
    assert routing.absent("web", WEB) == {"api": NOT_USED, "more": NOT_USED}
    assert routing.take("api", api, api.proxy) == ["web"]
    assert routing.take("api", api, proxy(retries=5)) == []
    assert routing.absent("web", WEB) == {"more": NOT_USED}
    assert routing.take("api", api, None) == ["web"]
    assert routing.absent("web", WEB) == {"api": REFUSED, "more": NOT_USED}
    assert routing.take("api", api, proxy(mode="tcp")) == ["web"]
    assert routing.take("api", None, None) == ["web"]
    assert routing.take("more", definition(), proxy()) == ["other", "web"]


def test_a_route_that_is_gone_leads_nowhere() -> None:
    """Neither does that of a service that is gone."""
    routing = Routing()
    routing.take("web", definition(), WEB)
    routing.take("web", definition(), proxy())
    routing.take("other", definition(), WEB)
    routing.take("other", None, None)
    assert routing.take("api", definition(), proxy()) == []
    assert routing.dead_ends == {}


def test_dead_ends_are_known_with_their_reasons() -> None:
    """Until the service comes, or the route goes."""
    routing = Routing()
    routing.take("web", definition(), WEB)
    assert routing.dead_ends == {"web": (WEB, {"api": NOT_USED, "more": NOT_USED})}
    routing.take("more", definition(), proxy())
    routing.take("web", definition(), WEB)
    assert routing.dead_ends == {"web": (WEB, {"api": NOT_USED})}
    routing.take("web", None, None)
    assert routing.dead_ends == {}


# In what is wanted of HAProxy


def offer(of: Proxy | None, *ports: int) -> Offer:
    instances = tuple(Instance(host="10.0.0.1", port=port) for port in ports)
    choice = Choice(instances=instances, origin=Origin.LISTING, reason="", memory=Memory(good=instances))
    made = ServiceDefinition(port=80, proxy=of)
    return Offer(definition=made, known=Listing(), choice=choice, placement=placed(instances))


class Site:
    """What is wanted, and the offers that it comes from."""

    def __init__(self, renderer: Renderer | None = None, **accepted: Proxy) -> None:
        self.wanting = Wanting(renderer or Renderer(HAProxySettings(), "/run/haproxy.sock", (2, 6)), accepted)
        self.offers: dict[str, Offer] = {}

    def change(self, **offers: Offer | None) -> Wanted:
        """These offers changed; None is one that went."""
        for name, each in offers.items():
            self.offers.pop(name, None)
            if each is not None:
                self.offers[name] = each
        return self.wanting.update(self.offers, list(offers), None)

    def refuse(self, name: str) -> Wanted:
        self.wanting.refuse(name, self.offers[name], "HAProxy said no")
        return self.wanting.update(self.offers, [name], None)

    def text(self, wanted: Wanted) -> str:
        return self.wanting.file(wanted, None).text


def test_a_service_that_comes_is_led_to_and_one_that_goes_is_not() -> None:
    """The structure of those whose routes lead to it changes with it, and is the same again afterwards; the rest of
    them is as it was."""
    site = Site()
    without = site.change(web=offer(WEB), more=offer(proxy()), other=offer(proxy()))
    assert without.services["web"].absent == {"api": NOT_USED}
    assert "use_backend api " not in site.text(without)
    assert 'string "this request is for api, which is not used on this host\\n"' in site.text(without)
    there = site.change(api=offer(Proxy()))
    assert "use_backend api if" in site.text(there)
    changed = {name for name in there.structure.digests if there.structure.digests[name] != digest_of(without, name)}
    assert changed == {"api", "web"}
    gone = site.change(api=None)
    assert gone.structure == without.structure
    assert site.text(gone) == site.text(without)


def digest_of(wanted: Wanted, name: str) -> str | None:
    return wanted.structure.digests.get(name)


def test_instances_of_a_target_are_no_structure_of_those_whose_routes_lead_there() -> None:
    """They come and go at run time."""
    site = Site()
    before = site.change(web=offer(WEB), api=offer(proxy(), 80), more=offer(proxy()))
    assert site.change(api=offer(proxy(), 81, 82)).structure is before.structure


ABSENCES: Mapping[str, tuple[Offer | None, str]] = {
    "not used here": (None, NOT_USED),
    "discovery only": (offer(None), "which has no proxy"),
    "mode tcp": (offer(proxy(mode="tcp")), TCP),
}


@pytest.mark.parametrize(("api", "why"), ABSENCES.values(), ids=ABSENCES)
def test_what_cannot_answer(api: Offer | None, why: str) -> None:
    """The request is told so, and the others of that service go on."""
    site = Site()
    site.change(web=offer(WEB), more=offer(proxy()), api=offer(proxy()))
    wanted = site.change(api=api)
    assert wanted.services["web"].absent == {"api": why}
    assert "use_backend more" in site.text(wanted)


def test_a_target_that_is_refused() -> None:
    """As it was, it is led to; not offered at all, it is not, until its definition is another."""
    site = Site(api=proxy())
    site.change(web=offer(WEB), more=offer(proxy()), api=offer(proxy(retries=5)))
    as_it_was = site.refuse("api")
    assert as_it_was.services["web"].absent == {}
    out = site.refuse("api")
    assert out.services["web"].absent == {"api": REFUSED}
    assert "api" not in out.services
    assert site.change(api=offer(proxy(retries=6))).services["web"].absent == {}


def test_all_at_once_is_the_same_as_one_by_one() -> None:
    """In whatever order services come, also where routes lead round in a circle."""
    circle = {"web": offer(WEB), "api": offer(proxy(routes=(Route(to="web"),))), "more": offer(proxy())}
    whole = Site().change(**circle)
    for order in (("web", "api", "more"), ("more", "api", "web")):
        site = Site()
        for name in order:
            last = site.change(**{name: circle[name]})
        assert last == whole


class Broken(Renderer):
    """Cannot render one service."""

    def text(self, service: Service, seats: Mapping[str, Target]) -> str:
        if service.name == "other":
            raise TemplateError("no")
        return super().text(service, seats)


def test_a_failure_half_way_loses_nobody() -> None:
    """A running service that cannot be rendered ends the turn; the next one goes on where it ended, with whoever had
    to be looked at because another had come."""
    site = Site(Broken(HAProxySettings(), "/run/haproxy.sock", (2, 6)), other=proxy())
    site.change(web=offer(WEB), more=offer(proxy()))
    site.offers |= {"api": offer(proxy()), "other": offer(proxy())}
    running = Observed(pid=1, description="", backends={"other": ()})
    with pytest.raises(TemplateError):
        site.wanting.update(site.offers, ["api", "other"], running)
    site.offers["other"] = offer(None)
    assert site.wanting.update(site.offers, ["other"], running).services["web"].absent == {}


def test_a_kept_text_whose_target_went_is_one_that_haproxy_can_read() -> None:
    """Its use_backend line would be an error; it answers 503 under the same condition instead."""
    text = "frontend web\n    use_backend api if { path /a }\n\n    use_backend more if { path /b }\n"
    assert with_dead_ends(text, {}) == text
    assert with_dead_ends(text, {"api": "which is out"}) == text.replace(
        "use_backend api",
        'http-request return status 503 content-type text/plain string "this request is for api, which is out\\n"',
    )


def test_a_kept_text_keeps_the_share_of_a_target_that_went() -> None:
    """What asks whether an instance of it is there would be an error too; the share stays with the service."""
    text = "frontend web\n    use_backend api if { var(txn.part) -m int 1 } { nbsrv(api) gt 0 }\n"
    assert with_dead_ends(text, {}) == text
    assert with_dead_ends(text, {"api": "which is out"}) == "frontend web\n    # no share goes to api, which is out\n"


def test_a_kept_text_stays_as_it_was_made(tmp_path: Path) -> None:
    """After a restart with a template that broke, a target goes and comes back: the route leads to it as before."""
    settings = HAProxySettings(templates=str(tmp_path))
    offers = {"web": offer(WEB), "api": offer(Proxy()), "more": offer(Proxy())}
    before = Site(Renderer(settings, "/run/haproxy.sock", (2, 6)))
    before.change(**offers)
    before.wanting.accept()
    (tmp_path / "frontend.cfg.j2").write_text("{{ nothing }}\n")
    site = Site()
    standing = before.wanting.standing
    site.wanting = Wanting(
        Renderer(settings, "/run/haproxy.sock", (2, 6)), standing.accepted, {"web": standing.texts["web"]}
    )
    assert site.change(**offers).services["web"].kept
    without = site.text(site.change(api=None))
    assert "use_backend api" not in without
    assert "this request is for api" in without
    site.wanting.accept()
    assert "use_backend api if" in site.text(site.change(api=offer(Proxy())))
