"""Warm-up: the weight of an instance that has just joined, from a tenth to all of it. Pure; times are arguments.

The weights are the ten tenths of the full one, at equal distances in time: the first when it joins, the full one when
the warm-up is over. So a warm-up is nine further writes at the most, however long it takes.
"""

from typing import Final

STEPS: Final = 10
"""How many weights there are, the full one included."""

_EARLY_SECONDS: Final = 0.001
"""A step that is due within this time is taken: whoever wakes for a step finds it due, whatever was rounded."""


def weight_at(full: int, warmup_seconds: float, joined_for_seconds: float) -> int:
    """The weight so long after the instance joined. Never 0, which would be draining, unless the full one is."""
    return _weight(full, _step(warmup_seconds, joined_for_seconds))


def next_step(full: int, warmup_seconds: float, joined_for_seconds: float) -> float | None:
    """In how many seconds the weight changes, None when it will not any more."""
    step = _step(warmup_seconds, joined_for_seconds)
    weight = _weight(full, step)
    later = (other for other in range(step + 1, STEPS) if _weight(full, other) != weight)
    following = next(later, None)
    return None if following is None else _starts(warmup_seconds, following) - joined_for_seconds


def resume(full: int, warmup_seconds: float, held_weight: int | None) -> float:
    """How many seconds ago an instance must have joined whose node has this weight, as somebody put it there earlier.

    It goes on with that weight or a larger one. An instance is warm if it has its full weight, if it is being drained
    (0), and if its weight is not known (None): nobody's warm-up begins anew because nerve was restarted.
    """
    if held_weight is None or held_weight <= 0 or held_weight >= full:
        return warmup_seconds
    step = next(step for step in range(STEPS) if _weight(full, step) >= held_weight)
    return _starts(warmup_seconds, step)


def _step(warmup_seconds: float, joined_for_seconds: float) -> int:
    due = joined_for_seconds + _EARLY_SECONDS
    return max((step for step in range(STEPS) if _starts(warmup_seconds, step) <= due), default=0)


def _starts(warmup_seconds: float, step: int) -> float:
    return warmup_seconds * step / (STEPS - 1)


def _weight(full: int, step: int) -> int:
    return min(full, max(1, (full * (step + 1) + STEPS // 2) // STEPS))
