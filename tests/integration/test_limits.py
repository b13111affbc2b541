"""What keeps a service from being buried, and what its clients are told then: the retry budget, queues, rates; on the
real HAProxy."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from smartstack.instance import node_name
from smartstack.registry.protocol import NodeId
from tests.support.eventually import eventually
from tests.support.pair import Host
from tests.support.scripted import EMPTY, Reply, Request
from tests.support.stage import PORT, QUIET, Answer, Client, Stage, ask, queued, statuses

CALM: dict[str, Any] = {**QUIET, "breaker": "off"}
"""Nobody else keeps requests from an instance that a test makes sick."""


BLIND: dict[str, Any] = {"health": {"observe": "off", **QUIET["health"]}, "breaker": "off"}
"""Nor does HAProxy itself, which would see refused connections."""


def burst(host: Host, count: int, method: str = "GET", **headers: str) -> list[Answer]:
    """So many requests on one connection, one after the other."""
    client = Client(host)
    try:
        return [client.ask(method, **headers) for _ in range(count)]
    finally:
        client.close()


def sick(_: Request) -> Reply:
    """The answer of an instance that is not well."""
    return Reply(status=503, text="sick")


SICK: dict[str, Callable[[Request], Reply]] = {"it answers 503": sick, "it hangs up": lambda _: EMPTY}


@pytest.mark.parametrize("answer", SICK.values(), ids=SICK)
def test_retries_end_where_the_budget_does(stage: Stage, answer: Callable[[Request], Reply]) -> None:
    """All instances are sick: no more than the share of the requests is sent again, though each could be twice. What
    HAProxy answers itself in the end counts as well as what an instance answers."""
    for number in (1, 2, 3):
        stage.play(number, answer)
    stage.start(balance="roundrobin", retry_budget={"ratio": "10 %", "floor": 0}, **CALM)
    # Each on a connection of its own: on one that had a request before, HAProxy answers a hang-up with a hang-up.
    assert set(statuses(stage.host, count=200)) <= {502, 503}
    received = sum(actor.asked() for actor in stage.actors)
    # 10 % of 200, and the last request that had some left may have taken two.
    assert 200 + 15 <= received <= 200 + 20 + 2


def test_within_the_budget_every_request_is_answered(stage: Stage) -> None:
    """One of three is sick and the budget pays for its share: nobody hears of it."""
    stage.play(1, sick)
    stage.play(2)
    stage.play(3)
    stage.start(balance="roundrobin", retry_budget={"ratio": "50 %", "floor": 10}, **CALM)
    assert Counter(each.status for each in burst(stage.host, 150)) == {200: 150}
    assert stage.actors[0].asked() >= 40


def test_a_spent_budget_leaves_failures_as_they_are_and_time_fills_it_again(stage: Stage) -> None:
    """Without a share only time earns: at first clients meet the sick instance, and later they do not. Nothing of a
    refused connection changes: that goes elsewhere as ever."""
    stage.play(1, sick)
    stage.play(2)
    stage.start(balance="roundrobin", retry_budget={"ratio": "0 %", "floor": 2}, **CALM)
    spent = Counter(each.status for each in burst(stage.host, 200))
    assert spent[503] >= 40
    client = Client(stage.host)
    eventually(lambda: {client.ask().status for _ in range(2)} == {200} or None, within=10)
    client.close()


def test_a_spent_budget_is_no_obstacle_to_a_connection(stage: Stage) -> None:
    """An instance that refuses connections takes nobody with it, although there was never a retry to spend."""
    dead = stage.play(1)
    stage.play(2)
    stage.start(balance="roundrobin", retry_budget={"ratio": "0 %", "floor": 0}, **BLIND)
    assert len({each.text for each in burst(stage.host, 4)}) == 2
    dead.close()
    assert {each.status for each in burst(stage.host, 10)} == {200}


def test_off_sends_every_request_again(stage: Stage) -> None:
    """`retry_budget: off` is as it was before there was one."""
    stage.play(1, sick)
    stage.start(retry_budget="off", **CALM)
    burst(stage.host, 60)
    assert stage.actors[0].asked() == 180


# What HAProxy says itself


def test_what_haproxy_answers_says_which_service_and_why(stage: Stage) -> None:
    """Broken off, too late, no connection, no instance: each has a sentence of its own, and when to come again."""
    actor = stage.play(1, lambda _: EMPTY)
    stage.start(
        retries=0,
        timeouts={"server": "300ms", "connect": "300ms"},
        health={"observe": "off", **CALM["health"]},
        breaker="off",
    )
    broken = ask(stage.host)
    assert (broken.status, broken.headers["retry-after"]) == (502, "1")
    assert broken.text == f"an instance of web broke off, or answered no HTTP: {actor.address}, 0 retries"
    pause = threading.Event()
    actor.answer = held(pause)
    late = ask(stage.host)
    pause.set()
    assert (late.status, late.headers["retry-after"]) == (504, "1")
    assert late.text == f"an instance of web did not answer in time: {actor.address}, 0 retries"
    actor.close()
    refused = ask(stage.host)
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    assert refused.text.startswith(f"no connection to an instance of web: last {actor.address}, waited ")
    stage.host.define("web", PORT, shrink_to_nothing="confirm", shrink_confirm="1ms", **CALM)
    stage.host.writer.remove(NodeId(path="services/web", node=node_name(stage.host.instance(1))))
    last = eventually(lambda: answered(stage.host, "no live instance of web"), within=20)
    assert (last.status, last.headers["retry-after"]) == (503, "1")


def held(gate: threading.Event) -> Callable[[Request], Reply]:
    """Answers once the gate is open."""

    def answer(_: Request) -> Reply:
        gate.wait(10)
        return Reply(text="done")

    return answer


def answered(host: Host, text: str) -> Answer:
    """The answer to one request, which must say this."""
    answer = ask(host)
    assert answer.text == text
    return answer


def test_a_queue_is_left_after_its_time_and_not_joined_when_it_is_long(stage: Stage) -> None:
    """One request at a time: who waits too long hears that there is no place, who finds a long queue hears so at once,
    and who got a place is answered."""
    gate = threading.Event()
    stage.play(1, held(gate))
    stage.start(limits={"instance": 1, "queue": 2}, timeouts={"queue": "2s"}, **CALM)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(ask, stage.host)
        eventually(lambda: stage.actors[0].asked() == 1 or None)
        waiting = [pool.submit(ask, stage.host) for _ in range(2)]
        eventually(lambda: queued(stage.host) == 2 or None)
        shed = ask(stage.host)
        assert (shed.status, shed.headers["retry-after"]) == (503, "1")
        assert shed.text == "web is full: 2 requests wait already"
        for answer in [each.result(20) for each in waiting]:
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert answer.text.startswith("no free place at an instance of web within 2000ms, or no connection: last ")
        gate.set()
        assert first.result(20).text == "done"


# Rates


def test_a_source_gets_its_rate_and_the_others_theirs(host: Host) -> None:
    """By a header: each value has so many requests in the time, what is beyond is told so and when to come again; and
    who sends none is one source with all others like it."""
    host.serve("web", PORT, limits={"rate": {"requests": 5, "per": "1h", "by": "header", "name": "X-Key"}})
    host.start()
    for key in ("alice", "bob"):
        answers = burst(host, 8, x_key=key)
        assert [each.status for each in answers] == [200] * 5 + [429] * 3
        assert answers[-1].headers["retry-after"] == "3600"
        assert answers[-1].text == f"web takes 5 requests in 3600 s from one source, and {key} sent more"
    assert Counter(each.status for each in burst(host, 8)) == {200: 5, 429: 3}


def test_a_source_that_goes_on_gets_its_rate_still(host: Host) -> None:
    """Who asks more often than it may is not shut out: in each period it has about as many answers as it may."""
    host.serve("web", PORT, limits={"rate": {"requests": 20, "per": "1s", "by": "client"}})
    host.start()
    client = Client(host)
    found: Counter[int] = Counter()

    def enough() -> bool:
        found[client.ask().status] += 1
        return found[200] >= 60

    began = time.monotonic()
    while not enough():
        assert time.monotonic() < began + 30, found
    client.close()
    assert found[429] > 0


def test_another_rate_takes_no_reload(host: Host) -> None:
    """An edit of `requests` is in force at once, in the worker that runs."""
    rate = {"requests": 3, "per": "1h", "by": "client"}
    host.serve("web", PORT, limits={"rate": rate})
    host.start()
    before = host.haproxy()
    assert Counter(each.status for each in burst(host, 10)) == {200: 3, 429: 7}
    host.define("web", PORT, limits={"rate": {**rate, "requests": 8}})
    client = Client(host)
    eventually(lambda: client.ask().status == 200 or None)
    client.close()
    assert Counter(each.status for each in burst(host, 10)) == {200: 4, 429: 6}
    assert host.haproxy() == before
    assert host.synapse.metric("synapse_haproxy_reloads_total") == 0
