"""Which instances a service has for clients on this host, by labels: the models of `where` and `locality`. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

from smartstack.forms import PERCENT, between
from smartstack.instance import LABEL_LIMIT
from smartstack.model import Form, FormError

_KEY_LIMIT = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One label and what it must be: one of `values`, or none of them (`negate`). Without values: there, or not."""

    label: str
    values: tuple[str, ...] = ()
    negate: bool = False


Where = tuple[Condition, ...]
"""All of these must hold."""


def _where(value: Any) -> Where:
    """`{env: prod, tier: [a, b], zone: "!us-east-1a", canary: "!*", owner: "*"}`"""
    if not isinstance(value, dict):
        raise ValueError("must be a mapping of labels and what they must be, such as {env: prod, canary: '!*'}")
    if len(value) > LABEL_LIMIT:
        raise ValueError(f"must be at most {LABEL_LIMIT} labels")
    wrong: dict[str | int, str] = {}
    conditions = []
    for label, wanted in value.items():
        try:
            conditions.append(_condition(label, wanted))
        except ValueError as error:
            wrong[label] = str(error)
    if wrong:
        raise FormError(wrong)
    return tuple(conditions)


def _condition(label: object, wanted: object) -> Condition:
    if not isinstance(label, str) or not label or not label.isprintable() or len(label) > _KEY_LIMIT:
        raise ValueError("a label is a text")
    several = wanted if isinstance(wanted, list) else [wanted]
    texts = [text for text in several if isinstance(text, str) and text and text.isprintable() and len(text) <= 1000]
    if len(texts) != len(several) or not texts:
        raise ValueError("must be a text, '!text' for anything else, '*' for any, '!*' for none, or a list of texts")
    negated = [text.startswith("!") for text in texts]
    if any(negated) and not all(negated):
        raise ValueError("must be texts that are all with '!' or all without")
    values = tuple(text.removeprefix("!") for text in texts)
    if "*" in values:
        if len(values) > 1:
            raise ValueError("'*' stands alone")
        values = ()
    return Condition(label=label, values=values, negate=negated[0])


def _write_where(value: Where) -> dict[str, Any]:
    written: dict[str, Any] = {}
    for condition in value:
        mark = "!" if condition.negate else ""
        texts = [f"{mark}{text}" for text in condition.values or ("*",)]
        written[condition.label] = texts[0] if len(texts) == 1 else texts
    return written


_TEXT_OR_TEXTS = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}
WHERE = Form(_where, {"type": "object", "additionalProperties": _TEXT_OR_TEXTS}, _write_where)

_LABEL = re.compile(r"[^\x00-\x1f]{1,100}")


def _prefer(value: Any) -> tuple[str, ...]:
    labels = value if isinstance(value, list) else [value]
    if not labels or not all(isinstance(one, str) and one.isprintable() and _LABEL.fullmatch(one) for one in labels):
        raise ValueError("must be a label or a list of labels, the narrowest first, such as [zone, region]")
    if len(set(labels)) != len(labels):
        raise ValueError("names a label twice")
    return tuple(labels)


PREFER = Form(
    _prefer,
    {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]},
    lambda labels: labels[0] if len(labels) == 1 else list(labels),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Locality:
    """Instances near this host come first; others take over when too few of them are ready, or all are full."""

    prefer: Annotated[tuple[str, ...], "labels that instance and host share, the narrowest first", PREFER]
    min_servers: Annotated[int, "ready instances below which the next ring helps", between(1, 10_000)] = 1
    min_percent: Annotated[float, "share of a ring's instances, ready, below which the next ring helps", PERCENT] = 0.0

    def problems(self) -> Iterable[tuple[str, str]]:
        """Rules over several keys: the dotted key, and what is wrong."""
        if self.min_servers != 1 and self.min_percent:
            yield "min_percent", "stands beside min_servers; give one of them"
