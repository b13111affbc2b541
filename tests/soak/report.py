"""What a soak saw, for people (Markdown) and for programs (JSON). Pure."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from tests.soak.bounds import GROWTH, MEANINGS, PROMISES
from tests.soak.run import Outcome

_SHOWN: Final = 20


def as_json(outcome: Outcome, *, seed: int, only: Sequence[str]) -> dict[str, Any]:
    """All of it."""
    return {
        "seed": seed,
        "only": list(only),
        "seconds": round(outcome.seconds, 1),
        "verdict": "broken" if outcome.violations else "kept",
        "faults": dict(sorted(Counter(done.fault.kind.name for done in outcome.done).items())),
        "refused": list(outcome.refused),
        "requests": outcome.requests,
        "failed": len(outcome.failed),
        "unexplained": sum(done is None for _, done in outcome.failed),
        "failures": [
            {"request": failed.words, "explained_by": done.fault.words if done else None}
            for failed, done in outcome.failed
        ],
        "promises": {
            name: {"bound_seconds": round(PROMISES[name], 2), "worst_seconds": round(worst, 2), "of": about}
            for name, (worst, about) in outcome.worst.items()
        },
        "growth": [
            {
                "what": what,
                "of": of,
                "first": round(one.first, 2),
                "last": round(one.last, 2),
                "most": round(one.most, 2),
                "per_hour": None if one.per_hour is None else round(one.per_hour, 2),
                "bound": GROWTH[what],
            }
            for (what, of), one in sorted(outcome.growths.items())
        ],
        "most": {what: round(value, 2) for what, value in sorted(outcome.most.items())},
        "longest_without_a_look_seconds": round(outcome.lag, 2),
        "violations": [
            {
                "at": round(each.at, 1),
                "promise": each.promise,
                "about": each.about,
                "words": each.words,
                "before": outcome.before(each),
            }
            for each in outcome.violations
        ],
    }


def as_text(report: dict[str, Any]) -> str:
    """The same as Markdown."""
    lines = [
        f"# Soak of {report['seconds']:.0f} s, seed {report['seed']}: {report['verdict']}",
        "",
        f"{sum(report['faults'].values())} faults; {report['requests']} requests, {report['failed']} failed, "
        f"{report['unexplained']} of them unexplained. The longest time without a look: "
        f"{report['longest_without_a_look_seconds']} s.",
        "",
        "| promise: so long at most | worst | bound | of |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {MEANINGS[name]} | {each['worst_seconds']:.1f} s | {each['bound_seconds']:.1f} s | {each['of']} |"
        for name, each in report["promises"].items()
    ]
    lines += ["", "| fault | times | failed requests that it explains |", "|---|---|---|"]
    explained = Counter((each["explained_by"] or "").split(" ")[1:2][0] for each in report["failures"]
                        if each["explained_by"])  # fmt: skip
    lines += [f"| {name} | {times} | {explained[name]} |" for name, times in report["faults"].items()]
    lines += ["", "| must stay flat | first | last | bound of growth | an hour | most |", "|---|---|---|---|---|---|"]
    for each in report["growth"]:
        slope = "" if each["per_hour"] is None else f"{each['per_hour']:+.1f}"
        lines.append(
            f"| {each['what']} of {each['of']} | {each['first']:.1f} | {each['last']:.1f} | {each['bound']:g} "
            f"| {slope} | {each['most']:.1f} |"
        )
    lines += ["", *(f"- {what}, at any time: at most {value:g}" for what, value in report["most"].items())]
    lines += [f"- not done: {words}" for words in report["refused"]]
    shown = report["failures"][:_SHOWN]
    lines += ["", *(f"- failed: {each['request']} ({each['explained_by'] or 'UNEXPLAINED'})" for each in shown)]
    if len(shown) < len(report["failures"]):
        lines.append(f"- and {len(report['failures']) - len(shown)} more, in the JSON")
    for each in report["violations"]:
        lines += ["", f"## VIOLATION at {each['at']:.1f} s: {each['promise']} {each['about']}", "", each["words"], ""]
        lines += ["```", *each["before"], "```"]
    if report["violations"]:
        only = f" --only {','.join(report['only'])}" if report["only"] else ""
        lines += ["", f"Again: `python -m tests.soak --seconds {report['asked']:g} --seed {report['seed']}{only}`"]
    return "\n".join(lines) + "\n"
