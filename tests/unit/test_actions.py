"""Actions: what a POST may be, how its arguments are read, and what each way to fail is answered with."""

import json
import logging
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartstack import logs
from smartstack.actions import JSON, BadRequest, log_level_action, read_arguments, take_only


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize(
    "content_type",
    [
        JSON,
        "Application/JSON",
        "application/json; charset=utf-8",
        'application/json;charset="UTF-8"',
        " application/json ; charset=utf-8",
    ],
)
def test_json_is_taken(content_type: str) -> None:
    """JSON in UTF-8, however it is announced."""
    assert read_arguments(content_type, b'{"service": "web"}') == {"service": "web"}


@pytest.mark.parametrize("body", [b"", b" \r\n", b"{}"])
def test_no_body_is_no_arguments(body: bytes) -> None:
    """Who has nothing to say need not say it in JSON."""
    assert read_arguments(JSON, body) == {}


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonp",
        "text/plain; application/json",
        "text/plain, application/json",
        "application/json, text/plain",
        "\xe4pplication/json",
    ],
)
def test_what_a_form_can_send_is_refused(content_type: str) -> None:
    """A page of others can have a browser send a form, but no JSON, without asking the server first."""
    with pytest.raises(BadRequest, match=r"^an action takes JSON: send the header `Content-Type: application/json`$"):
        read_arguments(content_type, b"{}")


@pytest.mark.parametrize("parameters", ["charset=latin-1", "charset=utf-16", "charset=utf-8; x=y", "x"])
def test_another_charset_is_refused(parameters: str) -> None:
    """JSON is UTF-8, and what claims to be another is not guessed at."""
    with pytest.raises(BadRequest, match=r"^an action takes JSON in UTF-8, and nothing else$"):
        read_arguments(f"{JSON}; {parameters}", b"{}")


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        pytest.param(b"[]", "an action takes a JSON object, such as {}, and this is another value", id="a list"),
        pytest.param(b"1", "an action takes a JSON object, such as {}, and this is another value", id="a number"),
        pytest.param(b"null", "an action takes a JSON object, such as {}, and this is another value", id="null"),
        pytest.param(b"service=web", "an action takes a JSON object, and this is none: Expecting value", id="a form"),
        pytest.param(b"{} {}", "an action takes a JSON object, and this is none: Extra data", id="two objects"),
        pytest.param(b'{"a": ', "an action takes a JSON object, and this is none: Expecting value", id="half a one"),
        pytest.param(b'{"a": "\xff"}', "an action takes a JSON object, and this is none: 'utf-8' codec", id="no UTF-8"),
        pytest.param("{}".encode("utf-16"), "an action takes a JSON object, and this is none: 'utf-8'", id="UTF-16"),
        pytest.param(b'{"a": "\\ud800"}', "an action takes a JSON object, and this is none: 'utf-8'", id="a half"),
        pytest.param(b'{"\\ud800": 1}', "an action takes a JSON object, and this is none: 'utf-8'", id="a half key"),
        pytest.param(b'{"a": NaN}', "an action takes a JSON object, and this is none: Out of range", id="NaN"),
        pytest.param(b'{"a": 1e999}', "an action takes a JSON object, and this is none: Out of range", id="infinite"),
        pytest.param(
            b'{"a": ' + b"1" * 9000 + b"}", "an action takes a JSON object, and this is none: Exceeds", id="long number"
        ),
        pytest.param(b"[" * 16_000, "an action takes a JSON object, not one so deep", id="deep"),
        pytest.param(b'{"a":' * 3000 + b"1" + b"}" * 3000, "an action takes a JSON object, not one so", id="deep too"),
    ],
)
def test_what_is_no_object_is_one_sentence(body: bytes, sentence: str) -> None:
    """Whatever was sent, nothing is done, and the sentence says what is taken."""
    with pytest.raises(BadRequest) as caught:
        read_arguments(JSON, body)
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=200))
def test_any_bytes_are_arguments_or_refused(body: bytes) -> None:
    """Nothing that can be sent does anything else than to be read or refused; what is read can be written again."""
    try:
        arguments = read_arguments(JSON, body)
    except BadRequest:
        return
    json.dumps(arguments, allow_nan=False, ensure_ascii=False).encode()


def test_a_misspelt_argument_is_not_lost() -> None:
    """Who writes `sevice` must not drain everything instead."""
    take_only({"service": "web"}, "service", "reason")
    with pytest.raises(BadRequest, match=r"^there is no argument 'sevice'; there are: service, reason$"):
        take_only({"sevice": "web"}, "service", "reason")
    with pytest.raises(BadRequest, match=r"^there is no argument 'x'; there are none$"):
        take_only({"x": 1})


def test_the_log_level_can_be_changed(root: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    """From then on it is logged from that level on, libraries too at `debug` only; the answer says what was before."""
    logs.configure("info", "text")
    library, own = logging.getLogger("library"), logs.EventLog("own")

    def heard() -> list[str]:
        capsys.readouterr()
        own.debug("own")
        library.debug("foreign")
        return [line.rsplit("=", 1)[1] for line in capsys.readouterr().err.splitlines()]

    assert heard() == []
    response = log_level_action({"level": "debug"})
    assert (response.status, json.loads(response.body)) == (200, {"level": "debug", "before": "info"})
    assert heard() == ["own", "foreign"]
    response = log_level_action({"level": "info"})
    assert json.loads(response.body) == {"level": "info", "before": "debug"}
    assert heard() == []
    root.setLevel("DEBUG")
    assert heard() == ["own"], "libraries are still heard"


def test_a_change_of_the_level_is_logged(root: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    """The log says why it becomes longer."""
    logs.configure("info", "text")
    log_level_action({"level": "debug"})
    assert 'event="the log level was changed" level_now=debug level_before=info' in capsys.readouterr().err


@pytest.mark.parametrize("level", [None, "trace", "DEBUG", 10, ["debug"], {"debug": 1}])
def test_an_unknown_level_is_refused(level: object, root: logging.Logger) -> None:
    """The level stays as it was, and the sentence says which there are."""
    logs.configure("warning", "text")
    with pytest.raises(BadRequest, match=r"^level is to be one of debug, info, warning, error$"):
        log_level_action({} if level is None else {"level": level})
    assert logs.current_level() == "warning"
