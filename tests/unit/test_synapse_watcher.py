"""What HAProxy finds of instances, asked for once a second, and remembered while it does not answer."""

from collections.abc import Collection

from smartstack.definition import ServiceDefinition
from smartstack.locality import Locality
from smartstack.registry.protocol import Listing
from smartstack.shifting import Limits
from synapse.haproxy.errors import HAProxyAway
from synapse.offers import Offer
from synapse.placement import Placement
from synapse.proxy import Admin, Observed, Slot
from synapse.selection import Choice, Memory, Origin
from synapse.watcher import POLL_SECONDS, Watcher
from tests.support.definitions import proxy


class HAProxy:
    """A HAProxy with one slot, that may be away; it counts what it is asked."""

    def __init__(self) -> None:
        self.observed: Observed | None = None
        self.up, self.away, self.asked, self.loads = True, False, 0, 0
        self.observe()

    def observe(self, names: Collection[str] | None = None) -> Observed | None:
        self.asked += 1
        self.observed = None
        if self.away:
            raise HAProxyAway("it hangs")
        slot = Slot(name="s1", host="10.0.0.1", port=80, weight=1, admin=Admin.READY, up=self.up)
        self.observed = Observed(pid=1, description="", backends={"web": (slot,)})
        return self.observed

    def load(self, backend: str) -> tuple[int, int]:
        self.loads += 1
        return 3, 2


def offer(limits: Limits | None = None) -> Offer:
    of = proxy(limits=limits or Limits())
    definition = ServiceDefinition(port=80, proxy=of, locality=Locality(prefer=("zone",)))
    choice = Choice(instances=(), origin=Origin.LISTING, reason="", memory=Memory())
    return Offer(definition=definition, known=Listing(), choice=choice, placement=Placement())


class Site:
    """A watcher with a clock that only tests move."""

    def __init__(self) -> None:
        self.now = 100.0
        self.haproxy = HAProxy()
        self.watcher = Watcher(self.haproxy, self.haproxy, lambda: self.now)


def test_nobody_is_asked_for_nobody() -> None:
    """A host without services that depend on it costs HAProxy nothing."""
    site = Site()
    asked = site.haproxy.asked
    assert site.watcher.look({}) == {}
    assert site.watcher.due_in({}) is None
    assert site.haproxy.asked == asked


def test_haproxy_is_asked_once_a_second() -> None:
    """However often the loop turns in between; and how much there is to do only where there is a limit."""
    site, watched = Site(), {"web": offer()}
    asked = site.haproxy.asked
    for _ in range(3):
        assert site.watcher.look(watched)["web"].up == frozenset({"10.0.0.1:80"})
    assert site.haproxy.asked == asked + 1
    assert site.watcher.due_in(watched) == POLL_SECONDS
    site.haproxy.up = False
    site.now += POLL_SECONDS
    assert site.watcher.look(watched)["web"].down == frozenset({"10.0.0.1:80"})
    assert site.haproxy.loads == 0
    site.now += POLL_SECONDS
    seen = site.watcher.look({"web": offer(Limits(instance=1))})["web"]
    assert (seen.current, seen.queued) == (3, 2)


def test_a_haproxy_that_does_not_answer_is_not_asked_without_end() -> None:
    """It is asked a second later, as ever: the loop must not turn in circles meanwhile."""
    site, watched = Site(), {"web": offer()}
    site.haproxy.away = True
    site.watcher.look(watched)
    assert site.watcher.due_in(watched) == POLL_SECONDS
    for _ in range(5):
        site.now += POLL_SECONDS
        site.watcher.look(watched)
        assert site.watcher.due_in(watched) == POLL_SECONDS


def test_what_was_found_stays_while_nobody_answers() -> None:
    """Unknown is not empty: an instance that was down is not up because HAProxy hangs."""
    site, watched = Site(), {"web": offer()}
    site.haproxy.up = False
    down = site.watcher.look(watched)
    site.haproxy.away = True
    for _ in range(3):
        site.now += POLL_SECONDS
        assert site.watcher.look(watched) == down
    site.haproxy.away, site.haproxy.up = False, True
    site.haproxy.observe()
    assert site.watcher.look(watched)["web"].up == frozenset({"10.0.0.1:80"})


def test_of_newcomers_it_is_told_what_was_seen() -> None:
    """Before the first look of a start nothing else is known of them."""
    site = Site()
    assert site.watcher.look({}, ["web"])["web"].up == frozenset({"10.0.0.1:80"})
