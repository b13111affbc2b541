"""Texts of haproxy.cfg that were good once, with the instances of now in their slots. Pure.

A service whose template broke cannot be rendered again. Its last good text can still be used: of a `server` line only
the address, the weight and `disabled` change with the instance behind it, and HAProxy's grammar says where they are.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from synapse.proxy import BACKUP_SLOT, PRIMARY_SLOT, SlotLine

DESCRIPTION = "smartstack-kept"
"""Stands in a kept global part where the name of the structure stands in the file."""

_SLOT = re.compile(rf"^(\s*server )([{PRIMARY_SLOT}{BACKUP_SLOT}][1-9][0-9]{{0,6}}) (\S+)(.*)$")
_WEIGHT = re.compile(r"(?<= weight )[0-9]+(?= |$)")
_USE_BACKEND = re.compile(r"^([ \t]*)use_backend (\S+)(.*)$", re.MULTILINE)
_DISABLED = re.compile(r" disabled(?= |$)")


def slot_counts(text: str) -> tuple[int, int]:
    """How many slots this text has, and how many for backups."""
    names = [match[2] for match in map(_SLOT.match, text.split("\n")) if match]
    backups = sum(name.startswith(BACKUP_SLOT) for name in names)
    return len(names) - backups, backups


def with_slots(text: str, slots: Sequence[SlotLine]) -> str:
    """This text, in which every slot is empty, with these slots: each where its line is, more of them after the last
    of their side, made like it. A side that has no line in the text gets none."""
    wanted = {slot.name: slot for slot in slots}
    lines = text.split("\n")
    last: dict[str, int] = {}
    for number, line in enumerate(lines):
        if match := _SLOT.match(line):
            last[match[2][0]] = number
    present = {match[2] for match in map(_SLOT.match, lines) if match}
    return "\n".join(_lines(lines, last, wanted, present))


def with_dead_ends(text: str, absent: Mapping[str, str]) -> str:
    """This text where these services cannot answer (with why): a `use_backend` of one would make HAProxy refuse it."""

    def answer(match: re.Match[str]) -> str:
        before, name, condition = match.groups()
        if name not in absent:
            return match[0]
        if f"nbsrv({name})" in condition:
            return f"{before}# no share goes to {name}, {absent[name]}"
        words = f"this request is for {name}, {absent[name]}"
        return f'{before}http-request return status 503 content-type text/plain string "{words}\\n"{condition}'

    return _USE_BACKEND.sub(answer, text) if absent else text


def _lines(
    lines: Sequence[str], last: Mapping[str, int], wanted: Mapping[str, SlotLine], present: set[str]
) -> Iterator[str]:
    for number, line in enumerate(lines):
        match = _SLOT.match(line)
        if match is None:
            yield line
            continue
        if match[2] in wanted:
            yield _line(match, wanted[match[2]])
        if last[match[2][0]] == number:
            for name, slot in wanted.items():
                if name not in present and name[0] == match[2][0]:
                    yield _line(match, slot)


def _line(match: re.Match[str], slot: SlotLine) -> str:
    words = re.sub(rf"(?<= ){match[2]}(?= |$)", slot.name, match[4])
    words = _WEIGHT.sub(str(slot.weight), words)
    if not slot.disabled:
        words = _DISABLED.sub("", words)
    return f"{match[1]}{slot.name} {slot.address}{words}"
