"""The language of scenarios: a YAML file names a promise, the steps that try it, and what must hold. Pure.

    promise: ZooKeeper's leader is killed, and no request fails.
    quick: true                                  # in the set that CI runs
    steps:
      - kill: leader
      - until: {h1: {web: 3}, within: 10s}
    expect: {failed: 0, reloads: 0}

README.md in this directory lists the verbs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from tests.lab.grammar import VERBS, seconds

SCENARIOS: Final = Path(__file__).with_name("scenarios")

DURATIONS: Final = frozenset({"longest", "failing", "recovery"})
BOUNDS: Final = frozenset({"failed", "slow", "reloads"}) | DURATIONS
_KEYS: Final = frozenset({"promise", "quick", "steps", "expect", "needs"})


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
    try:
        VERBS[verb](about)
    except ValueError as error:
        raise ScenarioError(f"{name}: step {number}: {verb}: {error}") from None
    return Step(verb=verb, about=about)


def _bound(name: str, key: str, value: Any) -> Bound:
    if key not in BOUNDS:
        raise ScenarioError(f"{name}: expect: {key!r} is none of {', '.join(sorted(BOUNDS))}")
    if isinstance(value, dict) and value.keys() == {"at_most", "why"}:
        return Bound(at_most=_number(name, key, value["at_most"]), why=str(value["why"]))
    return Bound(at_most=_number(name, key, value))


def _number(name: str, key: str, value: Any) -> float:
    if key in DURATIONS:
        try:
            return seconds(value)
        except ValueError as error:
            raise ScenarioError(f"{name}: expect: {key}: {error}") from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ScenarioError(f"{name}: expect: {key} is a number, or at_most and why")
    return float(value)
