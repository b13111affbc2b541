"""The `http` check against real sockets, and what it makes of an answer."""

import socket
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerve.checks.expectation import HEADER_NAME, HEADER_VALUE, REGEX, STATUSES, Answer, Expectation
from nerve.checks.http import ANSWER_LIMIT, HttpCheck
from smartstack.forms import TcpAddress
from smartstack.model import FormError, model_fields
from tests.support.check_servers import (
    Speak,
    answer,
    drip,
    flood,
    ignore,
    outcome_of,
    server,
    unix_server,
)

OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.parametrize(
    ("text", "passed", "reason"),
    [
        pytest.param(OK, True, "HTTP 200", id="200"),
        pytest.param("HTTP/1.1 204 No Content\r\n\r\n", True, "HTTP 204", id="204"),
        pytest.param("HTTP/1.0 200 OK\r\n\r\nuntil the end", True, "HTTP 200", id="a body without a length"),
        pytest.param(
            "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
            True,
            "HTTP 302",
            id="a redirect passes and is not followed",
        ),
        pytest.param("HTTP/1.1 399 Odd\r\nContent-Length: 0\r\n\r\n", True, "HTTP 399", id="399 is the last to pass"),
        pytest.param("HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n", False, "HTTP 400", id="400 is the first to fail"),
        pytest.param(
            "HTTP/1.1 503 No\r\nContent-Length: 26\r\n\r\n\nthe database is away\nmore\n",
            False,
            "HTTP 503: the database is away",
            id="an error's first line is in the reason",
        ),
        pytest.param(
            "HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nthe \r\n4;x=y\r\nend.\r\n0\r\nA: b\r\n\r\n",
            False,
            "HTTP 503: the end.",
            id="a body in chunks",
        ),
        pytest.param(
            "HTTP/1.1 500 No\r\nContent-Length: 6\r\n\r\n\x1b[31m\x07", False, r"HTTP 500: \x1b[31m\x07", id="escapes"
        ),
        pytest.param(
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
            False,
            "HTTP 200, but its body ended too early",
            id="half a body",
        ),
        pytest.param(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf",
            False,
            "HTTP 200, but its body ended too early",
            id="half a chunk",
        ),
        pytest.param("SSH-2.0-OpenSSH\r\n", False, "answered something that is no HTTP: SSH-2.0-OpenSSH", id="no HTTP"),
        pytest.param("HTTP/1.1 200 OK\r\n" + "A: b\r\n" * 101 + "\r\n", False, None, id="101 headers"),
        pytest.param(f"HTTP/1.1 200 OK\r\nA: {'b' * 70_000}\r\n\r\n", False, None, id="a header of 70 KB"),
        pytest.param(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n", False, None, id="a chunk of -5 bytes"
        ),
        pytest.param("", False, "closed without an answer", id="a closed connection"),
    ],
)
def test_http_judges_by_the_status(text: str, passed: bool, reason: str | None) -> None:
    """200 to 399 passes; the reason is one short printable line."""
    with server(answer(text)) as address:
        outcome = outcome_of(HttpCheck(path="/health", timeout=5.0), address)
    assert outcome.passed is passed
    assert reason is None or outcome.reason == reason
    assert not outcome.conclusive


@given(text=st.one_of(st.binary(max_size=300), st.binary(max_size=300).map(b"HTTP/1.1 200 OK\r\n".__add__)))
def test_http_makes_an_outcome_of_any_bytes(text: bytes) -> None:
    """Whatever a server says, the check says whether it passed, and raises nothing."""
    with server(answer(text)) as address:
        outcome_of(HttpCheck(timeout=5.0), address)


def heard_by(check: HttpCheck) -> str:
    """What a server hears that this check asks."""
    heard: list[bytes] = []

    def speak(connection: socket.socket) -> None:
        heard.append(connection.recv(65_536))
        connection.sendall(OK.encode())

    with server(speak) as address:
        assert outcome_of(check, address).passed
    return heard[0].decode().replace(str(address.port), "PORT")


