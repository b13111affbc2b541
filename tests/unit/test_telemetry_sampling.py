"""Which part of a service's requests is told of, and when that changes."""

from collections.abc import Mapping

import pytest

from synapse.telemetry.sampling import Sampler, next_share
from tests.support.told import told

LIMIT = 1000.0
DECISIONS = [
    pytest.param(1.0, 0.0, 0.0, 1.0, id="nobody calls"),
    pytest.param(1.0, 1000.0, 1000.0, 1.0, id="at the limit"),
    pytest.param(1.0, 1001.0, 1001.0, 1 / 2, id="just above"),
    pytest.param(1.0, 2001.0, 2001.0, 1 / 4, id="twice the limit"),
    pytest.param(1.0, 64_000.0, 64_000.0, 1 / 64, id="64 times the limit"),
    pytest.param(1.0, 1e9, 1e9, 1 / 64, id="no less than 1/64"),
    pytest.param(1 / 2, 990.0, 990.0, 1 / 2, id="just below again, all is not told yet"),
    pytest.param(1 / 2, 751.0, 751.0, 1 / 2, id="nor at three quarters"),
    pytest.param(1 / 2, 750.0, 750.0, 1.0, id="but then"),
    pytest.param(1 / 64, 100.0, 100.0, 1.0, id="all the way at once"),
    pytest.param(1 / 64, 0.0, 30_000.0, 1 / 64, id="not while it was busy a moment ago"),
    pytest.param(1 / 64, 0.0, 3000.0, 1 / 4, id="only as far as the last seconds allow"),
    pytest.param(1 / 2, 9000.0, 9000.0, 1 / 16, id="down at once"),
]


@pytest.mark.parametrize(("before", "rate", "peak", "share"), DECISIONS)
def test_the_share_that_a_service_has_next(before: float, rate: float, peak: float, share: float) -> None:
    """Less at once, more with a margin, and only if the last seconds allow it."""
    assert next_share(before, rate, peak, LIMIT) == share


class Fed:
    """A sampler that is told so many requests a second, as its own shares would have it."""

    def __init__(self, known: Mapping[str, float] | None = None) -> None:
        self.rings = 0
        self.sampler = Sampler(100, self._ring, known or {})
        self.now = 1000.0
        self.sampler.tick(self.now)

    def _ring(self) -> None:
        self.rings += 1

    def second(self, rate: int, **fields: object) -> float:
        """A second with this rate; the share after it."""
        share = self.sampler.shares.get("web", 1.0)
        self.sampler.take([told(share=share, **fields)] * round(rate * share), self.now)
        for _ in range(10):
            self.now += 0.1001
            self.sampler.tick(self.now)
        return self.sampler.shares.get("web", 1.0)


def test_a_busy_service_is_told_of_in_part_and_wholly_again_when_it_is_quiet() -> None:
    """Within a second, and five seconds after the last busy one; who goes by the shares is rung up at each change."""
    fed = Fed()
    assert [fed.second(rate) for rate in (50, 500, 500)] == [1.0, 1 / 8, 1 / 8]
    assert fed.rings == 1
    assert [fed.second(10) for _ in range(5)] == [1 / 8] * 4 + [1.0]
    assert (fed.rings, fed.sampler.shares) == (2, {})


def test_requests_are_counted_at_the_frontend_that_was_used() -> None:
    """Who answers is another question; and mode tcp is told of whole."""
    fed = Fed()
    fed.second(500, service="api")
    assert fed.sampler.shares == {"web": 1 / 8}
    fed = Fed()
    assert fed.second(5000, mode="tcp") == 1.0


def test_what_haproxy_goes_by_holds_until_it_is_known_to_be_too_little() -> None:
    """A synapse that starts has heard nothing yet: that is no quiet service."""
    fed = Fed({"web": 1 / 8, "gone": 1 / 2})
    assert [fed.second(0), *(fed.second(500) for _ in range(6))] == [1 / 8] * 7
    assert fed.sampler.shares == {"web": 1 / 8}
