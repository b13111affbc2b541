"""Who makes HAProxy refuse a file: the parts of the file, what HAProxy says of them, the search for culprits. Pure."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

_SECTION = re.compile(r"^(frontend|backend|listen)\s+(\S+)", re.MULTILINE)
_NAMES = re.compile(r"(?i)\b(?:proxy|frontend|backend|listen|server) '?([A-Za-z0-9][A-Za-z0-9_.-]*)")
_WORDS_LIMIT = 400

_OUTSIDE = re.compile(r"(?i)\b(file|directory|resolve|find|load|open|stat|certificate)\b")
"""HAProxy's words where something outside of the definition is to blame, which may be there the next time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a service's part of the file; `number` counts from 0 within the part."""

    part: str
    number: int

    @property
    def text(self) -> str:
        """What stands there, without its indentation."""
        return self.part.split("\n")[self.number].strip()

    @property
    def section(self) -> str:
        """The word that begins the section that it stands in: `frontend`, `backend`, `listen`."""
        before = "\n".join(self.part.split("\n")[: self.number + 1])
        sections = _SECTION.findall(before)
        return sections[-1][0] if sections else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """One thing that HAProxy says against a file: its own words, without places in the file.

    `lines` are the services that it names, with the line of each; None where it names the service only.
    """

    words: str
    lines: Mapping[str, Line | None] = field(default_factory=dict)

    @property
    def lasting(self) -> bool:
        """Whether HAProxy will say the same as long as the definition is what it is, whatever happens around it."""
        return len(self.lines) < 2 and not _OUTSIDE.search(self.words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A haproxy.cfg that is put together: the global part, and a part for each service, in this order."""

    global_part: str
    parts: Mapping[str, str]

    @property
    def text(self) -> str:
        """The whole file."""
        return self.global_part + "".join(self.parts.values())

    def charges(self, words: str, path: str) -> tuple[Charge, ...]:
        """What HAProxy said of this file (its alerts, one a line), which it knows by this path."""
        names = list(self.parts)
        ends = list(accumulate(part.count("\n") for part in (self.global_part, *self.parts.values())))
        place = re.compile(rf"{re.escape(path)}:([0-9]+)")
        charges = []
        for alert in words.splitlines():
            lines: dict[str, Line | None] = {}
            for number in map(int, place.findall(alert)):
                index = sum(end < number for end in ends) - 1
                if 0 <= index < len(names):
                    lines.setdefault(names[index], Line(part=self.parts[names[index]], number=number - ends[index] - 1))
            if not lines:
                lines = {name: None for name in _NAMES.findall(alert) if name in self.parts}
            charges.append(Charge(words=_own_words(alert, place.pattern), lines=lines))
        return tuple(charges)

    def lacks(self, description: str, socket: str) -> str | None:
        """What this file must have and has not, so that it must not be used; None when it is whole.

        `description` is the structure's name, `socket` how the stats socket is written.
        """
        for line in (f"description {description}", f"stats socket {socket}"):
            if line not in self.global_part:
                return f"'{line}'"
        for name, part in self.parts.items():
            if not holds(name, part):
                return f"the backend {name}"
        return None


def holds(name: str, part: str) -> bool:
    """Whether the text of a service's part is whole: it has the service's backend, and its last line ends."""
    return part.endswith("\n") and any(
        section != "frontend" and found == name for section, found in _SECTION.findall(part)
    )


Refused = Callable[[Collection[str]], Sequence[Charge] | None]
"""What HAProxy says against a file with these services only, None when it takes it. Whatever else these services speak
of is to be there, empty."""


def culprits(settled: Sequence[str], suspects: Sequence[str], refused: Refused) -> dict[str, Charge] | None:
    """The services without which HAProxy takes the file, with what it says against each; None when it refuses the file
    without any service, so that nobody is to blame.

    `settled` are those that HAProxy runs with as they are: they are blamed only for what they do by themselves. Of
    services that are fine alone and not together, the last in the order of `settled` and then `suspects` is blamed.
    Where HAProxy's words name a service of which that is so, they are believed, and what is left is asked about
    again: one question more than it finds errors at a time. Where they name nobody, each culprit takes as many
    questions as the number of services can be halved.
    """
    known, rest = list(settled), list(suspects)
    found: dict[str, Charge] = {}
    sure = False  # that `known` are fine together
    said = refused([*known, *rest])
    while said is not None:
        named = _named(said, rest)
        if named:
            found |= named
            rest = [name for name in rest if name not in named]
        elif not sure:
            sure = True
            alone = refused(known) if rest else said
            if alone is None:
                continue
            among = culprits((), known, refused) if known else None
            if among is None:
                return None
            found |= among
            known = [name for name in known if name not in among]
        elif rest:
            last, words = _halve(known, rest, said, refused)
            found[rest[last]] = _against(rest[last], words)
            known, rest = [*known, *rest[:last]], rest[last + 1 :]
        else:
            return None  # HAProxy says one thing and then another
        said = refused([*known, *rest])
    return found


def _named(said: Iterable[Charge], among: Sequence[str]) -> dict[str, Charge]:
    """Whom the words blame: of those that a charge names, the last. Who clashes only with somebody who is blamed for
    something else as well is not."""
    rank = {name: number for number, name in enumerate(among)}
    blamed: dict[str, Charge] = {}
    for charge in sorted(said, key=lambda charge: len(charge.lines)):
        names = [name for name in charge.lines if name in rank]
        if names and not blamed.keys() & charge.lines.keys():
            blamed[max(names, key=rank.__getitem__)] = charge
    return blamed


def _halve(
    known: Sequence[str], rest: Sequence[str], said: Sequence[Charge], refused: Refused
) -> tuple[int, Sequence[Charge]]:
    """The first of `rest` that is refused after `known` and those before it, and what is said then; `said` is what is
    said of all of them."""
    fine, bad = 0, len(rest)
    while bad - fine > 1:
        middle = (fine + bad) // 2
        words = refused([*known, *rest[:middle]])
        if words is None:
            fine = middle
        else:
            bad, said = middle, words
    return bad - 1, said


def _against(name: str, said: Sequence[Charge]) -> Charge:
    """The charge that names this service, or else the first."""
    return next(
        (charge for charge in said if name in charge.lines), said[0] if said else Charge(words="no reason given")
    )


def _own_words(alert: str, place: str) -> str:
    """HAProxy's words without the places of the file, which nobody has whom they are told."""
    words = re.sub(rf"^(?i:parsing )?\[{place}\]\s*:?\s*", "", alert)
    words = re.sub(rf"(?: declared)?(?: at)? ?\(?(?:declared at )?{place}\)?", "", words)
    words = re.sub(r" at line [0-9]+", "", words)
    words = " ".join(words.split()).rstrip(" .:")
    half = _WORDS_LIMIT // 2
    return words if len(words) <= _WORDS_LIMIT else f"{words[:half].rstrip()} … {words[-half:].lstrip()}"
