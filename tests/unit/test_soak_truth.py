"""What the soak's watcher takes for true, and which failed requests it takes for explained."""

import pytest

from tests.soak.faults import KINDS, MOMENT_SECONDS, Fault
from tests.soak.truth import Done, Expected, Failed, expected, explanation, is_blind, may_tell

ROUTED, UNROUTED, OPEN = Expected.ROUTED, Expected.UNROUTED, Expected.OPEN


def fault(name: str, service: str = "*", host: str = "*", by: str = "*") -> Fault:
    return Fault(number=1, at=0.0, seconds=5.0, kind=KINDS[name], service=service, host=host, by=by)


@pytest.mark.parametrize(
    ("under_way", "wanted"),
    [
        pytest.param([], ROUTED, id="nothing"),
        pytest.param([fault("service-killed", "web", "h1")], UNROUTED, id="its process is dead"),
        pytest.param([fault("drained", "web", "h1")], UNROUTED, id="it drains"),
        pytest.param([fault("service-killed", "web", "h2")], ROUTED, id="another one's process"),
        pytest.param([fault("service-killed", "api", "h1")], ROUTED, id="another service's process"),
        pytest.param([fault("service-slow", "web", "h1")], ROUTED, id="slow is not out"),
        pytest.param([fault("held", "web", "h1", by="h3")], UNROUTED, id="held by this host"),
        pytest.param([fault("held", "web", "h1", by="h2")], ROUTED, id="held by another host"),
        pytest.param([fault("nerve-killed", host="h1")], OPEN, id="its nerve is away"),
        pytest.param([fault("nerve-killed", host="h3")], ROUTED, id="the nerve of who looks"),
        pytest.param([fault("synapse-killed", host="h3")], OPEN, id="the synapse of who looks"),
        pytest.param([fault("synapse-killed", host="h1")], ROUTED, id="the synapse beside it"),
        pytest.param([fault("zookeeper-hung")], OPEN, id="the registry"),
        pytest.param([fault("service-killed", "web", "h1"), fault("zookeeper-hung")], OPEN, id="dead, and no registry"),
    ],
)
def test_what_must_become_of_an_instance(under_way: list[Fault], wanted: Expected) -> None:
    """web of h1, as h3 must use it."""
    assert expected(under_way, "web", "h1", "h3") is wanted


def test_a_service_that_is_defined_only_now_and_then() -> None:
    """It must have no routes, but for the time for which it is there."""
    assert expected([], "extra", "h1", "h3") is UNROUTED
    assert expected([fault("service-added")], "extra", "h1", "h3") is ROUTED


def test_who_is_blind_and_who_may_tell() -> None:
    """A host whose HAProxy hangs is not judged; only who is touched by what can be told may tell of it."""
    under_way = [fault("haproxy-hung", host="h2"), fault("service-killed", "web", "h3")]
    assert [host for host in ("h1", "h2", "h3") if is_blind(under_way, host)] == ["h2"]
    assert [host for host in ("h1", "h2", "h3") if may_tell(under_way, host)] == ["h2"]


def done(what: Fault, began: float, healed: float | None) -> Done:
    return Done(fault=what, began=began, undone=healed, healed=healed)


def failed(sent: float, ended: float, reason: str = "reset", service: str = "web", host: str = "h3") -> Failed:
    return Failed(host=host, service=service, sent=sent, ended=ended, reason=reason)


KILLED = done(fault("service-killed", "web", "h1"), 100.0, 110.0)
HUNG = done(fault("service-hung", "web", "h1"), 100.0, 130.0)
HAPROXY = done(fault("haproxy-killed", host="h3"), 100.0, 101.0)
REGISTRY = done(fault("zookeeper-hung"), 105.0, 120.0)
LASTING = done(fault("haproxy-hung", host="h3"), 100.0, None)


@pytest.mark.parametrize(
    ("request_", "faults", "is_explained"),
    [
        pytest.param(failed(99.9, 100.1), [KILLED], True, id="under way at the killed one"),
        pytest.param(failed(99.0, 99.9), [KILLED], False, id="over before it was killed"),
        pytest.param(failed(100.1 + MOMENT_SECONDS, 101.0), [KILLED], False, id="sent to a dead one"),
        pytest.param(failed(99.9, 100.1, service="api"), [KILLED], False, id="of another service"),
        pytest.param(failed(102.0, 107.0, "TimeoutError: timed out"), [HUNG], True, id="sent before it is found out"),
        pytest.param(failed(102.0, 102.1, "refused"), [HUNG], False, id="who hangs refuses nobody"),
        pytest.param(failed(118.0, 123.0, "timed out"), [HUNG], False, id="it should have been found out"),
        pytest.param(failed(118.0, 123.0, "timed out"), [HUNG, REGISTRY], True, id="nerve could not say so"),
        pytest.param(failed(131.0, 136.0, "timed out"), [HUNG, REGISTRY], False, id="it was well again"),
        pytest.param(failed(100.5, 100.6, "refused"), [HAPROXY], True, id="no HAProxy here"),
        pytest.param(failed(100.5, 100.6, "refused", host="h1"), [HAPROXY], False, id="no HAProxy elsewhere"),
        pytest.param(failed(101.5, 101.6, "refused"), [HAPROXY], False, id="HAProxy was there again"),
        pytest.param(failed(900.0, 905.0), [LASTING], True, id="it lasts"),
        pytest.param(failed(105.0, 106.0), [REGISTRY], False, id="the registry explains nothing"),
    ],
)
def test_what_explains_a_failed_request(request_: Failed, faults: list[Done], is_explained: bool) -> None:
    """It was under way at what was killed, or went to what was not found out yet, and failed as such a request does."""
    assert (explanation(request_, faults) is not None) is is_explained


def test_of_two_faults_the_later_one_explains() -> None:
    """Each failed request stands beside one fault."""
    earlier, later = done(HAPROXY.fault, 99.8, 101.0), done(fault("service-killed", "web", "h1"), 100.0, 110.0)
    assert explanation(failed(99.9, 100.2), [later, earlier]) is later
