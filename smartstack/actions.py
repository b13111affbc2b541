"""Actions: what a POST to the admin address may ask of a daemon, and how its arguments are read."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from smartstack.errors import SmartStackError
from smartstack.logs import LEVELS, EventLog, current_level, set_level
from smartstack.responses import Response, json_response

Action = Callable[[Mapping[str, Any]], Response]
"""Called on a thread of the admin address, with the arguments. Raises `BadRequest` when they are wrong, `Unanswered`
when the loop does not answer, and another SmartStackError for an order that the daemon will not carry out."""

JSON: Final = "application/json"

_DECORATION: Final = {ord(character): None for character in ' "'}

_log = EventLog("admin")


class BadRequest(SmartStackError):
    """What was sent is no order: nothing was done."""


def read_arguments(content_type: str, body: bytes) -> dict[str, Any]:
    """The JSON object in the body of a POST; an empty body is an empty object. Raises `BadRequest`.

    The content type must say JSON: a form on a page of others can say it only after the browser asked us first.
    """
    media_type, _, parameters = content_type.partition(";")
    if media_type.strip().lower() != JSON:
        raise BadRequest(f"an action takes JSON: send the header `Content-Type: {JSON}`")
    if parameters.translate(_DECORATION).lower() not in ("", "charset=utf-8"):
        raise BadRequest("an action takes JSON in UTF-8, and nothing else")
    try:
        text = body.decode("utf-8")
        value = json.loads(text) if text.strip() else {}
        # Python reads more than JSON is: NaN, and half of a character, could be neither kept nor shown.
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise BadRequest("an action takes a JSON object, not one so deep") from None
    except ValueError as error:
        raise BadRequest(f"an action takes a JSON object, and this is none: {error}") from None
    if not isinstance(value, dict):
        raise BadRequest("an action takes a JSON object, such as {}, and this is another value")
    return value


def take_only(arguments: Mapping[str, Any], *known: str) -> None:
    """Raises `BadRequest` when there is an argument that is none of the known ones: a misspelt one must not be lost."""
    unknown = sorted(arguments.keys() - set(known))
    if unknown:
        allowed = f"there are: {', '.join(known)}" if known else "there are none"
        raise BadRequest(f"there is no argument {unknown[0]!a}; {allowed}")


def log_level_action(arguments: Mapping[str, Any]) -> Response:
    """`POST /log-level {"level": "debug"}`: log from this level on, until the daemon ends."""
    take_only(arguments, "level")
    level, before = arguments.get("level"), current_level()
    if level not in LEVELS:
        raise BadRequest(f"level is to be one of {', '.join(LEVELS)}")
    set_level(level)
    _log.info("the log level was changed", level_now=level, level_before=before)
    return json_response(200, {"level": level, "before": before})
