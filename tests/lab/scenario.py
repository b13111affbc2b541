"""The language of scenarios: a YAML file names a promise, the steps that try it, and what must hold. Pure.

    promise: ZooKeeper's leader is killed, and no request fails.
    quick: true                                  # in the set that CI runs
    steps:
      - kill: leader
      - until: {h1: {web: 3}, within: 10s}
    expect: {failed: 0, reloads: 0}

README.md in this directory lists the verbs.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

SCENARIOS: Final = Path(__file__).with_name("scenarios")

VERBS: Final = frozenset(
    {
        *("start", "stop", "kill", "hang", "resume", "restart", "cut", "join", "wait", "until", "edit", "answer"),
        *(
            "fill",
            "free",
            "read-only",
            "writable",
            "limit",
            "clock",
            "wipe",
            "crowd",
            "thin",
            "storm",
            "delay",
        ),
    }
)
BOUNDS: Final = frozenset({"failed", "slow", "reloads", "recovery"})
_KEYS: Final = frozenset({"promise", "quick", "steps", "expect", "needs"})
_DURATION: Final = re.compile(r"([0-9.]+)(ms|s|m|h)")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class ScenarioError(Exception):
    """A scenario that cannot be read; the text says where and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One verb and what it is about."""

    verb: str
    about: Any

    def __str__(self) -> str:
        text = self.about if isinstance(self.about, str) else yaml.safe_dump(self.about, default_flow_style=True)
        return f"{self.verb} {' '.join(text.replace('...', '').split())}".strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """At most so many, and why not 0, where it is not."""

    at_most: float
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """`needs` names what the machine must have (`netem`, `faketime`)."""

    name: str
    promise: str
    steps: tuple[Step, ...]
    expect: Mapping[str, Bound]
    quick: bool = False
    needs: tuple[str, ...] = ()


def seconds(text: Any) -> float:
    """A duration with its unit: `500ms`, `2s`, `5m`. Raises ScenarioError."""
    match = _DURATION.fullmatch(str(text))
    if match is None:
        raise ScenarioError(f"{text!r} is no duration, such as 500ms, 2s or 5m")
    return float(match[1]) * _UNITS[match[2]]


def read(name: str, text: str) -> Scenario:
    """The scenario of this name. Raises ScenarioError."""
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ScenarioError(f"{name}: {error}") from None
    if not isinstance(found, dict) or not {"promise", "steps", "expect"} <= found.keys() <= _KEYS:
        raise ScenarioError(f"{name}: needs promise, steps and expect, and may have quick and needs")
    if not isinstance(found["promise"], str) or not isinstance(found["steps"], list):
        raise ScenarioError(f"{name}: promise is a sentence, and steps are a list")
    return Scenario(
        name=name,
        promise=" ".join(found["promise"].split()),
        steps=tuple(_step(name, number, step) for number, step in enumerate(found["steps"], 1)),
        expect={key: _bound(name, key, value) for key, value in found["expect"].items()},
        quick=bool(found.get("quick", False)),
        needs=tuple(found.get("needs", ())),
    )


def scenarios() -> tuple[Scenario, ...]:
    """All there are, by name. Raises ScenarioError."""
    return tuple(read(path.stem, path.read_text(encoding="utf-8")) for path in sorted(SCENARIOS.glob("*.yaml")))


def _step(name: str, number: int, step: Any) -> Step:
    if not isinstance(step, dict) or len(step) != 1:
        raise ScenarioError(f"{name}: step {number} is not one verb: {step!r}")
    [(verb, about)] = step.items()
    if verb not in VERBS:
        raise ScenarioError(f"{name}: step {number}: {verb!r} is no verb; there are {', '.join(sorted(VERBS))}")
    if verb == "wait":
        seconds(about)
    if verb == "until" and (not isinstance(about, dict) or len(about.keys() - {"within"}) != 1):
        raise ScenarioError(f"{name}: step {number}: until is one fact, and maybe within")
    return Step(verb=verb, about=about)


def _bound(name: str, key: str, value: Any) -> Bound:
    if key not in BOUNDS:
        raise ScenarioError(f"{name}: expect: {key!r} is none of {', '.join(sorted(BOUNDS))}")
    if isinstance(value, dict) and value.keys() == {"at_most", "why"}:
        return Bound(at_most=_number(name, key, value["at_most"]), why=str(value["why"]))
    return Bound(at_most=_number(name, key, value))


def _number(name: str, key: str, value: Any) -> float:
    if key == "recovery":
        return seconds(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ScenarioError(f"{name}: expect: {key} is a number, or at_most and why")
    return float(value)
