"""The `redis` check against a server that says what it is told to say, word by word as Redis 7 does."""

import os
import socket
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerve.checks.redis import LINE_LIMIT, SECRET, RedisCheck
from smartstack.model import anchored
from tests.support.check_servers import Speak, answer, drip, flood, ignore, outcome_of, server, unix_server

PING = b"*1\r\n$4\r\nPING\r\n"
ROLE = b"*1\r\n$4\r\nROLE\r\n"
MASTER = b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n"
REPLICA = b"*5\r\n$5\r\nslave\r\n$9\r\n127.0.0.1\r\n:6379\r\n$9\r\nconnected\r\n:0\r\n"
SENTINEL = b"*2\r\n$8\r\nsentinel\r\n*1\r\n$2\r\nm1\r\n"
SECRET_TEXT = "s3cret word"


def auth(*words: str) -> bytes:
    """The command AUTH."""
    return b"".join(
        [b"*%d\r\n" % (len(words) + 1), b"$4\r\nAUTH\r\n", *(b"$%d\r\n%s\r\n" % (len(w), w.encode()) for w in words)]
    )


def scripted(*turns: tuple[bytes, bytes]) -> Speak:
    """Of each turn hear exactly the first, and answer with the second, in two parts."""

    def speak(connection: socket.socket) -> None:
        for question, reply in turns:
            heard = b""
            while len(heard) < len(question) and (part := connection.recv(len(question) - len(heard))):
                heard += part
            if heard != question:
                connection.sendall(b"-ERR unexpected\r\n")
                return
            connection.sendall(reply[:3])
            connection.sendall(reply[3:])
        while connection.recv(1000):
            pass

    return speak


@pytest.mark.parametrize(
    ("check", "turns", "passed", "reason"),
    [
        pytest.param(RedisCheck(), [(PING, b"+PONG\r\n")], True, "PONG", id="PONG"),
        pytest.param(
            RedisCheck(),
            [(PING, b"-LOADING Redis is loading the dataset in memory\r\n")],
            False,
            "LOADING Redis is loading the dataset in memory",
            id="it is loading",
        ),
        pytest.param(
            RedisCheck(),
            [(PING, b"-NOAUTH Authentication required.\r\n")],
            False,
            "NOAUTH Authentication required.",
            id="it wants a password",
        ),
        pytest.param(
            RedisCheck(),
            [(PING, b"-DENIED Redis is running in protected mode \x1b[31m\r\n")],
            False,
            r"DENIED Redis is running in protected mode \x1b[31m",
            id="an error with escapes",
        ),
        pytest.param(
            RedisCheck(password=SECRET_TEXT),
            [(auth(SECRET_TEXT), b"+OK\r\n"), (PING, b"+PONG\r\n")],
            True,
            "PONG",
            id="with a password",
        ),
        pytest.param(
            RedisCheck(username="nerve", password=SECRET_TEXT),
            [(auth("nerve", SECRET_TEXT), b"+OK\r\n"), (PING, b"+PONG\r\n")],
            True,
            "PONG",
            id="with a user and a password",
        ),
        pytest.param(
            RedisCheck(password=SECRET_TEXT),
            [(auth(SECRET_TEXT), b"-WRONGPASS invalid username-password pair or user is disabled.\r\n")],
            False,
            "AUTH is refused: WRONGPASS",
            id="a wrong password",
        ),
        pytest.param(
            RedisCheck(password=SECRET_TEXT),
            [(auth(SECRET_TEXT), f"-ERR unknown command `AUTH`, with args: `{SECRET_TEXT}`\r\n".encode())],
            False,
            "AUTH is refused: ERR",
            id="a server that repeats the password",
        ),
        pytest.param(
            RedisCheck(password=SECRET_TEXT),
            [(auth(SECRET_TEXT), f"{SECRET_TEXT}\r\n".encode())],
            False,
            "AUTH is refused: no answer of Redis",
            id="an echo of the password",
        ),
        pytest.param(
            RedisCheck(role="master"), [(PING, b"+PONG\r\n"), (ROLE, MASTER)], True, "PONG, master", id="a master"
        ),
        pytest.param(
            RedisCheck(role="replica"), [(PING, b"+PONG\r\n"), (ROLE, REPLICA)], True, "PONG, replica", id="a replica"
        ),
        pytest.param(
            RedisCheck(role="master"),
            [(PING, b"+PONG\r\n"), (ROLE, REPLICA)],
            False,
            "is replica, expected master",
            id="no master",
        ),
        pytest.param(
            RedisCheck(role="replica"),
            [(PING, b"+PONG\r\n"), (ROLE, SENTINEL)],
            False,
            "is sentinel, expected replica",
            id="a sentinel",
        ),
        pytest.param(
            RedisCheck(role="master"),
            [(PING, b"+PONG\r\n"), (ROLE, b"-NOPERM this user has no permissions to run the 'role' command\r\n")],
            False,
            "NOPERM this user has no permissions to run the 'role' command",
            id="it may not ask for the role",
        ),
        pytest.param(
            RedisCheck(role="master"),
            [(PING, b"+PONG\r\n"), (ROLE, b"*1\r\n$7\r\nmaster\r\n")],
            False,
            "answered something that is not Redis: $7 master",
            id="a role of another length",
        ),
        pytest.param(
            RedisCheck(role="master"),
            [(PING, b"+PONG\r\n"), (ROLE, b"*0\r\n")],
            False,
            "answered something that is not Redis: *0",
            id="no role",
        ),
    ],
)
def test_redis_judges_by_its_answers(
    check: RedisCheck, turns: list[tuple[bytes, bytes]], passed: bool, reason: str
) -> None:
    """PONG passes, if the role is the expected one. An error is given in Redis's words, except that of AUTH."""
    with server(scripted(*turns)) as address:
        outcome = outcome_of(check, address)
    assert (outcome.passed, outcome.reason) == (passed, reason)


