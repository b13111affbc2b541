"""The last hour of the feed, in frames of ten seconds, within a fixed memory. Pure: the time is an argument.

Times are seconds of the epoch. Ten seconds in which synapse was not there are no frame: a gap, not a quiet time.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from synapse.telemetry.frames import FRAME_SECONDS, By, Counted, Frame, Group, join
from synapse.telemetry.learning import Sample
from synapse.telemetry.request import Request
from synapse.telemetry.tally import CELLS_LIMIT, Tally
from synapse.telemetry.templates import Templates

FRAMES: Final = 360
"""Frames that are kept: an hour."""

GAP_SECONDS: Final = 10.0
"""When nobody said for longer what time it is, synapse was not there in the meantime."""

KEPT_LIMIT: Final = 16 * 1024 * 1024
"""Bytes of all frames together. Beyond that the details of the oldest are dropped, then the oldest themselves."""

_FRAME_BYTES: Final = 1200
_KEY_BYTES: Final = 300
"""What a frame and a key cost besides their contents, a little more than measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one frame has of one kind of cells."""

    number: int
    covered: float
    counted: Counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The frames that a time touches, of which there is anything: so that it may begin up to 10 s early. `first` and
    `last` are the numbers of the frames that there could be."""

    first: int
    last: int
    parts: tuple[Part, ...]

    @property
    def covered(self) -> float:
        """For how many seconds there is knowledge."""
        return sum(part.covered for part in self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much is kept, and how much may be. `cells` are those of the ten seconds that are being counted; `bytes` those
    of all before; `folded` counts the requests that share a cell with others since the start, for lack of room."""

    cells: int
    cells_limit: int
    bytes: int
    bytes_limit: int
    folded: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """A frame, and the bytes that it and its details cost."""

    frame: Frame
    bytes: int
    detail_bytes: int


class Series:
    """The frames that are kept and the one that is being counted. `templates` are the routes of the services."""

    def __init__(self, now: float, kept_limit: int = KEPT_LIMIT) -> None:
        self.templates: Mapping[str, Templates] = {}
        self.sample = Sample()
        self._kept_limit = kept_limit
        self._kept: deque[_Kept] = deque()
        self._bytes = 0
        self._tally = Tally()
        self._folded = 0
        self._number = _number(now)
        self._covered = 0.0
        self._now = now

    @property
    def number(self) -> int:
        """The frame that is being counted."""
        return self._number

    def add(self, requests: Sequence[Request], now: float) -> None:
        """These requests have ended."""
        self.advance(now)
        self._tally.add(requests, self.templates)
        note = self.sample.note
        for request in requests:
            if request.path:
                note(request.service, request.path)

    def advance(self, now: float) -> None:
        """It is so late. A time before the last one is taken for that one."""
        if now <= self._now:
            return
        there = now - self._now <= GAP_SECONDS
        number = _number(now)
        while self._number < number:
            if there:
                self._covered += (self._number + 1) * FRAME_SECONDS - max(self._now, self._number * FRAME_SECONDS)
            self._close()
            self._number = self._number + 1 if there else number
        if there:
            self._covered += now - max(self._now, number * FRAME_SECONDS)
        self._now = now

    def shift(self, frames: int) -> None:
        """The clock was put forward by so many frames, or back: what is kept is as old as it was."""
        self._kept = deque(
            replace(kept, frame=replace(kept.frame, number=kept.frame.number + frames)) for kept in self._kept
        )
        self._number += frames
        self._now += frames * FRAME_SECONDS

    def restore(self, frames: Iterable[Frame]) -> int:
        """Take frames of before the start, as far as they are of the last hour and not known yet; how many they were.
        One of these very ten seconds is joined with them when they are over."""
        known = {kept.frame.number for kept in self._kept}
        good = {
            frame.number: frame
            for frame in frames
            if self._number - FRAMES < frame.number <= self._number and frame.number not in known
        }
        whole = sorted((*self.since(0), *good.values()), key=lambda frame: frame.number)
        self._kept.clear()
        self._bytes = 0
        for frame in whole:
            self._keep(frame)
        return len(good)

    def since(self, number: int) -> tuple[Frame, ...]:
        """The frames that are over, from this number on."""
        return tuple(kept.frame for kept in self._kept if kept.frame.number >= number)

    def finish(self) -> None:
        """End the frame that is being counted now, for the disk: what comes later is another part of it."""
        self._close()

    def learn(self, service: str) -> Mapping[str, int]:
        """The paths that were seen of this service, with how often; for a while more of them are kept."""
        return self.sample.ask(service, self._now)

    def window(self, seconds: float, by: By, now: float | None = None) -> Window:
        """What is known of the last seconds before `now`; None: before the last time that was told. What passed since
        then is a gap."""
        now = self._now if now is None else max(now, self._now)
        last = _number(now)
        first = max(_number(now - seconds), last - FRAMES)
        parts = [
            Part(number=frame.number, covered=frame.covered, counted=frame.groups[by])
            for frame in self.since(first)
            if by in frame.groups
        ]
        if self._number >= first:
            parts.append(Part(number=self._number, covered=self._covered, counted=self._tally.loose(by)))
        return Window(first=first, last=last, parts=tuple(parts))

    def limits(self) -> Limits:
        """How full it is."""
        return Limits(
            cells=self._tally.size,
            cells_limit=CELLS_LIMIT,
            bytes=self._bytes,
            bytes_limit=self._kept_limit,
            folded=self._folded + self._tally.folded,
        )

    def _close(self) -> None:
        """Keep what was counted, and begin anew."""
        if self._covered > 0 or self._tally.size:
            covered = min(float(FRAME_SECONDS), self._covered)
            frame = Frame(number=self._number, covered=covered, groups=self._tally.groups())
            if self._kept and self._kept[-1].frame.number == frame.number:
                frame = join(self._drop(-1), frame)
            self._keep(frame)
        self._folded += self._tally.folded
        self._tally, self._covered = Tally(), 0.0
        self.sample.forget(self._now)

    def _keep(self, frame: Frame) -> None:
        kept = self._measured(frame)
        self._kept.append(kept)
        self._bytes += kept.bytes + kept.detail_bytes
        while self._kept[0].frame.number <= frame.number - FRAMES:
            self._drop(0)
        for place, old in enumerate(self._kept):
            if self._bytes <= self._kept_limit:
                return
            plain: dict[By, Group] = {by: group for by, group in old.frame.groups.items() if by == "service"}
            self._kept[place] = replace(old, frame=replace(old.frame, groups=plain), detail_bytes=0)
            self._bytes -= old.detail_bytes
        while self._bytes > self._kept_limit:
            self._drop(0)

    def _drop(self, place: int) -> Frame:
        kept = self._kept[place]
        del self._kept[place]
        self._bytes -= kept.bytes + kept.detail_bytes
        return kept.frame

    def _measured(self, frame: Frame) -> _Kept:
        """With the keys of the frame before wherever they are the same, so that each is in memory once."""
        before = self._kept[-1].frame.groups if self._kept else {}
        groups: dict[By, Group] = {}
        sizes: dict[By, int] = {}
        for by, group in frame.groups.items():
            old = before[by].keys if by in before else ()
            groups[by], sizes[by] = group, len(group.packed)
            if old == group.keys:
                groups[by] = Group(old, group.packed)
                continue
            known = {key: key for key in old}
            groups[by] = Group(tuple(known.get(key, key) for key in group.keys), group.packed)
            news = [key for key in group.keys if key not in known]
            sizes[by] += 8 * len(group.keys) + sum(_KEY_BYTES + sum(map(len, key)) for key in news)
        plain = _FRAME_BYTES + sizes.pop("service", 0)
        return _Kept(frame=replace(frame, groups=groups), bytes=plain, detail_bytes=sum(sizes.values()))


def _number(now: float) -> int:
    return int(now // FRAME_SECONDS)
