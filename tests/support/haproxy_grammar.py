"""HAProxy's configuration read as HAProxy reads it, by its manual (2.2, "Quoting and escaping") and by nothing of ours.

What would make HAProxy read something else than what stands there is refused: a variable of the environment, a quote
that is not closed, a control character.
"""

from dataclasses import dataclass, field

SECTIONS = frozenset(
    {
        *("global", "defaults", "frontend", "backend", "listen", "userlist", "peers", "mailers", "program"),
        *("resolvers", "cache", "ring", "http-errors", "fcgi-app", "log-forward", "log-profile", "crt-store"),
        *("traces", "acme"),
    }
)
_ESCAPED = {"r": "\r", "n": "\n", "t": "\t", " ": " ", "#": "#", '"': '"', "'": "'", "\\": "\\", "$": "$"}


@dataclass(slots=True)
class Section:
    """One section: the words of the line that begins it, and those of each line in it."""

    words: list[str]
    lines: list[list[str]] = field(default_factory=list)

    def of(self, *keyword: str) -> list[list[str]]:
        """What follows these words, in each line that begins with them."""
        return [line[len(keyword) :] for line in self.lines if line[: len(keyword)] == list(keyword)]


def read_sections(text: str) -> list[Section]:
    """The sections of a file. Raises ValueError for what is not plain, and for a line before the first section."""
    sections: list[Section] = []
    for line in text.removesuffix("\n").split("\n"):
        words = split_line(line)
        if not words:
            continue
        if words[0] in SECTIONS:
            sections.append(Section(words))
        elif sections:
            sections[-1].lines.append(words)
        else:
            raise ValueError(f"outside of every section: {line!a}")
    return sections


def split_line(line: str) -> list[str]:
    """The words of one line; none of a comment. Raises ValueError."""
    if not line.isprintable():
        raise ValueError(f"control characters: {line!a}")
    words: list[str] = []
    word: str | None = None
    quote = ""
    letters = iter(line)
    for letter in letters:
        if quote == "'":
            quote, word = ("", word) if letter == quote else (quote, (word or "") + letter)
        elif letter == "\\":
            word = (word or "") + _escaped(line, next(letters, ""))
        elif letter == "$" and quote == '"':
            raise ValueError(f"a variable of the environment: {line!a}")
        elif letter == quote:
            quote = ""
        elif quote:
            word = (word or "") + letter
        elif letter in "'\"":
            quote, word = letter, word or ""
        elif letter == "#":
            break
        elif letter == " ":
            words += [] if word is None else [word]
            word = None
        else:
            word = (word or "") + letter
    if quote:
        raise ValueError(f"a quote that is not closed: {line!a}")
    return words if word is None else [*words, word]


def _escaped(line: str, letter: str) -> str:
    if letter not in _ESCAPED:
        raise ValueError(f"an escape that is not plain: {line!a}")
    return _ESCAPED[letter]
