"""A client in an open loop: it sends when the time has come, answered or not, as many clients together do. Latency is
from that time on, so that nobody who waits hides how long he waited. Run as a program, this module is that client:

    python -m tests.bench.open_loop HOST PORT RATE SECONDS TIMEOUT

It prints one line of JSON for each request: when it was sent, how long it took, its status (0: none) and who answered.
"""

import asyncio
import json
import sys
import time
from dataclasses import dataclass

_PATIENCE_SECONDS = 0.5


@dataclass(slots=True)
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class _Client:
    def __init__(self, host: str, port: int, timeout: float) -> None:
        self._host, self._port, self._timeout = host, port, timeout
        self._idle: list[_Connection] = []
        self.results: list[tuple[float, float, int, str]] = []

    async def send(self, at: float, began: float) -> None:
        status, who = 0, ""
        connection: _Connection | None = None
        try:
            async with asyncio.timeout(self._timeout):
                if self._idle:
                    connection = self._idle.pop()
                else:
                    connection = _Connection(*await asyncio.open_connection(self._host, self._port))
                status, who = await self._exchange(connection)
            self._idle.append(connection)
        except (OSError, ValueError, asyncio.IncompleteReadError, TimeoutError):
            if connection is not None:
                connection.writer.close()
        self.results.append((at - began, time.monotonic() - at, status, who))

    async def _exchange(self, connection: _Connection) -> tuple[int, str]:
        connection.writer.write(f"GET / HTTP/1.1\r\nHost: {self._host}\r\n\r\n".encode())
        head = (await connection.reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = int(head.partition("content-length:")[2].split("\r\n")[0])
        body = await connection.reader.readexactly(length)
        if "connection: close" in head:
            connection.writer.close()
            raise ConnectionResetError
        return int(head.split()[1]), body.decode().strip()


async def _run(host: str, port: int, rate: float, seconds: float, timeout: float) -> None:
    client = _Client(host, port, timeout)
    began = time.monotonic() + 0.1
    tasks = set()
    for number in range(int(rate * seconds)):
        at = began + number / rate
        await asyncio.sleep(max(0.0, at - time.monotonic()))
        task = asyncio.create_task(client.send(at, began))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    if tasks:
        await asyncio.wait(tasks, timeout=timeout + _PATIENCE_SECONDS)
    for result in client.results:
        print(json.dumps(result))


if __name__ == "__main__":
    arguments = sys.argv[1:]
    asyncio.run(_run(arguments[0], int(arguments[1]), *map(float, arguments[2:5])))
