"""The totals of the feed, whatever it tells: nothing is lost, nothing is counted twice, and nothing ever shrinks."""

from collections.abc import Mapping, Sequence

from hypothesis import given
from hypothesis import strategies as st

from synapse.telemetry import cells
from synapse.telemetry.request import Outcome, Request
from synapse.telemetry.templates import Templates
from synapse.telemetry.totals import Copy, Key, Totals
from tests.support.told import told

REQUESTS = st.lists(
    st.builds(
        told,
        service=st.sampled_from(["web", "api", "db"]),
        source=st.sampled_from(["a", "b"]),
        status=st.sampled_from([0, 200, 204, 404, 500, 503]),
        termination=st.sampled_from(["--", "CD", "SH", "sC"]),
        host=st.sampled_from(["", "10.0.0.1", "fd00::1"]),
        mode=st.just("http"),
        method=st.sampled_from(["GET", "POST", "BREW"]),
        path=st.sampled_from(["/", "/users/1", "/users/1?x=2", "*", ""]),
        share=st.sampled_from([1.0, 0.5]),
        total_ms=st.integers(-1, 100_000),
        retries=st.integers(0, 3),
    ),
    max_size=30,
)
TEMPLATES = {"web": Templates(["/users/{id}"]), "api": Templates(["/*"])}


def counted(requests: Sequence[Request]) -> Totals:
    """Totals that were told of these."""
    made = Totals(instances=True)
    made.templates = TEMPLATES
    made.take(requests, 0.0)
    return made


def everything(kind: Mapping[Key, Sequence[float]]) -> float:
    """How many requests a kind of cells counted."""
    return sum(map(cells.requests, kind.values()))


def weight(requests: Sequence[Request]) -> float:
    """How many requests these stand for."""
    return sum(map(cells.stands_for, requests))


@given(REQUESTS)
def test_every_request_is_counted_once_in_each_kind(requests: Sequence[Request]) -> None:
    """All of them by caller; those of services with routes by route; those that reached an instance by instance; and
    all but the aborted by status."""
    copy = counted(requests).copy()
    assert everything(copy.http) == weight(requests)
    assert everything(copy.routes) == weight([each for each in requests if each.service in TEMPLATES])
    assert everything(copy.instances) == weight([each for each in requests if each.host])
    answered = weight([each for each in requests if each.outcome is not Outcome.ABORTED])
    assert sum(number for each in copy.responses.values() for number in each.values()) == answered
    assert copy.http.keys() == copy.responses.keys()


def series(copy: Copy) -> dict[tuple[object, ...], float]:
    """Every number of a copy, by where it stands."""
    kinds = {"http": copy.http, "routes": copy.routes, "instances": copy.instances}
    found: dict[tuple[object, ...], float] = {
        (kind, key, place): number
        for kind, counted in kinds.items()
        for key, cell in counted.items()
        for place, number in enumerate(cell)
    }
    found.update({("responses", key, what): n for key, each in copy.responses.items() for what, n in each.items()})
    return found


@given(REQUESTS, REQUESTS)
def test_counters_only_grow(before: Sequence[Request], after: Sequence[Request]) -> None:
    """And no series goes away: Prometheus takes a counter that shrinks for a restart."""
    totals = counted(before)
    was = series(totals.copy())
    totals.take(after, 1.0)
    now = series(totals.copy())
    assert all(now[where] >= number for where, number in was.items())
