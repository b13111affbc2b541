"""The table of the alerts: when Prometheus should wake somebody. Pure.

Each says what is the matter, with which service or host, and what to do. `critical` is felt by users, or soon will be;
`warning` can wait for the morning.
"""

from smartstack.monitoring.rules import Alert, Group

_REQUESTS = Group(
    name="smartstack-requests",
    rules=(
        Alert(
            name="SmartStackSuccessRateLow",
            expr="service:response_success:ratio_rate5m < 0.95 and service:request:rate5m > 0.1",
            lasting="5m",
            severity="critical",
            summary="{{ $labels.service }} answers {{ $value | humanizePercentage }} of its requests well",
            description="Over the last 5 minutes, on all hosts. `synapse stat {{ $labels.service }} --instances` on a "
            "host of a caller says whether one instance fails or all do; `synapse explain {{ $labels.service }}` says "
            "what happens to each. One that fails can be taken out with `synapse hold`.",
        ),
        Alert(
            name="SmartStackLatencyHigh",
            expr="service:response_latency_ms:p99_5m > 1000 and service:request:rate5m > 0.1",
            lasting="10m",
            severity="warning",
            summary="1 of 100 requests to {{ $labels.service }} takes longer than {{ $value | humanize }} ms",
            description="`synapse stat {{ $labels.service }} --instances` says whether one instance is slow, `synapse "
            "routes {{ $labels.service }}` which requests are. Put your own limit here: what is slow, only you know.",
        ),
        Alert(
            name="SmartStackNoInstance",
            expr="synapse_instances == 0",
            lasting="1m",
            severity="critical",
            summary="{{ $labels.service }} has no instance on {{ $labels.host }}",
            description="Every request to it fails there. `synapse explain {{ $labels.service }}` on that host says "
            "which instances are known and why none is used; `nerve status` on their hosts says why they are not "
            "registered.",
        ),
        Alert(
            name="SmartStackBreakerOpen",
            expr="synapse_breakers_open > 0",
            lasting="15m",
            severity="warning",
            summary="{{ $value }} instances of {{ $labels.service }} get no requests from {{ $labels.host }}",
            description="They failed, and still fail whenever they are tried. `synapse explain {{ $labels.service }}` "
            "on that host says which and why. Their checks pass, so that they stay registered: a check that sees this "
            "failure is missing.",
        ),
        Alert(
            name="SmartStackListingHeldBack",
            expr="synapse_held_back == 1",
            lasting="5m",
            severity="warning",
            summary="{{ $labels.host }} does not believe what the registry says of {{ $labels.service }}",
            description="Too many instances left at once, so that those of before stay in use. `synapse explain "
            "{{ $labels.service }}` lists them. If they are really gone: `synapse accept {{ $labels.service }}`.",
        ),
    ),
)

