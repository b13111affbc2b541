"""Offers over time: only what changed is looked at again, and what is gone is forgotten."""

from collections.abc import Mapping
from dataclasses import replace

from smartstack.definition import ServiceDefinition
from smartstack.instance import Instance
from smartstack.locality import Locality
from smartstack.registry.protocol import Listing, Record, Refused, Unknown
from synapse.offers import Offers, Surroundings
from synapse.placement import Role, Seen
from synapse.selection import Origin
from tests.support.definitions import definition

AWAY = Unknown(reason="the registry is away", since=0.0)
WEB = definition(shrink_to_nothing="confirm")
API = definition(shrink_confirm=10.0, shrink_to_nothing="confirm")


def instances(*ports: int) -> tuple[Instance, ...]:
    return tuple(Instance(host="10.0.0.1", port=port) for port in ports)


def listing(*ports: int) -> Listing:
    return Listing(records=tuple(Record(node=str(each.port), instance=each) for each in instances(*ports)))


def instances_of(offers: Offers, name: str) -> tuple[Instance, ...]:
    return offers.by_name[name].choice.instances


def origin_of(offers: Offers, name: str) -> Origin:
    return offers.by_name[name].choice.origin


class Registry:
    """The same object for the same content, as a reader gives it."""

    def __init__(self, **content: Listing | Unknown) -> None:
        self.content: dict[str, Listing | Unknown] = {}
        self.now(**content)

    def now(self, **content: Listing | Unknown) -> Mapping[str, Listing | Unknown]:
        self.content.update(content)
        return self.content


def test_the_first_look_takes_everything() -> None:
    """Every service is new; each has what the registry says of it."""
    offers = Offers({})
    registry = Registry(web=listing(80), api=AWAY)
    assert offers.update({"web": WEB, "api": API}, registry.content, 0.0) == {"web", "api"}
    assert instances_of(offers, "web") == instances(80)
    assert origin_of(offers, "api") is Origin.NOTHING


def test_what_did_not_change_is_not_looked_at_again() -> None:
    """The same definition and the same listing are the same offer, the very same object."""
    offers, registry = Offers({}), Registry(web=listing(80), api=listing(81))
    offers.update({"web": WEB, "api": API}, registry.content, 0.0)
    before = dict(offers.by_name)
    assert offers.update({"web": WEB, "api": API}, registry.now(api=listing(81, 82)), 1.0) == {"api"}
    assert offers.by_name["web"] is before["web"]
    assert instances_of(offers, "api") == instances(81, 82)


def test_a_new_listing_with_the_same_content_is_no_change() -> None:
    """After a reconnect everything is read again; nobody has work of it."""
    offers, registry = Offers({}), Registry(web=listing(80))
    offers.update({"web": WEB}, registry.content, 0.0)
    assert offers.update({"web": WEB}, registry.now(web=listing(80)), 1.0) == set()


def test_a_new_definition_is_a_change() -> None:
    """The instances are the same, what HAProxy makes of them may not be."""
    offers, registry = Offers({}), Registry(web=listing(80))
    offers.update({"web": WEB}, registry.content, 0.0)
    assert offers.update({"web": API}, registry.content, 1.0) == {"web"}
    assert offers.by_name["web"].definition is API


def test_what_people_see_is_a_change() -> None:
    """Refused nodes and the origin are told, so they change an offer although its instances stay."""
    offers, registry = Offers({}), Registry(web=listing(80))
    offers.update({"web": WEB}, registry.content, 0.0)
    assert offers.update({"web": WEB}, registry.now(web=AWAY), 1.0) == {"web"}
    assert origin_of(offers, "web") is Origin.LAST_GOOD
    refused = Listing(records=listing(80).records, refused=(Refused(node="x", reason="payload is not JSON"),))
    assert offers.update({"web": WEB}, registry.now(web=refused), 2.0) == {"web"}


def test_a_service_that_goes_is_forgotten() -> None:
    """Its offer goes, and what was good of it; when it comes back it is new."""
    offers, registry = Offers({}), Registry(web=listing(80), api=listing(81))
    offers.update({"web": WEB, "api": API}, registry.content, 0.0)
    assert offers.update({"api": API}, registry.content, 1.0) == {"web"}
    assert set(offers.by_name) == set(offers.good()) == {"api"}
    offers.update({"web": WEB, "api": API}, registry.now(web=AWAY), 2.0)
    assert origin_of(offers, "web") is Origin.NOTHING


def test_a_definition_that_changes_keeps_what_was_good() -> None:
    """An edit while the registry is away does not empty the service."""
    offers, registry = Offers({}), Registry(web=listing(80))
    offers.update({"web": WEB}, registry.content, 0.0)
    offers.update({"web": API}, registry.now(web=AWAY), 1.0)
    assert instances_of(offers, "web") == instances(80)


