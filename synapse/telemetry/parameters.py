"""The parameters of questions about requests, read strictly: what is not as it should be is a `BadRequest`."""

import re
from collections.abc import Mapping
from typing import Final, cast, get_args

from smartstack.actions import BadRequest
from synapse.telemetry.frames import FRAME_SECONDS, By
from synapse.telemetry.query import Scope
from synapse.telemetry.series import FRAMES
from synapse.telemetry.taps import Filter

HOUR_SECONDS: Final = FRAMES * FRAME_SECONDS

DEFAULT_RATE: Final = 100
RATE_LIMIT: Final = 1000
"""Requests a second that a tap shows."""

_STATUS: Final = re.compile(r"[1-5](?:xx|[0-9]{2})")

Query = Mapping[str, str]


def check(query: Query, *names: str) -> None:
    """There are no others than these."""
    unknown = sorted(query.keys() - set(names))
    if unknown:
        raise BadRequest(f"{unknown[0]!a} is no parameter; there are: {', '.join(names)}")


def read_scope(query: Query) -> Scope:
    """`by`, `service`, `from` and `buckets`."""
    by = query.get("by", "service")
    if by not in get_args(By):
        raise BadRequest(f"by is to be one of {', '.join(get_args(By))}")
    if "from" in query and by not in ("service", "source"):
        raise BadRequest(f"from goes with by=service and by=source: who calls is not counted by {by}")
    return Scope(
        by=cast(By, by), service=query.get("service"), source=query.get("from"), buckets=read_flag(query, "buckets")
    )


def read_filter(query: Query) -> Filter:
    """`service`, and what of its requests is meant: `path`, `method`, `status` and `from`."""
    status = query.get("status")
    if status is not None and not _STATUS.fullmatch(status):
        raise BadRequest("status is to be a status, such as 503, or a class of them, such as 5xx")
    return Filter(
        service=read_service(query),
        path=query.get("path"),
        method=query.get("method"),
        statuses=None if status is None else (int(status.replace("x", "0")), int(status.replace("x", "9"))),
        source=query.get("from"),
    )


def read_service(query: Query) -> str:
    """`service`, where it has to be given."""
    name = query.get("service")
    if not name:
        raise BadRequest("service is missing: the name of a service")
    return name


def read_window(query: Query, default: int = 60) -> int:
    """`window`, in seconds."""
    return _number(query, "window", default, FRAME_SECONDS, HOUR_SECONDS)


def read_rate(query: Query) -> int:
    """`max_rate`, requests a second."""
    return _number(query, "max_rate", DEFAULT_RATE, 1, RATE_LIMIT)


def read_flag(query: Query, name: str) -> bool:
    """Whether this is 1; it is 0 where it is not given."""
    text = query.get(name, "0")
    if text not in ("0", "1"):
        raise BadRequest(f"{name} is to be 0 or 1")
    return text == "1"


def _number(query: Query, name: str, default: int, least: int, most: int) -> int:
    text = query.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,6}", text) or not least <= int(text) <= most:
        raise BadRequest(f"{name} is to be a whole number from {least} to {most}")
    return int(text)
