"""What is learnt of paths, for any paths."""

from hypothesis import given
from hypothesis import strategies as st

from smartstack.traffic_forms import PATH_TEMPLATE
from synapse.telemetry.learning import SUGGESTIONS_LIMIT, suggest
from synapse.telemetry.templates import Templates

segments = st.sampled_from(["users", "17", "deadbeef99", "a", "{id}", "*", "", "x y", "ü", "a.b-c"]) | st.text(
    st.characters(exclude_characters="/?", exclude_categories=["Cs"]), max_size=5
)
paths = st.lists(segments, min_size=1, max_size=25).map(lambda parts: "/" + "/".join(parts))


@given(st.lists(paths, max_size=60))
def test_a_template_has_the_paths_that_it_was_learnt_from(seen: list[str]) -> None:
    """By itself, and among all that are suggested; each may stand in a definition."""
    found = suggest(dict.fromkeys(seen, 1))
    assert sum(each.requests for each in found) == len(set(seen)) or len(found) == SUGGESTIONS_LIMIT
    together = Templates([each.template for each in found])
    for each in found:
        assert PATH_TEMPLATE.parse(each.template) == each.template
        assert each.examples
        for example in each.examples:
            assert Templates([each.template]).name(example) == each.template
            assert together.name(example) == each.template


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=50))
def test_numbers_are_one_template(numbers: list[int]) -> None:
    """However many there are."""
    assert [each.template for each in suggest({f"/users/{number}/x": 1 for number in numbers})] == ["/users/{id}/x"]
