"""The house: which room is where, and what each may have. The tables that a change of the architecture changes."""

from typing import Final

PACKAGES: Final = ("nerve", "synapse", "smartstack", "haproxy_templates")

FOREIGN: Final = {
    "nerve": ("synapse", "haproxy_templates"),
    "synapse": ("nerve",),
    "smartstack": ("nerve", "synapse", "haproxy_templates"),
    "haproxy_templates": ("nerve", "synapse", "smartstack"),
}
"""What a package never imports."""

PURE: Final = frozenset(
    {
        "nerve.admission",
        "nerve.checks.base",
        "nerve.cleaning",
        "nerve.health",
        "nerve.maintenance",
        "nerve.maintenance_orders",
        "nerve.draining",
        "nerve.intent",
        "nerve.orders",
        "nerve.roster",
        "nerve.plan",
        "nerve.registrations",
        "nerve.services",
        "nerve.settings",
        "nerve.tethering",
        "nerve.warmup",
        "smartstack.addresses",
        "smartstack.definition",
        "smartstack.errors",
        "smartstack.forms",
        "smartstack.instance",
        "smartstack.locality",
        "smartstack.maintenance",
        "smartstack.model",
        "smartstack.monitoring.alerts",
        "smartstack.monitoring.dashboards",
        "smartstack.monitoring.details",
        "smartstack.monitoring.files",
        "smartstack.monitoring.grafana",
        "smartstack.monitoring.overview",
        "smartstack.monitoring.pair",
        "smartstack.monitoring.panels",
        "smartstack.monitoring.prometheus",
        "smartstack.monitoring.rules",
        "smartstack.monitoring.traffic",
        "smartstack.registry.options",
        "smartstack.registry.protocol",
        "smartstack.registry.survey",
        "smartstack.responses",
        "smartstack.scalars",
        "smartstack.schema",
        "smartstack.shifting",
        "smartstack.traffic",
        "smartstack.traffic_forms",
        "smartstack.tree",
        "smartstack.validation",
        "synapse.backend",
        "synapse.balancing.breaker",
        "synapse.balancing.circuits",
        "synapse.balancing.costs",
        "synapse.balancing.ewma",
        "synapse.balancing.gauge",
        "synapse.balancing.governor",
        "synapse.balancing.policy",
        "synapse.balancing.pool",
        "synapse.balancing.tidings",
        "synapse.balancing.weights",
        "synapse.drift",
        "synapse.events",
        "synapse.fragments",
        "synapse.frontend",
        "synapse.explain",
        "synapse.fleet.merge",
        "synapse.fleet.peer",
        "synapse.fleet.targets",
        "synapse.haproxy.answers",
        "synapse.haproxy.capabilities",
        "synapse.haproxy.certificate_commands",
        "synapse.haproxy.commands",
        "synapse.haproxy.errors",
        "synapse.haproxy.map_commands",
        "synapse.holds",
        "synapse.live_map",
        "synapse.members",
        "synapse.offers",
        "synapse.pem",
        "synapse.orders",
        "synapse.outlook",
        "synapse.pacing",
        "synapse.placement",
        "synapse.rings",
        "synapse.staleness",
        "synapse.plan",
        "synapse.proxy",
        "synapse.quarantine",
        "synapse.reasons",
        "synapse.routing",
        "synapse.selection",
        "synapse.settings",
        "synapse.shifts",
        "synapse.switches",
        "synapse.standing",
        "synapse.sources.combine",
        "synapse.sources.dns_answers",
        "synapse.sources.listing",
        "synapse.status",
        "synapse.telemetry.cells",
        "synapse.telemetry.frames",
        "synapse.telemetry.histogram",
        "synapse.telemetry.learning",
        "synapse.telemetry.line",
        "synapse.telemetry.query",
        "synapse.telemetry.request",
        "synapse.telemetry.sampling",
        "synapse.telemetry.source",
        "synapse.telemetry.series",
        "synapse.telemetry.tally",
        "synapse.telemetry.templates",
        "synapse.telemetry.totals",
        "synapse.tls",
    }
)
"""Facts, formats and decisions: they import each other and harmless parts of the standard library, nothing else."""

IMPURE: Final = frozenset(
    {
        "asyncio",
        "atexit",
        "contextvars",
        "fcntl",
        "glob",
        "http",
        "io",
        "logging",
        "mmap",
        "multiprocessing",
        "os",
        "pathlib",
        "queue",
        "random",
        "secrets",
        "select",
        "selectors",
        "shutil",
        "signal",
        "socket",
        "socketserver",
        "ssl",
        "subprocess",
        "sys",
        "tempfile",
        "threading",
        "time",
        "uuid",
    }
)
"""What sees the world outside of a function's arguments."""

DAEMONS: Final = frozenset({"nerve.daemon", "synapse.daemon"})
"""The wiring: above every shell, and imported by command lines only."""

COMMAND_LINES: Final = frozenset(
    {
        "nerve.cli",
        "nerve.cli.clean",
        "nerve.cli.files",
        "nerve.cli.operate",
        "nerve.cli.show",
        "nerve.cli.talk",
        "smartstack.cli",
        "smartstack.command",
        "smartstack.talk",
        "synapse.cli",
        "synapse.cli.figures",
        "synapse.cli.files",
        "synapse.cli.follow",
        "synapse.cli.look",
        "synapse.cli.operate",
        "synapse.cli.screen",
        "synapse.cli.shift",
        "synapse.cli.show",
        "synapse.cli.talk",
        "synapse.cli.tapping",
        "synapse.cli.traffic",
    }
)
"""The uppermost layer: nobody below imports them."""

HOMES: Final = {
    "click": ("nerve.cli", "smartstack.cli", "smartstack.command", "smartstack.talk", "synapse.cli"),
    "datadog": ("nerve.statsd",),
    "dns": ("synapse.sources.resolver",),
    "grpc": ("nerve.checks.grpc",),
    "jinja2": ("synapse.outputs", "synapse.render"),
    "kazoo": ("smartstack.registry.zookeeper",),
    "prometheus_client": ("nerve.metrics", "smartstack.admin", "synapse.metrics", "synapse.telemetry.exposition"),
    "regex": ("nerve.checks.expectation",),
    "requests": ("smartstack.command",),
    "waitress": ("smartstack.admin", "smartstack.http_limits"),
    "watchdog": ("smartstack.files",),
    "yaml": ("smartstack.yaml_file",),
}
"""Where each library of others lives: modules, or packages with all that is below them."""

LAZY_IMPORTS: Final = {
    "nerve.checks.expectation": ("regex",),  # 1.5 MB for a rare key
    "nerve.checks.grpc": ("grpc",),  # an extra, and 11 MB
    "nerve.checks.tls": ("ssl",),  # only where a check speaks TLS
    "nerve.statsd": ("datadog.dogstatsd.base",),  # 8 MB, for the few who have statsd
    "smartstack.registry": (  # only the kind in use
        "smartstack.registry.directory",
        "smartstack.registry.directory.survey",
        "smartstack.registry.zookeeper",
        "smartstack.registry.zookeeper.survey",
    ),
    "synapse.sources.dns": ("synapse.sources.resolver",),  # an extra, and 17 MB with asyncio
    "smartstack.validation": ("difflib",),  # only for who made a mistake
}
"""What may be imported inside a function, and where; command lines may do so freely."""

BROAD_EXCEPTS: Final = frozenset({"nerve.runner", "smartstack.process"})
"""Where one `except Exception` stands: the loop's safety net, and a check that blows up."""

LINE_LIMIT: Final = 350
