"""Logs: one line on standard error for each event, a sentence and its fields, as `key=value` or as JSON."""

import json
import logging
import re
import sys
import time
import traceback
from typing import Any, Final, Literal

from smartstack.errors import SmartStackError

Form = Literal["text", "json"]

LEVELS: Final = ("debug", "info", "warning", "error")

VALUE_LIMIT: Final = 8_000
"""Longest value of one field, in characters; what is beyond is cut off and marked with `~`."""

_FIELDS: Final = "smartstack_fields"
_RESERVED: Final = frozenset({"time", "level", "log", "event", "traceback"})
_BARE: Final = re.compile(r"[A-Za-z0-9_.:/@%+,*\[\]-]+")


class EventLog:
    """The log of one part of the program; its name stands in every line.

    A field named like one of the line's own (`time`, `level`, `log`, `event`, `traceback`) gets a `_` behind it.
    """

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, sentence: str, /, **fields: object) -> None:
        """What only somebody who looks for a fault wants to know."""
        self._logger.debug(sentence, extra={_FIELDS: fields})

    def info(self, sentence: str, /, **fields: object) -> None:
        """What changed."""
        self._logger.info(sentence, extra={_FIELDS: fields})

    def warning(self, sentence: str, /, **fields: object) -> None:
        """What somebody should look at, though the work goes on."""
        self._logger.warning(sentence, extra={_FIELDS: fields})

    def error(self, sentence: str, /, **fields: object) -> None:
        """What could not be done."""
        self._logger.error(sentence, extra={_FIELDS: fields})

    def failure(self, sentence: str, error: BaseException, /, **fields: object) -> None:
        """An error that nobody expected, with its traceback in the same line."""
        self._logger.error(sentence, extra={_FIELDS: fields}, exc_info=error)


def configure(level: str, form: Form) -> None:
    """Send the events of this program and of its libraries to standard error; replaces what was configured before.

    `level` is one of `LEVELS`. Libraries are heard from `warning` on, or from `debug` on when that was asked for.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines() if form == "json" else _TextLines())
    root = logging.getLogger()
    for old in list(root.handlers):
        if isinstance(old.formatter, _Lines):
            root.removeHandler(old)
    root.addHandler(handler)
    set_level(level)
    # A handler that cannot write (standard error is a closed pipe) must not complain to the same pipe.
    logging.raiseExceptions = False


def set_level(level: str) -> None:
    """From now on log from this level on. Raises SmartStackError when it is none of `LEVELS`."""
    if level not in LEVELS:
        raise SmartStackError(f"cannot set the log level to {level!a}: it is one of {', '.join(LEVELS)}")
    root = logging.getLogger()
    for handler in root.handlers:
        if isinstance(handler.formatter, _Lines):
            handler.filters[:] = [_everything if level == "debug" else _own_or_serious]
    root.setLevel(level.upper())


def current_level() -> str:
    """The level from which on is logged."""
    return logging.getLevelName(logging.getLogger().level).lower()


def _own_or_serious(record: logging.LogRecord) -> bool:
    return hasattr(record, _FIELDS) or record.levelno >= logging.WARNING


def _everything(record: logging.LogRecord) -> bool:
    return True


class _Lines(logging.Formatter):
    """What both forms have in common: the pairs of a line, in their order."""

    def pairs(self, record: logging.LogRecord) -> dict[str, Any]:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        pairs: dict[str, Any] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "log": record.name,
            # Our own sentences are no format strings: a `%` in one stands for itself.
            "event": record.msg if hasattr(record, _FIELDS) else record.getMessage(),
        }
        for key, value in getattr(record, _FIELDS, {}).items():
            pairs[f"{key}_" if key in _RESERVED else key] = value
        if record.exc_info and record.exc_info[1] is not None:
            pairs["traceback"] = "".join(traceback.format_exception(record.exc_info[1])).rstrip()
        return pairs


class _TextLines(_Lines):
    def format(self, record: logging.LogRecord) -> str:
        return " ".join(f"{key}={_quoted(_text(value))}" for key, value in self.pairs(record).items())


class _JsonLines(_Lines):
    def format(self, record: logging.LogRecord) -> str:
        return json.dumps({key: _plain(value) for key, value in self.pairs(record).items()}, default=str)


def _text(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= VALUE_LIMIT else f"{text[: VALUE_LIMIT - 1]}~"


def _plain(value: object) -> object:
    return value if value is None or isinstance(value, bool | int | float) else _text(value)


def _quoted(text: str) -> str:
    """The text as it may stand in a line: bare where nothing in it could be misread, else in quotes.

    Nothing unprintable is left: no line break, no terminal escape, no lone surrogate.
    """
    if _BARE.fullmatch(text):
        return text
    escaped = "".join(
        f"\\{character}" if character in '\\"' else character if character.isprintable() else _escape(character)
        for character in text
    )
    return f'"{escaped}"'


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
