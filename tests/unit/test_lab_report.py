"""What the lab makes of the calls of its clients."""

import json
import re
from pathlib import Path

from tests.lab.report import (
    BEGIN,
    END,
    Call,
    Result,
    as_json,
    as_text,
    from_json,
    guarantees,
    judge,
    put_between,
    read_calls,
)
from tests.lab.scenario import Scenario, read, scenarios

SCENARIO = read(
    "one",
    "promise: All is well.\nsteps: []\nexpect: {failed: {at_most: 1, why: it was under way}, slow: 1, recovery: 2s}\n",
)


def call(how: str, sent: float = 101.0) -> Call:
    return Call(host="h1", sent=sent, took=0.5, how=how)


def judged(*hows: str, recovery: float = 1.0, scenario: Scenario = SCENARIO, wrong: tuple[str, ...] = ()) -> Result:
    return judge(
        scenario,
        [call(how) for how in hows],
        reloads=0,
        registry_requests=7,
        took=9.0,
        recovery={"until it is": recovery},
        wrong=wrong,
        began=100.0,
    )


def test_what_is_within_its_bounds_is_kept() -> None:
    """A slow answer is no failure; everything else that is not a good one is."""
    result = judged("ok", "ok", "slow", "503")
    assert (result.requests, result.failed, result.slow, result.verdict) == (4, 1, 1, "kept")
    assert result.failures == {"503": 1}
    assert result.first_failures == ["h1 at 1.00 s, after 0.50 s: 503"]


def test_the_lines_of_a_client() -> None:
    """What was sent in the time that is asked for has ended, is under way, or was lost with its client."""
    lines = [
        "started",
        "1 99.9 sent",
        "2 100.1 sent",
        "1 99.9 0.5 ok",
        "2 100.1 0.0021 503",
        "3 101.0 sent",
        "4 120.0 sent",
    ]
    calls, waiting = read_calls("h1", lines, 100.0, 110.0)
    assert (calls, waiting) == ([Call(host="h1", sent=100.1, took=0.0021, how="503")], 1)
    assert read_calls("h1", [*lines, "started"], 100.0, 110.0) == (calls, 0)


def test_how_long_it_took() -> None:
    """The slowest good answer, and the time from the first failure to the last."""
    calls = [call("503", 101.0), call("503", 103.5), Call(host="h2", sent=101.0, took=1.8, how="slow")]
    strict = read("one", "promise: Now.\nsteps: []\nexpect: {failed: 2, failing: 1s, longest: 1500ms}\n")
    result = judge(strict, calls, reloads=0, registry_requests=0, took=9.0, recovery={}, wrong=())
    assert (result.longest, result.failing) == (1.8, 2.5)
    assert result.wrong == ["failing: 2.5, and at most 1 is promised", "longest: 1.8, and at most 1.5 is promised"]
    assert result.figure() == "2 of 3 requests failed (2 503, within 2.5 s); 1 slow, the longest 1.8 s; 0 reloads"


def test_each_bound_breaks_a_promise() -> None:
    """And what went wrong on the way does, whatever the bounds say."""
    assert judged("503", "reset").wrong == ["failed: 2, and at most 1 is promised"]
    assert judged("slow", "slow").wrong == ["slow: 2, and at most 1 is promised"]
    assert judged("ok", recovery=2.5).wrong == ["recovery: 2.5, and at most 2 is promised"]
    assert judged("ok", wrong=("it did not heal",)).verdict == "BROKEN"


def test_a_report_can_be_read_again() -> None:
    """From its JSON comes the same result."""
    results = [judged("ok", "503"), Result(name="two", promise="And so is this.", skipped="there is no netem")]
    assert [from_json(as_json(each)) for each in results] == results
    assert [from_json(json.loads(json.dumps(as_json(each)))).figure() for each in results] == [
        each.figure() for each in results
    ]
    assert [as_json(each)["verdict"] for each in results] == ["kept", "not run"]


def test_the_table_of_guarantees() -> None:
    """A row for each scenario: its promise, what was seen, and the bound with its reason."""
    results = [Result(name="two", promise="And so is this.", skipped="there is no netem"), judged("ok", "503")]
    rows = guarantees(results, [SCENARIO]).splitlines()[2:]
    assert rows == [
        "| All is well. | one | 1 of 2 requests failed (1 503); 0 reloads; 1.0 s until all is as it should be | "
        "failed ≤ 1: it was under way; slow ≤ 1; recovery ≤ 2 |",
        "| And so is this. | two | not run: there is no netem |  |",
    ]


def test_a_scenario_for_people() -> None:
    """Its verdict first, and what was wrong."""
    text = as_text(judged("reset", "reset"))
    assert text.startswith("## one: BROKEN\n\nAll is well.\n")
    assert "- WRONG: failed: 2, and at most 1 is promised" in text
    assert "- until it is: 1.00 s" in text


def test_a_table_goes_between_its_marks() -> None:
    """And nothing else of the document changes."""
    document = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert put_between(document, BEGIN, END, "new\n") == f"before\n{BEGIN}\nnew\n{END}\nafter\n"


def test_the_document_has_a_row_for_each_scenario() -> None:
    """With its promise, word by word: it is written from the reports, and never by hand."""
    document = (Path(__file__).parents[2] / "docs" / "guarantees.md").read_text(encoding="utf-8")
    table = document.partition(BEGIN)[2].partition(END)[0]
    rows = re.findall(r"^\| (.+?) \| ([a-z0-9-]+) \| .* \|$", table, re.MULTILINE)[1:]
    assert rows == [(each.promise, each.name) for each in sorted(scenarios(), key=lambda each: each.name)]
