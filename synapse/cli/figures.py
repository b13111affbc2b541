"""What the figures of traffic look like on a screen: lines of text out of the JSON of /telemetry/* and /fleet/*.

Colours are in the lines; who prints them takes them out where no terminal is. Names and paths come from strangers: none
of their characters reaches a terminal as it is.
"""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

from smartstack.instance import printable
from smartstack.talk import table

UNKNOWN: Final = "-"

_NAME_LIMIT: Final = 100
_PATH_LIMIT: Final = 300
SENTENCE_LIMIT: Final = 500
_FIGURES: Final = ("SUCCESS", "RPS", "P50", "P95", "P99")

Row = Mapping[str, Any]


def success_text(rate: float | None) -> str:
    """`99.67%`: rounded down, so that 100.00% is said only where nothing failed; yellow below 99 %, red below 95 %."""
    if rate is None:
        return UNKNOWN
    text = f"{math.floor(rate * 10_000 + 1e-6) / 100:.2f}%"
    if rate < 0.95:
        return click.style(text, fg="red")
    return click.style(text, fg="yellow") if rate < 0.99 else text


def rate_text(rate: float | None) -> str:
    """Requests a second: `0.25`, `20.5`, `1234`."""
    if rate is None:
        return UNKNOWN
    return f"{rate:.0f}" if rate >= 100 else f"{rate:.1f}" if rate >= 1 or rate == 0 else f"{rate:.2f}"


def time_text(milliseconds: float | None) -> str:
    """`3.1ms`, `120ms`, `1.2s`, `12s`."""
    if milliseconds is None:
        return UNKNOWN
    if milliseconds >= 999.5:
        return f"{milliseconds / 1000:.0f}s" if milliseconds >= 9950 else f"{milliseconds / 1000:.1f}s"
    return f"{milliseconds:.0f}ms" if milliseconds >= 99.5 else f"{milliseconds:.1f}ms"


def stat_lines(answer: Row) -> list[str]:
    """`synapse stat`: a line for each service, or for each instance of them."""
    by_instance = answer["by"] == "instance"
    names = ("SERVICE", "INSTANCE") if by_instance else ("SERVICE",)
    rows = answer["rows"]
    retried = any(row["retries"] for row in rows)
    lines = [(*names, *_FIGURES, "CONN", *(("RETRIES",) if retried else ()))]
    for row in rows:
        who = (_name(row["service"]), *((_name(row["instance"]),) if by_instance else ()))
        open_now = UNKNOWN if row["connections"] is None else str(row["connections"])
        lines.append((*who, *_figures(row), open_now, *((_count(row["retries"]),) if retried else ())))
    return [*_shown(lines, len(names), answer), *notes(answer)]


def route_lines(answer: Row) -> list[str]:
    """`synapse routes`: a line for each method and route of a service."""
    lines = [("METHOD", "ROUTE", *_FIGURES)]
    lines += [(_name(row["method"]), _path(row["route"]), *_figures(row)) for row in answer["rows"]]
    return [*_shown(lines, 2, answer), *notes(answer)]


def edge_lines(answer: Row) -> list[str]:
    """`synapse edges`: a line for each caller, the host that it called from, and whom it called."""
    lines = [("SOURCE", "HOST", "", "SERVICE", "SUCCESS", "RPS", "P50", "P99")]
    for row in answer["edges"]:
        success, rate, median, _, slowest = _figures(row)
        lines.append((_source(row), _name(row["host"]), "->", _name(row["service"]), success, rate, median, slowest))
    return [*_shown(lines, 4, answer), *notes(answer)]


def top_lines(routes: Row, sources: Row) -> list[str]:
    """`synapse top`: the busiest routes first, and below them the busiest callers."""
    by_route = [("SERVICE", "METHOD", "ROUTE", *_FIGURES)]
    for row in _busiest(routes["rows"]):
        by_route.append((_name(row["service"]), _name(row["method"]), _path(row["route"]), *_figures(row)))
    by_source = [("SOURCE", "", "SERVICE", *_FIGURES)]
    for row in _busiest(sources["rows"]):
        by_source.append((_source(row), "->", _name(row["service"]), *_figures(row)))
    if len(by_source) == 1:
        return [*_shown(by_source, 3, sources), *notes(sources)]
    return [*_shown(by_route, 3, routes), "", *_shown(by_source, 3, sources), *notes(sources)]


