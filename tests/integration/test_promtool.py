"""The rules as promtool judges them: they are taken, and each alert fires when it should, and only then."""

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from smartstack.monitoring.alerts import ALERTS
from smartstack.monitoring.rules import Alert

CONFIG = Path(__file__).parents[2] / "config" / "prometheus"
RULES = [CONFIG / "rules" / "recording.yml", CONFIG / "rules" / "alerts.yml"]
BY_NAME = {rule.name: rule for group in ALERTS for rule in group.rules if isinstance(rule, Alert)}

SYNAPSE = 'host="h1",job="synapse",instance="10.0.0.5:3201"'
NERVE = 'host="h1",job="nerve",instance="10.0.0.5:3199"'
WEB = f'service="web",{SYNAPSE}'
CALLS = f'direction="outbound",source="api",{WEB}'
RUNS = {f"up{{{SYNAPSE}}}": "1x60"}
HOST = {"host": "h1"}
DAEMON = {"host": "h1", "job": "synapse", "instance": "10.0.0.5:3201"}
OTHER_DAEMON = {"host": "h1", "job": "nerve", "instance": "10.0.0.5:3199"}
HERE = {**DAEMON, "service": "web"}


def promtool(*words: str) -> str:
    """Run it; what it said. Raises AssertionError unless it is content."""
    done = subprocess.run(["promtool", *words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_configuration_and_the_rules_are_taken() -> None:
    """Every file below config/prometheus, syntax and expressions, without a duplicate."""
    assert "2 rule files found" in promtool("check", "config", str(CONFIG / "prometheus.yml"))
    assert f"{len(BY_NAME)} rules found" in promtool("check", "rules", *map(str, RULES))


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Series with their values once a minute, with which an alert fires after so many minutes, with these labels and
    this summary; and others, with which it does not."""

    fires: dict[str, str]
    quiet: dict[str, str]
    labels: dict[str, str]
    summary: str
    minutes: int = 20


def requests(good: int, bad: int) -> dict[str, str]:
    """So many good and bad answers a minute."""
    return {
        f"request_total{{{CALLS}}}": f"0+{good + bad}x60",
        f'response_total{{classification="success",status_code="200",{CALLS}}}': f"0+{good}x60",
        f'response_total{{classification="failure",status_code="503",{CALLS}}}': f"0+{bad}x60",
    }


def latencies(fast: int, slow: int) -> dict[str, str]:
    """So many requests below 10 ms, and between 1 and 2 s, a minute."""
    counts = {"10": fast, "1000": fast, "2000": fast + slow, "+Inf": fast + slow}
    buckets = {f'response_latency_ms_bucket{{le="{le}",{CALLS}}}': f"0+{count}x60" for le, count in counts.items()}
    return {f"request_total{{{CALLS}}}": f"0+{fast + slow}x60", **buckets}


def gauge(name: str, labels: str, value: object) -> dict[str, str]:
    """One series with one value."""
    return {f"{name}{{{labels}}}": f"{value}x60"}


def counter(name: str, labels: str, minute: int) -> dict[str, str]:
    """A counter that is 0 until one minute, and 1 from then on."""
    return {f"{name}{{{labels}}}": f"0x{minute} 1x60"}


FAILED = f'result="failed",{SYNAPSE}'
STARTS = gauge("synapse_haproxy_starts_total", FAILED, 0)

CASES = {
    "SmartStackSuccessRateLow": Case(
        fires=requests(90, 10),
        quiet=requests(96, 4),
        labels={"service": "web"},
        summary="web answers 90% of its requests well",
    ),
    "SmartStackLatencyHigh": Case(
        fires=latencies(90, 10),
        quiet=latencies(995, 5),
        labels={"service": "web"},
        summary="1 of 100 requests to web takes longer than 1.9k ms",
    ),
    "SmartStackNoInstance": Case(
        fires=gauge("synapse_instances", WEB, 0),
        quiet=gauge("synapse_instances", WEB, 1),
        labels=HERE,
        summary="web has no instance on h1",
    ),
    "SmartStackBreakerOpen": Case(
        fires=gauge("synapse_breakers_open", WEB, 2),
        quiet={f"synapse_breakers_open{{{WEB}}}": "2x10 0x60"},
        labels=HERE,
        summary="2 instances of web get no requests from h1",
    ),
    "SmartStackListingHeldBack": Case(
        fires=gauge("synapse_held_back", WEB, 1),
        quiet={f"synapse_held_back{{{WEB}}}": "0x10 1x3 0x60"},
        labels=HERE,
        summary="h1 does not believe what the registry says of web",
    ),
    "SmartStackDaemonAway": Case(
        fires=gauge("up", NERVE, 0),
        quiet={**gauge("up", NERVE, 1), **gauge("up", 'job="other",host="h1",instance="x"', 0)},
        labels=OTHER_DAEMON,
        summary="nerve on h1 does not answer",
    ),
    "SmartStackDaemonGone": Case(
        fires={f"up{{{SYNAPSE}}}": "1x10 stale"},
        quiet={f"up{{{SYNAPSE}}}": "1x10 stale", f"up{{{SYNAPSE.replace('h1', 'h1.example')}}}": "_x10 1x60"},
        labels=DAEMON,
        summary="synapse on h1 was there, and is not announced any more",
    ),
    "SmartStackLoopStands": Case(
        fires={**RUNS, f"synapse_cycles_total{{{SYNAPSE}}}": "0+2x5 12x60"},
        quiet={**RUNS, f"synapse_cycles_total{{{SYNAPSE}}}": "0+2x60"},
        labels=DAEMON,
        summary="The loop of synapse on h1 does not turn",
    ),
    "SmartStackHAProxyDown": Case(
        fires=gauge("synapse_haproxy_up", SYNAPSE, 0),
        quiet=gauge("synapse_haproxy_up", SYNAPSE, 1),
        labels=DAEMON,
        summary="HAProxy on h1 does not answer",
    ),
    "SmartStackRegistryAway": Case(
        fires=gauge("nerve_registry_connected", f'registry="main",{NERVE}', 0),
        quiet={
            **gauge("nerve_registry_connected", f'registry="main",{NERVE}', 1),
            **gauge("synapse_registry_connected", SYNAPSE, 1),
        },
        labels={**OTHER_DAEMON, "registry": "main"},
        summary="The registry is away for nerve on h1",
    ),
    "SmartStackLastGoodOld": Case(
        fires=gauge("synapse_last_good_age_seconds", SYNAPSE, 900),
        quiet=gauge("synapse_last_good_age_seconds", SYNAPSE, 0),
        labels=DAEMON,
        summary="h1 uses instances that nobody has confirmed for 15m 0s",
    ),
    "SmartStackReloadsFail": Case(
        fires={**counter("synapse_haproxy_reloads_total", FAILED, 15), **STARTS},
        quiet={**counter("synapse_haproxy_reloads_total", FAILED, 2), **STARTS},
        labels=HOST,
        summary="HAProxy on h1 does not take its new configuration",
    ),
    "SmartStackConfigurationWrong": Case(
        fires=gauge("synapse_config_problems", WEB, 2),
        quiet=gauge("nerve_config_problems", f'service="",{NERVE}', 0),
        labels={"host": "h1", "job": "synapse"},
        summary="synapse on h1 has 2 problems with its configuration",
    ),
    "SmartStackDrift": Case(
        fires=counter("synapse_drift_repairs_total", f'kind="server",{SYNAPSE}', 5),
        quiet=gauge("synapse_drift_repairs_total", f'kind="server",{SYNAPSE}', 3),
        labels={"host": "h1", "kind": "server"},
        summary="Somebody else changed HAProxy on h1 (server)",
    ),
    "SmartStackOldWorkers": Case(
        fires=gauge("synapse_haproxy_old_workers", SYNAPSE, 6),
        quiet=gauge("synapse_haproxy_old_workers", SYNAPSE, 5),
        labels=DAEMON,
        summary="6 old HAProxy processes on h1",
    ),
    "SmartStackCertificateExpires": Case(
        fires=gauge("synapse_certificate_expiry_seconds", f'file="/etc/web.pem",{SYNAPSE}', 86400 * 3 + 1200),
        quiet=gauge("synapse_certificate_expiry_seconds", f'file="/etc/web.pem",{SYNAPSE}', 86400 * 8),
        labels={**DAEMON, "file": "/etc/web.pem"},
        summary="/etc/web.pem on h1 expires in 3d 0h 0m 0s",
    ),
    "SmartStackFeedLoses": Case(
        fires={
            f'synapse_feed_dropped_total{{why="dropped",{SYNAPSE}}}': "0+2x60",
            f"synapse_feed_lines_total{{{SYNAPSE}}}": "0+100x60",
        },
        quiet={
            f'synapse_feed_dropped_total{{why="forged",{SYNAPSE}}}': "0+50x60",
            f'synapse_feed_dropped_total{{why="dropped",{SYNAPSE}}}': "0x60",
            f"synapse_feed_lines_total{{{SYNAPSE}}}": "0+100x60",
        },
        labels=HOST,
        summary="More than 1 of 100 requests on h1 is missing in the figures",
    ),
    "SmartStackFeedForged": Case(
        fires=counter("synapse_feed_dropped_total", f'why="forged",{SYNAPSE}', 15),
        quiet=counter("synapse_feed_dropped_total", f'why="dropped",{SYNAPSE}', 15),
        labels=HOST,
        summary="Somebody on h1 sends invented requests to synapse",
    ),
    "SmartStackServiceDown": Case(
        fires=gauge("nerve_service_up", f'service="web",{NERVE}', 0),
        quiet={
            **gauge("nerve_service_up", f'service="web",{NERVE}', 0),
            **gauge("nerve_maintenance", f'service="web",{NERVE}', 1),
        },
        labels={**OTHER_DAEMON, "service": "web"},
        summary="web on h1 does not pass its checks",
    ),
    "SmartStackNotRegistered": Case(
        fires={
            **gauge("nerve_service_up", f'service="web",{NERVE}', 1),
            **gauge("nerve_registered", f'service="web",{NERVE}', 0),
        },
        quiet={
            **gauge("nerve_service_up", f'service="web",{NERVE}', 0),
            **gauge("nerve_registered", f'service="web",{NERVE}', 0),
        },
        labels={**OTHER_DAEMON, "service": "web"},
        summary="web on h1 is well, but nobody can find it",
    ),
    "SmartStackFlapping": Case(
        fires={f'nerve_transitions_total{{to="up",service="web",{NERVE}}}': "0x5 1x2 2x2 3x2 4x2 5x60"},
        quiet={f'nerve_transitions_total{{to="up",service="web",{NERVE}}}': "0x5 1x2 2x60"},
        labels={"host": "h1", "service": "web"},
        summary="web on h1 comes and goes",
    ),
}


def described(alert: Alert, labels: dict[str, str]) -> str:
    """The description with the labels filled in."""
    return re.sub(r"{{ \$labels\.(\w+) }}", lambda found: labels[found[1]], alert.description)


def group(case: Case, name: str, series: dict[str, str], expected: list[dict[str, Any]]) -> dict[str, Any]:
    """One test of promtool's."""
    return {
        "interval": "1m",
        "input_series": [{"series": each, "values": values} for each, values in series.items()],
        "alert_rule_test": [{"eval_time": f"{case.minutes}m", "alertname": name, "exp_alerts": expected}],
    }


def test_every_alert_has_a_case() -> None:
    """None is left out."""
    assert CASES.keys() == BY_NAME.keys()


@pytest.mark.parametrize("name", CASES)
def test_an_alert_fires_when_it_should_and_only_then(name: str, tmp_path: Path) -> None:
    """With its labels, and with texts in which every name and number is filled in."""
    case, alert = CASES[name], BY_NAME[name]
    expected = {
        "exp_labels": {**case.labels, "severity": alert.severity},
        "exp_annotations": {"summary": case.summary, "description": described(alert, case.labels)},
    }
    file = tmp_path / "test.yml"
    file.write_text(
        json.dumps(
            {
                "rule_files": list(map(str, RULES)),
                "evaluation_interval": "1m",
                "tests": [group(case, name, case.fires, [expected]), group(case, name, case.quiet, [])],
            }
        )
    )
    promtool("test", "rules", str(file))