@pytest.mark.parametrize(
    ("check", "heard"),
    [
        pytest.param(
            HttpCheck(),
            "GET / HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nUser-Agent: smartstack-nerve\r\nAccept: */*\r\n"
            "Accept-Encoding: identity\r\nConnection: close\r\n\r\n",
            id="by default",
        ),
        pytest.param(
            HttpCheck(
                path="/a%20b?c=d&e=[f]#ü",
                method="POST",
                headers={"host": "web.example", "accept": "text/plain", "X-Token": "abc"},
            ),
            "POST /a%20b?c=d&e=[f]%23%C3%BC HTTP/1.1\r\nHost: web.example\r\nUser-Agent: smartstack-nerve\r\n"
            "Accept: text/plain\r\nAccept-Encoding: identity\r\nContent-Length: 0\r\nX-Token: abc\r\n"
            "Connection: close\r\n\r\n",
            id="with a path, a method and headers",
        ),
        pytest.param(
            HttpCheck(method="HEAD"),
            "HEAD / HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nUser-Agent: smartstack-nerve\r\nAccept: */*\r\n"
            "Accept-Encoding: identity\r\nConnection: close\r\n\r\n",
            id="HEAD, whose answer has no body whatever its length says",
        ),
    ],
)
def test_http_asks_what_it_was_told_to_ask(check: HttpCheck, heard: str) -> None:
    """The request, byte by byte; headers of the definition replace ours, whatever the case of their letters."""
    assert heard_by(check) == heard


def test_http_asks_whom_it_was_told_to_ask(tmp_path: Path) -> None:
    """Another host and port than the instance's, or a unix socket; no proxy of the environment."""
    with pytest.MonkeyPatch.context() as patch, server(answer(OK), "127.0.0.2") as address:
        patch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        patch.setenv("http_proxy", "http://127.0.0.1:1")
        assert outcome_of(HttpCheck(host=address.host, port=address.port)).passed
    with unix_server(answer(OK), tmp_path / "web.sock") as path:
        assert outcome_of(HttpCheck(unix_socket=path)).passed
    assert outcome_of(HttpCheck(unix_socket=str(tmp_path / "none"))).reason == "no such file or directory"


def test_http_reaches_an_ipv6_instance() -> None:
    """An IPv6 address is put in brackets."""
    with server(answer(OK), "::1") as address:
        assert outcome_of(HttpCheck(), address).passed


@pytest.mark.parametrize(
    "speak",
    [
        pytest.param(answer("", stay=True), id="no answer"),
        pytest.param(answer("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", stay=True), id="half a body"),
        pytest.param(drip("HTTP/1.1 200 OK\r\nX: "), id="a header that drips"),
        pytest.param(drip("HTTP/1.1 200 OK\r\n", b"X: y\r\n"), id="headers that drip"),
        pytest.param(drip("", b"HTTP/1.1 100 Continue\r\n\r\n"), id="nothing but promises"),
        pytest.param(drip("HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n"), id="a body that drips"),
        pytest.param(drip("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1000\r\n"), id="a chunk that drips"),
        pytest.param(
            drip("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n"), id="trailers that drip"
        ),
    ],
)
def test_http_gives_up_at_its_time_out(speak: Speak) -> None:
    """An answer that is not there in time is a failure that names the time-out, however alive the connection looks."""
    with server(speak) as address:
        started = time.monotonic()
        outcome = outcome_of(HttpCheck(timeout=0.2), address)
    assert not outcome.passed
    assert "in 0.2s" in outcome.reason
    assert time.monotonic() - started < 3


@pytest.mark.parametrize(
    ("head", "wave", "passed"),
    [
        pytest.param("HTTP/1.1 200 OK\r\n\r\n", b"x" * 65_536, True, id="a body"),
        pytest.param("", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, False, id="promises"),
        pytest.param(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n" * 1000, True, id="trailers"
        ),
    ],
)
def test_http_reads_no_more_than_its_limit(head: str, wave: bytes, passed: bool) -> None:
    """A well instance with an endless body is well and costs 64 KiB a check; of anything else that does not end, 1 MiB
    is read."""
    taken: list[int] = []
    with server(flood(head, wave, taken)) as address:
        outcome = outcome_of(HttpCheck(timeout=20.0), address)
    assert outcome.passed is passed
    # What the kernel's buffers took beyond that is a few megabytes.
    assert sum(taken) < ANSWER_LIMIT + 20_000_000


def test_a_refused_connection_says_so() -> None:
    """In few words, without layers of wrapping."""
    outcome = outcome_of(HttpCheck(timeout=0.2))
    assert (outcome.passed, outcome.reason) == (False, "connection refused")


