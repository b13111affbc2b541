"""SIGHUP to real daemons: what no watch of the files can hear is read at once."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.eventually import eventually
from tests.support.pair import Host


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A directory that no daemon watches."""
    made = Path(tempfile.mkdtemp(prefix="ss-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


def test_hangup_reads_what_no_watch_can_hear(host: Host, elsewhere: Path) -> None:
    """A definition that has a second name elsewhere (a hard link) is edited there: both daemons take it at SIGHUP,
    although the next time that they would read everything by themselves is an hour away."""
    host.settings["resync_interval"] = "1h"
    host.serve("web", 3210, 1)
    os.link(host.services / "web.yaml", elsewhere / "web.yaml")
    nerve = host.nerve(1, {"web": {}}, resync_interval="1h", instance_id="mine")
    nerve.start(until="/healthz")
    host.start()

    def announced() -> dict[str, Any]:
        web: dict[str, Any] = nerve.status()["services"]["web"]
        return web

    eventually(lambda: announced()["address"].endswith(":8080"))
    eventually(lambda: host.told("web")["listen"] == f"{host.address}:3210")

    text = (elsewhere / "web.yaml").read_text()
    (elsewhere / "web.yaml").write_text(text.replace("8080", "8090").replace(":3210", ":3211"))
    os.kill(nerve.pid, signal.SIGHUP)
    os.kill(host.synapse.pid, signal.SIGHUP)
    eventually(lambda: announced()["address"].endswith(":8090"))
    eventually(lambda: host.told("web")["listen"] == f"{host.address}:3211")
