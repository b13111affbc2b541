"""Names looked up at a real nameserver: what it says, what it does not say, and when it is asked again."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import dns.resolver
import pytest

from smartstack.forms import TcpAddress
from smartstack.registry.protocol import Listing, Unknown
from synapse.sources import resolver as resolver_module
from synapse.sources.dns_answers import addresses_listing
from synapse.sources.resolver import Lookup, Question, Resolver
from tests.support.eventually import eventually
from tests.support.nameserver import Nameserver
from tests.support.registries import Bell


class Asked:
    """A lookup that has been started, and what it says."""

    def __init__(self, lookup: Lookup) -> None:
        self.lookup = lookup
        self.bell = Bell()
        lookup.start(self.bell.ring)

    @property
    def known(self) -> Listing | Unknown:
        return self.lookup.read()

    def says(self, *expected: str) -> bool:
        """Exactly these addresses."""
        known = self.known
        assert isinstance(known, Listing), known
        found = [record.instance.address for record in known.records]
        assert sorted(found) == sorted(expected), found
        return True

    def fails(self, reason: str) -> bool:
        """Nothing is known, for this reason."""
        known = self.known
        assert isinstance(known, Unknown), known
        assert reason in known.reason, known.reason
        return True


Ask = Callable[..., Asked]


@pytest.fixture
def ask(nameserver: Nameserver, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ask]:
    """Ask the nameserver of the test, with short times; `record`, `port` and whatever else a question has."""
    monkeypatch.setattr(resolver_module, "TRY_SECONDS", 0.3)
    monkeypatch.setattr(resolver_module, "LIFETIME_SECONDS", 0.6)
    monkeypatch.setattr("synapse.sources.dns_answers.RETRY_SECONDS", (0.05, 0.2))
    resolver = Resolver()
    lookups = []

    def make(name: str = "web.test", record: str | None = None, port: int | None = 80, **fields: Any) -> Asked:
        values = {
            "nameservers": (TcpAddress("127.0.0.1", nameserver.port),),
            "min_ttl": 0.1,
            "max_ttl": 0.2,
            **fields,
        }
        lookups.append(Lookup(Question(name=name, record=record, port=port, **values), resolver))
        return Asked(lookups[-1])

    yield make
    for lookup in lookups:
        lookup.stop()
    assert not any(thread.name == "dns" for thread in threading.enumerate())


def test_addresses_of_both_families(nameserver: Nameserver, ask: Ask) -> None:
    """A and AAAA records, unless the source asks for one kind."""
    nameserver.say(web__test={"A": [1, ["10.0.0.1", "10.0.0.2"]], "AAAA": [1, ["2001:db8::1"]]})
    both, four, six = ask(), ask(record="a"), ask(record="aaaa")
    eventually(lambda: both.says("10.0.0.1:80", "10.0.0.2:80", "[2001:db8::1]:80"))
    eventually(lambda: four.says("10.0.0.1:80", "10.0.0.2:80"))
    eventually(lambda: six.says("[2001:db8::1]:80"))


def test_a_change_is_seen_and_rings_and_no_change_does_not(nameserver: Nameserver, ask: Ask) -> None:
    """The same object stays while the answer is the same, whatever the order of its records."""
    nameserver.say(web__test={"A": [0, ["10.0.0.1", "10.0.0.2"]]})
    asked = ask()
    eventually(lambda: asked.says("10.0.0.1:80", "10.0.0.2:80"))
    known, rings = asked.known, asked.bell.rings
    nameserver.say(web__test={"A": [0, ["10.0.0.2", "10.0.0.1"]]})
    before = nameserver.asked()["web.test A"]
    eventually(lambda: nameserver.asked()["web.test A"] >= before + 3)
    assert asked.known is known
    assert asked.bell.rings == rings
    nameserver.say(web__test={"A": [0, ["10.0.0.3"]]})
    eventually(lambda: asked.says("10.0.0.3:80"))
    assert asked.bell.rings == rings + 1


def test_an_answer_is_good_for_its_time(nameserver: Nameserver, ask: Ask) -> None:
    """While it is, nobody asks; that of an alias counts too, and that of an answer that there is nothing."""
    nameserver.say(
        soa=1,
        long__test={"A": [60, ["10.0.0.1"]], "AAAA": [60, ["2001:db8::1"]]},
        short__test={"A": [60, ["10.0.0.1"]], "AAAA": [1, ["2001:db8::1"]]},
        alias__test={"CNAME": [1, ["long.test."]]},
    )
    began = time.monotonic()
    names = ("long", "short", "alias", "none")
    for name in names:
        ask(f"{name}.test", min_ttl=0.1, max_ttl=600.0)
    eventually(lambda: all(nameserver.asked().get(f"{name}.test A", 0) >= 2 for name in names[1:]))
    assert time.monotonic() - began >= 1
    assert nameserver.asked()["long.test A"] == 1


KNOWLEDGE = {
    "the name does not exist": None,
    "it has no such records": {"TXT": [1, ["x"]]},
    "its alias leads nowhere": {"CNAME": [1, ["nowhere.test."]]},
}


@pytest.mark.parametrize("records", KNOWLEDGE.values(), ids=KNOWLEDGE)
def test_nothing_there_is_knowledge(nameserver: Nameserver, ask: Ask, records: object) -> None:
    """An empty listing: whether it is believed is for the floor policy."""
    nameserver.say(web__test={"A": [0, ["10.0.0.1"]]})
    asked = ask()
    eventually(lambda: asked.says("10.0.0.1:80"))
    nameserver.say(web__test=records)
    eventually(asked.says)


FAILURES = {
    "SERVFAIL": ("SERVFAIL", "SERVFAIL"),
    "REFUSED": ("REFUSED", "REFUSED"),
    "silence": ("silent", "no answer in time"),
    "a referral": ("referral", "refers to others"),
    "an alias that is not followed": (
        {"CNAME": [1, ["elsewhere.example."]], "authoritative": True},
        "refers to others",
    ),
    "one family is known, the other one not": ({"A": [0, ["10.0.0.1"]], "AAAA": "SERVFAIL"}, "AAAA: 127.0.0.1"),
}


@pytest.mark.parametrize(("records", "reason"), FAILURES.values(), ids=FAILURES)
def test_what_is_not_found_out_is_unknown(nameserver: Nameserver, ask: Ask, records: object, reason: str) -> None:
    """Since when and why is told, in the same words while it lasts; it heals by itself."""
    nameserver.say(web__test={"A": [0, ["10.0.0.1"]]})
    asked = ask()
    eventually(lambda: asked.says("10.0.0.1:80"))
    began = time.time()
    nameserver.say(web__test=records)
    eventually(lambda: asked.fails(reason))
    known, rings = asked.known, asked.bell.rings
    assert isinstance(known, Unknown)
    assert known.reason.startswith("web.test cannot be looked up: ")
    assert began <= known.since <= time.time()
    before = nameserver.asked()["web.test AAAA"]
    eventually(lambda: nameserver.asked()["web.test AAAA"] >= before + 3)
    assert asked.known is known
    assert asked.bell.rings == rings
    nameserver.say(web__test={"A": [0, ["10.0.0.1"]]})
    eventually(lambda: asked.says("10.0.0.1:80"))


def test_a_nameserver_that_hangs(nameserver: Nameserver, ask: Ask) -> None:
    """It is not waited for longer than a question may take; another name's nameserver is asked meanwhile."""
    other = Nameserver()
    try:
        nameserver.say(web__test={"A": [0, ["10.0.0.1"]]})
        other.say(web__test={"A": [0, ["10.0.0.2"]]})
        asked = ask()
        elsewhere = ask(nameservers=(TcpAddress("127.0.0.1", other.port),))
        second = ask(nameservers=(TcpAddress("127.0.0.1", nameserver.port), TcpAddress("127.0.0.1", other.port)))
        eventually(lambda: asked.says("10.0.0.1:80") and second.says("10.0.0.1:80"))
        nameserver.suspend()
        eventually(lambda: asked.fails("no answer in time"))
        other.say(web__test={"A": [0, ["10.0.0.3"]]})
        eventually(lambda: elsewhere.says("10.0.0.3:80"))
        eventually(lambda: second.says("10.0.0.3:80"))
        nameserver.resume()
        eventually(lambda: asked.says("10.0.0.1:80"))
    finally:
        nameserver.resume()
        other.stop()


