"""Every file that belongs to Prometheus and Grafana, by its path. Pure."""

from collections.abc import Mapping

from smartstack.monitoring import grafana, prometheus
from smartstack.monitoring.alerts import ALERTS
from smartstack.monitoring.dashboards import DASHBOARDS
from smartstack.monitoring.rules import RECORDING


def monitoring_files() -> Mapping[str, str]:
    """Their texts, by the path below the directory that they are written to."""
    return {
        **{f"grafana/{dashboard.name}.json": grafana.text(dashboard) for dashboard in DASHBOARDS},
        "prometheus/prometheus.yml": prometheus.SCRAPE,
        "prometheus/rules/recording.yml": prometheus.text(RECORDING),
        "prometheus/rules/alerts.yml": prometheus.text(ALERTS),
    }
