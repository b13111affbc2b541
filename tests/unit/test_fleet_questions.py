"""/fleet/*: what is asked of whom, and what is said of those that cannot answer."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from smartstack.actions import BadRequest
from smartstack.admin import AdminServer
from smartstack.forms import TcpAddress
from smartstack.inbox import Unanswered
from smartstack.responses import Question, Response, json_response, text_response
from synapse.fleet.peer import Peer
from synapse.fleet.peers import Known, Peers
from synapse.fleet.questions import ASKERS_LIMIT, fleet_questions, shared
from tests.support.eventually import eventually
from tests.unit.test_fleet_merge import row

Served = Callable[[str, Mapping[str, str]], Response]


class Registry(Peers):
    """Who is announced, as the test says."""

    def __init__(self) -> None:
        self.now = Known(peers=())

    def known(self, within_seconds: float) -> Known:
        """At once."""
        return self.now


class Fleet:
    """Synapses that answer what the test says, and one that asks them."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.asked: list[Mapping[str, str]] = []
        self._servers: list[AdminServer] = []
        self.ask = fleet_questions({"/telemetry/stat": self.local, "/telemetry/edges": self.local}, self.registry)

    def local(self, rest: str, query: Mapping[str, str]) -> Response:
        """The asking synapse's own answer, which knows what may be asked."""
        if query.get("window") == "1":
            raise BadRequest("window is to be a whole number from 10 to 3600")
        return text_response(404, "no such service; /services lists what there is")

    def add(self, name: str, answer: Served) -> None:
        """Announce a synapse that answers this."""

        def question(rest: str, query: Mapping[str, str]) -> Response:
            self.asked.append(query)
            return answer(rest, query)

        questions = {"/telemetry/stat": question, "/telemetry/edges": question}
        server = AdminServer(TcpAddress("127.0.0.1", 0), {}, questions=questions)
        server.start()
        self._servers.append(server)
        self.registry.now = Known(peers=(*self.registry.now.peers, Peer(name=name, address=server.address)))

    def stat(self, **query: str) -> dict[str, Any]:
        """/fleet/stat."""
        response = self.ask["/fleet/stat"]("", query)
        assert response.status == 200
        answer: dict[str, Any] = json.loads(response.body)
        return answer

    def close(self) -> None:
        """End everything."""
        for server in self._servers:
            server.stop()


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    """A fleet of nobody yet."""
    made = Fleet()
    yield made
    made.close()


def good(rest: str, query: Mapping[str, str]) -> Response:
    """A synapse on which ten requests went to `web`."""
    return json_response(200, {"covered_seconds": 58.5, "rows": [row()]})


def test_everybody_is_asked_the_same_and_added_up(fleet: Fleet) -> None:
    """With the buckets, of which quantiles are made; who does not offer the service has no row, which is no failure."""
    fleet.add("a", good)
    fleet.add("b", good)
    fleet.add("c", lambda rest, query: text_response(404, "no such service; /services lists what there is"))
    answer = fleet.stat(window="30", service="web")
    assert fleet.asked == [{"window": "30", "service": "web", "buckets": "1"}] * 3
    assert [(each["service"], each["requests"]) for each in answer["rows"]] == [("web", 20)]
    assert (answer["by"], answer["window_seconds"], answer["covered_seconds"]) == ("service", 30.0, 58.5)
    assert [(each["host"], each["error"], each["covered_seconds"]) for each in answer["hosts"]] == [
        ("a", None, 58.5),
        ("b", None, 58.5),
        ("c", None, None),
    ]
    assert answer["note"] == ""


