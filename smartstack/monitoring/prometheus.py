"""Rules as the YAML that Prometheus reads, and the scrape configuration. Pure."""

import json
from collections.abc import Iterable, Sequence

from smartstack.monitoring.rules import Alert, Group, Recording, Rule

MADE = "# Made by `smartstack monitoring`: edit a copy, or write rules of your own beside it."


def text(groups: Sequence[Group]) -> str:
    """The file of these groups; always the same for the same rules."""
    return "\n".join([MADE, "groups:", *(line for group in groups for line in _group(group)), ""])


def _group(group: Group) -> Iterable[str]:
    yield f"  - name: {group.name}"
    yield "    rules:"
    for rule in group.rules:
        yield from _rule(rule)


def _rule(rule: Rule) -> Iterable[str]:
    match rule:
        case Recording():
            yield f"      - record: {rule.record}"
            yield f"        expr: {_quoted(rule.expr)}"
        case Alert():
            yield f"      - alert: {rule.name}"
            yield f"        expr: {_quoted(rule.expr)}"
            yield f"        for: {rule.lasting}"
            yield f"        labels: {{severity: {rule.severity}}}"
            yield "        annotations:"
            yield f"          summary: {_quoted(rule.summary)}"
            yield f"          description: {_quoted(rule.description)}"


def _quoted(words: str) -> str:
    """In single quotes, where YAML takes everything as it stands; what has such quotes itself, as JSON."""
    return json.dumps(words, ensure_ascii=False) if "'" in words else f"'{words}'"


SCRAPE = """\
# prometheus.yml: a Prometheus for a fleet of nerve and synapse, as Debian's package runs it.
#
# Made by `smartstack monitoring`: edit a copy, or take over what you need. The rules are in rules/ beside it.
global:
  scrape_interval: 15s
  evaluation_interval: 15s

rule_files:
  - rules/*.yml

scrape_configs:
  # Every synapse and every nerve of the fleet. The file is written by a synapse on this machine, one is enough:
  #   synapse.yaml:  prometheus: {targets: /var/lib/smartstack/prometheus/targets.json}
  # It gives each target its `job` (synapse or nerve) and the `host` that dashboards and rules go by. A daemon that
  # listens on loopback only cannot be asked from here: docs/metrics.md says what to open.
  - job_name: smartstack
    file_sd_configs:
      - files: [/var/lib/smartstack/prometheus/targets.json]
    metric_relabel_configs:
      # Linkerd's names of labels beside ours, so that its dashboards and alerts of outbound traffic work as they are,
      # with "smartstack" as the namespace. Leave these three out if you have none.
      - source_labels: [__name__, service]
        regex: (?:request|response|route|tcp)_.+;(.+)
        target_label: dst_service
      - source_labels: [__name__, source]
        regex: (?:request|response|tcp)_.+;(.+)
        target_label: deployment
      - source_labels: [dst_service]
        regex: .+
        target_label: namespace
        replacement: smartstack

  # Without the fleet: the daemons of this machine, at their admin addresses.
  # - job_name: synapse
  #   static_configs: [{targets: ["127.0.0.1:3200"], labels: {host: this-host}}]
  # - job_name: nerve
  #   static_configs: [{targets: ["127.0.0.1:3199"], labels: {host: this-host}}]
"""
