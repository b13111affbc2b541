"""The dashboards of instances, of who calls whom, and of routes. Pure."""

from smartstack.monitoring.panels import Dashboard, Panel, Query, Row, quantile, quantiles, rate, success
from smartstack.monitoring.traffic import (
    ADDRESS,
    CALLS,
    GOOD,
    HOST,
    INSTANCES,
    ROUTE,
    ROUTES,
    SERVICE,
    SOURCE,
    table,
    top_line,
    traffic,
)

INSTANCE = Dashboard(
    name="instance",
    title="SmartStack / Instance",
    description="The instances of a service side by side. Needs telemetry.instance_metrics: true in synapse.yaml.",
    variables=(SERVICE, ADDRESS, HOST),
    rows=(
        Row(
            title="Instances",
            panels=(
                Panel(
                    title="Instances",
                    description="Every instance with traffic.",
                    kind="table",
                    width=24,
                    queries=(
                        Query(
                            expr=rate("synapse_instance_responses_total", INSTANCES, "service, address"),
                            legend="answers/s",
                            unit="reqps",
                        ),
                        Query(
                            expr=success("synapse_instance_responses_total", INSTANCES, "service, address"),
                            legend="success",
                            unit="percentunit",
                        ),
                        Query(
                            expr=quantile(0.99, "synapse_instance_response_latency_ms", INSTANCES, "service, address"),
                            legend="p99",
                            unit="ms",
                        ),
                    ),
                ),
                Panel(
                    title="Success rate",
                    description="The share of answers that are no failure. An answer counts for the instance that was "
                    "asked last.",
                    queries=(
                        Query(
                            expr=success("synapse_instance_responses_total", INSTANCES, "address"),
                            legend="{{address}}",
                        ),
                    ),
                    unit="percentunit",
                    good=GOOD,
                    top=1,
                ),
                Panel(
                    title="Answers",
                    description="In a second.",
                    queries=(
                        Query(
                            expr=rate("synapse_instance_responses_total", INSTANCES, "address"),
                            legend="{{address}}",
                        ),
                    ),
                    unit="reqps",
                    stacked=True,
                ),
                Panel(
                    title="Latency",
                    description="The median, the 95th and the 99th percentile.",
                    queries=quantiles("synapse_instance_response_latency_ms", INSTANCES, "address", "{{address}}"),
                    unit="ms",
                ),
                Panel(
                    title="Share of its weight",
                    description="1: the whole; less: it is slower than others; 0: its breaker is open. By host.",
                    queries=(
                        Query(
                            expr=f"synapse_instance_share{{{INSTANCES}}}",
                            legend="{{address}} from {{host}}",
                        ),
                    ),
                    unit="percentunit",
                    top=1,
                    width=24,
                ),
            ),
        ),
    ),
)

CALLERS = Dashboard(
    name="callers",
    title="SmartStack / Caller to callee",
    description="Who calls whom, and what they get.",
    variables=(SOURCE, SERVICE, HOST),
    rows=(
        top_line(CALLS),
        Row(
            title="Edges",
            panels=(
                table("Edges", "Every caller with whom it calls.", CALLS, "source, service"),
                *traffic(CALLS, "source, service", "{{source}} → {{service}}"),
                Panel(
                    title="Failures",
                    description="Answers in a second that are failures, by status.",
                    queries=(
                        Query(
                            expr=rate(
                                "response_total", f'classification="failure",{CALLS}', "source, service, status_code"
                            ),
                            legend="{{source}} → {{service}} {{status_code}}",
                        ),
                    ),
                    unit="reqps",
                    width=24,
                ),
            ),
        ),
    ),
)

ONE_ROUTE = Dashboard(
    name="route",
    title="SmartStack / Route",
    description="The routes of a service: the paths that its definition names.",
    variables=(SERVICE, ROUTE, HOST),
    rows=(
        Row(
            title="Routes",
            panels=(
                table("Routes", "Every route with requests.", ROUTES, "service, rt_route", prefix="route_"),
                *traffic(ROUTES, "rt_route", "{{rt_route}}", prefix="route_"),
            ),
        ),
    ),
)
