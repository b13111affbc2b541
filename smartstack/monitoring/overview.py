"""The dashboards of the fleet and of one service. Pure."""

from smartstack.monitoring.panels import Dashboard, Panel, Query, Row, rate
from smartstack.monitoring.traffic import (
    ANY_SERVICE,
    CALLS,
    HOST,
    OFFERED,
    SERVICE,
    SOURCE,
    table,
    top_line,
    traffic,
)

FLEET = Dashboard(
    name="fleet",
    title="SmartStack / Fleet",
    description="Every service at once: who fails, who is slow, who is busy.",
    variables=(ANY_SERVICE, HOST),
    rows=(
        top_line(OFFERED),
        Row(
            title="Services",
            panels=(
                table("Services", "Every service with traffic.", OFFERED, "service"),
                *traffic(OFFERED, "service", "{{service}}"),
                Panel(
                    title="Failures",
                    description="Answers in a second that are failures: 5xx, or none at all.",
                    queries=(
                        Query(
                            expr=rate("response_total", f'classification="failure",{OFFERED}', "service"),
                            legend="{{service}}",
                        ),
                    ),
                    unit="reqps",
                    width=12,
                ),
                Panel(
                    title="Instances",
                    description="The fewest that any host offers a service with.",
                    queries=(
                        Query(
                            expr=f"min by (service) (synapse_instances{{{OFFERED}}})",
                            legend="{{service}}",
                        ),
                    ),
                    unit="none",
                    width=12,
                ),
            ),
        ),
        Row(
            title="Connections",
            panels=(
                Panel(
                    title="Open connections",
                    description="Of clients, now.",
                    queries=(
                        Query(
                            expr=f"sum by (service) (tcp_open_connections{{{OFFERED}}})",
                            legend="{{service}}",
                        ),
                    ),
                    unit="none",
                ),
                Panel(
                    title="Connections that ended",
                    description="Of services in mode tcp, in a second: aborted ones were ended by their client.",
                    queries=(
                        Query(
                            expr=rate("tcp_close_total", OFFERED, "service, classification"),
                            legend="{{service}} {{classification}}",
                        ),
                    ),
                    unit="ops",
                ),
                Panel(
                    title="Bytes",
                    description="From clients and to them, of services in either mode.",
                    queries=(
                        Query(expr=rate("tcp_read_bytes_total", OFFERED, "service"), legend="{{service}} in"),
                        Query(expr=rate("tcp_write_bytes_total", OFFERED, "service"), legend="{{service}} out"),
                    ),
                    unit="Bps",
                ),
            ),
        ),
    ),
)

ONE_SERVICE = Dashboard(
    name="service",
    title="SmartStack / Service",
    description="One service: its success, volume and latency, by status and by caller, and the instances behind it.",
    variables=(SERVICE, SOURCE, HOST),
    rows=(
        top_line(CALLS),
        Row(
            title="Traffic",
            panels=(
                *traffic(CALLS, "service", "{{service}}"),
                Panel(
                    title="Answers by status",
                    description="In a second.",
                    queries=(Query(expr=rate("response_total", CALLS, "status_code"), legend="{{status_code}}"),),
                    unit="reqps",
                    stacked=True,
                ),
                Panel(
                    title="Given up by clients",
                    description="Requests in a second whose client hung up before the answer: nobody's failure.",
                    queries=(
                        Query(
                            expr=f"clamp_min({rate('request_total', CALLS, 'service')} - "
                            f"{rate('response_total', CALLS, 'service')}, 0)",
                            legend="{{service}}",
                        ),
                    ),
                    unit="reqps",
                ),
                Panel(
                    title="Retries",
                    description="How often in a second HAProxy tried a request once more.",
                    queries=(Query(expr=rate("synapse_retries_total", CALLS, "service"), legend="{{service}}"),),
                    unit="ops",
                ),
            ),
        ),
        Row(
            title="Callers",
            panels=(
                table("Callers", "Who calls it, and what they get.", CALLS, "source"),
                Panel(
                    title="Bytes",
                    description="From callers and to them.",
                    queries=(
                        Query(expr=rate("tcp_read_bytes_total", CALLS, "source"), legend="{{source}} in"),
                        Query(expr=rate("tcp_write_bytes_total", CALLS, "source"), legend="{{source}} out"),
                    ),
                    unit="Bps",
                    width=24,
                ),
            ),
        ),
        Row(
            title="Instances",
            panels=(
                Panel(
                    title="Instances offered",
                    description="By host. Fewer than elsewhere: that host's registry link, holds or locality.",
                    queries=(Query(expr=f"synapse_instances{{{OFFERED}}}", legend="{{service}} on {{host}}"),),
                    unit="none",
                ),
                Panel(
                    title="Weighed down",
                    description="Instances that get no requests because they fail, and less because they are slow.",
                    queries=(
                        Query(
                            expr=f"sum by (service) (synapse_breakers_open{{{OFFERED}}})",
                            legend="{{service}} out",
                        ),
                        Query(
                            expr=f"sum by (service) (synapse_instances_slowed{{{OFFERED}}})",
                            legend="{{service}} slowed",
                        ),
                        Query(
                            expr=f"sum by (service) (increase(synapse_breaker_openings_total{{{OFFERED}}}[1h]))",
                            legend="{{service}} taken out in the last hour",
                        ),
                    ),
                    unit="none",
                ),
                Panel(
                    title="Not believed",
                    description="Hosts that hold back a shrunken listing, or do not know the registry's word.",
                    queries=(
                        Query(
                            expr=f"sum by (service) (synapse_held_back{{{OFFERED}}})", legend="{{service}} held back"
                        ),
                        Query(
                            expr=f"count by (service) (synapse_listing_known{{{OFFERED}}}) - "
                            f"sum by (service) (synapse_listing_known{{{OFFERED}}})",
                            legend="{{service}} not known",
                        ),
                    ),
                    unit="none",
                ),
            ),
        ),
    ),
)