_SYNAPSE = Group(
    name="smartstack-synapse",
    rules=(
        Alert(
            name="SmartStackDaemonAway",
            expr='up{job=~"synapse|nerve"} == 0',
            lasting="2m",
            severity="critical",
            summary="{{ $labels.job }} on {{ $labels.host }} does not answer",
            description="Requests go on: HAProxy serves without synapse, and the registry keeps what nerve said until "
            "its session ends. Nothing follows changes. `systemctl status {{ $labels.job }}` and its log say why.",
        ),
        Alert(
            name="SmartStackDaemonGone",
            expr='present_over_time(up{job=~"synapse|nerve"}[1h]) unless on (instance, job) up{job=~"synapse|nerve"}',
            lasting="2m",
            severity="warning",
            summary="{{ $labels.job }} on {{ $labels.host }} was there, and is not announced any more",
            description="A synapse that ends takes its announcement with it, and who is not announced is not asked. "
            "Requests go on: HAProxy serves without synapse. `systemctl status synapse` on that host says why it "
            "ended. If the host was taken out of the fleet, this ends an hour later.",
        ),
        Alert(
            name="SmartStackLoopStands",
            expr='up{job="synapse"} == 1 and on (instance) increase(synapse_cycles_total[5m]) == 0',
            lasting="2m",
            severity="critical",
            summary="The loop of synapse on {{ $labels.host }} does not turn",
            description="It should at least every resync_interval. /healthz says for how long it has not. Restart "
            "synapse: no request notices.",
        ),
        Alert(
            name="SmartStackHAProxyDown",
            expr="synapse_haproxy_up == 0",
            lasting="1m",
            severity="critical",
            summary="HAProxy on {{ $labels.host }} does not answer",
            description="Clients on that host may reach nobody. `synapse status` says what keeps it from running.",
        ),
        Alert(
            name="SmartStackRegistryAway",
            expr="synapse_registry_connected == 0 or nerve_registry_connected == 0",
            lasting="2m",
            severity="warning",
            summary="The registry is away for {{ $labels.job }} on {{ $labels.host }}",
            description="Everything goes on with what was known; joins and leaves are not seen. If it is so on many "
            "hosts, look at ZooKeeper; if on one, at its network.",
        ),
        Alert(
            name="SmartStackLastGoodOld",
            expr="synapse_last_good_age_seconds > 0",
            lasting="1m",
            severity="warning",
            summary="{{ $labels.host }} uses instances that nobody has confirmed for {{ $value | humanizeDuration }}",
            description="Longer than last_good_warning. Some of them may be gone: HAProxy's checks keep those out of "
            "the way, but nobody new joins. Bring the registry back.",
        ),
        Alert(
            name="SmartStackReloadsFail",
            expr='sum by (host) (increase(synapse_haproxy_reloads_total{result="failed"}[15m]) + '
            'increase(synapse_haproxy_starts_total{result="failed"}[15m])) > 0',
            lasting="0s",
            severity="warning",
            summary="HAProxy on {{ $labels.host }} does not take its new configuration",
            description="The running one is unchanged, so that what was edited has no effect. `synapse status` has "
            "HAProxy's words; the refused file lies beside haproxy.cfg.",
        ),
        Alert(
            name="SmartStackConfigurationWrong",
            expr="sum by (host, job) (synapse_config_problems or nerve_config_problems) > 0",
            lasting="10m",
            severity="warning",
            summary="{{ $labels.job }} on {{ $labels.host }} has {{ $value }} problems with its configuration",
            description="What is not valid is not taken: what was in use stays in use. `{{ $labels.job }} status` says "
            "file, line and what is wrong.",
        ),
        Alert(
            name="SmartStackDrift",
            expr="sum by (host, kind) (increase(synapse_drift_repairs_total[1h])) > 0",
            lasting="0s",
            severity="warning",
            summary="Somebody else changed HAProxy on {{ $labels.host }} ({{ $labels.kind }})",
            description="synapse put it right. `synapse status` says what it was. Find out who does it: another "
            "configuration management, a second synapse, or somebody at the runtime socket.",
        ),
        Alert(
            name="SmartStackOldWorkers",
            expr="synapse_haproxy_old_workers > 5",
            lasting="15m",
            severity="warning",
            summary="{{ $value }} old HAProxy processes on {{ $labels.host }}",
            description="Each reload leaves one, until its last connection ends or haproxy.hard_stop_after is over. "
            "Reload less often (haproxy.reload_interval), or give connections less time.",
        ),
        Alert(
            name="SmartStackCertificateExpires",
            expr="synapse_certificate_expiry_seconds - time() < 7 * 86400",
            lasting="10m",
            severity="critical",
            summary="{{ $labels.file }} on {{ $labels.host }} expires in {{ $value | humanizeDuration }}",
            description="Replace the file: synapse gives HAProxy the new one within a moment, without a reload. If "
            "that was done, `synapse status` says why HAProxy has not got it.",
        ),
        Alert(
            name="SmartStackFeedLoses",
            expr='sum by (host) (rate(synapse_feed_dropped_total{why!="forged"}[5m])) > '
            "0.01 * sum by (host) (rate(synapse_feed_lines_total[5m]))",
            lasting="10m",
            severity="warning",
            summary="More than 1 of 100 requests on {{ $labels.host }} is missing in the figures",
            description="No request is harmed, but success rates and latencies are of the others only. The machine is "
            "too busy for synapse, or its receive buffer is too small (net.core.rmem_max).",
        ),
        Alert(
            name="SmartStackFeedForged",
            expr='sum by (host) (increase(synapse_feed_dropped_total{why="forged"}[15m])) > 0',
            lasting="0s",
            severity="warning",
            summary="Somebody on {{ $labels.host }} sends invented requests to synapse",
            description="They are not counted: they lack the key in synapse's state directory. Right after that file "
            "was lost, it is HAProxy itself until its next reload; otherwise find out what sends to telemetry.listen.",
        ),
    ),
)

_NERVE = Group(
    name="smartstack-nerve",
    rules=(
        Alert(
            name="SmartStackServiceDown",
            expr="nerve_service_up == 0 unless on (instance, service) nerve_maintenance == 1",
            lasting="5m",
            severity="warning",
            summary="{{ $labels.service }} on {{ $labels.host }} does not pass its checks",
            description="It is out of the registry, and others serve. `nerve explain {{ $labels.service }}` on that "
            "host shows each check with its last result.",
        ),
        Alert(
            name="SmartStackNotRegistered",
            expr="nerve_service_up == 1 and on (instance, service) nerve_registered == 0",
            lasting="5m",
            severity="warning",
            summary="{{ $labels.service }} on {{ $labels.host }} is well, but nobody can find it",
            description="`nerve explain {{ $labels.service }}` says what keeps it out: the registry, a limit on joins, "
            "or a node of somebody else's.",
        ),
        Alert(
            name="SmartStackFlapping",
            expr='sum by (host, service) (increase(nerve_transitions_total{to="up"}[30m])) > 3',
            lasting="0s",
            severity="warning",
            summary="{{ $labels.service }} on {{ $labels.host }} comes and goes",
            description="More than 3 times in half an hour. `nerve explain {{ $labels.service }}` shows which check "
            "fails. If the service is well all the same, give the check more patience (timeout, fall).",
        ),
    ),
)

ALERTS = (_REQUESTS, _SYNAPSE, _NERVE)
