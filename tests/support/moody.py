"""Real HTTP servers that behave as they are told, one after the other: quick, slow, failing at once, hanging. Many
addresses in one child process. Each answers with its address. Run as a program, this module is that child."""

import asyncio
import random
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass

LINE_SECONDS = 10.0


class Moody:
    """The servers of one test. They take about 1 ms to answer, unless told otherwise."""

    def __init__(self) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def open(self, host: str, port: int) -> None:
        """Serve there."""
        self._tell(f"open {host} {port}")

    def answer(self, host: str, port: int, *, after: float = 0.001, status: int = 200, within: float = 0.0) -> None:
        """Answer like this, so many seconds after a request; from a time-out of before it grows there evenly, `within`
        so many seconds."""
        self._tell(f"answer {host} {port} {after} {status} {within}")

    def hang(self, host: str, port: int) -> None:
        """Take requests, and answer no more, not even those that are here already."""
        self._tell(f"hang {host} {port}")

    def stop(self) -> None:
        """End all of them; safe to repeat."""
        self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            with suppress(OSError):
                if pipe is not None:
                    pipe.close()

    def _tell(self, line: str) -> None:
        assert self._child.stdin is not None and self._child.stdout is not None
        guard = threading.Timer(LINE_SECONDS, self._child.kill)
        guard.start()
        try:
            self._child.stdin.write(f"{line}\n")
            self._child.stdin.flush()
            answer = self._child.stdout.readline().strip()
        finally:
            guard.cancel()
        assert answer == "done", f"the servers were told {line!r} and answered {answer!r}"


@dataclass(slots=True, kw_only=True)
class _Mood:
    """How one server answers. `since` and `within` are of a change of the delay under way, from `before` to `after`."""

    body: bytes
    before: float = 0.001
    after: float = 0.001
    since: float = 0.0
    within: float = 0.0
    status: int = 200
    hangs: bool = False

    def delay(self, now: float) -> float:
        part = min(1.0, (now - self.since) / self.within) if self.within > 0 else 1.0
        fixed = self.before + (self.after - self.before) * part
        # What is quick takes a little longer now and then, as everything does.
        return fixed + random.expovariate(1000.0) if fixed > 0 else 0.0

    def answer(self) -> bytes:
        head = f"HTTP/1.1 {self.status} Told\r\nContent-Length: {len(self.body)}\r\n\r\n"
        return head.encode() + self.body


class _Connection(asyncio.Protocol):
    def __init__(self, mood: _Mood) -> None:
        self._mood = mood
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while b"\r\n\r\n" in self._buffer:
            _, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
            loop = asyncio.get_running_loop()
            loop.call_later(self._mood.delay(loop.time()), self._answer)

    def _answer(self) -> None:
        if not self._mood.hangs:
            self._transport.write(self._mood.answer())


class _Servers:
    def __init__(self) -> None:
        self._moods: dict[str, _Mood] = {}

    async def obey(self, line: str) -> str:
        loop = asyncio.get_running_loop()
        match line.split():
            case ["open", host, port]:
                mood = self._moods[f"{host} {port}"] = _Mood(body=f"{host}:{port}\n".encode())
                try:
                    await loop.create_server(lambda: _Connection(mood), host, int(port), backlog=1024)
                except OSError as error:
                    return str(error)
            case ["answer", host, port, after, status, within]:
                mood = self._moods[f"{host} {port}"]
                mood.before, mood.after = mood.after, float(after)
                mood.since, mood.within = loop.time(), float(within)
                mood.status, mood.hangs = int(status), False
            case ["hang", host, port]:
                self._moods[f"{host} {port}"].hangs = True
            case _:
                return "no such command"
        return "done"


async def _main() -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    servers = _Servers()
    while line := await reader.readline():
        print(await servers.obey(line.decode()), flush=True)


if __name__ == "__main__":
    asyncio.run(_main())
