"""The search for culprits, for any services that HAProxy refuses alone or together, with any words."""

from collections.abc import Collection, Sequence
from math import ceil, log2

from hypothesis import given
from hypothesis import strategies as st

from synapse.quarantine import Charge, culprits

NAMES = [f"s{number:02}" for number in range(24)]
sets = st.lists(st.frozensets(st.sampled_from(NAMES), min_size=1, max_size=3), max_size=6)


class Reader:
    """A HAProxy that refuses these sets of services, and names those of them that `named` says."""

    def __init__(self, refuses: Sequence[frozenset[str]], named: Sequence[bool]) -> None:
        self.questions = 0
        self._refuses = list(zip(refuses, named, strict=False))

    def __call__(self, names: Collection[str]) -> Sequence[Charge] | None:
        self.questions += 1
        found = [(each, named) for each, named in self._refuses if each <= set(names)]
        charges = [Charge(words="no", lines=dict.fromkeys(sorted(each) if named else ())) for each, named in found]
        return charges if found else None


@given(sets, st.lists(st.booleans(), min_size=6, max_size=6), st.frozensets(st.sampled_from(NAMES)))
def test_the_rest_is_taken_and_nobody_is_blamed_for_another(
    refuses: Sequence[frozenset[str]], named: Sequence[bool], settled: frozenset[str]
) -> None:
    """Without the culprits HAProxy takes the file. Each of them, put back among those that come before it, is refused,
    or clashed with another culprit (and has another chance soon). What runs is blamed only for what it does by itself.
    The same question has the same answer, in few questions."""
    order = [*sorted(settled), *(name for name in NAMES if name not in settled)]
    suspects = order[len(settled) :]
    reader = Reader(refuses, named)
    found = culprits(order[: len(settled)], suspects, reader)
    assert found is not None
    left = [name for name in NAMES if name not in found]
    assert reader(left) is None
    for name, charge in found.items():
        before = [each for each in left if order.index(each) < order.index(name)]
        clashed = (charge.lines.keys() - {name}) & found.keys() and not charge.lasting
        assert clashed or reader([*before, name]) is not None
    if not any(each <= settled for each in refuses):
        assert not found.keys() & settled
    again = Reader(refuses, named)
    assert culprits(order[: len(settled)], suspects, again) == found
    assert again.questions <= 4 + len(found) * (ceil(log2(len(NAMES))) + 2)
