"""Why HAProxy has to be reloaded: sentences for people, and what they come down to, by which they are counted. Pure."""

import enum
from collections.abc import Mapping


class Cause(enum.Enum):
    """What a reason for a reload comes down to: by these, reloads are counted."""

    NOT_RUNNING = "not_running"
    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"
    GLOBAL = "global"
    SLOTS = "slots"
    STRUCTURE = "structure"
    DISTRUST = "distrust"
    SOCKET = "socket"
    OTHER = "other"


class Reason(str):
    """A reason for a reload: a sentence that knows its cause."""

    __slots__ = ("cause",)
    cause: Cause

    def __new__(cls, words: str, cause: Cause) -> "Reason":
        reason = super().__new__(cls, words)
        reason.cause = cause
        return reason


def cause_of(reason: str) -> Cause:
    """The cause of a reason; other than those known where it was made elsewhere."""
    return reason.cause if isinstance(reason, Reason) else Cause.OTHER


def distrust(distrusted: Mapping[str, str]) -> list[str]:
    """The reasons that backends give whose answers did not fit, by name, with why."""
    return [Reason(f"{name}: {why}", Cause.DISTRUST) for name, why in sorted(distrusted.items())]
