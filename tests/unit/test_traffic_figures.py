"""What figures look like on a screen: pure tables of JSON and the lines that come of it."""

from typing import Any

import click
import pytest

from synapse.cli.figures import (
    edge_lines,
    notes,
    rate_text,
    request_line,
    route_lines,
    stat_lines,
    success_text,
    suggestion_lines,
    time_text,
    top_lines,
)
from synapse.cli.screen import fit


def row(**more: Any) -> dict[str, Any]:
    """A row of /telemetry/stat with these figures."""
    figures = {"success_rate": 0.996759, "rate": 20.5, "p50_ms": 3.1, "p95_ms": 9.0, "p99_ms": 220.0, "retries": 0}
    return {"service": "web", "mode": "http", "connections": 12, **figures, **more}


QUIET = {"success_rate": None, "rate": 0.0, "p50_ms": None, "p95_ms": None, "p99_ms": None, "connections": None}


def answer(*rows: dict[str, Any], **more: Any) -> dict[str, Any]:
    """An answer of /telemetry/stat with these rows."""
    return {"by": "service", "window_seconds": 60, "covered_seconds": 60.0, "rows": list(rows), **more}


def plain(lines: list[str]) -> list[str]:
    """Without colours."""
    return [click.unstyle(line) for line in lines]


@pytest.mark.parametrize(
    ("rate", "text", "colour"),
    [
        pytest.param(None, "-", None, id="no request: unknown, not 0 %"),
        pytest.param(1.0, "100.00%", None, id="all of them"),
        pytest.param(0.999999, "99.99%", None, id="rounded down: one failure is never 100 %"),
        pytest.param(0.99, "99.00%", None, id="not below 99 %"),
        pytest.param(0.9899, "98.99%", "yellow", id="below 99 %"),
        pytest.param(0.95, "95.00%", "yellow", id="not below 95 %"),
        pytest.param(0.9499, "94.99%", "red", id="below 95 %"),
        pytest.param(0.0, "0.00%", "red", id="none of them"),
        pytest.param(0.2345, "23.45%", "red", id="as it stands"),
    ],
)
def test_a_success_rate_has_its_colour(rate: float | None, text: str, colour: str | None) -> None:
    """What is below 99 % is yellow, below 95 % red."""
    assert success_text(rate) == (click.style(text, fg=colour) if colour else text)


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (None, "-"),
        (0.5, "0.5ms"),
        (3.14, "3.1ms"),
        (99.4, "99.4ms"),
        (99.6, "100ms"),
        (999.4, "999ms"),
        (999.6, "1.0s"),
        (1250.0, "1.2s"),
        (9949.0, "9.9s"),
        (9960.0, "10s"),
        (50_000.0, "50s"),
    ],
)
def test_a_time_is_short_and_has_its_unit(milliseconds: float | None, text: str) -> None:
    """Two or three digits, and never a round unit with four digits before it."""
    assert time_text(milliseconds) == text


@pytest.mark.parametrize(
    ("rate", "text"), [(None, "-"), (0.0, "0.0"), (0.02, "0.02"), (1.0, "1.0"), (20.46, "20.5"), (1234.5, "1234")]
)
def test_a_rate_is_short(rate: float | None, text: str) -> None:
    """A service that is asked now and then is not asked 0.0 times."""
    assert rate_text(rate) == text


def test_stat_is_a_table() -> None:
    """A line for each service, names on the left and figures on the right; what is unknown is a dash."""
    assert plain(stat_lines(answer(row(), row(service="api-of-old", **QUIET)))) == [
        "SERVICE     SUCCESS   RPS    P50    P95    P99  CONN",
        "web          99.67%  20.5  3.1ms  9.0ms  220ms    12",
        "api-of-old        -   0.0      -      -      -     -",
    ]


def test_retries_are_told_where_there_were_any() -> None:
    """A column that is full of zeros says nothing."""
    lines = stat_lines(answer(row(retries=3), row(service="api")))
    assert [line.split()[-1] for line in lines] == ["RETRIES", "3", "0"]
    assert "RETRIES" not in stat_lines(answer(row()))[0]


def test_stat_of_instances_names_them() -> None:
    """An instance is its address; the connections of one are not known."""
    lines = stat_lines(answer(row(instance="10.0.0.5:8080", connections=None), by="instance"))
    assert lines[0].split()[:3] == ["SERVICE", "INSTANCE", "SUCCESS"]
    assert lines[1].split()[:3] == ["web", "10.0.0.5:8080", "99.67%"]


def test_routes_are_methods_and_templates() -> None:
    """As the definition tells them apart."""
    lines = route_lines(answer(row(method="GET", route="/users/{id}")))
    assert [line.split()[:2] for line in lines] == [["METHOD", "ROUTE"], ["GET", "/users/{id}"]]


def test_an_edge_says_who_and_how_that_is_known() -> None:
    """SOURCE (KIND) HOST -> SERVICE."""
    edge = row(source="api", source_kind="header", host="box-1")
    lines = edge_lines({"window_seconds": 60, "covered_seconds": 60.0, "edges": [edge]})
    assert lines[1].split() == ["api", "(header)", "box-1", "->", "web", "99.67%", "20.5", "3.1ms", "220ms"]


def test_top_has_the_busiest_first() -> None:
    """Routes and callers, each by their rate."""
    routes = [row(method="GET", route=f"/{rate}", rate=float(rate)) for rate in (5, 50, 20)]
    sources = [row(source=name, source_kind="process", rate=rate) for name, rate in (("slow", 1.0), ("fast", 9.0))]
    lines = top_lines(answer(*routes, by="route"), answer(*sources, by="source"))
    assert [line.split()[2] for line in lines[1:4]] == ["/50", "/20", "/5"]
    assert [line.split()[0] for line in lines[6:8]] == ["fast", "slow"]


