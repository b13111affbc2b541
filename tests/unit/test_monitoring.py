"""What is handed to Prometheus and Grafana: whole, in step with what the daemons export, and readable."""

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from nerve.cli import cli as nerve
from smartstack.cli import smartstack
from smartstack.monitoring import grafana
from smartstack.monitoring.alerts import ALERTS
from smartstack.monitoring.dashboards import DASHBOARDS
from smartstack.monitoring.files import monitoring_files
from smartstack.monitoring.panels import Dashboard
from smartstack.monitoring.rules import RECORDING, Alert, Recording
from synapse.cli import cli as synapse
from tests.support.exported import exported
from tests.support.metrics_page import PAGE, page
from tests.support.promql import uses

CONFIG = Path(__file__).parents[2] / "config"

TARGET_LABELS = frozenset({"host", "job", "instance"})
"""What Prometheus adds to each series of a target."""

RECORDED = {rule.record: rule.expr for group in RECORDING for rule in group.rules if isinstance(rule, Recording)}

SERIES = {name: frozenset(labels) for metric in exported() for name, labels in metric.series.items()}
"""The series that the daemons export, with their labels."""

KNOWN = {
    **{name: labels | TARGET_LABELS for name, labels in SERIES.items()},
    **{record: uses(expr).grouped - {"le"} for record, expr in RECORDED.items()},
    "up": TARGET_LABELS,
}

EXPRESSIONS = [
    *(
        pytest.param(query.expr, id=f"{dashboard.name}: {panel.title} {query.legend}")
        for dashboard in DASHBOARDS
        for panel in dashboard.panels
        for query in panel.queries
    ),
    *(pytest.param(expr, id=record) for record, expr in RECORDED.items()),
    *(pytest.param(rule.expr, id=rule.name) for group in ALERTS for rule in group.rules if isinstance(rule, Alert)),
]

LINK = {*["asDropdown", "icon", "includeVars", "keepTime", "tags", "targetBlank", "title", "tooltip", "type", "url"]}
"""What Grafana's schema asks of a link, each key."""

every_dashboard = pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda each: each.name)
every_alert = pytest.mark.parametrize(
    "alert",
    [rule for group in ALERTS for rule in group.rules if isinstance(rule, Alert)],
    ids=lambda each: each.name,
)


def panels(dashboard: Dashboard) -> list[dict[str, Any]]:
    """The panels as Grafana reads them, without the headlines."""
    document = json.loads(grafana.text(dashboard))
    return [panel for panel in document["panels"] if panel["type"] != "row"]


