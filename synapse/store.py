"""What synapse keeps on disk, so that a restart without the registry, or with a broken definition, loses nothing."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from smartstack.definition import Proxy, Timeouts
from smartstack.forms import LISTEN
from smartstack.instance import NAME, Instance, decode, encode
from smartstack.process import write_atomically
from synapse.plan import Structure

_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """The structure that HAProxy was last started or reloaded with, and the definitions' `proxy` that made it."""

    structure: Structure
    proxies: Mapping[str, Proxy]


class Store:
    """Two files in the state directory. What cannot be read is as if it were not there; `problems` says so."""

    def __init__(self, directory: str) -> None:
        self._good = Path(directory) / "last_good.json"
        self._running = Path(directory) / "running.json"
        self._written: dict[Path, bytes] = {}
        self.problems: list[str] = []

    def load_good(self) -> dict[str, tuple[Instance, ...]]:
        """Each service's last good instances, checked again as if they came from the registry."""
        services: dict[str, tuple[Instance, ...]] = {}
        for name, payloads in self._load(self._good).items():
            if NAME.fullmatch(name) and isinstance(payloads, list):
                decoded = [decode(json.dumps(payload).encode()) for payload in payloads]
                services[name] = tuple(instance for instance in decoded if isinstance(instance, Instance))
        return services

    def save_good(self, services: Mapping[str, tuple[Instance, ...]]) -> None:
        """Keep each service's last good instances; writes only when they changed. Raises `SmartStackError`."""
        self._save(
            self._good,
            {name: [json.loads(encode(instance)) for instance in services[name]] for name in sorted(services)},
        )

    def load_running(self) -> Running | None:
        """What the running HAProxy was started with, None when that is not known."""
        data = self._load(self._running)
        try:
            return Running(
                structure=Structure(
                    description=str(data["description"]),
                    digests={str(name): str(digest) for name, digest in data["digests"].items()},
                ),
                proxies={name: _proxy(fields) for name, fields in data["proxies"].items() if NAME.fullmatch(name)},
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            if data:
                self.problems.append(f"{self._running} is not of this version and is left aside")
            return None

    def save_running(self, running: Running) -> None:
        """Keep what HAProxy was started with. Raises `SmartStackError`."""
        proxies = {name: asdict(proxy) for name, proxy in sorted(running.proxies.items())}
        for name, fields in proxies.items():
            fields["listen"] = str(running.proxies[name].listen)
        self._save(
            self._running,
            {
                "description": running.structure.description,
                "digests": dict(running.structure.digests),
                "proxies": proxies,
            },
        )

    def _load(self, path: Path) -> dict[str, Any]:
        try:
            data = json.loads(path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            self.problems.append(f"cannot read {path} ({error}): going on without it")
            return {}
        if not isinstance(data, dict) or data.get("format") != _FORMAT or not isinstance(data.get("content"), dict):
            self.problems.append(f"{path} is not of this version and is left aside")
            return {}
        content: dict[str, Any] = data["content"]
        return content

    def _save(self, path: Path, content: Mapping[str, Any]) -> None:
        data = json.dumps({"format": _FORMAT, "content": content}, indent=1).encode()
        if self._written.get(path) == data:
            return
        write_atomically(path, data)
        self._written[path] = data


def _proxy(fields: Mapping[str, Any]) -> Proxy:
    return Proxy(**{**fields, "listen": LISTEN.parse(fields["listen"]), "timeouts": Timeouts(**fields["timeouts"])})