def test_where_nothing_was_asked_a_sentence_says_so() -> None:
    """Not an empty table."""
    assert route_lines(answer()) == ["no requests in the last 60 s"]
    assert top_lines(answer(window_seconds=10), answer(window_seconds=10)) == ["no requests in the last 10 s"]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        pytest.param({}, [], id="all of it is covered"),
        pytest.param({"covered_seconds": 58.4}, ["58 s of 60 s covered"], id="synapse was not there all the time"),
        pytest.param({"covered_seconds": 66.0}, [], id="a little more than was asked for"),
        pytest.param({"problems": ["the disk is full"]}, ["the disk is full"], id="something is wrong"),
        pytest.param({"dropped": {"unparsed": 0, "haproxy": None}}, [], id="nothing was lost, as far as is known"),
        pytest.param(
            {"dropped": {"unparsed": 2, "receiver": 1200, "haproxy": None}},
            ["lines of the feed that are not counted, since the start: 1200 receiver, 2 unparsed"],
            id="lines were lost",
        ),
        pytest.param(
            {
                "hosts": [
                    {"host": "box-1", "address": "10.0.0.5:3201", "error": None},
                    {"host": "box-2", "address": "10.0.0.6:3201", "error": "no answer within 2.0 s"},
                    {"host": "box-2 (10.0.0.7:3201)", "address": "10.0.0.7:3201", "error": "its answer is not JSON"},
                ],
                "note": "",
            },
            [
                "1 of 3 synapses answered",
                "box-2 (10.0.0.6:3201): no answer within 2.0 s",
                "box-2 (10.0.0.7:3201): its answer is not JSON",
            ],
            id="two hosts did not answer",
        ),
        pytest.param({"hosts": [], "note": "no synapse is announced"}, ["no synapse is announced"], id="no fleet"),
        pytest.param({"hosts": [], "note": "", "covered_seconds": None}, [], id="nobody says what is covered"),
    ],
)
def test_what_figures_lack_is_said(more: dict[str, Any], expected: list[str]) -> None:
    """Gaps, losses and hosts that did not answer: a line each."""
    assert notes(answer(row(), **more)) == expected


REQUEST = {
    "at": 1764130000.25,
    "source": "api",
    "instance": "10.0.0.5:8080",
    "method": "GET",
    "path": "/users/7",
    "status": 200,
    "total_ms": 12,
    "retries": 0,
    "termination": "--",
    "mode": "http",
}


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        pytest.param({}, "api -> 10.0.0.5:8080 GET /users/7 200 12ms", id="a good one says no more than that"),
        pytest.param({"retries": 2}, "api -> 10.0.0.5:8080 GET /users/7 200 12ms retries 2", id="it was tried again"),
        pytest.param(
            {"status": 503, "instance": "", "termination": "sC"},
            "api -> - GET /users/7 503 12ms sC",
            id="no instance was reached",
        ),
        pytest.param({"status": 0, "termination": "CH"}, "api -> 10.0.0.5:8080 GET /users/7 - 12ms CH", id="no answer"),
        pytest.param(
            {"mode": "tcp", "method": "", "path": "", "status": 0}, "api -> 10.0.0.5:8080 tcp 12ms", id="a connection"
        ),
    ],
)
def test_a_request_is_a_line(more: dict[str, Any], expected: str) -> None:
    """Who asked whom for what, and how it ended."""
    line = click.unstyle(request_line({**REQUEST, **more}))
    moment, _, rest = line.partition(" ")
    assert rest == expected
    assert moment.endswith(".250") and len(moment) == len("12:34:56.250")


EVIL = "\x1b]0;owned\x07\x1b[2J\r\n\u202e"


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(stat_lines(answer(row(service=EVIL))), id="a service"),
        pytest.param(stat_lines(answer(row(instance=EVIL), by="instance")), id="an instance"),
        pytest.param(route_lines(answer(row(method=EVIL, route=EVIL))), id="a route"),
        pytest.param(edge_lines({**answer(), "edges": [row(source=EVIL, source_kind=EVIL, host=EVIL)]}), id="an edge"),
        pytest.param([request_line({**REQUEST, "source": EVIL, "path": EVIL, "method": EVIL})], id="a request"),
        pytest.param([request_line({**REQUEST, "termination": EVIL, "instance": EVIL})], id="its end"),
        pytest.param(
            notes(answer(hosts=[{"host": EVIL, "address": EVIL, "error": EVIL}], note=EVIL, dropped={EVIL: 1})),
            id="what is said of a fleet",
        ),
        pytest.param(
            suggestion_lines({"suggestions": [{"template": EVIL, "requests": 1, "examples": [EVIL]}]}),
            id="a suggestion",
        ),
    ],
)
def test_nothing_of_strangers_reaches_the_terminal_as_it_is(lines: list[str]) -> None:
    """No escape sequence, no line break, no turn of the writing: only our own colours."""
    assert all(character.isprintable() and character.isascii() for line in plain(lines) for character in line)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param(["a", "b"], ["a", "b"], id="it fits"),
        pytest.param(["a", "b", "c", "d"], ["a", "b", "… 2 more"], id="too many lines"),
        pytest.param(["1234567890"], ["12345678…"], id="too long a line"),
        pytest.param([click.style("123456789", fg="red")], [click.style("123456789", fg="red")], id="a coloured line"),
        pytest.param([click.style("1234567890", fg="red")], ["12345678…"], id="a coloured line that is cut"),
    ],
)
def test_what_is_drawn_in_place_fits_the_terminal(lines: list[str], expected: list[str]) -> None:
    """A line that wraps or rolls would leave parts of the last drawing behind."""
    assert fit(lines, 10, 4) == expected
