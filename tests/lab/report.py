"""What a run of the lab saw: for each scenario a verdict, in Markdown and JSON, and the table of guarantees. Pure."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from tests.lab.scenario import Bound, Scenario

BAD: Final = ("refused", "reset", "truncated", "silent")
BEGIN, END = "<!-- lab -->", "<!-- /lab -->"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request of a client: when it was sent, in seconds of the monotonic clock, how long it took, how it ended."""

    host: str
    sent: float
    took: float
    how: str

    @property
    def failed(self) -> bool:
        """Neither a good answer nor a slow one."""
        return self.how not in ("ok", "slow")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one scenario saw. `recovery` are seconds by step that waited for a fact; `wrong` is what was not as it must
    be, in words; `skipped` why it was not run."""

    name: str
    promise: str
    requests: int = 0
    failures: Mapping[str, int] = field(default_factory=dict)
    slow: int = 0
    reloads: int = 0
    registry_requests: int = 0
    seconds: float = 0.0
    recovery: Mapping[str, float] = field(default_factory=dict)
    wrong: Sequence[str] = ()
    skipped: str = ""
    first_failures: Sequence[str] = ()

    @property
    def failed(self) -> int:
        """Requests without a good answer."""
        return sum(self.failures.values())

    @property
    def verdict(self) -> str:
        """In one word or two."""
        return "not run" if self.skipped else "BROKEN" if self.wrong else "kept"

    def figure(self) -> str:
        """The figures of the table of guarantees."""
        if self.skipped:
            return f"not run: {self.skipped}"
        parts = [f"{self.failed} of {self.requests} requests failed"]
        if self.failures:
            parts.append(f"({', '.join(f'{count} {how}' for how, count in sorted(self.failures.items()))})")
        parts.append(f"{self.reloads} reloads")
        if self.recovery:
            parts.append(f"{max(self.recovery.values()):.1f} s until all is as it should be")
        return "; ".join(parts).replace("; (", " (")


def judge(
    scenario: Scenario,
    calls: Iterable[Call],
    *,
    reloads: int,
    registry_requests: int,
    took: float,
    recovery: Mapping[str, float],
    wrong: Sequence[str],
    began: float = 0.0,
) -> Result:
    """The result of a scenario that was run, held against what it expects. `began` is when it did, of the same clock as
    the calls."""
    every = list(calls)
    failures = [call for call in every if call.failed]
    slow = sum(call.how == "slow" for call in every)
    seen: dict[str, float] = {"failed": len(failures), "slow": slow, "reloads": reloads}
    if recovery:
        seen["recovery"] = max(recovery.values())
    broken = [_broken(key, seen.get(key, 0.0), bound) for key, bound in scenario.expect.items()]
    return Result(
        name=scenario.name,
        promise=scenario.promise,
        requests=len(every),
        failures=dict(Counter(call.how for call in failures)),
        slow=slow,
        reloads=reloads,
        registry_requests=registry_requests,
        seconds=round(took, 1),
        recovery={step: round(seconds, 2) for step, seconds in recovery.items()},
        wrong=[*wrong, *(words for words in broken if words)],
        first_failures=[
            f"{call.host} at {call.sent - began:.2f} s, after {call.took:.2f} s: {call.how}" for call in failures[:5]
        ],
    )


def _broken(key: str, value: float, bound: Bound) -> str:
    return f"{key}: {value:g}, and at most {bound.at_most:g} is promised" if value > bound.at_most else ""


def as_json(results: Sequence[Result]) -> list[dict[str, Any]]:
    """The whole report, for programs."""
    return [{**asdict(result), "verdict": result.verdict} for result in results]


def from_json(report: Iterable[Mapping[str, Any]]) -> list[Result]:
    """The results in a report."""
    return [Result(**{key: value for key, value in each.items() if key != "verdict"}) for each in report]


def as_text(result: Result) -> str:
    """One scenario, for people."""
    lines = [f"## {result.name}: {result.verdict}", "", result.promise, "", f"- {result.figure()}"]
    if not result.skipped:
        lines.append(f"- {result.slow} slow answers, {result.registry_requests} requests to ZooKeeper")
        lines.append(f"- took {result.seconds:g} s")
    lines += [f"- {step}: {seconds:.2f} s" for step, seconds in result.recovery.items()]
    lines += [f"- WRONG: {words}" for words in result.wrong]
    lines += [f"- failed: {words}" for words in result.first_failures]
    return "\n".join(lines) + "\n"


def guarantees(results: Sequence[Result], scenarios: Sequence[Scenario]) -> str:
    """The table: promise, scenario, figure, and the bound where it is not 0."""
    bounds = {scenario.name: scenario.expect for scenario in scenarios}
    lines = ["| promise | scenario | what a run saw | bound |", "|---|---|---|---|"]
    for result in sorted(results, key=lambda each: each.name):
        whys = [
            f"{key} ≤ {bound.at_most:g}" + (f": {bound.why}" if bound.why else "")
            for key, bound in bounds.get(result.name, {}).items()
        ]
        lines.append(f"| {result.promise} | {result.name} | {result.figure()} | {'; '.join(whys)} |")
    return "\n".join(lines) + "\n"


def put_between(document: str, begin: str, end: str, text: str) -> str:
    """The document with this text between two marker lines. Raises ValueError where it has them not."""
    pattern = re.compile(rf"({re.escape(begin)}\n).*?({re.escape(end)})", re.DOTALL)
    if not pattern.search(document):
        raise ValueError(f"the document has no {begin} … {end}")
    return pattern.sub(lambda match: f"{match[1]}{text}{match[2]}", document)
