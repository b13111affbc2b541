"""Changes of the live map as lines for HAProxy's runtime socket, and its answers. Pure, and the last guard."""

import re
from collections.abc import Iterable, Iterator

from synapse.haproxy.commands import LINE_LIMIT
from synapse.live_map import KEY, VALUE, Change, Drop, Put

_ID = re.compile(r"[0-9]{1,9}")
_SHOWN = re.compile(r"0x[0-9a-f]+ (\S+) (\S+)")
_UNKNOWN = "Unknown map identifier"
_GONE = re.compile(r"(Key|entry) not found\.?", re.IGNORECASE)


def command(change: Change, number: str) -> str:
    """The command for one change of the map with this number. Raises `ValueError` for what may not be sent."""
    if not _ID.fullmatch(number):
        raise ValueError(f"{number!r} is no number of a map")
    if not KEY.fullmatch(change.key) or (isinstance(change, Put) and not VALUE.fullmatch(change.value)):
        raise ValueError(f"{change!r} may not be sent to HAProxy")
    match change:
        case Put(key=key, value=value, new=new):
            return f"{'add' if new else 'set'} map #{number} {key} {value}"
        case Drop(key=key):
            return f"del map #{number} {key}"


def lines(changes: Iterable[Change], number: str) -> Iterator[tuple[str, list[Change]]]:
    """As few lines as HAProxy reads them, each with the changes on it."""
    texts: list[str] = []
    run: list[Change] = []
    size = 0
    for change in changes:
        text = command(change, number)
        if run and size + len(text) + 1 > LINE_LIMIT:
            yield ";".join(texts), run
            texts, run, size = [], [], 0
        texts.append(text)
        run.append(change)
        size += len(text) + 1
    if run:
        yield ";".join(texts), run


def parse_number(answer: str, path: str) -> str | None:
    """The number of the map of this file in the answer to `show map`; None where this HAProxy has not loaded it."""
    for line in answer.splitlines():
        number, _, rest = line.partition(" ")
        if _ID.fullmatch(number) and rest.startswith(f"({path}) "):
            return number
    return None


def parse_shown(answer: str) -> list[tuple[str, str]] | None:
    """The keys and values in the answer to `show map #<number>`, in its order; None when it is not one."""
    if answer.startswith(_UNKNOWN):
        return None
    found = []
    for line in answer.splitlines():
        match = _SHOWN.fullmatch(line)
        if match is not None:
            found.append((match[1], match[2]))
        elif line:
            return None
    return found


def succeeded(change: Change, reply: str) -> bool:
    """Whether HAProxy did it: an empty line says so. What is gone already is as good as deleted."""
    return reply == "" or (isinstance(change, Drop) and _GONE.fullmatch(reply.strip()) is not None)
