"""What requests cost at each instance of a service, seen beside the others. Pure."""

from collections.abc import Mapping

from synapse.balancing.breaker import State
from synapse.balancing.ewma import FAILURE_DOUBT, MEAN_DOUBT, blended, cost
from synapse.balancing.gauge import Gauge


def costs(gauges: Mapping[str, Gauge]) -> dict[str, float]:
    """The cost in milliseconds at each instance of which something is known, by address; not at those that are out.

    Of what an instance has few requests to tell, it is taken to be like the others. One that has only failed so far is
    taken to be as fast as they are.
    """
    everybody = gauges.values()
    answers, failed = sum(each.answers for each in everybody), sum(each.failed for each in everybody)
    ended = failed + sum(each.good for each in everybody)
    mean_ms = sum(each.total_ms for each in everybody) / answers if answers else 0.0
    failing = failed / ended if ended else 0.0
    return {
        address: cost(
            mean_ms if each.typical_ms is None else each.typical_ms,
            blended(each.total_ms, each.answers, mean_ms, MEAN_DOUBT),
            blended(each.failed, each.good + each.failed, failing, FAILURE_DOUBT),
        )
        for address, each in gauges.items()
        if (each.typical_ms is not None or each.failed >= 1.0) and each.circuit.state is State.CLOSED
    }
