"""Logs: what one line looks like, and that nothing in it can pretend to be another."""

import json
import logging
from collections.abc import Iterator

import pytest

from smartstack import logs

log = logs.EventLog("nerve")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        pytest.param("web", "web", id="a word stands bare"),
        pytest.param("10.0.0.5:8080", "10.0.0.5:8080", id="an address stands bare"),
        pytest.param("[::1]:80", "[::1]:80", id="an IPv6 address stands bare"),
        pytest.param("", '""', id="nothing is seen"),
        pytest.param("two words", '"two words"', id="words are quoted"),
        pytest.param('say "no"', r'"say \"no\""', id="quotes are escaped"),
        pytest.param("a\\b", r'"a\\b"', id="backslashes are escaped"),
        pytest.param("a=b", '"a=b"', id="an equals sign is quoted"),
        pytest.param("a\nlevel=error", r'"a\nlevel=error"', id="a line break makes no second line"),
        pytest.param("a\x1b[31m", r'"a\x1b[31m"', id="a terminal escape is text"),
        pytest.param("a\u2028b", r'"a\u2028b"', id="a Unicode line separator is text"),
        pytest.param("a\u202eb", r'"a\u202eb"', id="a change of writing direction is text"),
        pytest.param("a\udc80b", r'"a\udc80b"', id="half a character is text"),
        pytest.param("käse", '"käse"', id="letters of any language stay"),
        pytest.param(True, "true", id="a truth"),
        pytest.param(None, "None", id="nothing known"),
        pytest.param(0.25, "0.25", id="a number"),
        pytest.param("x" * 9_000, f'"{"x" * 7_999}~"', id="a long value is cut"),
    ],
)
def test_text_shows_any_value_in_one_unambiguous_line(
    value: object, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A value is bare where nothing in it could be misread; else it is quoted, and nothing unprintable is left."""
    logs.configure("info", "text")
    log.info("seen", value=value)
    (line,) = lines(capsys)
    assert line.endswith(f" value={shown}")
    assert line.isprintable()


def test_text_has_the_moment_the_level_the_log_and_the_sentence_in_front(capsys: pytest.CaptureFixture[str]) -> None:
    """The line's own pairs come first, in this order; a `%` in a sentence is only a `%`."""
    logs.configure("info", "text")
    log.warning("100 % of it", service="web")
    (line,) = lines(capsys)
    moment, rest = line.split(" ", 1)
    assert moment.startswith("time=2") and moment.endswith("Z") and len(moment) == len("time=2026-11-22T17:08:01.123Z")
    assert rest == 'level=warning log=nerve event="100 % of it" service=web'


def test_json_is_one_object_a_line_with_the_types_of_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    """Numbers and truths stay what they are; everything else is text."""
    logs.configure("info", "json")
    log.error("a\nb", count=3, share=0.5, held=False, who=("a", 1), nothing=None)
    (line,) = lines(capsys)
    event = json.loads(line)
    del event["time"]
    assert event == {
        "level": "error",
        "log": "nerve",
        "event": "a\nb",
        "count": 3,
        "share": 0.5,
        "held": False,
        "who": "('a', 1)",
        "nothing": None,
    }


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_field_cannot_take_the_place_of_the_lines_own(form: logs.Form, capsys: pytest.CaptureFixture[str]) -> None:
    """A field called like one of the line's own pairs gets a `_`; the line's own stays."""
    logs.configure("info", form)
    log.info("seen", level="error", event="other")
    (line,) = lines(capsys)
    if form == "json":
        event = json.loads(line)
        assert (event["level"], event["level_"], event["event"], event["event_"]) == ("info", "error", "seen", "other")
    else:
        assert "level=info log=nerve event=seen level_=error event_=other" in line


@pytest.mark.parametrize(
    ("level", "seen"),
    [
        pytest.param(
            "debug",
            ["own debug", "own info", "own warning", "own error", "library debug", "library info", "library warning"],
        ),
        pytest.param("info", ["own info", "own warning", "own error", "library warning"]),
        pytest.param("warning", ["own warning", "own error", "library warning"]),
        pytest.param("error", ["own error"]),
    ],
)
def test_the_level_says_who_is_heard(level: str, seen: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Below `debug` the libraries are heard from `warning` on only; ours from the level on."""
    logs.configure(level, "json")
    log.debug("own debug")
    log.info("own info")
    log.warning("own warning")
    log.error("own error")
    logging.getLogger("library").debug("library %s", "debug")
    logging.getLogger("library").info("library %s", "info")
    logging.getLogger("library").warning("library %s", "warning")
    assert [json.loads(line)["event"] for line in lines(capsys)] == seen


def test_a_failure_carries_its_traceback_in_the_same_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A traceback is one field of the one line."""
    logs.configure("info", "text")
    try:
        raise ValueError("no\nsuch thing")
    except ValueError as error:
        log.failure("it broke", error, service="web")
    (line,) = lines(capsys)
    assert 'event="it broke" service=web traceback="Traceback (most recent call last):\\n' in line
    assert line.endswith('ValueError: no\\nsuch thing"')


def test_to_configure_again_replaces_the_form(capsys: pytest.CaptureFixture[str]) -> None:
    """An event is written once, in the form that was asked for last."""
    logs.configure("info", "text")
    logs.configure("info", "json")
    log.info("seen")
    (line,) = lines(capsys)
    assert json.loads(line)["event"] == "seen"
