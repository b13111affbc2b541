"""What a dashboard is made of, in our own few words, and the queries that come again and again. Pure."""

from dataclasses import dataclass
from typing import Literal

PanelKind = Literal["stat", "timeseries", "table"]
Unit = Literal["percentunit", "reqps", "ops", "ms", "s", "bytes", "Bps", "short", "none", "dateTimeFromNow"]
"""Grafana's own names of units."""

RATE = "$__rate_interval"
"""What Grafana fills in: long enough for a rate, whatever the zoom and the scrape interval are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One expression, and what its series are called: `{{service}}` is filled in by Grafana. In a table, `legend` is
    the name of the column, and `unit` that of its values."""

    expr: str
    legend: str
    unit: Unit | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One panel. `width` is in 24ths of the page. `good` colours values: from the first on they are fair, from the
    second on good; `bad` the other way round. `top`: values are shares, of 1 at most."""

    title: str
    description: str
    queries: tuple[Query, ...]
    kind: PanelKind = "timeseries"
    unit: Unit = "short"
    width: int = 8
    good: tuple[float, float] | None = None
    bad: tuple[float, float] | None = None
    top: float | None = None
    stacked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Panels under one headline."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """A choice at the head of a dashboard: the values that `label` has in the series of `metric`."""

    name: str
    label: str
    metric: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """One dashboard; `name` is its file's, and with `smartstack-` before it its uid, by which others link to it."""

    name: str
    title: str
    description: str
    variables: tuple[Variable, ...]
    rows: tuple[Row, ...]

    @property
    def panels(self) -> tuple[Panel, ...]:
        """All of them, in order."""
        return tuple(panel for row in self.rows for panel in row.panels)


def rate(metric: str, matchers: str, by: str) -> str:
    """How much of a counter there is in a second."""
    return f"sum by ({by}) (rate({metric}{{{matchers}}}[{RATE}]))"


def success(metric: str, matchers: str, by: str) -> str:
    """The share of responses that are no failure, from 0 to 1."""
    good = f'classification="success",{matchers}'
    return f"{rate(metric, good, by)} / {rate(metric, matchers, by)}"


def quantile(share: float, metric: str, matchers: str, by: str) -> str:
    """The latency that this share of requests stays below, in what the histogram counts."""
    grouped = f"le, {by}" if by else "le"
    return f"histogram_quantile({share:g}, {rate(f'{metric}_bucket', matchers, grouped)})"


def quantiles(metric: str, matchers: str, by: str, legend: str) -> tuple[Query, ...]:
    """The median, the 95th and the 99th percentile."""
    return tuple(
        Query(expr=quantile(share, metric, matchers, by), legend=f"p{share * 100:g} {legend}".rstrip())
        for share in (0.5, 0.95, 0.99)
    )
