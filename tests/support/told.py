"""Requests as the feed tells of them, for tests: a plain one, with what a test changes of it."""

from dataclasses import replace
from typing import Any, Final

from synapse.telemetry.request import Request

PLAIN: Final = Request(
    mode="http",
    service="web",
    frontend="web",
    slot="s1",
    host="10.0.0.1",
    port=8080,
    status=200,
    total_ms=3,
    response_ms=2,
    queue_ms=0,
    connect_ms=0,
    termination="--",
    retries=0,
    redispatched=False,
    sent_bytes=100,
    received_bytes=10,
    client_host="127.0.0.1",
    client_port=50000,
    source="api",
    source_kind="header",
    share=1.0,
    method="GET",
    path="/",
)


def told(**changes: Any) -> Request:
    """A good request of `api` for `web`, with these fields changed."""
    return replace(PLAIN, **changes)