def test_a_nameserver_that_is_not_there(nameserver: Nameserver, ask: Ask) -> None:
    """The operating system's word for it, and whose word it is."""
    asked = ask(nameservers=(TcpAddress("127.0.0.1", 1),))
    eventually(lambda: asked.fails("127.0.0.1 port 1: "))


def test_no_nameserver_at_all(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose resolv.conf names none, for a moment or for good."""

    def unconfigured(*arguments: Any, **options: Any) -> Any:
        raise dns.resolver.NoResolverConfiguration

    monkeypatch.setattr("dns.asyncresolver.Resolver", unconfigured)
    asked = ask(nameservers=())
    eventually(lambda: asked.fails("there is no nameserver in /etc/resolv.conf"))


def test_an_answer_that_does_not_fit(nameserver: Nameserver, ask: Ask) -> None:
    """Is asked for again over TCP."""
    addresses = [f"10.0.1.{number}" for number in range(100)]
    nameserver.say(web__test={"A": [0, addresses]})
    asked = ask()
    eventually(lambda: asked.says(*(f"{address}:80" for address in addresses)))


def test_addresses_of_no_machine_are_refused(nameserver: Nameserver, ask: Ask) -> None:
    """And told; the others are used."""
    nameserver.say(
        web__test={"A": [0, ["0.0.0.0", "224.0.0.1", "255.255.255.255", "10.0.0.1"]], "AAAA": [0, ["ff02::1"]]}
    )
    asked = ask()
    eventually(lambda: asked.says("10.0.0.1:80"))
    known = asked.known
    assert isinstance(known, Listing)
    assert [each.node for each in known.refused] == ["0.0.0.0", "224.0.0.1", "255.255.255.255", "ff02::1"]


def test_srv_records(nameserver: Nameserver, ask: Ask) -> None:
    """The targets of the best priority, each resolved, at the port that its record says."""
    nameserver.say(
        _web__test={"SRV": [0, ["10 30 81 a.test.", "10 10 82 b.test.", "20 1 83 c.test."]]},
        a__test={"A": [0, ["10.0.0.1"]], "AAAA": [0, ["2001:db8::1"]]},
        b__test={"AAAA": [0, ["2001:db8::2"]]},
        c__test={"A": [0, ["10.0.0.3"]]},
    )
    asked = ask("_web.test", record="srv", port=None)
    eventually(lambda: asked.says("10.0.0.1:81", "[2001:db8::2]:82"))
    known = asked.known
    assert isinstance(known, Listing)
    assert [record.instance.weight for record in known.records] == [100, 33]
    assert "c.test A" not in nameserver.asked()
    nameserver.say(_web__test={"SRV": [0, ["20 1 83 c.test."]]})
    eventually(lambda: asked.says("10.0.0.3:83"))
    nameserver.say(_web__test={"SRV": [0, ["0 0 0 ."]]})
    eventually(asked.says)


def test_a_target_that_is_not_found_out(nameserver: Nameserver, ask: Ask) -> None:
    """Without it the list would be shorter than it is, so nothing is known; one that has no address is told."""
    nameserver.say(
        _web__test={"SRV": [0, ["0 0 81 a.test.", "0 0 82 b.test."]]},
        a__test={"A": [0, ["10.0.0.1"]]},
        b__test={"A": [0, ["10.0.0.2"]]},
    )
    asked = ask("_web.test", record="srv", port=None)
    eventually(lambda: asked.says("10.0.0.1:81", "10.0.0.2:82"))
    nameserver.say(b__test="SERVFAIL")
    eventually(lambda: asked.fails("SERVFAIL"))
    nameserver.say(b__test=None)
    eventually(lambda: asked.says("10.0.0.1:81"))
    known = asked.known
    assert isinstance(known, Listing)
    assert [each.node for each in known.refused] == ["b.test:82"]


def test_nobody_asks_for_anything_else(nameserver: Nameserver, ask: Ask) -> None:
    """B17: Airbnb's synapse looked up its own company's name each second, and died when that failed."""
    nameserver.say(web__test={"A": [0, ["10.0.0.1"]]})
    asked = ask()
    eventually(lambda: asked.says("10.0.0.1:80"))
    nameserver.say(web__test="silent")
    eventually(lambda: asked.fails("no answer in time"))
    assert nameserver.asked().keys() == {"web.test A", "web.test AAAA"}


def test_a_mistake_of_ours_does_not_end_the_asking(
    nameserver: Nameserver, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a failure like another: told, and tried again."""
    nameserver.say(web__test={"A": [0, ["10.0.0.1"]]})

    def wrong(addresses: object, port: int) -> Listing:
        raise KeyError("our mistake")

    monkeypatch.setattr("synapse.sources.resolver.addresses_listing", wrong)
    asked = ask()
    eventually(lambda: asked.fails("KeyError: 'our mistake'"))
    monkeypatch.setattr("synapse.sources.resolver.addresses_listing", addresses_listing)
    eventually(lambda: asked.says("10.0.0.1:80"))


def test_the_end_waits_for_no_nameserver(nameserver: Nameserver, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """A question that is under way is dropped."""
    monkeypatch.setattr(resolver_module, "TRY_SECONDS", 60.0)
    monkeypatch.setattr(resolver_module, "LIFETIME_SECONDS", 60.0)
    nameserver.say(web__test="silent")
    asked = ask()
    eventually(lambda: nameserver.asked().get("web.test A", 0) >= 1)
    asked.lookup.stop()
    assert not any(thread.name == "dns" for thread in threading.enumerate())