def test_held_back_until_it_is_due() -> None:
    """A shrunken listing changes nothing until its time has come, then it changes by itself, once."""
    offers, registry = Offers({}), Registry(web=listing(80, 81), api=listing(90, 91, 92))
    definitions = {"web": WEB, "api": API}
    offers.update(definitions, registry.content, 100.0)
    assert offers.due() is None
    assert offers.update(definitions, registry.now(web=listing(), api=listing(90)), 101.0) == {"web", "api"}
    assert offers.due() == 111.0
    assert offers.update(definitions, registry.content, 110.9) == set()
    assert offers.update(definitions, registry.content, 111.0) == {"api"}
    assert instances_of(offers, "api") == instances(90)
    assert offers.due() == 131.0
    assert offers.update(definitions, registry.content, 131.0) == {"web"}
    assert instances_of(offers, "web") == ()
    assert offers.due() is None


def test_a_new_definition_may_confirm_at_once() -> None:
    """An operator who lowers shrink_floor lets a held-back listing pass, although the listing is the same."""
    offers, registry = Offers({}), Registry(web=listing(80, 81))
    offers.update({"web": WEB}, registry.content, 0.0)
    offers.update({"web": WEB}, registry.now(web=listing()), 1.0)
    assert offers.update({"web": definition(shrink_floor=0.0)}, registry.content, 2.0) == {"web"}
    assert instances_of(offers, "web") == ()


def test_a_service_without_proxy_is_held_to_the_same_floor() -> None:
    """Discovery only: the listing is chosen as for the others, with the defaults."""
    offers, registry = Offers({}), Registry(web=listing(80, 81))
    plain = ServiceDefinition(port=80)
    offers.update({"web": plain}, registry.content, 0.0)
    offers.update({"web": plain}, registry.now(web=listing()), 1.0)
    assert instances_of(offers, "web") == instances(80, 81)
    assert offers.due() == 31.0


def test_what_was_good_before_the_restart() -> None:
    """It serves while the registry is away, and it counts as good when the registry is back with less."""
    offers, registry = Offers({"web": instances(80, 81, 82), "gone": instances(1)}), Registry(web=AWAY)
    offers.update({"web": WEB}, registry.content, 0.0)
    assert (instances_of(offers, "web"), origin_of(offers, "web")) == (instances(80, 81, 82), Origin.LAST_GOOD)
    offers.update({"web": WEB}, registry.now(web=listing(80)), 1.0)
    assert (instances_of(offers, "web"), origin_of(offers, "web")) == (instances(80, 81, 82), Origin.HELD_BACK)
    assert offers.good() == {"web": instances(80, 81, 82)}


def test_the_disk_knows_better_than_haproxy() -> None:
    """What a running HAProxy has is taken as good only of a service of which nothing is known."""
    offers, registry = Offers({"web": instances(80)}), Registry(web=AWAY, api=AWAY)
    offers.remember("web", instances(99))
    offers.remember("api", instances(81))
    offers.update({"web": WEB, "api": API}, registry.content, 0.0)
    assert instances_of(offers, "web") == instances(80)
    assert instances_of(offers, "api") == instances(81)


def test_an_empty_set_that_was_good_stays_good() -> None:
    """Knowing that nobody is there is knowledge."""
    offers, registry = Offers({"web": ()}), Registry(web=AWAY)
    offers.remember("web", instances(80))
    offers.update({"web": WEB}, registry.content, 0.0)
    assert instances_of(offers, "web") == ()
    assert offers.good() == {"web": ()}


def test_of_whom_haproxy_is_asked_before_the_first_look() -> None:
    """Services with locality that have no offer yet: what HAProxy finds may decide how they are placed."""
    offers, registry = Offers({}), Registry(web=listing(80), api=listing(81))
    near = replace(WEB, locality=Locality(prefer=("zone",)))
    assert offers.newcomers({"web": near, "api": API}) == {"web"}
    offers.update({"web": near, "api": API}, registry.content, 0.0)
    assert offers.newcomers({"web": near, "api": API}) == set()
    assert set(offers.watched) == {"web"}


def test_what_is_new_around_a_service_is_looked_at() -> None:
    """A hold that begins or ends, and what HAProxy finds of the instances, change the offer of that service only."""
    offers, registry = Offers({}), Registry(web=listing(80, 81), api=listing(90))
    near = ServiceDefinition(port=80, proxy=WEB.proxy, locality=Locality(prefer=("zone",), min_servers=2))
    definitions = {"web": near, "api": API}
    here = Surroundings(labels={"zone": "a"})
    offers.update(definitions, registry.content, 0.0, here)
    address = instances(80)[0].address
    held = replace(here, held={"web": frozenset({address})})
    assert offers.update(definitions, registry.content, 1.0, held) == {"web"}
    assert [placed.role for placed in offers.by_name["web"].placement.members] == [Role.HELD, Role.PRIMARY]
    assert offers.update(definitions, registry.content, 2.0, held) == set()
    assert offers.update(definitions, registry.content, 3.0, here) == {"web"}
    seen = replace(here, seen={"web": Seen(down=frozenset({address}))})
    assert offers.update(definitions, registry.content, 4.0, seen) == {"web"}
    assert [ring.ready for ring in offers.by_name["web"].placement.rings] == [0, 1]
    assert offers.update(definitions, registry.content, 5.0, replace(here, labels={})) == {"web", "api"} - {"api"}
