"""A client of the lab, one for each host: calls services by their fixed ports all the time, whatever happens.

    python -m tests.lab.client RATE FILE PORT ...

Half of the requests go over connections that are kept, half over new ones. The file gets these lines, with seconds of
the monotonic clock: `started`; NUMBER SENT `sent` for each request, and NUMBER SENT TOOK HOW when it has ended: `ok`,
`slow` (a good answer after more than a second), `refused`, `reset`, `truncated`, `silent` (no answer within 5 s), or a
status.
"""

import asyncio
import sys
import time
from contextlib import suppress
from typing import Final, TextIO

SLOW_SECONDS: Final = 1.0
PATIENCE_SECONDS: Final = 5.0

_Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Client:
    def __init__(self, told: TextIO) -> None:
        self._told = told
        self._idle: dict[int, list[_Connection]] = {}

    async def call(self, number: int, port: int, *, keep: bool) -> None:
        sent = time.monotonic()
        self._told.write(f"{number} {sent:.3f} sent\n")
        how = await self._ask(port, keep=keep)
        took = time.monotonic() - sent
        if how == "ok" and took > SLOW_SECONDS:
            how = "slow"
        self._told.write(f"{number} {sent:.3f} {took:.4f} {how}\n")

    async def _ask(self, port: int, *, keep: bool) -> str:
        connection, idle = None, self._idle.setdefault(port, [])
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while keep and idle and connection is None:
                    connection = idle.pop()
                    if connection[0].at_eof():
                        connection[1].close()
                        connection = None
                if connection is None:
                    connection = await asyncio.open_connection("127.0.0.1", port)
                status, closes = await _exchange(connection, keep=keep)
            if keep and not closes:
                idle.append(connection)
                connection = None
            return "ok" if status == "200" else status
        except TimeoutError:
            return "silent"
        except ConnectionRefusedError:
            return "refused"
        except asyncio.IncompleteReadError as error:
            return "truncated" if error.partial else "reset"
        except (OSError, ValueError):
            return "reset"
        finally:
            if connection is not None:
                with suppress(OSError):
                    connection[1].close()


async def _exchange(connection: _Connection, *, keep: bool) -> tuple[str, bool]:
    reader, writer = connection
    writer.write(b"GET / HTTP/1.1\r\nHost: lab\r\n" + (b"" if keep else b"Connection: close\r\n") + b"\r\n")
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    await reader.readexactly(int(head.partition("content-length:")[2].split("\r\n")[0]))
    return head.split()[1], "connection: close" in head


async def _run(rate: float, file: str, ports: list[int]) -> None:
    began, number, tasks = time.monotonic(), 0, set()
    with open(file, "a", buffering=1, encoding="ascii") as told:
        client = _Client(told)
        told.write("started\n")
        while True:
            number += 1
            # After a pause (of the machine, or of this process) the rate is kept, and what was missed is not caught up.
            began = max(began, time.monotonic() - number / rate - 1.0)
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            port = ports[number % len(ports)]
            task = asyncio.create_task(client.call(number, port, keep=number // len(ports) % 2 == 0))
            tasks.add(task)
            task.add_done_callback(tasks.discard)


if __name__ == "__main__":
    asyncio.run(_run(float(sys.argv[1]), sys.argv[2], [int(word) for word in sys.argv[3:]]))
