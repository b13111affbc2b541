"""A service of the lab: answers with its name, as the file that it is given says at that moment.

    python -m tests.lab.service ADDRESS PORT NAME FILE

The file is JSON: `status`, `after` (seconds), `name` (another service's). Without it: 200, at once.
"""

import asyncio
import json
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any


async def _answer(name: str, file: Path, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        while True:
            await reader.readuntil(b"\r\n\r\n")
            mood: dict[str, Any] = {}
            with suppress(OSError, ValueError):
                mood = json.loads(file.read_text())
            await asyncio.sleep(mood.get("after", 0.0))
            body = f"{mood.get('name', name)}\n"
            head = f"HTTP/1.1 {mood.get('status', 200)} Lab\r\nX-Service: {body.strip()}\r\nContent-Length: {len(body)}"
            writer.write(f"{head}\r\n\r\n{body}".encode())
            await writer.drain()
    with suppress(OSError):
        writer.close()


async def _serve(address: str, port: int, name: str, file: Path) -> None:
    server = await asyncio.start_server(partial(_answer, name, file), address, port, backlog=1024)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])))
