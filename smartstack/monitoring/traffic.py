"""What every dashboard about requests has: its choices, and panels of success, volume and latency. Pure."""

from smartstack.monitoring.panels import Panel, Query, Row, Variable, quantile, quantiles, rate, success

SERVICE = Variable(name="service", label="service", metric="request_total", title="service")
ANY_SERVICE = Variable(name="service", label="service", metric="synapse_instances", title="service")
SOURCE = Variable(name="source", label="source", metric="request_total", title="caller")
HOST = Variable(name="host", label="host", metric="synapse_cycles_total", title="host")
ROUTE = Variable(name="route", label="rt_route", metric="route_request_total", title="route")
ADDRESS = Variable(name="address", label="address", metric="synapse_instance_responses_total", title="instance")

GOOD = (0.9, 0.99)
CALLS = 'service=~"$service",source=~"$source",host=~"$host"'
OFFERED = 'service=~"$service",host=~"$host"'
ROUTES = 'service=~"$service",rt_route=~"$route",host=~"$host"'
INSTANCES = 'service=~"$service",address=~"$address",host=~"$host"'


def top_line(matchers: str) -> Row:
    """Success, volume and latency of everything that the choices at the head leave, in one number each."""
    good = f'sum(rate(response_total{{classification="success",{matchers}}}[5m]))'
    return Row(
        title="Now",
        panels=(
            Panel(
                title="Success rate",
                description="The share of answers that are no failure: no 5xx, and some answer at all. Last 5 minutes.",
                queries=(Query(expr=f"{good} / sum(rate(response_total{{{matchers}}}[5m]))", legend="success"),),
                kind="stat",
                unit="percentunit",
                good=GOOD,
                top=1,
            ),
            Panel(
                title="Requests",
                description="Requests in a second, those included that a client gave up.",
                queries=(Query(expr=f"sum(rate(request_total{{{matchers}}}[5m]))", legend="requests"),),
                kind="stat",
                unit="reqps",
            ),
            Panel(
                title="p99 latency",
                description="99 of 100 requests took less, from the request to the last byte of the answer.",
                queries=(
                    Query(
                        expr=f"histogram_quantile(0.99, sum by (le) "
                        f"(rate(response_latency_ms_bucket{{{matchers}}}[5m])))",
                        legend="p99",
                    ),
                ),
                kind="stat",
                unit="ms",
            ),
        ),
    )


def traffic(matchers: str, by: str, legend: str, prefix: str = "") -> tuple[Panel, ...]:
    """Success, volume and latency over time, a line for each."""
    return (
        Panel(
            title="Success rate",
            description="The share of answers that are no failure.",
            queries=(Query(expr=success(f"{prefix}response_total", matchers, by), legend=legend),),
            unit="percentunit",
            good=GOOD,
            top=1,
        ),
        Panel(
            title="Requests",
            description="Requests in a second.",
            queries=(Query(expr=rate(f"{prefix}request_total", matchers, by), legend=legend),),
            unit="reqps",
        ),
        Panel(
            title="Latency",
            description="The median, the 95th and the 99th percentile.",
            queries=quantiles(f"{prefix}response_latency_ms", matchers, by, legend),
            unit="ms",
        ),
    )


def table(title: str, description: str, matchers: str, by: str, prefix: str = "") -> Panel:
    """A line for each, with everything that counts."""
    return Panel(
        title=title,
        description=description,
        kind="table",
        width=24,
        queries=(
            Query(expr=rate(f"{prefix}request_total", matchers, by), legend="requests/s", unit="reqps"),
            Query(expr=success(f"{prefix}response_total", matchers, by), legend="success", unit="percentunit"),
            Query(expr=quantile(0.5, f"{prefix}response_latency_ms", matchers, by), legend="p50", unit="ms"),
            Query(expr=quantile(0.99, f"{prefix}response_latency_ms", matchers, by), legend="p99", unit="ms"),
        ),
    )