def test_the_files_are_those_that_the_command_writes(tmp_path: Path) -> None:
    """What lies in config/ is what `smartstack monitoring` writes, and nothing else lies there; it replaces what is
    there already, and says which files it wrote."""
    for _ in range(2):
        done = CliRunner().invoke(smartstack, ["monitoring", str(tmp_path)])
        assert done.exit_code == 0
        assert done.output.splitlines() == [str(tmp_path / name) for name in monitoring_files()]
    written = {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    kept = {
        str(path.relative_to(CONFIG)): path.read_text()
        for part in ("grafana", "prometheus")
        for path in (CONFIG / part).rglob("*")
        if path.is_file()
    }
    assert written == kept, "run: .venv/bin/smartstack monitoring config"


def test_a_directory_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    """Not a traceback."""
    (tmp_path / "grafana").write_text("a file")
    done = CliRunner().invoke(smartstack, ["monitoring", str(tmp_path)])
    assert done.exit_code != 0
    assert "cannot make the directory" in str(done.exception)


def test_the_page_of_metrics_is_what_is_exported() -> None:
    """docs/metrics.md has every metric of both daemons with its kind, labels and words, and no other."""
    assert PAGE.read_text() == page(), "run: .venv/bin/python -m tests.support.metrics_page"


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_only_what_is_exported_is_asked_for(expression: str) -> None:
    """Each series in a panel or a rule is one that a daemon exports or a rule records, and has the labels that are
    named."""
    found = uses(expression)
    assert found.selected, "asks for nothing"
    assert sorted(found.selected.keys() - KNOWN.keys()) == []
    for name, labels in found.selected.items():
        assert sorted(labels - KNOWN[name]) == [], name
    anywhere = frozenset[str]().union(*(KNOWN[name] for name in found.selected))
    assert sorted(found.grouped - anywhere) == []


def test_every_metric_of_a_daemon_is_shown_or_watched() -> None:
    """What nobody looks at need not be exported: each metric is in a panel or in a rule, but for these."""
    asked = {name for expression in EXPRESSIONS for name in uses(str(expression.values[0])).selected}
    unseen = {metric.name for metric in exported() if not asked & metric.series.keys()}
    assert sorted(unseen) == [
        "nerve_cycles_total",
        "nerve_registry_events_total",
        "nerve_registry_reconnects_total",
        "nerve_registry_requests_total",
        "nerve_registry_sessions_total",
        "nerve_tethered",
        "nerve_weight",
        "process_start_time_seconds",
        "process_virtual_memory_bytes",
        "python_info",
        "synapse_definitions_refused",  # counted in synapse_config_problems too
        "synapse_registry_link",
        "synapse_rings_used",
    ]


@every_dashboard
def test_a_dashboard_is_one_that_grafana_takes(dashboard: Dashboard) -> None:
    """A recent schema, an id of its own for each panel, a query in each, and a letter of its own for each query; every
    choice that a query names is at the head of the page, and every choice at the head is used."""
    document = json.loads(grafana.text(dashboard))
    assert document["schemaVersion"] >= 36
    assert document["id"] is None
    assert all(link.keys() == LINK for link in document["links"])
    assert re.fullmatch(r"[a-z-]{1,40}", document["uid"])
    numbers = [panel["id"] for panel in document["panels"]]
    assert len(set(numbers)) == len(numbers)
    choices = {choice["name"] for choice in document["templating"]["list"]}
    named = set()
    for panel in panels(dashboard):
        letters = [target["refId"] for target in panel["targets"]]
        assert letters
        assert len(set(letters)) == len(letters)
        assert panel["datasource"]["uid"] == "${datasource}"
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == "${datasource}"
            named |= set(re.findall(r"\$(?!__)(\w+)", target["expr"]))
    assert named == choices - {"datasource"}


@every_dashboard
def test_choices_are_of_series_that_have_the_label(dashboard: Dashboard) -> None:
    """What may be chosen is read off a metric with that label."""
    for variable in dashboard.variables:
        assert variable.label in KNOWN[variable.metric]


@every_dashboard
def test_panels_do_not_lie_on_each_other(dashboard: Dashboard) -> None:
    """Each has a place of its own on the page, within its width."""
    places = [panel["gridPos"] for panel in json.loads(grafana.text(dashboard))["panels"]]
    assert all(place["x"] >= 0 and place["x"] + place["w"] <= 24 for place in places)
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above


@every_dashboard
def test_panels_say_what_they_show(dashboard: Dashboard) -> None:
    """A title, a sentence, a unit, and a name for each line; no two panels under one headline have one title."""
    titles = [(row.title, panel.title) for row in dashboard.rows for panel in row.panels]
    assert len(set(titles)) == len(titles)
    for panel in dashboard.panels:
        assert panel.description.endswith(".")
        assert all(query.legend for query in panel.queries)
        if panel.kind == "table":
            assert len(panel.queries) > 1, "of one query alone, Grafana calls the column otherwise"
        if panel.kind == "timeseries":
            for query in panel.queries:
                assert set(re.findall(r"{{(\w+)}}", query.legend)) <= {
                    *uses(query.expr).grouped,
                    *(() if re.match(r"(sum|min|max|count|histogram_quantile)\b", query.expr) else _all(query.expr)),
                }


def _all(expression: str) -> frozenset[str]:
    return frozenset[str]().union(*(KNOWN[name] for name in uses(expression).selected))


def test_dashboards_have_names_of_their_own() -> None:
    """No two share a file, a title or a uid."""
    assert len({dashboard.name for dashboard in DASHBOARDS}) == len(DASHBOARDS)
    assert len({dashboard.title for dashboard in DASHBOARDS}) == len(DASHBOARDS)


@every_alert
def test_an_alert_says_where_and_what_to_do(alert: Alert) -> None:
    """One line with whom it is about, and a text with what to do; only labels that the result has are named."""
    said = f"{alert.summary} {alert.description}"
    named = set(re.findall(r"\$labels\.(\w+)", said))
    grouped = uses(alert.expr).grouped if alert.expr.startswith("sum") else frozenset()
    assert named
    assert named <= (grouped or _all(alert.expr))
    assert len(alert.summary) < 120
    assert alert.description.endswith(".")


@every_alert
def test_an_alert_names_only_commands_that_there_are(alert: Alert) -> None:
    """Whoever is woken at night types what stands there."""
    for program, command in re.findall(r"`(synapse|nerve) ([a-z-]+)", alert.description):
        group = synapse if program == "synapse" else nerve
        assert command in group.list_commands(click.Context(group)), alert.description
