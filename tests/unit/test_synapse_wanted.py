"""What HAProxy should be, with definitions that are refused: a service stays as it was, stays out, or comes back."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

import haproxy_templates
from smartstack.definition import ServiceDefinition
from smartstack.forms import TcpAddress
from smartstack.instance import Instance
from smartstack.locality import Locality
from smartstack.registry.protocol import Listing
from smartstack.traffic import Proxy
from synapse.offers import Offer
from synapse.placement import Placed, Placement, Role
from synapse.proxy import Admin, Observed, Slot
from synapse.render import Renderer, TemplateError
from synapse.selection import Choice, Memory, Origin
from synapse.settings import HAProxySettings
from synapse.wanted import Wanted, Wanting
from tests.support.definitions import placed, proxy

OLD, NEW, NEWER = proxy(), proxy(retries=5), proxy(retries=7)


def offer(of: Proxy | None, *ports: int) -> Offer:
    """An offer with instances of 10.0.0.1 at these ports."""
    instances = tuple(Instance(host="10.0.0.1", port=port) for port in ports)
    choice = Choice(instances=instances, origin=Origin.LISTING, reason="", memory=Memory(good=instances))
    definition = ServiceDefinition(port=80, proxy=of)
    return Offer(definition=definition, known=Listing(), choice=choice, placement=placed(instances))


def renderer(templates: Path | None = None) -> Renderer:
    settings = HAProxySettings(templates=None if templates is None else str(templates))
    return Renderer(settings, "/run/haproxy.sock", (2, 6))


def wanting(**accepted: Proxy) -> Wanting:
    return Wanting(renderer(), accepted)


def update(of: Wanting, changed: Mapping[str, Offer], **others: Offer) -> Wanted:
    return of.update({**others, **changed}, list(changed), None)


def proxies(wanted: Wanted) -> dict[str, Proxy]:
    return {name: service.proxy for name, service in wanted.services.items()}


def test_each_offer_with_a_proxy_is_wanted() -> None:
    """Discovery only is nothing to HAProxy; the structure has a digest for each service and one for the host."""
    wanted = update(wanting(), {"web": offer(OLD, 80), "api": offer(NEW), "db": offer(None, 80)})
    assert proxies(wanted) == {"web": OLD, "api": NEW}
    assert set(wanted.structure.digests) == {"", "web", "api"}
    assert [target.port for target in wanted.services["web"].targets] == [80]


def test_members_are_no_structure() -> None:
    """As long as the slots are enough, instances come and go under one description."""
    one = wanting()
    before = update(one, {"web": offer(OLD, 80)})
    after = update(one, {"web": offer(OLD, 81, 82)})
    assert after.structure is before.structure
    assert after.services["web"].targets != before.services["web"].targets


def test_what_a_definition_says_is_structure() -> None:
    """Another definition, another service, one less, more slots: each is another description, and back again."""
    one = wanting()
    descriptions = [
        update(one, {"web": offer(OLD, 80)}).structure.description,
        update(one, {"web": offer(NEW, 80)}).structure.description,
        update(one, {"api": offer(OLD)}, web=offer(NEW, 80)).structure.description,
        update(one, {"web": offer(NEW, *range(80, 100))}, api=offer(OLD)).structure.description,
    ]
    assert len(set(descriptions)) == 4
    one.update({"web": offer(OLD, 80)}, ["web", "api"], None)
    assert update(one, {"web": offer(OLD, 80)}).structure.description == descriptions[0]


def test_a_service_that_goes_is_not_wanted() -> None:
    """Its offer is gone, or its definition has no proxy any more."""
    one = wanting()
    update(one, {"web": offer(OLD, 80), "api": offer(OLD), "db": offer(OLD)})
    wanted = one.update({"web": offer(OLD, 80), "api": offer(None)}, ["api", "db"], None)
    assert set(wanted.services) == {"web"}
    assert set(wanted.structure.digests) == {"", "web"}


def test_a_refused_definition_leaves_the_service_as_it_was() -> None:
    """The service goes on with the definition that runs, and with the instances of now."""
    one = wanting(web=OLD)
    update(one, {"web": offer(NEW, 80)})
    one.refuse("web", offer(NEW, 80), "its address is taken")
    wanted = update(one, {"web": offer(NEW, 81)})
    assert proxies(wanted) == {"web": OLD}
    assert [target.port for target in wanted.services["web"].targets] == [81]
    assert one.refusals["web"].reason == "its address is taken"


def test_a_refused_definition_of_a_new_service_leaves_it_out() -> None:
    """There is nothing it could be as it was."""
    one = wanting()
    update(one, {"web": offer(NEW), "api": offer(OLD)})
    one.refuse("web", offer(NEW), "no")
    assert proxies(update(one, {"web": offer(NEW)}, api=offer(OLD))) == {"api": OLD}


def test_a_service_that_is_refused_as_it_was_is_left_out() -> None:
    """The definition that ran is refused too (its port was taken while HAProxy was down): the others go on."""
    one = wanting(web=OLD)
    update(one, {"web": offer(NEW), "api": offer(OLD)})
    for _ in range(2):
        one.refuse("web", offer(NEW), "no")
        wanted = update(one, {"web": offer(NEW)}, api=offer(OLD))
    assert proxies(wanted) == {"api": OLD}


def test_another_edit_is_another_chance() -> None:
    """A definition that is not the refused one is wanted, and the refusal is over."""
    one = wanting(web=OLD)
    update(one, {"web": offer(NEW)})
    one.refuse("web", offer(NEW), "no")
    assert proxies(update(one, {"web": offer(NEWER)})) == {"web": NEWER}
    assert one.refusals == {}


def test_an_edit_that_is_taken_back_ends_the_refusal() -> None:
    """The definition that runs is wanted again: nothing is refused and nothing differs from before."""
    one = wanting(web=OLD)
    before = update(one, {"web": offer(OLD)})
    update(one, {"web": offer(NEW)})
    one.refuse("web", offer(NEW), "no")
    after = update(one, {"web": offer(OLD)})
    assert (after.structure.description, one.refusals) == (before.structure.description, {})


def test_a_retry_is_another_chance_for_all_that_is_refused() -> None:
    """What was refused is wanted again, and those services are to be looked at."""
    one = wanting(web=OLD)
    update(one, {"web": offer(NEW), "api": offer(NEW)})
    one.refuse("web", offer(NEW), "no")
    one.refuse("api", offer(NEW), "no")
    assert one.standing.retry() == {"web", "api"}
    assert one.standing.retry() == set()
    assert proxies(update(one, {"web": offer(NEW), "api": offer(NEW)})) == {"web": NEW, "api": NEW}


def test_a_retry_leaves_the_reason_to_be_seen_until_haproxy_runs_with_it() -> None:
    """Tried and not yet taken is not healed; refused again, the reason is the new one."""
    one = wanting(web=OLD)
    update(one, {"web": offer(NEW)})
    one.refuse("web", offer(NEW), "no")
    one.standing.retry()
    update(one, {"web": offer(NEW)})
    assert one.refusals["web"].reason == "no"
    one.refuse("web", offer(NEW), "still not")
    assert one.refusals["web"].reason == "still not"
    one.standing.retry()
    update(one, {"web": offer(NEW)})
    one.accept()
    assert one.refusals == {}


def test_a_lasting_refusal_has_no_other_chance() -> None:
    """HAProxy would say the same: nothing is tried until the definition is edited."""
    one = wanting(web=OLD)
    update(one, {"web": offer(NEW)})
    one.refuse("web", offer(NEW), "no", lasting=True)
    assert one.standing.retry() == set()
    assert proxies(update(one, {"web": offer(NEW)})) == {"web": OLD}


def test_what_was_good_is_tried_again_where_the_service_is_out() -> None:
    """Its last good definition was refused too, when HAProxy started without it: that one may be good again, while
    the new one stays refused."""
    one = wanting(web=OLD)
    update(one, {"web": offer(NEW), "api": offer(OLD)})
    one.refuse("web", offer(NEW), "a wrong word", lasting=True)
    update(one, {"web": offer(NEW)}, api=offer(OLD))
    one.refuse("web", offer(NEW), "its port is taken")
    assert proxies(update(one, {"web": offer(NEW)}, api=offer(OLD))) == {"api": OLD}
    one.accept()
    assert one.standing.retry() == {"web"}
    assert proxies(update(one, {"web": offer(NEW)}, api=offer(OLD))) == {"web": OLD, "api": OLD}
    assert one.refusals["web"].reason == "a wrong word"


def test_a_refusal_of_a_retry_leaves_the_service_as_it_was_again() -> None:
    """However often it is tried, the definition that runs is not lost."""
    one = wanting(web=OLD)
    for _ in range(3):
        assert proxies(update(one, {"web": offer(NEW)})) == {"web": NEW}
        one.refuse("web", offer(NEW), "no")
        assert proxies(update(one, {"web": offer(NEW)})) == {"web": OLD}
        one.standing.retry()


def test_what_runs_is_what_a_service_falls_back_to() -> None:
    """Once HAProxy runs with a definition, that one is the last accepted."""
    one = wanting(web=OLD)
    update(one, {"web": offer(NEW)})
    one.accept()
    update(one, {"web": offer(NEWER)})
    one.refuse("web", offer(NEWER), "no")
    assert proxies(update(one, {"web": offer(NEWER)})) == {"web": NEW}


def test_a_service_whose_proxy_goes_is_not_held_by_a_refusal() -> None:
    """Discovery only is what the operator says now, whatever was refused before."""
    one = wanting(web=OLD)
    update(one, {"web": offer(NEW)})
    one.refuse("web", offer(NEW), "no")
    assert proxies(update(one, {"web": offer(None)})) == {}
    assert one.refusals == {}


SITE = '{% if proxy.retries == 5 %}{{ nothing }}{% endif %}{% include "slots.j2" %}'
SLOTS = "backend {{ name }}\n{% for slot in slots %}    server {{ slot.name }} {{ slot.address }}\n{% endfor %}"

SEATED = ("10.0.0.1:80", "127.0.0.1:9", "127.0.0.1:9", "127.0.0.1:9")


def site(directory: Path, service: str = SITE) -> Path:
    (directory / "service.cfg.j2").write_text(service)
    (directory / "slots.j2").write_text(SLOTS)
    return directory


def test_a_definition_that_a_template_cannot_render_is_refused(tmp_path: Path) -> None:
    """The service stays as it was; the reason names the template."""
    one = Wanting(renderer(site(tmp_path)), {"web": OLD})
    wanted = update(one, {"web": offer(NEW), "api": offer(OLD)})
    assert proxies(wanted) == {"web": OLD, "api": OLD}
    assert one.refusals["web"].reason == "cannot render service.cfg.j2: 'nothing' is undefined"
    assert one.refusals["web"].proxy == NEW


def running(*names: str) -> Observed:
    """A HAProxy that has these backends."""
    slots = [Slot(name=f"s{n}", host="127.0.0.1", port=9, weight=1, admin=Admin.MAINT) for n in range(1, 5)]
    return Observed(pid=1, description="", backends=dict.fromkeys(names, slots))


@pytest.mark.parametrize("of", [OLD, NEW])
def test_a_service_that_runs_is_not_taken_away_by_a_template(tmp_path: Path, of: Proxy) -> None:
    """When it cannot be rendered as it was either (the site's template broke), nothing is changed and that is told."""
    one = Wanting(renderer(site(tmp_path, "{{ nothing }}")), {"web": OLD})
    for _ in range(2):
        with pytest.raises(TemplateError, match="'nothing' is undefined"):
            one.update({"web": offer(of)}, ["web"], running("web"))


def test_a_service_that_runs_by_a_forgotten_definition_is_not_taken_away_either(tmp_path: Path) -> None:
    """The state directory was lost and the template broke: still nothing is changed."""
    one = Wanting(renderer(site(tmp_path, "{{ nothing }}")), {})
    with pytest.raises(TemplateError, match="'nothing' is undefined"):
        one.update({"web": offer(OLD)}, ["web"], running("web"))


def test_a_service_that_cannot_be_rendered_and_does_not_run_is_left_out(tmp_path: Path) -> None:
    """Whether it is new or HAProxy is down, the others do not wait for it."""
    broken = renderer(site(tmp_path, "{{ nothing }}"))
    assert proxies(update(Wanting(broken, {}), {"web": offer(NEW)})) == {}
    assert proxies(update(Wanting(broken, {"web": OLD}), {"web": offer(NEW)})) == {}
    assert proxies(Wanting(broken, {}).update({"web": offer(NEW)}, ["web"], running("api"))) == {}


def kept(tmp_path: Path) -> Wanting:
    """After a restart: `web` and `api` ran by a site's template, which has broken for `web` since."""
    before = Wanting(renderer(site(tmp_path, '{% include "slots.j2" %}')), {})
    update(before, {"web": offer(OLD, 80), "api": offer(OLD, 80)})
    before.accept()
    broken = renderer(site(tmp_path, '{% if name == "web" %}{{ nothing }}{% endif %}{% include "slots.j2" %}'))
    return Wanting(broken, before.standing.accepted, before.standing.texts)


def test_a_service_that_cannot_be_rendered_any_more_goes_on_by_the_text_that_it_had(tmp_path: Path) -> None:
    """Also one that runs: its structure is what it was, and its members are those of now."""
    one = kept(tmp_path)
    offers = {"web": offer(OLD, 81), "api": offer(OLD, 80)}
    wanted = one.update(offers, list(offers), running("web", "api"))
    assert one.refusals["web"].reason == "cannot render service.cfg.j2: 'nothing' is undefined"
    assert wanted.services["web"].kept
    text = one.file(wanted, None).text
    assert "backend web\n    server s1 10.0.0.1:81\n" in text
    fresh = Wanting(renderer(site(tmp_path, '{% include "slots.j2" %}')), {})
    assert fresh.update(offers, list(offers), running("web", "api")).structure == wanted.structure


def test_a_text_that_is_kept_gets_more_slots(tmp_path: Path) -> None:
    """Instances that come are not shut out because a template is broken."""
    one = kept(tmp_path)
    wanted = one.update({"web": offer(OLD, *range(80, 90))}, ["web"], running("web"))
    assert wanted.services["web"].slots == 16
    assert one.file(wanted, None).text.count("    server s") == 16
    one.accept()
    again = one.update({"web": offer(OLD, 80)}, ["web"], running("web"))
    assert one.file(again, None).text.count("    server s") == 4


def test_an_edit_of_a_service_whose_template_broke_is_refused_too(tmp_path: Path) -> None:
    """It stays by the text that it had, and so it does when it is refused again and again."""
    one = kept(tmp_path)
    for _ in range(3):
        wanted = one.update({"web": offer(NEW, 80)}, ["web"], running("web"))
        assert proxies(wanted) == {"web": OLD}
        assert wanted.services["web"].kept
        one.standing.retry()


def test_a_service_that_is_kept_and_refused_is_out(tmp_path: Path) -> None:
    """When HAProxy takes that text no more, nothing is left."""
    one = kept(tmp_path)
    update(one, {"web": offer(OLD, 80)})
    assert one.is_last("web", offer(OLD, 80))
    one.refuse("web", offer(OLD, 80), "no")
    assert proxies(update(one, {"web": offer(OLD, 80)})) == {}


def test_a_text_that_lacks_backups_has_everybody_alike(tmp_path: Path) -> None:
    """A site's template may know nothing of them: nobody is left out for that."""
    one = kept(tmp_path)
    instances = [Instance(host="10.0.0.1", port=port) for port in (80, 81)]
    members = tuple(
        Placed(instance=each, role=role) for each, role in zip(instances, (Role.PRIMARY, Role.BACKUP), strict=True)
    )
    near = replace(offer(OLD), placement=Placement(members=members))
    near = replace(near, definition=replace(near.definition, locality=Locality(prefer=("zone",))))
    service = one.update({"web": near}, ["web"], running("web")).services["web"]
    assert (service.backups, [target.backup for target in service.targets]) == (0, [False, False])


def test_nothing_is_kept_of_the_packages_own_templates() -> None:
    """They do not break, and a thousand texts are memory."""
    one = wanting()
    update(one, {"web": offer(OLD, 80)})
    one.accept()
    assert one.standing.texts == {}


@pytest.mark.parametrize("text", ["{{ nothing }}\n", "global\n    no description\n", "{% if %}\n"])
def test_a_global_part_that_cannot_be_used_any_more_is_that_of_before(tmp_path: Path, text: str) -> None:
    """After a restart too, what runs stays what it is, and it is told."""
    good = renderer(site(tmp_path))
    before = Wanting(good, {})
    structure = update(before, {"web": offer(OLD, 80)}).structure
    before.accept()
    (tmp_path / "global.cfg.j2").write_text(text)
    one = Wanting(renderer(tmp_path), before.standing.accepted, before.standing.texts)
    wanted = update(one, {"web": offer(OLD, 80)})
    assert wanted.structure == structure
    assert f"description {structure.description}\n" in one.file(wanted, None).text
    assert one.template_problem is not None
    one.accept()
    assert one.standing.texts[""] == before.standing.texts[""]
    (tmp_path / "global.cfg.j2").unlink()
    one.use(renderer(tmp_path))
    assert update(one, {"web": offer(OLD, 80)}).structure == structure
    assert not one.template_problem


def test_a_global_part_that_haproxy_refuses_is_that_of_before(tmp_path: Path) -> None:
    """Where there is one; it is refused only once."""
    assert not wanting().refuse_global("no")
    before = Wanting(renderer(site(tmp_path)), {})
    structure = update(before, {"web": offer(OLD, 80)}).structure
    before.accept()
    package = Path(haproxy_templates.__path__[0]) / "global.cfg.j2"
    (tmp_path / "global.cfg.j2").write_text(f"{package.read_text()}    nonsense\n")
    one = Wanting(renderer(tmp_path), before.standing.accepted, before.standing.texts)
    assert update(one, {"web": offer(OLD, 80)}).structure != structure
    assert one.refuse_global("no")
    assert not one.refuse_global("no")
    assert one.update({"web": offer(OLD, 80)}, (), None).structure == structure


@pytest.mark.parametrize("text", ["", "frontend {{ name }}\n", "backend {{ name }}x\n", "backend {{ name }}"])
def test_a_text_without_the_service_is_refused(tmp_path: Path, text: str) -> None:
    """A site's template that makes nothing of a service, or a last line without an end, costs that service only."""
    one = Wanting(
        renderer(site(tmp_path, f'{{% if name == "web" %}}{text}{{% else %}}{{% include "slots.j2" %}}{{% endif %}}')),
        {},
    )
    assert proxies(update(one, {"web": offer(NEW), "api": offer(OLD)})) == {"api": OLD}
    assert one.refusals["web"].reason.startswith("service.cfg.j2 makes no whole `backend web`")


def test_a_file_with_some_services_has_the_others_as_empty_backends() -> None:
    """So that a route to one of them finds it."""
    one = wanting()
    wanted = update(one, {"web": offer(OLD, 80), "api": offer(proxy(mode="tcp"), 80)})
    parts = one.file(wanted, None, ["web"]).parts
    assert parts["api"] == "backend api\n    mode tcp\n"
    assert "server s1" in parts["web"]


def test_new_templates_are_taken_whole_or_not_at_all(tmp_path: Path) -> None:
    """Templates that cannot render what runs are refused and change nothing; good ones are another structure."""
    one = wanting()
    offers = {"web": offer(OLD, 80)}
    before = update(one, offers)
    with pytest.raises(TemplateError):
        one.use(renderer(site(tmp_path, "{{ nothing }}")))
    assert update(one, offers).structure == before.structure
    one.use(renderer(site(tmp_path)))
    after = update(one, offers)
    assert after.structure.description != before.structure.description
    servers = "".join(f"    server s{number} {address}\n" for number, address in enumerate(SEATED, 1))
    assert one.file(after, None).text.endswith(f"backend web\n{servers}")


def test_the_file_has_the_instances_where_they_are() -> None:
    """A reload moves nobody who stays: the running HAProxy's seats are kept, the others fill the first free slots."""
    slots = [
        Slot(name="s1", host="10.0.0.1", port=82, weight=100, admin=Admin.MAINT),
        Slot(name="s2", host="10.0.0.1", port=80, weight=100, admin=Admin.READY),
        Slot(name="s3", host="10.0.0.1", port=99, weight=100, admin=Admin.READY),
        Slot(name="other", host="10.0.0.1", port=81, weight=100, admin=Admin.READY),
    ]
    observed = Observed(pid=1, description="", backends={"web": slots})
    one = wanting()
    wanted = one.update({"web": offer(OLD, 80, 81, 82)}, ["web"], observed)
    servers = [line.split()[1:3] for line in one.file(wanted, observed).text.splitlines() if " server s" in line]
    assert servers[:4] == [["s1", "10.0.0.1:81"], ["s2", "10.0.0.1:80"], ["s3", "10.0.0.1:82"], ["s4", "127.0.0.1:9"]]


def test_slots_grow_when_they_must_and_shrink_when_they_may() -> None:
    """The count of the running HAProxy is kept while it is enough; a reload that happens anyway may make it less."""
    slots = [Slot(name=f"s{n}", host="127.0.0.1", port=9, weight=1, admin=Admin.MAINT) for n in range(1, 33)]
    observed = Observed(pid=1, description="", backends={"web": slots})
    one = wanting()
    assert one.update({"web": offer(OLD, 80)}, ["web"], observed).services["web"].slots == 32
    assert one.update({"web": offer(OLD, 80)}, ["web"], observed, may_shrink=True).services["web"].slots == 4
    assert one.update({"web": offer(OLD, *range(1, 33))}, ["web"], observed).services["web"].slots == 40


def test_where_services_listen() -> None:
    """By the definitions that are in use, not by those that are refused."""
    one = wanting(web=OLD)
    moved = proxy(listen=(TcpAddress("0.0.0.0", 80),))
    update(one, {"web": offer(moved), "api": offer(moved)})
    one.refuse("web", offer(moved), "no")
    update(one, {"web": offer(moved)}, api=offer(moved))
    assert one.listens() == {"web": "127.0.0.1:3210", "api": "0.0.0.0:80"}
