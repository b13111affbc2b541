"""Routes: which template names a path."""

import pytest

from synapse.telemetry.templates import OTHER, Templates

TEMPLATES = (
    "/",
    "/users",
    "/users/{id}",
    "/users/me",
    "/users/{id}/orders/{order}",
    "/users/{id}/*",
    "/static/*",
    "/static/special.css",
    "/a/b/{x}",
    "/a/{y}/c",
    "/trailing/",
)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        pytest.param("/", "/", id="the root"),
        pytest.param("/users", "/users", id="a text"),
        pytest.param("/users?page=2", "/users", id="a query is no part of it"),
        pytest.param("/users/", OTHER, id="an empty segment is no {id}"),
        pytest.param("/users/17", "/users/{id}", id="one segment"),
        pytest.param("/users/me", "/users/me", id="a text is more specific than {}"),
        pytest.param("/users/17/orders/3", "/users/{id}/orders/{order}", id="two of them"),
        pytest.param("/users/17/orders", "/users/{id}/*", id="the rest, where nothing more specific fits"),
        pytest.param("/users/17/orders/3/items", "/users/{id}/*", id="the rest is any number of segments"),
        pytest.param("/static/js/app.js", "/static/*", id="all below"),
        pytest.param("/static/", "/static/*", id="nothing below, but the slash"),
        pytest.param("/static", OTHER, id="not the directory itself"),
        pytest.param("/staticx", OTHER, id="not what only begins alike"),
        pytest.param("/static/special.css", "/static/special.css", id="a text is more specific than *"),
        pytest.param("/a/b/c", "/a/b/{x}", id="from the left: a text before a text later on"),
        pytest.param("/a/z/c", "/a/{y}/c", id="the other one"),
        pytest.param("/trailing/", "/trailing/", id="a slash at the end is written"),
        pytest.param("/trailing", OTHER, id="and another path without"),
        pytest.param("/nothing/of/it", OTHER, id="none fits"),
        pytest.param("", OTHER, id="no path"),
        pytest.param("*", OTHER, id="OPTIONS *"),
        pytest.param("/" + "x/" * 5000, OTHER, id="deep"),
    ],
)
def test_the_most_specific_template_names_a_path(path: str, name: str) -> None:
    """Read from the left, a text before `{}` before `*`; what fits none is `(other)`."""
    assert Templates(TEMPLATES).name(path) == name


def test_a_step_that_leads_nowhere_is_taken_back() -> None:
    """`/a/b` begins well for `/a/b/{x}`, and only `/a/{y}/c` fits."""
    assert Templates(("/a/b/d", "/a/{y}/c")).name("/a/b/c") == "/a/{y}/c"


def test_without_templates_nothing_has_a_name() -> None:
    """Everything is `(other)`."""
    assert Templates(()).name("/users") == OTHER