def test_a_name_that_does_not_resolve_is_a_failure() -> None:
    """A check's host may be a name; that it is unknown is an outcome."""
    assert not outcome_of(HttpCheck(host="no-such-host.invalid")).passed


def good(body: bytes = b"all is well", status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer of the service web."""
    return Answer(status=status, headers={"x-service": "web", **(headers or {})}, body=body)


@pytest.mark.parametrize(
    ("expect", "given_answer", "passed", "reason"),
    [
        pytest.param(Expectation(status=(range(204, 205),)), good(status=204), True, "HTTP 204", id="that status"),
        pytest.param(
            Expectation(status=(range(204, 205), range(300, 400))),
            good(),
            False,
            "HTTP 200, expected 204 or 300-399: all is well",
            id="another status",
        ),
        pytest.param(Expectation(headers={"X-SERVICE": "web"}), good(), True, "HTTP 200", id="that header"),
        pytest.param(Expectation(body="is well"), good(), True, "HTTP 200", id="that text"),
        pytest.param(
            Expectation(body="is ill"),
            good(),
            False,
            "HTTP 200, but 'is ill' is not in its body: all is well",
            id="no text",
        ),
        pytest.param(Expectation(body_regex="^all|^none"), good(), True, "HTTP 200", id="that pattern"),
        pytest.param(Expectation(body_regex="(?i)WELL$"), good(b"\xff well"), True, "HTTP 200", id="a body of no text"),
        pytest.param(
            Expectation(body_regex="^well"),
            good(),
            False,
            "HTTP 200, but body_regex is not found in its body: all is well",
            id="no pattern",
        ),
    ],
)
def test_an_answer_is_held_against_what_is_expected(
    expect: Expectation, given_answer: Answer, passed: bool, reason: str
) -> None:
    """Status, then headers, then body; none of these failures is conclusive."""
    outcome = expect.judge(given_answer, time.monotonic() + 5)
    assert (outcome.passed, outcome.reason, outcome.conclusive) == (passed, reason, False)


@pytest.mark.parametrize(
    ("headers", "status", "conclusive", "reason"),
    [
        pytest.param(
            {"x-service": "api"},
            200,
            True,
            "another service answers: header X-Service is 'api', expected 'web'",
            id="another value",
        ),
        pytest.param(
            {}, 200, True, "another service answers: header X-Service is missing, expected 'web'", id="no such header"
        ),
        pytest.param({"x-service": "api"}, 503, False, "HTTP 503", id="an error is an error first"),
    ],
)
def test_another_service_at_the_port_is_a_conclusive_failure(
    headers: Mapping[str, str], status: int, conclusive: bool, reason: str
) -> None:
    """A port that was reused must not serve the old name for `fall` more intervals."""
    expect = Expectation(headers={"X-Service": "web"})
    outcome = expect.judge(Answer(status=status, headers=headers, body=b""), time.monotonic() + 5)
    assert (outcome.passed, outcome.conclusive, outcome.reason) == (False, conclusive, reason)


def test_http_finds_another_service_at_a_port() -> None:
    """The same by a real answer, with spaces around the header's value."""
    text = "HTTP/1.1 200 OK\r\nX-Service:   {}  \r\nContent-Length: 0\r\n\r\n"
    check = HttpCheck(expect=Expectation(headers={"x-service": "web"}), timeout=5.0)
    with server(answer(text.format("web"))) as address:
        assert outcome_of(check, address).passed
    with server(answer(text.format("api"))) as address:
        assert outcome_of(check, address).conclusive


@pytest.mark.parametrize("pattern", [r"(a+)+$", r"(a|a)*$", r"(x+x+)+y|(.*)*z(a+)+b"])
def test_a_hostile_body_cannot_hold_a_search_up(pattern: str) -> None:
    """A pattern that takes years for some bodies ends at the time-out."""
    started = time.monotonic()
    outcome = Expectation(body_regex=pattern).judge(good(b"a" * 65_000 + b"!"), started + 0.2)
    assert not outcome.passed
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    ("value", "ranges"),
    [
        pytest.param(200, (range(200, 201),), id="one"),
        pytest.param("200-299", (range(200, 300),), id="one range"),
        pytest.param([200, "404", "500-599"], (range(200, 201), range(404, 405), range(500, 600)), id="a list"),
    ],
)
def test_statuses_are_codes_and_ranges(value: object, ranges: tuple[range, ...]) -> None:
    """A list of both, or just one; written again they mean the same."""
    assert STATUSES.parse(value) == ranges
    assert STATUSES.parse(STATUSES.write(ranges)) == ranges


