"""The dashboard of nerve and synapse themselves: are they well, and do they keep up? Pure."""

from smartstack.monitoring.panels import Dashboard, Panel, PanelKind, Query, Row, Unit, Variable, quantile, rate

_HOST = Variable(name="host", label="host", metric="up", title="host")
_HERE = 'host=~"$host"'
_PROCESSES = 'job=~"synapse|nerve",host=~"$host"'


def _panel(
    title: str,
    description: str,
    *queries: tuple[str, str],
    unit: Unit = "none",
    width: int = 8,
    kind: PanelKind = "timeseries",
    bad: tuple[float, float] | None = None,
) -> Panel:
    made = tuple(Query(expr=expr, legend=legend) for expr, legend in queries)
    return Panel(title=title, description=description, queries=made, unit=unit, width=width, kind=kind, bad=bad)


def _counted(metric: str, by: str) -> str:
    """How often in the last hour, whatever the zoom: for what should not happen at all."""
    return f"sum by ({by}) (increase({metric}{{{_HERE}}}[1h]))"


_NOW = Row(
    title="Now",
    panels=(
        _panel(
            "Daemons that do not answer",
            "Of those that Prometheus asks.",
            (f"count(up{{{_PROCESSES}}} == 0) or vector(0)", "away"),
            kind="stat",
            width=6,
            bad=(1, 2),
        ),
        _panel(
            "HAProxies down",
            "Hosts whose HAProxy does not answer synapse.",
            (f"count(synapse_haproxy_up{{{_HERE}}} == 0) or vector(0)", "down"),
            kind="stat",
            width=6,
            bad=(1, 2),
        ),
        _panel(
            "Registry links down",
            "Daemons that the registry does not answer.",
            (
                f"(count(synapse_registry_connected{{{_HERE}}} == 0) or vector(0)) + "
                f"(count(nerve_registry_connected{{{_HERE}}} == 0) or vector(0))",
                "down",
            ),
            kind="stat",
            width=6,
            bad=(1, 2),
        ),
        _panel(
            "Problems",
            "Files that are wrong and definitions that HAProxy refuses, on all hosts.",
            (
                f"(sum(synapse_config_problems{{{_HERE}}}) or vector(0)) + "
                f"(sum(nerve_config_problems{{{_HERE}}}) or vector(0))",
                "problems",
            ),
            kind="stat",
            width=6,
            bad=(1, 2),
        ),
    ),
)

_LOOP = Row(
    title="synapse",
    panels=(
        _panel(
            "From news to HAProxy",
            "From a source's news of a change to a HAProxy that shows it.",
            (quantile(0.5, "synapse_propagation_seconds", _HERE, ""), "p50"),
            (quantile(0.99, "synapse_propagation_seconds", _HERE, ""), "p99"),
            unit="s",
        ),
        _panel(
            "Turns of the loop",
            "How long 99 of 100 turns took at most, by host.",
            (quantile(0.99, "synapse_cycle_seconds", _HERE, "host"), "{{host}}"),
            unit="s",
        ),
        _panel(
            "Runtime commands",
            "In a second, by kind and result.",
            (rate("synapse_runtime_commands_total", _HERE, "kind, result"), "{{kind}} {{result}}"),
            unit="ops",
        ),
        _panel(
            "Reloads",
            "In the last hour.",
            (_counted("synapse_haproxy_reloads_total", "result"), "{{result}}"),
            (_counted("synapse_haproxy_starts_total", "result"), "start {{result}}"),
        ),
        _panel(
            "Why it was reloaded",
            "In the last hour; a reload may have several reasons.",
            (_counted("synapse_haproxy_reload_reasons_total", "reason"), "{{reason}}"),
        ),
        _panel(
            "What others changed",
            "In HAProxy or its file, and synapse put right. In the last hour.",
            (_counted("synapse_drift_repairs_total", "kind"), "{{kind}}"),
        ),
        _panel(
            "Files of HAProxy",
            "Written, and asked about, in the last hour.",
            (_counted("synapse_haproxy_config_writes_total", "result"), "written: {{result}}"),
            (_counted("synapse_haproxy_checks_total", "result"), "checked: {{result}}"),
        ),
        _panel(
            "Old HAProxy processes",
            "Of before a reload, which still have connections.",
            (f"synapse_haproxy_old_workers{{{_HERE}}}", "{{host}}"),
        ),
        _panel(
            "Age of unconfirmed instances",
            "0 while the registry speaks; beyond last_good_warning, how old the oldest instances in use are.",
            (f"synapse_last_good_age_seconds{{{_HERE}}}", "{{host}}"),
            unit="s",
        ),
        _panel(
            "Refused",
            "Nodes of the registry whose data is of no use, and instances that are held by an operator.",
            (f"sum by (host) (synapse_refused_nodes{{{_HERE}}})", "nodes on {{host}}"),
            (f"synapse_holds{{{_HERE}}}", "holds on {{host}}"),
        ),
        _panel(
            "Certificates expire",
            "What HAProxy has of each certificate file.",
            (f"1000 * synapse_certificate_expiry_seconds{{{_HERE}}}", "{{file}} on {{host}}"),
            unit="dateTimeFromNow",
            kind="stat",
        ),
        _panel(
            "Certificates loaded",
            "Renewed files that HAProxy was given, in the last hour.",
            (_counted("synapse_certificates_loaded_total", "result"), "{{result}}"),
        ),
    ),
)

