"""What a word in a configuration file is: environment variables filled in, then text, number, true, false or null.

Plain words are read as YAML 1.2 reads them, which is also what editors do: `on`, `no`, `12:30`, `0777` and
`2024-01-01` are texts, where YAML 1.1 made something else of them. A model that wants a number refuses them.
"""

import math
import re
from collections.abc import Mapping

_VARIABLE = re.compile(r"\$\$\{|\$\{([^}]*)(\}?)")
_NAME_AND_DEFAULT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(:-(.*))?", re.DOTALL)
_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_NUMBER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})(\.[0-9]{0,18})?([eE][-+]?[0-9]{1,3})?")
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}


def resolve(text: str) -> str | int | float | bool | None:
    """What a word without quotes stands for."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _WHOLE.fullmatch(text):
        return int(text)
    if _NUMBER.fullmatch(text) and math.isfinite(number := float(text)):
        return number
    return text


def substitute(text: str, env: Mapping[str, str]) -> str:
    """Fill in `${NAME}`, and `${NAME:-default}` where the variable is not set or empty; `$${` is a plain `${`.

    Raises ValueError with every variable that is not set, or when there is a `${` that is neither.
    """
    if "${" not in text:
        return text
    missing: list[str] = []

    def fill(match: re.Match[str]) -> str:
        if match[1] is None:
            return "${"
        parts = _NAME_AND_DEFAULT.fullmatch(match[1])
        if parts is None or not match[2]:
            raise ValueError("a variable is written ${NAME} or ${NAME:-default}; write $${ for a plain ${")
        value = env.get(parts[1])
        if parts[2]:
            return value or parts[3]
        if value is None:
            missing.append(parts[1])
            return ""
        return value

    filled = _VARIABLE.sub(fill, text)
    if missing:
        names = sorted(set(missing))
        subject = f"environment variable {names[0]} is" if len(names) == 1 else f"{' and '.join(names)} are"
        raise ValueError(f"{subject} not set; ${{NAME:-default}} gives a default")
    return filled
