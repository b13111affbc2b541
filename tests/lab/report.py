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


def read_calls(host: str, lines: Iterable[str], since: float, until: float) -> tuple[list[Call], int]:
    """What a client's file (its format: tests/lab/client.py) says of the requests that were sent in that time: those
    that ended, and how many are still under way. Those of a client that was killed are forgotten."""
    calls: list[Call] = []
    waiting: set[str] = set()
    for words in map(str.split, lines):
        match words:
            case ["started"]:
                waiting.clear()
            case [number, sent, "sent"] if since <= float(sent) < until:
                waiting.add(number)
            case [number, sent, took, how] if since <= float(sent) < until:
                waiting.discard(number)
                calls.append(Call(host=host, sent=float(sent), took=float(took), how=how))
    return calls, len(waiting)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one scenario saw. `longest` is what the slowest good answer took, `failing` the time from the first failure
    to the last, `recovery` what each step took that waited for a fact, all in seconds. `registry_requests` are of all
    clients of ZooKeeper, pings too. `wrong` is what was not as it must be, in words; `skipped` why it was not run."""

    name: str
    promise: str
    requests: int = 0
    failures: Mapping[str, int] = field(default_factory=dict)
    slow: int = 0
    longest: float = 0.0
    failing: float = 0.0
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
            kinds = ", ".join(f"{count} {how}" for how, count in sorted(self.failures.items()))
            parts[0] += f" ({kinds}, within {self.failing:.1f} s)" if self.failing else f" ({kinds})"
        if self.slow:
            parts.append(f"{self.slow} slow, the longest {self.longest:.1f} s")
        parts.append(f"{self.reloads} reloads")
        if self.recovery:
            parts.append(f"{max(self.recovery.values()):.1f} s until all is as it should be")
        return "; ".join(parts)


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
    seen: dict[str, float] = {
        "failed": len(failures),
        "slow": slow,
        "longest": max((call.took for call in every if not call.failed), default=0.0),
        "failing": max(call.sent for call in failures) - min(call.sent for call in failures) if failures else 0.0,
        "reloads": reloads,
        "recovery": max(recovery.values(), default=0.0),
    }
    broken = [_broken(key, seen[key], bound) for key, bound in scenario.expect.items()]
    return Result(
        name=scenario.name,
        promise=scenario.promise,
        requests=len(every),
        failures=dict(Counter(call.how for call in failures)),
        slow=slow,
        longest=round(seen["longest"], 2),
        failing=round(seen["failing"], 2),
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


def as_json(result: Result) -> dict[str, Any]:
    """One scenario, for programs."""
    return {**asdict(result), "verdict": result.verdict}


def from_json(report: Mapping[str, Any]) -> Result:
    """The result in a report."""
    return Result(**{key: value for key, value in report.items() if key != "verdict"})


def as_text(result: Result) -> str:
    """One scenario, for people."""
    lines = [f"## {result.name}: {result.verdict}", "", result.promise, "", f"- {result.figure()}"]
    if not result.skipped:
        lines.append(f"- {result.registry_requests} requests to ZooKeeper; took {result.seconds:g} s")
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
