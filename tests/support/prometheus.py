"""A real Prometheus for tests, with the configuration that is shipped."""

import json
import math
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import requests

from tests.support.eventually import eventually

SHIPPED = Path(__file__).parents[2] / "config" / "prometheus"
START_SECONDS = 20.0
SHIPPED_TARGETS = "/var/lib/smartstack/prometheus/targets.json"


class Prometheus:
    """One, at this address, which asks the targets in that file: with everything as it is shipped, but once a
    second."""

    def __init__(self, directory: Path, address: str, targets: Path) -> None:
        self.url = f"http://{address}:9090"
        self._directory = directory
        shutil.copytree(SHIPPED, directory)
        file = directory / "prometheus.yml"
        text = file.read_text()
        for shipped, here in ((SHIPPED_TARGETS, str(targets)), ("_interval: 15s", "_interval: 1s")):
            assert shipped in text
            text = text.replace(shipped, here)
        file.write_text(text)
        with open(directory / "log", "wb") as log:
            self._process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={file}",
                    f"--storage.tsdb.path={directory}/data",
                    f"--web.listen-address={address}:9090",
                    "--log.level=warn",
                ],
                stdout=log,
                stderr=log,
            )

    def ready(self) -> None:
        """Wait until it answers."""

        def answers() -> bool:
            assert self._process.poll() is None, (self._directory / "log").read_text()
            try:
                return requests.get(f"{self.url}/-/ready", timeout=2).status_code == 200
            except requests.RequestException as error:
                raise AssertionError(str(error)) from None

        eventually(answers, within=START_SECONDS)

    def get(self, path: str, **parameters: Any) -> Any:
        """What its API answers. Raises AssertionError with what is wrong about the question."""
        answer = requests.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=10)
        said = json.loads(answer.content)
        assert said["status"] == "success", said["error"]
        return said["data"]

    def values(self, expression: str) -> list[float]:
        """The numbers that an expression has now; without those that are none."""
        found = self.get("query", query=expression, time=time.time())
        numbers = [float(each["value"][1]) for each in found["result"]]
        return [number for number in numbers if not math.isnan(number)]

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