_FEED = Row(
    title="The feed",
    panels=(
        _panel(
            "Lines",
            "What HAProxy tells of requests, in a second.",
            (rate("synapse_feed_lines_total", _HERE, "host"), "{{host}}"),
            unit="ops",
        ),
        _panel(
            "Lines lost or refused",
            "In the last hour. Lost ones are missing in every figure; forged ones came without this host's key.",
            (_counted("synapse_feed_dropped_total", "why"), "{{why}}"),
        ),
        _panel(
            "Beyond the limits",
            "Requests that are counted as (other), because too many labels were there already.",
            (_counted("synapse_feed_folded_total", "host"), "{{host}}"),
        ),
        _panel(
            "Told of",
            "The part of a service's requests that HAProxy tells of, where that is least: above a limit it is not all.",
            (f"min by (service) (synapse_feed_share{{{_HERE}}})", "{{service}}"),
        ),
    ),
)

_NERVE = Row(
    title="nerve",
    panels=(
        _panel(
            "Services",
            "That are up, and that are in every registry, on all hosts.",
            (f"sum by (service) (nerve_service_up{{{_HERE}}})", "{{service}} up"),
            (f"sum by (service) (nerve_registered{{{_HERE}}})", "{{service}} registered"),
            (f"sum by (service) (nerve_maintenance{{{_HERE}}})", "{{service}} in maintenance"),
        ),
        _panel(
            "Checks",
            "In a second, by result.",
            (rate("nerve_check_total", _HERE, "service, result"), "{{service}} {{result}}"),
            unit="ops",
        ),
        _panel(
            "How long checks take",
            "On average.",
            (
                f"{rate('nerve_check_seconds_sum', _HERE, 'service')} / "
                f"{rate('nerve_check_seconds_count', _HERE, 'service')}",
                "{{service}}",
            ),
            unit="s",
        ),
        _panel(
            "Changes of state",
            "In the last hour: many of them are a service that flaps.",
            (_counted("nerve_transitions_total", "service, to"), "{{service}} {{to}}"),
        ),
        _panel(
            "Changes asked of the registry",
            "In the last hour.",
            (_counted("nerve_registry_actions_total", "action, result"), "{{action}} {{result}}"),
        ),
        _panel(
            "Joins held back",
            "Or that would have been, in the last hour, by why.",
            (_counted("nerve_held_back_total", "service, why"), "{{service}} {{why}}"),
        ),
    ),
)

_PROCESS = Row(
    title="Processes",
    panels=(
        _panel(
            "Memory",
            "Resident.",
            (f"process_resident_memory_bytes{{{_PROCESSES}}}", "{{job}} on {{host}}"),
            unit="bytes",
        ),
        _panel(
            "Processor",
            "The share of one core.",
            (rate("process_cpu_seconds_total", _PROCESSES, "job, host"), "{{job}} on {{host}}"),
            unit="percentunit",
        ),
        _panel(
            "Open files",
            "The share of what may be open.",
            (f"process_open_fds{{{_PROCESSES}}} / process_max_fds{{{_PROCESSES}}}", "{{job}} on {{host}}"),
            unit="percentunit",
        ),
    ),
)

PAIR = Dashboard(
    name="pair",
    title="SmartStack / Health of the pair",
    description="nerve, synapse and HAProxy themselves, on every host.",
    variables=(_HOST,),
    rows=(_NOW, _LOOP, _FEED, _NERVE, _PROCESS),
)
