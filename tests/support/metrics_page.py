"""docs/metrics.md, made from what the daemons export. Run as a program, this module writes it."""

from collections.abc import Iterable
from pathlib import Path

from tests.support.exported import Exported, exported

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"

_HEAD = """\
# Metrics

What `/metrics` of nerve and of synapse says, in Prometheus' terms. This page is made from the two registries
(`python -m tests.support.metrics_page`), and a test compares.

Names are Linkerd's where they mean the same, so that its dashboards and alerts fit. A request is counted by the synapse
of the host that it came from (`direction="outbound"`), so that sums over hosts are right; `service` is who answers,
`source` who calls. Counters are of the time since synapse's start. What differs from Linkerd: a latency ends with the
last byte of the answer, not with the first; a request whose client hung up is in `request_total`, and in
`response_latency_ms`, but has no `response_total`: it is nobody's failure.

Labels are bounded: beyond 2,000 pairs of service and caller, 2,000 routes and 2,000 instances, what is new is counted
as `(other)`, and `synapse_feed_folded_total` says how much.

## Prometheus and Grafana

`config/prometheus` has a configuration with recording rules and alerts, `config/grafana` six dashboards; both are what
`smartstack monitoring DIRECTORY` writes. Each host's daemons answer on loopback only, until they are told otherwise:

```yaml
# synapse.yaml on every host: an address that only answers, figures and /metrics, announced in the registry
fleet: {listen: 10.0.0.5:3201}             # 0.0.0.0:3201 takes the address that reaches the registry

# nerve.yaml on every host, if nerve is to be asked too: an admin address that Prometheus reaches. What changes
# something needs nerve's token all the same, but let nobody reach it who need not
admin: 10.0.0.5:3199

# synapse.yaml on the host of Prometheus, which need not serve anything else: it writes whom to ask
prometheus: {targets: /var/lib/smartstack/prometheus/targets.json, nerve_port: 3199}
```

The file follows the fleet within seconds, and stays as it is while the registry is away. Each target has its `job`
(`synapse` or `nerve`) and its `host`, by which dashboards and rules go. Nerves announce no address: they are taken to
be where their host's synapse is, at `prometheus.nerve_port`; one without a synapse beside it has to be named by hand.
Where a host has a synapse and no nerve, leave that port out and name all nerves by hand: Prometheus would miss that
one for ever. A synapse that ends is announced no more, and so asked no more: `SmartStackDaemonGone` tells of it for an
hour.

The dashboards are imported as they are and ask for the data source. They need Grafana 10.4 or newer; the one of
instances needs `telemetry: {instance_metrics: true}`. What Linkerd's own dashboards ask of outbound traffic is answered
too, with `smartstack` as the namespace: the scrape configuration adds its labels (`dst_service`, `deployment`,
`namespace`).
"""

_PARTS = {
    "requests": "Requests, as synapse counts them",
    "synapse": "synapse itself",
    "nerve": "nerve",
    "process": "The process, of both",
}

_TAIL = """\
What has the label `address` is there with `telemetry: {instance_metrics: true}` only.
"""


def page() -> str:
    """The whole page."""
    every = exported()
    parts = [_part(title, [each for each in every if _belongs(each) == part]) for part, title in _PARTS.items()]
    return "\n".join([_HEAD, *parts, _TAIL])


def _belongs(metric: Exported) -> str:
    if metric.name.startswith(("process_", "python_")):
        return "process"
    return metric.daemon if metric.name.startswith(("nerve_", "synapse_")) else "requests"


def _part(title: str, metrics: Iterable[Exported]) -> str:
    rows = [
        f"| `{each.name}` | {each.kind} | {' '.join(f'`{label}`' for label in each.labels)} | {each.words} |"
        for each in metrics
    ]
    return "\n".join([f"## {title}", "", "| name | kind | labels | what it says |", "|---|---|---|---|", *rows, ""])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
