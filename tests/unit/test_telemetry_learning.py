"""Suggestions of templates, and the sample of paths that they come from."""

import pytest

from synapse.telemetry import learning
from synapse.telemetry.learning import LARGE, SMALL, Sample, suggest

NAMES = ("ada", "bob", "cyd", "dan", "eve", "fay", "gus", "hal", "ivy", "jim", "kim", "lee")


@pytest.mark.parametrize(
    ("paths", "templates"),
    [
        pytest.param(["/", "/users"], ["/", "/users"], id="texts stay"),
        pytest.param(["/users/1", "/users/22"], ["/users/{id}"], id="numbers"),
        pytest.param(["/users/1/orders/5", "/users/1"], ["/users/{id}", "/users/{id}/orders/{id}"], id="several"),
        pytest.param(["/i/9b2c1d3e-0a4f-4b5c-8d6e-7f8091a2b3c4"], ["/i/{id}"], id="UUIDs"),
        pytest.param(["/c/deadbeef01", "/c/0123456789ABCDEF"], ["/c/{id}"], id="hexadecimal digits"),
        pytest.param(["/c/deadbeef", "/c/facade", "/v2"], ["/c/deadbeef", "/c/facade", "/v2"], id="words are none"),
        pytest.param(
            [f"/u/{one}-{other}" for one in NAMES for other in NAMES[:2]],
            ["/u/{id}"],
            id="more texts than can be names",
        ),
        pytest.param(
            [f"/u/{one}-{other}/posts" for one in NAMES for other in NAMES[:2]],
            ["/u/{id}/posts"],
            id="the same in the middle",
        ),
        pytest.param(["/a/{id}", "/a/*", "/a/b c"], ["/a/{id}"], id="what a template could not name"),
        pytest.param(["/a/", "/a//b"], ["/a/", "/a//b"], id="empty segments are kept"),
        pytest.param(["/" + "a/" * 30], ["/" + "a/" * 19 + "*"], id="deep"),
        pytest.param(["", "*", "no/slash"], [], id="no paths"),
    ],
)
def test_values_in_paths_become_one_template(paths: list[str], templates: list[str]) -> None:
    """Numbers, UUIDs, hexadecimal digits, and whatever there is too much of, are `{id}`."""
    assert sorted(each.template for each in suggest(dict.fromkeys(paths, 1))) == templates


def test_a_suggestion_says_how_much_it_stands_for() -> None:
    """The most frequent first, with those of its paths that were asked for most."""
    first, second = suggest({"/users/1": 5, "/users/2": 7, "/users/3": 1, "/users/4": 2, "/": 3})
    assert (first.template, first.requests, first.examples) == ("/users/{id}", 15, ("/users/2", "/users/1", "/users/4"))
    assert (second.template, second.requests) == ("/", 3)


def test_a_sample_is_small_until_somebody_asks() -> None:
    """Then it is large for ten minutes; what was seen last stays."""
    sample = Sample()
    for number in range(2 * LARGE):
        sample.note("web", f"/{number}?secret={number}")
    assert list(sample.ask("web", 0.0)) == [f"/{number}" for number in range(2 * LARGE - SMALL, 2 * LARGE)]
    for number in range(2 * LARGE):
        sample.note("web", f"/{number}")
    assert len(sample.ask("web", 1.0)) == LARGE
    sample.forget(602.0)
    assert len(sample.ask("web", 602.0)) == SMALL


def test_a_sample_counts_how_often() -> None:
    """A path that comes again is the same."""
    sample = Sample()
    for _ in range(3):
        sample.note("web", "/a?x")
    sample.note("web", "/" + "x" * learning.PATH_LIMIT)
    assert sample.ask("web", 0.0) == {"/a": 3}


def test_samples_of_all_services_are_bounded() -> None:
    """Few services have one; who is asked for gets one, and only five at once a large one."""
    sample = Sample()
    for number in range(2 * learning.SERVICES_LIMIT):
        sample.note(f"s{number}", "/")
    assert sample.ask("s99", 0.0) == {}
    sample.note("s99", "/late")
    assert sample.ask("s99", 1.0) == {"/late": 1}
    names = [f"s{number}" for number in range(learning.SERVICES_LIMIT + 10)]
    for name in names:
        sample.ask(name, 2.0)
        for number in range(LARGE):
            sample.note(name, f"/{number}")
    kept = sum(len(paths) for paths in sample._paths.values())
    assert len(sample._paths) <= learning.SERVICES_LIMIT
    assert kept <= learning.LARGE_LIMIT * LARGE + learning.SERVICES_LIMIT * SMALL
