"""The words of a frontend: addresses, the order of routes, what fits a path, values that mean nothing to HAProxy."""

import pytest

from smartstack.definition import ServiceDefinition
from smartstack.forms import TcpAddress, UnixSocket
from smartstack.traffic import Bind, Proxy, Route
from synapse.frontend import Rule, frontend, leads_to, obstacle, ordered, quoted
from tests.support.definitions import definition, proxy

PORT, OTHER_PORT, SOCKET = TcpAddress("127.0.0.1", 3210), TcpAddress("0.0.0.0", 3211), UnixSocket("/run/web.sock")


def rules(*routes: Route, **absent: str) -> tuple[Rule, ...]:
    return frontend("web", proxy(routes=routes), absent).rules


def test_every_address_is_bound_with_its_own_words() -> None:
    """Those of listen first, then those of also_listen; a socket is for everybody who may enter its directory."""
    of = proxy(
        listen=(PORT, SOCKET),
        also_listen=(
            Bind(address=OTHER_PORT, accept_proxy=True),
            Bind(address=UnixSocket("/run/x"), accept_proxy=True),
        ),
    )
    assert frontend("web", of, {}).binds == (
        "127.0.0.1:3210 id 1",
        "unix@/run/web.sock mode 666 id 2",
        "0.0.0.0:3211 accept-proxy id 3",
        "unix@/run/x mode 666 accept-proxy id 4",
    )


def test_the_longest_path_then_the_most_headers_then_the_first() -> None:
    """The order in which routes win is not that of the definition."""
    short, long = Route(path="/a", to="1"), Route(path="/a/b", to="2")
    one, two = Route(path="/a/b", headers={"X": "1"}, to="3"), Route(path="/a/b", headers={"X": "1", "Y": "2"}, to="4")
    again = Route(path="/a/b", headers={"Z": "1"}, to="5")
    assert ordered([short, long, one, again, two]) == [two, one, again, long, short]


PATHS = {
    "/": [],
    "/api": ["route-1 path -m str -- '/api'", "route-1 path -m beg -- '/api/'"],
    "/api/": ["route-1 path -m beg -- '/api/'"],
    "/it's": ["route-1 path -m str -- '/it'\\''s'", "route-1 path -m beg -- '/it'\\''s/'"],
}


@pytest.mark.parametrize(("path", "acls"), PATHS.items())
def test_a_path_is_whole_segments(path: str, acls: list[str]) -> None:
    """/api is itself and what is below it; with a '/' at its end it is what is below; / is everything."""
    (rule,) = rules(Route(path=path, to="api"))
    assert list(rule.acls) == acls
    assert rule.condition == ("!routed route-1" if acls else "!routed")


def test_every_header_must_fit() -> None:
    """Each has an acl of its own, in the order of their names, and the condition names them all."""
    (rule,) = rules(Route(headers={"X-B": "2 }", "X-A": "1"}, to="api"))
    assert rule.acls == (
        "route-1-header-1 req.fhdr(X-A) -m str -- '1'",
        "route-1-header-2 req.fhdr(X-B) -m str -- '2 }'",
    )
    assert rule.condition == "!routed route-1-header-1 route-1-header-2"


def test_who_answers_a_route_and_for_how_long() -> None:
    """The service that it names, or its own; what is absent lacks something, which the request is told."""
    away, slow, gone = rules(
        Route(path="/111", to="api"), Route(path="/22", timeout=0.25), Route(path="/3", to="gone"), gone="which is out"
    )
    assert (away.service, away.lacks, away.timeout) == ("api", "", None)
    assert (slow.service, slow.lacks, slow.timeout) == ("web", "", 250)
    assert (gone.service, gone.lacks) == ("gone", "which is out")


def test_where_routes_lead() -> None:
    """To other services only, each once."""
    routes = (Route(path="/a", to="api"), Route(path="/b", to="api"), Route(to="web"), Route(path="/c", timeout=1.0))
    assert leads_to("web", proxy(routes=routes)) == {"api"}


OBSTACLES: dict[str, tuple[ServiceDefinition | None, Proxy | None, str | None]] = {
    "no definition": (None, None, "which is not used on this host"),
    "discovery only": (ServiceDefinition(port=80), None, "which has no proxy"),
    "refused": (definition(), None, "whose definition is refused"),
    "tcp": (definition(mode="tcp"), proxy(mode="tcp"), "which is mode tcp"),
    "http": (definition(), proxy(), None),
    "http as it was, though it is tcp now": (definition(mode="tcp"), proxy(), None),
    "without addresses": (ServiceDefinition(port=80, proxy=Proxy()), Proxy(), None),
}


@pytest.mark.parametrize(("of", "in_use", "why"), OBSTACLES.values(), ids=OBSTACLES)
def test_who_can_be_led_to(of: ServiceDefinition | None, in_use: Proxy | None, why: str | None) -> None:
    """Whoever is offered by HTTP, with an address of its own or without; what counts is the proxy that is in use."""
    assert obstacle(of, in_use) == why


def test_a_quoted_text_is_one_word_that_means_itself() -> None:
    """A quote in it ends the word, stands for itself, and begins it again."""
    assert quoted("a b") == "'a b'"
    assert quoted("$HOME # \\") == "'$HOME # \\'"
    assert quoted("it's") == "'it'\\''s'"
