"""Instances that fail: which requests another one answers, and when an instance is not asked any more. On the real
synapse, with the real HAProxy."""

import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.support.eventually import eventually
from tests.support.scripted import EMPTY, JUNK, Reply, Request
from tests.support.stage import PORT, QUIET, Stage, ask, connect, cookie_of, stat, statuses


def unavailable(_: Request) -> Reply:
    return Reply(status=503)


def failing(_: Request) -> Reply:
    return Reply(status=500)


def silent(_: Request) -> Reply:
    return EMPTY


def babbling(_: Request) -> Reply:
    return JUNK


FAILURES: Mapping[str, tuple[Callable[[Request], Reply], dict[str, Any]]] = {
    "503, by default": (unavailable, {}),
    "no answer, by default": (silent, {}),
    "500, where it is asked for": (failing, {"retry_on": [500]}),
    "junk, where it is asked for": (babbling, {"retry_on": ["junk"]}),
}


@pytest.mark.parametrize(("fails", "proxy"), FAILURES.values(), ids=FAILURES)
def test_a_request_that_one_instance_fails_is_answered_by_another(
    stage: Stage, fails: Callable[[Request], Reply], proxy: dict[str, Any]
) -> None:
    """The client sees the answer of an instance that is well, on the first try."""
    bad = stage.play(1, fails)
    stage.play(2)
    stage.start(balance="roundrobin", **QUIET, **proxy)
    assert statuses(stage.host) == {200: 20}
    assert bad.asked() >= 5, "it was asked, and failed"


def test_what_is_not_retried_reaches_the_client(stage: Stage) -> None:
    """A 500 is an answer, unless `retry_on` says otherwise; and with `retries: 0` so is everything."""
    bad = stage.play(1, failing)
    stage.play(2)
    stage.start(balance="roundrobin", **QUIET)
    assert statuses(stage.host) == {200: 10, 500: 10}
    bad.answer = unavailable
    before = stage.host.structure()
    stage.host.define("web", PORT, balance="roundrobin", retries=0, **QUIET)
    eventually(lambda: stage.host.structure() != before)
    assert statuses(stage.host) == {200: 10, 503: 10}


def test_an_instance_that_is_too_slow_is_retried_where_that_is_asked_for(stage: Stage) -> None:
    """`retry_on: [timeout]`: after timeouts.server another instance answers; without it, the client is told 504."""
    gate = threading.Event()

    def slow(_: Request) -> Reply:
        gate.wait(20)
        return Reply()

    stage.play(1, slow)
    stage.play(2)
    quick: dict[str, Any] = {"balance": "roundrobin", "timeouts": {"server": "200ms"}, **QUIET}
    stage.start(retry_on=["timeout"], **quick)
    assert statuses(stage.host, count=4) == {200: 4}
    before = stage.host.structure()
    stage.host.define("web", PORT, **quick)
    eventually(lambda: stage.host.structure() != before)
    assert statuses(stage.host, count=4) == {200: 2, 504: 2}
    gate.set()


METHODS = [
    ("PUT", False, 200),
    ("DELETE", False, 200),
    ("POST", False, 503),
    ("PATCH", False, 503),
    ("POST", True, 200),
]


@pytest.mark.parametrize(("method", "all_methods", "worst"), METHODS)
def test_only_what_may_be_done_twice_is_sent_twice(stage: Stage, method: str, all_methods: bool, worst: int) -> None:
    """A POST that an instance answered with 503 may have had an effect: it is not sent again, unless the definition
    says that it may. PUT and DELETE are, for they mean the same sent twice."""
    bad, good = stage.play(1, unavailable), stage.play(2)
    stage.start(balance="roundrobin", retry_all_methods=all_methods, **QUIET)
    assert max(statuses(stage.host, method)) == worst
    assert bad.asked(method) >= 10
    assert good.asked(method) == (20 if worst == 200 else 10)


def test_a_connection_that_fails_is_retried_whatever_the_method(stage: Stage) -> None:
    """What never reached an instance had no effect: a POST goes to another one."""
    bad = stage.play(1)
    stage.play(2)
    stage.start(balance="roundrobin", **QUIET)
    bad.close()
    assert statuses(stage.host, "POST") == {200: 20}


def test_the_first_retry_is_elsewhere_though_a_cookie_says_otherwise(stage: Stage) -> None:
    """A sticky client whose instance has just died waits for no second try there."""
    bad = stage.play(1)
    stage.play(2)
    stage.play(3)
    stage.start(sticky={}, **QUIET)
    cookie = next(cookie_of(each) for each in (ask(stage.host) for _ in range(20)) if each.text == bad.address)
    bad.close()
    assert ask(stage.host, cookie=cookie).status == 200
    assert (stat(stage.host, "wredis", "s1"), stat(stage.host, "wretr", "s1")) == (["1"], ["0"])


def test_a_request_that_is_streamed_is_not_held_back(stage: Stage) -> None:
    """An instance has the beginning of a request whose end is not written yet: only a short body of a known length
    is waited for."""
    actor = stage.play(1)
    stage.start(**QUIET)
    head = b"PUT / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n"
    with connect(stage.host, head, b"5\r\nhello\r\n"):
        eventually(lambda: actor.asked("PUT") == 1)


def test_a_client_may_ask_before_it_sends(stage: Stage) -> None:
    """`Expect: 100-continue` is answered, and then the request."""
    stage.play(1)
    stage.start(**QUIET)
    head = b"PUT / HTTP/1.1\r\nHost: web\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    with connect(stage.host, head) as connection:
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")
        connection.sendall(b"hello")
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")


# HAProxy's own check


class Patient:
    """A server whose health the test decides."""

    def __init__(self) -> None:
        self.sick = False

    def __call__(self, request: Request) -> Reply:
        if request.target == "/health":
            return Reply(status=500 if self.sick else 200)
        return Reply(text="patient")


def test_the_second_line_takes_a_sick_instance_out_and_back(stage: Stage) -> None:
    """An instance whose health path fails gets no requests, though the registry has it; and gets them again when it
    passes. It is asked by the service's name, or by the host of the definition."""
    patient = Patient()
    actor = stage.play(1, patient)
    other = stage.play(2)
    check = {"path": "/health", "interval": "100ms", "fast_interval": "100ms"}
    stage.start(balance="roundrobin", health=check)

    def texts() -> set[str]:
        return {ask(stage.host).text for _ in range(4)}

    assert texts() == {"patient", other.address}
    patient.sick = True
    eventually(lambda: stat(stage.host, "status", "s1") == ["DOWN"])
    assert texts() == {other.address}
    assert stage.host.members("web")[actor.address] > 0, "synapse has not taken it out"
    patient.sick = False
    eventually(lambda: texts() == {"patient", other.address})
    assert {each.headers["host"] for each in actor.requests if each.target == "/health"} == {"web"}
    stage.host.define("web", PORT, balance="roundrobin", health={**check, "host": "www.example.com"})
    eventually(lambda: actor.requests[-1].headers["host"] == "www.example.com")


def test_answers_take_an_instance_out_where_they_are_watched(stage: Stage) -> None:
    """`observe: answers`: after so many 5xx in a row an instance gets no more requests."""
    bad, good = stage.play(1, failing), stage.play(2)
    health = {"interval": "1h", "fast_interval": "1h", "observe": "answers", "errors": 3}
    stage.start(balance="roundrobin", health=health)
    assert statuses(stage.host, count=20) == {200: 17, 500: 3}
    assert (bad.asked(), good.asked()) == (3, 17)