def test_a_host_without_a_feed_asks_no_nonsense_either(fleet: Fleet) -> None:
    """Its own answer says only that it knows nothing: what is wrong about the question is found all the same."""
    with pytest.raises(BadRequest, match="window is to be a whole number"):
        fleet.stat(window="soon")
    assert fleet.ask["/fleet/stat"]("below", {}).status == 404


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        pytest.param(
            lambda rest, query: text_response(404, "nothing is known of requests: telemetry.listen is null"),
            "answers 404: nothing is known of requests: telemetry.listen is null",
            id="its feed is off",
        ),
        pytest.param(lambda rest, query: json_response(200, []), "its answer cannot be used: rows", id="a list"),
        pytest.param(lambda rest, query: text_response(200, "hello"), "its answer is not JSON", id="no JSON"),
    ],
)
def test_who_cannot_be_used_is_named(fleet: Fleet, answer: Served, error: str) -> None:
    """The others are shown all the same."""
    fleet.add("a", good)
    fleet.add("b", answer)
    found = fleet.stat()
    assert [each["requests"] for each in found["rows"]] == [10]
    assert found["hosts"][0]["error"] is None
    assert found["hosts"][1]["error"].startswith(error)


def test_a_service_that_no_host_has_is_not_found(fleet: Fleet) -> None:
    """It may be misspelt. While a host does not answer, it may be there."""
    for name in ("one", "two"):
        fleet.add(name, lambda rest, query: text_response(404, "no such service; /services lists what there is"))
    response = fleet.ask["/fleet/stat"]("", {"service": "wbe"})
    assert (response.status, response.body) == (
        404,
        b"no such service on any host of the fleet that is announced\n",
    )
    fleet.add("three", lambda rest, query: text_response(503, "try again"))
    assert fleet.stat(service="wbe")["rows"] == []


def test_a_wrong_question_is_refused_once(fleet: Fleet) -> None:
    """By the synapse that is asked, not by each of a thousand."""
    fleet.add("a", good)
    with pytest.raises(BadRequest, match="window"):
        fleet.stat(window="1")
    with pytest.raises(BadRequest, match="learn is for one host"):
        fleet.stat(learn="1")
    assert fleet.asked == []


def test_a_fleet_of_nobody_says_how_to_begin(fleet: Fleet) -> None:
    """One sentence."""
    answer = fleet.stat()
    assert (answer["rows"], answer["hosts"], answer["covered_seconds"]) == ([], [], None)
    assert answer["note"] == (
        "no synapse is announced: set `fleet: {listen: ADDRESS:PORT}` in synapse.yaml on each host"
    )


def test_a_registry_that_is_away_is_said(fleet: Fleet) -> None:
    """Who was known before is asked."""
    fleet.add("a", good)
    fleet.registry.now = Known(peers=fleet.registry.now.peers, problem="no connection to ZooKeeper at zk1:2181")
    answer = fleet.stat()
    assert [each["requests"] for each in answer["rows"]] == [10]
    assert answer["note"] == (
        "the registry does not say who is announced (no connection to ZooKeeper at zk1:2181); "
        "asked were those that were known before"
    )


def test_there_is_a_largest_number_of_askers(fleet: Fleet) -> None:
    """Each keeps a thread for seconds: the next is refused at once, and let in when one is done."""
    release = threading.Event()

    def slow(rest: str, query: Mapping[str, str]) -> Response:
        release.wait(5)
        return good(rest, query)

    fleet.add("a", slow)
    threads = [threading.Thread(target=fleet.stat) for _ in range(ASKERS_LIMIT)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(fleet.asked) == ASKERS_LIMIT)
    with pytest.raises(Unanswered, match="ask the fleet already"):
        fleet.stat()
    release.set()
    for thread in threads:
        thread.join()
    assert fleet.stat()["note"] == ""


def test_other_hosts_may_ask_for_figures_only() -> None:
    """Nothing that a request holds: no tap, and no path that was asked for."""

    def any_question(rest: str, query: Mapping[str, str]) -> Response:
        return text_response(200, "asked")

    paths = ("stat", "edges", "routes", "points", "tap")
    local: dict[str, Question] = {f"/telemetry/{name}": any_question for name in paths}
    found = shared({**local, "/events": any_question, "/services": any_question, "/explain": any_question})
    assert sorted(found) == ["/events", "/telemetry/edges", "/telemetry/points", "/telemetry/routes", "/telemetry/stat"]
    assert found["/telemetry/routes"]("", {"service": "web"}).status == 200
    with pytest.raises(BadRequest, match="on the host itself"):
        found["/telemetry/routes"]("", {"service": "web", "learn": "1"})