@pytest.mark.parametrize(
    ("speak", "reason"),
    [
        pytest.param(
            answer("HTTP/1.1 400 Bad\r\n\r\n"), "answered something that is not Redis: HTTP/1.1 400 Bad", id="HTTP"
        ),
        pytest.param(answer("+PO"), "answered something that is not Redis: +PO", id="a line that is cut"),
        pytest.param(answer("\r\n"), "answered something that is not Redis: ", id="an empty line"),
        pytest.param(answer("-ERR", stay=True), "no answer in 0.3s", id="no end of a line"),
        pytest.param(answer("", stay=True), "no answer in 0.3s", id="silence"),
        pytest.param(drip("+"), "no answer in 0.3s", id="a line that drips"),
    ],
)
def test_a_hostile_answer_is_a_failure(speak: Speak, reason: str) -> None:
    """In time, and in printable words."""
    started = time.monotonic()
    with server(speak) as address:
        outcome = outcome_of(RedisCheck(timeout=0.3), address)
    assert (outcome.passed, outcome.reason) == (False, reason)
    assert time.monotonic() - started < 3


def test_an_endless_line_is_not_read_to_its_end() -> None:
    """4 KiB of it is enough to know that it is not Redis's."""
    taken: list[int] = []
    with server(flood("+", b"x" * LINE_LIMIT, taken)) as address:
        assert "is not Redis: +xxx" in outcome_of(RedisCheck(timeout=20.0), address).reason
    assert sum(taken) < 20_000_000


@given(text=st.one_of(st.binary(max_size=60), st.binary(max_size=60).map(b"+PONG\r\n*1\r\n".__add__)))
def test_redis_makes_an_outcome_of_any_bytes(text: bytes) -> None:
    """Whatever a server says, the check says whether it passed, and raises nothing."""
    with server(answer(text)) as address:
        outcome_of(RedisCheck(timeout=5.0, role="master"), address)


def test_a_password_file_is_read_at_each_check(tmp_path: Path) -> None:
    """A new password counts at once; a file that is not there is a failure that names it."""
    path = tmp_path / "password"
    check = RedisCheck(password_file=str(path))
    assert outcome_of(check).reason == f"cannot read password_file {path}: no such file or directory"
    for password in ("one", "two"):
        path.write_text(f"{password}\n")
        with server(scripted((auth(password), b"+OK\r\n"), (PING, b"+PONG\r\n"))) as address:
            assert outcome_of(check, address).passed


def test_redis_asks_whom_it_was_told_to_ask(tmp_path: Path) -> None:
    """Another host and port than the instance's, or a unix socket; nobody there is a failure."""
    with server(answer("+PONG\r\n"), "::1") as address:
        assert outcome_of(RedisCheck(host=address.host, port=address.port)).passed
    with unix_server(answer("+PONG\r\n"), tmp_path / "redis.sock") as path:
        assert outcome_of(RedisCheck(unix_socket=path)).passed
    assert outcome_of(RedisCheck()).reason == "connection refused"
    with server(ignore) as address:
        assert not outcome_of(RedisCheck(), address).passed


def test_a_password_is_not_shown() -> None:
    """Neither by what shows a check nor by what refuses it."""
    assert SECRET_TEXT not in repr(RedisCheck(password=SECRET_TEXT))
    assert SECRET.secret


@pytest.mark.parametrize(
    ("check", "key"),
    [
        pytest.param(RedisCheck(password="a", password_file="/b"), "password_file", id="two passwords"),
        pytest.param(RedisCheck(username="a"), "username", id="a user without password"),
        pytest.param(RedisCheck(unix_socket="/s", host="a"), "host", id="a socket and a host"),
        pytest.param(RedisCheck(unix_socket="/s", port=1), "port", id="a socket and a port"),
    ],
)
def test_what_cannot_be_together_is_refused(check: RedisCheck, key: str) -> None:
    """One problem, at a key whose value may be shown."""
    assert [found for found, _ in check.problems()] == [key]


def test_a_relative_password_file_is_made_absolute() -> None:
    """Against the directory of the file that names it, as everywhere."""
    check = anchored(RedisCheck(password_file="redis.pass"), "/etc/smartstack")
    assert check.password_file == os.path.join("/etc/smartstack", "redis.pass")
