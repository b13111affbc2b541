"""The hour of history as a part of the process: told of requests, asked by the admin address, kept on disk.

Files of a minute each are written by a thread of their own, so that no disk holds the feed up. After a restart the
history goes on, with a gap for as long as synapse was away.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from smartstack.errors import SmartStackError
from smartstack.logs import EventLog
from smartstack.process import write_atomically
from synapse.telemetry.frames import FRAME_SECONDS, By, Frame, read, write
from synapse.telemetry.request import Request
from synapse.telemetry.series import FRAMES, Limits, Series, Window
from synapse.telemetry.templates import Templates

SAVE_SECONDS: Final = 60.0

JUMP_SECONDS: Final = 10.0
"""By so much the time of day may differ from what it should be; beyond that somebody has set the clock."""

FRAMES_A_FILE: Final = 6

FILES_LIMIT: Final = 400
"""Files that are read at the start; there is about one a minute."""

FILE_LIMIT: Final = 8 * 1024 * 1024
"""Bytes of one."""

_SUFFIX: Final = ".frames"


def uptime() -> float:
    """Seconds that go on while the machine sleeps, and that nobody can set."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class History:
    """A sink of the feed, under whose `lock` everything here is told and asked. Its files are in `directory`; without
    `writes` there are none.

    `problem` says why nothing can be kept on disk; None while all is well.
    """

    def __init__(
        self,
        directory: Path,
        lock: threading.Lock,
        log: EventLog,
        *,
        writes: bool = True,
        clock: Callable[[], float] = uptime,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.problem: str | None = None
        self._directory = directory
        self._lock = lock
        self._log = log
        self._writes = writes
        self._clock = clock
        self._wall = wall
        self._offset = wall() - clock()
        self._paths: dict[str, tuple[str, ...]] = {}
        self._series = Series(wall())
        self._unsaved = self._series.number
        self._jumps = 0
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Read what was kept before, and keep what comes."""
        if not self._writes:
            return
        self._thread = threading.Thread(target=self._run, name="telemetry-history", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Keep everything, also of the last seconds; safe to repeat."""
        if self._thread is None:
            return
        self._stopping.set()
        self._thread.join(timeout=5)
        self._thread = None
        with self._lock:
            self._series.finish()
        self.save(everything=True)

    def take(self, requests: Sequence[Request], now: float) -> None:
        """These requests have ended. The lock is held."""
        self._series.add(requests, self._time())

    def tick(self, now: float) -> None:
        """Some time has passed. The lock is held."""
        self._series.advance(self._time())

    def know(self, paths: Mapping[str, tuple[str, ...]]) -> None:
        """The path templates of each service that has some; from now on they name the routes."""
        if paths == self._paths:
            return
        kept = self._series.templates
        templates = {
            name: kept[name] if name in kept and self._paths.get(name) == these else Templates(these)
            for name, these in paths.items()
        }
        self._paths = dict(paths)
        with self._lock:
            self._series.templates = templates

    @property
    def templates(self) -> Mapping[str, Templates]:
        """Those, ready for use; never changed, only replaced."""
        return self._series.templates

    def window(self, seconds: float, by: By) -> Window:
        """What is known of the last seconds. While nothing can be received, nobody says how late it is: that is a gap
        too."""
        with self._lock:
            return self._series.window(seconds, by, self._time())

    def learn(self, service: str) -> Mapping[str, int]:
        """The paths of a service that were seen, with how often; for a while more of them are kept."""
        with self._lock:
            return self._series.learn(service)

    def limits(self) -> Limits:
        """How full it is."""
        with self._lock:
            return self._series.limits()

    def _time(self) -> float:
        """The time of day as it goes on without jumps. Where somebody has set the clock, the history moves along."""
        now = self._clock() + self._offset
        ahead = self._wall() - now
        if abs(ahead) > JUMP_SECONDS:
            frames = round(ahead / FRAME_SECONDS)
            self._series.shift(frames)
            self._offset += frames * FRAME_SECONDS
            now += frames * FRAME_SECONDS
            self._unsaved, self._jumps = 0, self._jumps + 1
        return now

    # The disk

    def load(self) -> int:
        """Take up what was kept; of how many frames that is."""
        frames = {frame.number: frame for frame in self._read()}
        with self._lock:
            return self._series.restore(frames.values())

    def save(self, *, everything: bool = False) -> None:
        """Write the frames that are new. Those of this moment are not over yet, and only kept where `everything` is."""
        with self._lock:
            unsaved, jumps, newest = self._unsaved, self._jumps, self._series.number
            frames = [each for each in self._series.since(unsaved) if everything or each.number < newest]
        if not frames:
            return
        files = {
            f"{part[-1].number}{_SUFFIX}": part
            for part in (frames[place : place + FRAMES_A_FILE] for place in range(0, len(frames), FRAMES_A_FILE))
        }
        try:
            self._directory.mkdir(mode=0o750, exist_ok=True)
            for name, part in files.items():
                write_atomically(self._directory / name, write(part), 0o640, durable=False)
            for path, last in self._files():
                stale = unsaved == 0 and path.name not in files
                if stale or not newest - FRAMES < last <= newest:
                    path.unlink()
        except (SmartStackError, OSError) as error:
            self._fails(str(error))
            return
        self.problem = None
        with self._lock:
            # Where the clock was set in the meantime, all is written once more.
            if jumps == self._jumps:
                self._unsaved = frames[-1].number + 1

    def _run(self) -> None:
        frames = self.load()
        if frames:
            self._log.info("the history of requests goes on", frames=frames)
        while not self._stopping.wait(SAVE_SECONDS):
            self.save()

    def _read(self) -> Iterator[Frame]:
        try:
            files = self._files()[-FILES_LIMIT:]
        except OSError:
            return  # there is none yet
        for path, _ in files:
            try:
                if path.stat().st_size > FILE_LIMIT:
                    raise ValueError("it is too long")
                frames = read(path.read_bytes())
            except (OSError, ValueError) as error:
                self._log.warning("a file of the history of requests is left aside", file=str(path), why=str(error))
                continue
            yield from frames

    def _files(self) -> list[tuple[Path, int]]:
        """The files with the number of the last frame in each, in their order."""
        names = ((path, path.name.removesuffix(_SUFFIX)) for path in self._directory.iterdir())
        ours = ((path, name) for path, name in names if path.suffix == _SUFFIX and name.isascii() and name.isdigit())
        return sorted(((path, int(name)) for path, name in ours if len(name) <= 12), key=lambda pair: pair[1])

    def _fails(self, why: str) -> None:
        if self.problem is None:
            self._log.warning("the history of requests is not kept on disk", why=why)
        self.problem = f"the history of requests is not kept on disk: {why}"