@pytest.mark.parametrize("value", [[], None, 99, 600, "300-200", "2xx", True, 200.5, "", {"a": 1}])
def test_what_is_no_status_is_refused(value: object) -> None:
    """Out of range, the wrong way round, no number."""
    with pytest.raises(ValueError, match="must be statuses"):
        STATUSES.parse(value)
    if not isinstance(value, list):
        with pytest.raises(FormError):
            STATUSES.parse([200, value])


@pytest.mark.parametrize(
    "value", ["a\r\nHost: evil", "a\nb", "a\rb", "a\0b", " a", "a ", "ä", "\t", "a" * 1001, 5, None, ["a"]]
)
def test_what_would_end_a_header_is_refused(value: object) -> None:
    """Line ends, control characters, spaces at the ends: neither as a value nor, with some more, as a name."""
    with pytest.raises(ValueError, match="must be"):
        HEADER_VALUE.parse(value)
    with pytest.raises(ValueError, match="name is"):
        HEADER_NAME.parse(value)


@pytest.mark.parametrize("name", ["", "a b", "a:", "(a)", "a\r\n", "Hö"])
def test_what_is_no_header_name_is_refused(name: str) -> None:
    """A name is a token of RFC 9110."""
    with pytest.raises(ValueError, match="name is"):
        HEADER_NAME.parse(name)


@pytest.mark.parametrize("value", ["(", "a{2,1}", "[z-a]", "", 5, None, "a" * 1001])
def test_what_is_no_pattern_is_refused_when_the_file_is_read(value: object) -> None:
    """Not when the check runs."""
    with pytest.raises(ValueError, match="must be"):
        REGEX.parse(value)


@pytest.mark.parametrize(
    ("check", "key"),
    [
        pytest.param(HttpCheck(unix_socket="/s", host="a"), "host", id="a socket and a host"),
        pytest.param(HttpCheck(unix_socket="/s", port=1), "port", id="a socket and a port"),
        pytest.param(HttpCheck(headers={"connection": "x"}), "headers", id="a header that is not the user's"),
        pytest.param(HttpCheck(headers={"A": "x", "a": "y"}), "headers", id="a header twice"),
        pytest.param(HttpCheck(method="HEAD", expect=Expectation(body="x")), "expect.body", id="HEAD and a body"),
        pytest.param(
            HttpCheck(method="HEAD", expect=Expectation(body_regex="x")), "expect.body_regex", id="HEAD and a pattern"
        ),
    ],
)
def test_what_cannot_be_together_is_refused(check: HttpCheck, key: str) -> None:
    """One problem, at the key that is to be taken out."""
    assert [found for found, _ in check.problems()] == [key]


def test_an_expected_header_is_given_once() -> None:
    """As one of the request."""
    assert [key for key, _ in Expectation(headers={"A": "x", "a": "y"}).problems()] == ["headers"]


@pytest.mark.parametrize("path", ["health", "/a b", "/a\nb", "/a\r\nHost:b", 5, None, ""])
def test_what_is_no_path_is_refused(path: object) -> None:
    """A path that would break the request line is refused when the file is read."""
    form = next(field.kind.form for field in model_fields(HttpCheck) if field.name == "path")
    assert form is not None
    with pytest.raises(ValueError, match="must be a path"):
        form.parse(path)


def test_headers_of_a_request_are_not_shown() -> None:
    """They may hold a token: no log that shows a check shows it."""
    assert "abc" not in repr(HttpCheck(headers={"Authorization": "abc"}))


def test_a_server_that_closes_at_once_is_a_failure() -> None:
    """Accepted and closed is no answer, whether the end or a reset is seen first."""
    with server(ignore) as address:
        assert not outcome_of(HttpCheck(timeout=5.0), address).passed


def test_no_port_is_added_to_the_host_when_it_is_the_usual_one() -> None:
    """80 is not named, as in any client."""
    assert b"Host: 127.0.0.1\r\n" in HttpCheck()._request(TcpAddress("127.0.0.1", 80))
    assert b"Host: [::1]:8080\r\n" in HttpCheck()._request(TcpAddress("::1", 8080))
