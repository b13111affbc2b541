"""What rules are made of, and what Prometheus works out ahead. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Severity = Literal["critical", "warning"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A series that Prometheus keeps: its name says the labels that are left, the metric, and what was done to it."""

    record: str
    expr: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """`lasting` is how long it must be so. The texts may name labels and the value, as Prometheus' templates do."""

    name: str
    expr: str
    lasting: str
    severity: Severity
    summary: str
    description: str


Rule = Recording | Alert


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Rules that are worked out one after the other."""

    name: str
    rules: tuple[Rule, ...]


def _figures(level: str, labels: str) -> Iterable[Recording]:
    """Volume, success and latency by these labels."""
    good = f'sum by ({labels}) (rate(response_total{{classification="success"}}[5m]))'
    yield Recording(record=f"{level}:request:rate5m", expr=f"sum by ({labels}) (rate(request_total[5m]))")
    yield Recording(
        record=f"{level}:response_success:ratio_rate5m", expr=f"{good} / sum by ({labels}) (rate(response_total[5m]))"
    )
    for share in (0.5, 0.95, 0.99):
        yield Recording(
            record=f"{level}:response_latency_ms:p{share * 100:g}_5m",
            expr=f"histogram_quantile({share:g}, sum by ({labels}, le) (rate(response_latency_ms_bucket[5m])))",
        )


RECORDING = (
    Group(name="smartstack-services", rules=tuple(_figures("service", "service"))),
    Group(name="smartstack-edges", rules=tuple(_figures("source_service", "source, service"))),
)
