"""What the lab makes of the calls of its clients."""

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
)
from tests.lab.scenario import Scenario, read

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


def test_each_bound_breaks_a_promise() -> None:
    """And what went wrong on the way does, whatever the bounds say."""
    assert judged("503", "reset").wrong == ["failed: 2, and at most 1 is promised"]
    assert judged("slow", "slow").wrong == ["slow: 2, and at most 1 is promised"]
    assert judged("ok", recovery=2.5).wrong == ["recovery: 2.5, and at most 2 is promised"]
    assert judged("ok", wrong=("it did not heal",)).verdict == "BROKEN"


def test_a_report_can_be_read_again() -> None:
    """From its JSON comes the same table."""
    results = [judged("ok", "503"), Result(name="two", promise="And so is this.", skipped="there is no netem")]
    assert from_json(as_json(results)) == results
    assert [each["verdict"] for each in as_json(results)] == ["kept", "not run"]


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
