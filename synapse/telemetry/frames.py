"""A frame: ten seconds that are over, packed; and frames as they are kept on disk. Pure.

The cells of a frame are mostly zeros, and alike: packed they are a tenth of their size.
"""

import base64
import binascii
import json
import math
import zlib
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, get_args

from synapse.telemetry.cells import WIDTH, added

FRAME_SECONDS: Final = 10

By = Literal["service", "instance", "route", "source"]
"""What is counted apart: everything of a service, or its parts of one kind."""

DETAILS: Final[tuple[By, ...]] = ("instance", "route", "source")

Key = tuple[str, ...]
"""Whose cell it is. By service: its name and mode; by instance: service and address; by route: service, method and
route; by source: service, kind and name of the source."""

WIDTHS: Final[Mapping[By, int]] = {"service": 2, "instance": 2, "route": 3, "source": 3}
"""How long the keys are."""

LABEL_LIMIT: Final = 256
"""No part of a key is longer."""

_FORMAT: Final = 1
_KEYS_LIMIT: Final = 20_000
_TEXT_LIMIT: Final = 32 * 1024 * 1024
_CELL_BYTES: Final = 8 * WIDTH


class Counted(Protocol):
    """Cells of one kind: whose they are, and their numbers one after the other."""

    @property
    def keys(self) -> tuple[Key, ...]: ...

    def numbers(self) -> Sequence[float]: ...


@dataclass(frozen=True, slots=True)
class Loose:
    """Cells as they are."""

    keys: tuple[Key, ...]
    flat: Sequence[float]

    def numbers(self) -> Sequence[float]:
        """Of all cells."""
        return self.flat


@dataclass(frozen=True, slots=True)
class Group:
    """Cells, packed."""

    keys: tuple[Key, ...]
    packed: bytes

    def numbers(self) -> Sequence[float]:
        """Of all cells."""
        return _numbers(zlib.decompress(self.packed))


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """Ten seconds of the feed: those from `number` * 10 s of the epoch on. `covered` is for how many of them synapse
    was there. `groups` lacks the details where there was no room for them."""

    number: int
    covered: float
    groups: Mapping[By, Group]


def pack(cells: Mapping[Key, Sequence[float]]) -> Group:
    """These cells, in the order of their keys, so that frames of the same keys can share them."""
    numbers = array("d")
    for key in sorted(cells):
        numbers.extend(cells[key])
    return Group(tuple(sorted(cells)), zlib.compress(numbers.tobytes(), 1))


def loosen(cells: Mapping[Key, Sequence[float]]) -> Loose:
    """A copy of these cells."""
    numbers = array("d")
    for cell in cells.values():
        numbers.extend(cell)
    return Loose(tuple(cells), numbers)


def cells_of(counted: Counted, service: str | None = None) -> Iterator[tuple[Key, Sequence[float]]]:
    """Each cell with its key; of one service, where it is given."""
    numbers = counted.numbers()
    for place, key in enumerate(counted.keys):
        if service in (None, key[0]):
            yield key, numbers[place * WIDTH : (place + 1) * WIDTH]


def condense(parts: Iterable[Counted]) -> Iterator[Counted]:
    """The same in all, with what has the same keys and follows each other added up: that is quick, and most of it."""
    whole: Loose | None = None
    for part in parts:
        if whole is not None and whole.keys is part.keys:
            whole = Loose(whole.keys, added(whole.flat, part.numbers()))
            continue
        if whole is not None:
            yield whole
        whole = Loose(part.keys, part.numbers())
    if whole is not None:
        yield whole


def join(one: Frame, other: Frame) -> Frame:
    """Two parts of the same ten seconds: before a restart, and after it."""
    groups: dict[By, Group] = {}
    for by in one.groups.keys() & other.groups.keys():
        cells = dict(cells_of(one.groups[by]))
        for key, cell in cells_of(other.groups[by]):
            cells[key] = added(cells[key], cell) if key in cells else cell
        groups[by] = pack(cells)
    covered = min(float(FRAME_SECONDS), one.covered + other.covered)
    return Frame(number=one.number, covered=covered, groups=groups)


def write(frames: Iterable[Frame]) -> bytes:
    """Frames for the disk: compressed JSON."""
    told = [
        {
            "number": frame.number,
            "covered": round(frame.covered, 3),
            "groups": {
                by: {"keys": group.keys, "packed": base64.b64encode(group.packed).decode()}
                for by, group in frame.groups.items()
            },
        }
        for frame in frames
    ]
    text = json.dumps({"format": _FORMAT, "width": WIDTH, "frames": told}, separators=(",", ":"))
    return zlib.compress(text.encode(), 1)


def read(data: bytes) -> tuple[Frame, ...]:
    """Frames from the disk. Raises ValueError, with what is wrong, for anything that `write` did not write."""
    try:
        content = json.loads(_inflate(data, _TEXT_LIMIT))
        if content.get("format") != _FORMAT or content.get("width") != WIDTH:
            raise ValueError("it is not of this version")
        return tuple(_frame(told) for told in content["frames"])
    except (zlib.error, binascii.Error) as error:
        raise ValueError(str(error)) from error
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"it does not hold what it should: {error!r}") from error


def _frame(told: Any) -> Frame:
    number, covered = told["number"], told["covered"]
    if type(number) is not int or not 0 <= number < 2**40:
        raise ValueError("a frame has no number")
    if type(covered) not in (int, float) or not 0 <= covered <= FRAME_SECONDS:
        raise ValueError("a frame does not say what it covers")
    groups = {by: _group(by, told["groups"][by]) for by in get_args(By) if by in told["groups"]}
    return Frame(number=number, covered=float(covered), groups=groups)


def _group(by: By, told: Any) -> Group:
    keys = tuple(tuple(key) for key in told["keys"])
    if len(keys) > _KEYS_LIMIT or not all(len(key) == WIDTHS[by] and all(map(_is_label, key)) for key in keys):
        raise ValueError(f"the keys by {by} are none")
    packed = base64.b64decode(told["packed"], validate=True)
    numbers = _inflate(packed, len(keys) * _CELL_BYTES)
    if len(numbers) != len(keys) * _CELL_BYTES or not all(0 <= each < math.inf for each in _numbers(numbers)):
        raise ValueError(f"the cells by {by} are none")
    return Group(keys, packed)


def _is_label(part: Any) -> bool:
    return isinstance(part, str) and len(part) <= LABEL_LIMIT


def _inflate(data: bytes, limit: int) -> bytes:
    """The whole of what was compressed. Raises ValueError when that is longer than the limit."""
    inflater = zlib.decompressobj()
    text = inflater.decompress(data, limit + 1)
    if len(text) > limit or not inflater.eof or inflater.unused_data:
        raise ValueError("it is cut off, or longer than it may be")
    return text


def _numbers(data: bytes) -> Sequence[float]:
    numbers = array("d")
    numbers.frombytes(data)
    return numbers
