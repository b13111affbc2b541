"""The error tree. Every error that a user may meet is one of these, and its text is one sentence for that user.

SmartStackError              exit 1   an expected failure
├── ConfigError              exit 2   a file or an argument is wrong; carries every Problem found
├── RegistryError                     the registry could not do it
│   ├── RegistryUnavailable           the link is down or did not answer in time; the next cycle tries again
│   └── RegistryRefused               the registry said no (permission, a full disk); somebody must act
└── HAProxyError             (in synapse.haproxy.errors)
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong in a configuration file.

    `line` and `column` count from 1; 0 means that the problem belongs to the file as a whole.
    `key` is dotted (`proxy.listen`), empty for the file as a whole. `got` is the offending value as the user wrote
    it, shortened; None where there is none to show. `in_use`: what the file says is in use all the same.
    """

    path: str
    line: int = 0
    column: int = 0
    key: str = ""
    message: str
    got: str | None = None
    in_use: bool = False

    def __str__(self) -> str:
        where = f"{self.path}:{self.line}:{self.column}" if self.line else self.path
        key = f"{self.key}: " if self.key else ""
        got = f", got {self.got}" if self.got is not None else ""
        return f"{where}: {key}{self.message}{got}"


class SmartStackError(Exception):
    """An expected failure: one sentence that says what was attempted, on what, and what the reader can do."""

    exit_code = 1


class ConfigError(SmartStackError):
    """A configuration file or an argument is wrong; nothing was changed.

    Its text is every problem, one a line.
    """

    exit_code = 2

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class RegistryError(SmartStackError):
    """The registry could not do what was asked."""


class RegistryUnavailable(RegistryError):
    """The registry is away or did not answer in time. Nothing is known; the next cycle tries again."""


class RegistryRefused(RegistryError):
    """The registry answered no: a missing permission, a full disk, a bad credential."""
