"""The settings of the soak's fleet, and the bounds that follow from them. Pure."""

from typing import Any, Final

CHECK_INTERVAL_SECONDS: Final = 0.5
CHECK_TIMEOUT_SECONDS: Final = 1.0
CHECK: Final[dict[str, Any]] = {
    "type": "http",
    "path": "/",
    "interval": f"{CHECK_INTERVAL_SECONDS:g}s",
    "timeout": f"{CHECK_TIMEOUT_SECONDS:g}s",
    "rise": 1,
    "fall": 2,
}
BREAKER_PAUSE_SECONDS: Final = 4.0
SHRINK_CONFIRM_SECONDS: Final = 3.0
HARD_STOP_SECONDS: Final = 20.0
SESSION_SECONDS: Final = 4.0

NEW_SESSION_SECONDS: Final = 2.0
"""What docs/operate.md promises: registered again so soon after a new session."""

HAPROXY_CHECK_SECONDS: Final = 2.0
"""A check of HAProxy's own of an instance that it found dead: every second, and at most one second each."""

SETTLE_SECONDS: Final = 2.0
"""What is put off on purpose: haproxy.cfg by half a second, a refused registration by a second, a reload by less."""

REFUSED_RETRY_SECONDS: Final = 5.0
"""What HAProxy refused because of something outside the definition is tried again so often."""

MACHINE_SECONDS: Final = 5.0
"""For a machine of two cores that others use too: every bound has it on top."""

_A_CHECK: Final = CHECK_INTERVAL_SECONDS * 1.1 + CHECK_TIMEOUT_SECONDS
"""An interval is up to a tenth longer."""

ROUTED_SECONDS: Final = (
    _A_CHECK + NEW_SESSION_SECONDS + HAPROXY_CHECK_SECONDS + BREAKER_PAUSE_SECONDS + SETTLE_SECONDS + MACHINE_SECONDS
)
"""X: an instance that is well, and may be registered, is routed by then: nerve's check, a new session, HAProxy's check,
the longest pause of its breaker."""

UNROUTED_SECONDS: Final = CHECK["fall"] * _A_CHECK + SHRINK_CONFIRM_SECONDS + MACHINE_SECONDS
"""Y: one that is not is out of the routes by then: the checks that must fail, and a listing that is held back."""

IN_STEP_SECONDS: Final = SETTLE_SECONDS + MACHINE_SECONDS
"""Z: haproxy.cfg, what synapse wants and what HAProxy has are the same by then."""

CLEARED_SECONDS: Final = REFUSED_RETRY_SECONDS + MACHINE_SECONDS
"""A problem is gone so soon after its cause."""

ANSWER_SECONDS: Final = MACHINE_SECONDS
"""A daemon that runs, and HAProxy, answer by then."""

HEALED_SECONDS: Final = 20.0
"""What was ended, suspended or cut off works again so soon after that was undone: tests/support/pair.py gives a daemon
as long to start."""

SESSION_FILE_SECONDS: Final = 60.0
"""A nerve whose disk was full tries again so often to keep its session there."""

END_SECONDS: Final = max(ROUTED_SECONDS + HARD_STOP_SECONDS, SESSION_FILE_SECONDS + MACHINE_SECONDS)
"""The fleet is as at the start so soon after the last fault: old workers of HAProxy have their time to finish."""

PROMISES: Final = {
    "routed": ROUTED_SECONDS,
    "unrouted": UNROUTED_SECONDS,
    "in step": IN_STEP_SECONDS,
    "no problem": CLEARED_SECONDS,
    "healthz": ANSWER_SECONDS,
    "HAProxy answers": ANSWER_SECONDS,
    "healed": HEALED_SECONDS,
    "as at the start": END_SECONDS,
}
"""What is watched, with how long it may be otherwise, in seconds."""

MEANINGS: Final = {
    "routed": "an instance that is well and may be registered is unrouted on a host whose synapse and HAProxy run",
    "unrouted": "an instance that ended, hangs, fails, left, drains or is held is routed on such a host",
    "in step": "haproxy.cfg, synapse's intent and HAProxy differ",
    "no problem": "a problem is told whose cause is gone",
    "healthz": "a daemon that runs does not answer /healthz with 200",
    "HAProxy answers": "HAProxy does not answer on its socket, though nothing was done to it",
    "healed": "what was ended, suspended or cut off does not work again, after that was undone",
    "as at the start": "after the last fault, something is not as it was before the first",
}
"""What each is about: the state that may last so long."""

GROWTH: Final = {
    "MB of RSS": 12.0,
    "threads": 6.0,
    "descriptors": 10.0,
    "old workers": 0.0,
    "files": 12.0,
    "MB on disk": 24.0,
    "nodes": 6.0,
    "watches": 20.0,
}
"""What may grow from the first quarter of a life (after its warm-up) to its last, in medians."""