def suggestion_lines(answer: Row) -> list[str]:
    """`synapse routes --learn`: YAML for a definition, each path with how often it was seen and for what."""
    found = answer["suggestions"]
    if not found:
        return ["# nothing to suggest: each path that was seen is known, or was not seen often enough"]
    lines = ["proxy:", "  paths:"]
    for one in found:
        seen = " ".join(_path(example) for example in one["examples"])
        lines.append(f"    - {_quoted(one['template'])}  # {_count(one['requests'])} requests, such as {seen}")
    return lines


def request_line(request: Row) -> str:
    """`synapse tap`: one request, as it ended."""
    moment = time.strftime("%H:%M:%S", time.localtime(request["at"])) + f".{int(request['at'] % 1 * 1000):03d}"
    what = "tcp" if request["mode"] == "tcp" else f"{_name(request['method'])} {_path(request['path'])}"
    parts = [moment, _name(request["source"]), "->", _name(request["instance"]), what]
    if request["mode"] != "tcp":
        parts.append(_status(request["status"]))
    parts.append(f"{request['total_ms']}ms")
    if request["retries"]:
        parts.append(click.style(f"retries {request['retries']}", fg="yellow"))
    if request["termination"] != "--":
        parts.append(click.style(_name(request["termination"]), fg="yellow"))
    return " ".join(parts)


def notes(answer: Row) -> list[str]:
    """What a reader has to know of the figures: what they do not cover and why, what was lost, which hosts are not in
    them."""
    lines = []
    window, covered = answer["window_seconds"], answer["covered_seconds"]
    if covered is not None and window - covered >= 1:
        lines.append(f"{covered:.0f} s of {window:.0f} s covered")
    lines += [printable(problem, SENTENCE_LIMIT) for problem in answer.get("problems", ())]
    lost = {why: count for why, count in answer.get("dropped", {}).items() if count}
    if lost:
        told = ", ".join(f"{_count(count)} {_name(why)}" for why, count in sorted(lost.items()))
        lines.append(f"lines of the feed that are not counted, since the start: {told}")
    hosts = answer.get("hosts")
    return lines if hosts is None else [*lines, *_fleet_notes(answer, hosts)]


def _fleet_notes(answer: Row, hosts: Sequence[Row]) -> list[str]:
    heard = sum(one["error"] is None for one in hosts)
    lines = [] if not hosts else [f"{heard} of {len(hosts)} synapses answered"]
    for one in hosts:
        if one["error"] is not None:
            host, address = _name(one["host"]), _name(one["address"])
            who = host if address in host else f"{host} ({address})"
            lines.append(f"{who}: {printable(one['error'], _PATH_LIMIT)}")
    return lines if not answer["note"] else [*lines, printable(answer["note"], _PATH_LIMIT)]


def _shown(rows: Sequence[tuple[str, ...]], names: int, answer: Row) -> list[str]:
    """The table; the first `names` columns are names, all others figures. One sentence where there is nothing."""
    if len(rows) == 1:
        return [f"no requests in the last {answer['window_seconds']:.0f} s"]
    return table(rows, right=range(names, len(rows[0])))


def _busiest(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: -(row["rate"] or 0.0))


def _source(row: Row) -> str:
    """Who called, and how that is known."""
    return f"{_name(row['source'])} ({_name(row['source_kind'])})"


def _figures(row: Row) -> tuple[str, str, str, str, str]:
    median, slow, slowest = row["p50_ms"], row["p95_ms"], row["p99_ms"]
    outcome = success_text(row["success_rate"]), rate_text(row["rate"])
    return *outcome, time_text(median), time_text(slow), time_text(slowest)


def _status(status: int) -> str:
    text = str(status) if status else UNKNOWN
    return click.style(text, fg="red") if status >= 500 else text


def _count(count: float) -> str:
    """What was counted; where only a part of the requests is told of, it is a sum of shares."""
    return f"{count:.0f}"


def _quoted(text: str) -> str:
    """A text in YAML, for any reader: whatever is in it."""
    return '"' + printable(text, _PATH_LIMIT).replace('"', '\\"') + '"'


def _name(text: str | None) -> str:
    return printable(text, _NAME_LIMIT) if text else UNKNOWN


def _path(text: str | None) -> str:
    return printable(text, _PATH_LIMIT) if text else UNKNOWN
