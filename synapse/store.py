"""What synapse keeps on disk, so that a restart without the registry, or with a broken definition, loses nothing."""

import contextlib
import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any, get_args

from smartstack.errors import ConfigError, SmartStackError
from smartstack.instance import NAME, Instance, decode, encode
from smartstack.model import Kind, kind_of, model_fields
from smartstack.process import write_atomically
from smartstack.traffic import Proxy
from smartstack.validation import validate
from smartstack.yaml_file import load
from synapse.fragments import DESCRIPTION
from synapse.plan import Structure
from synapse.quarantine import holds

_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """The structure that HAProxy was last started or reloaded with, and the definitions' `proxy` that made it; also
    what was good before of definitions that are refused. `texts` are the parts of haproxy.cfg that these made, with
    every slot empty, where the templates are a site's own; that of the global part is under ""."""

    structure: Structure
    proxies: Mapping[str, Proxy]
    texts: Mapping[str, str] = dataclasses.field(default_factory=dict)


class Store:
    """Two files in the state directory. What cannot be read is as if it were not there; `problems` says so."""

    def __init__(self, directory: str) -> None:
        self._good = Path(directory) / "last_good.json"
        self._running = Path(directory) / "running.json"
        self._written: dict[Path, bytes] = {}
        self._texts: dict[str, tuple[tuple[Instance, ...], bytes]] = {}
        self.problems: list[str] = []
        self.good_at: float | None = None
        """When somebody last confirmed what is on disk, in seconds since the epoch; None when nothing is there."""

    def load_good(self) -> dict[str, tuple[Instance, ...]]:
        """Each service's last good instances, checked again as if they came from the registry."""
        services: dict[str, tuple[Instance, ...]] = {}
        with contextlib.suppress(OSError):
            self.good_at = self._good.stat().st_mtime
        for name, payloads in self._load(self._good).items():
            if NAME.fullmatch(name) and isinstance(payloads, list):
                decoded = [decode(json.dumps(payload).encode()) for payload in payloads]
                by_address = {each.address: each for each in decoded if isinstance(each, Instance)}
                if by_address or not payloads:  # nothing that passes is not the same as nothing that was good
                    services[name] = tuple(by_address.values())
        return services

    def touch_good(self) -> None:
        """What is on disk is the truth of now; what somebody removed there is written again."""
        with contextlib.suppress(OSError, SmartStackError):  # its age is worth a warning, no more
            for path, data in self._written.items():
                if not path.exists():
                    write_atomically(path, data)
            os.utime(self._good)

    def save_good(self, services: Mapping[str, tuple[Instance, ...]]) -> None:
        """Keep each service's last good instances; writes only when they changed. Raises `SmartStackError`."""
        self._texts = {name: self._text(name, services[name]) for name in sorted(services)}
        content = b", ".join(b'"%s": [%s]' % (name.encode(), text) for name, (_, text) in self._texts.items())
        self._save(self._good, b"{%s}" % content)

    def _text(self, name: str, instances: tuple[Instance, ...]) -> tuple[tuple[Instance, ...], bytes]:
        """Instances with what is written of them, made once for as long as they are the same."""
        kept = self._texts.get(name)
        return kept if kept and kept[0] is instances else (instances, b", ".join(map(encode, instances)))

    def load_running(self) -> Running | None:
        """What the running HAProxy was started with, None when that is not known."""
        data = self._load(self._running)
        description, digests, proxies = data.get("description"), data.get("digests"), data.get("proxies")
        if not isinstance(description, str) or not isinstance(digests, dict) or not isinstance(proxies, dict):
            if data:
                self.problems.append(f"{self._running} is not of this version and is left aside")
            return None
        structure = Structure(description=description, digests={name: str(digest) for name, digest in digests.items()})
        read = {name: self._proxy(name, fields) for name, fields in proxies.items() if NAME.fullmatch(name)}
        good = {name: proxy for name, proxy in read.items() if proxy is not None}
        return Running(structure=structure, proxies=good, texts=_good_texts(data.get("texts"), good))

    def save_running(self, running: Running) -> None:
        """Keep what HAProxy was started with. Raises `SmartStackError`."""
        content = {
            "description": running.structure.description,
            "digests": dict(running.structure.digests),
            "proxies": {name: _written(proxy) for name, proxy in sorted(running.proxies.items())},
            "texts": dict(sorted(running.texts.items())),
        }
        self._save(self._running, json.dumps(content).encode())

    def _proxy(self, name: str, fields: Any) -> Proxy | None:
        """A definition's `proxy`, checked again as if it came from the definition's file; None if it does not pass."""
        path = str(self._running)
        try:
            return validate(Proxy, load(json.dumps(fields), path, {}), path=path)
        except ConfigError as error:
            self.problems.append(f"{path} has no good definition of {name}: {error.problems[0].message}")
            return None

    def _load(self, path: Path) -> dict[str, Any]:
        try:
            data = json.loads(path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            self.problems.append(f"cannot read {path} ({error}): going on without it")
            return {}
        if not isinstance(data, dict) or data.get("format") != _FORMAT or not isinstance(data.get("content"), dict):
            self.problems.append(f"{path} is not of this version and is left aside")
            return {}
        content: dict[str, Any] = data["content"]
        return content

    def _save(self, path: Path, content: bytes) -> None:
        data = b'{"format": %d, "content": %s}\n' % (_FORMAT, content)
        if self._written.get(path) == data:
            return
        write_atomically(path, data)
        self._written[path] = data


def _good_texts(texts: Any, proxies: Mapping[str, Proxy]) -> dict[str, str]:
    """Those that are whole, of the services that are known."""
    if not isinstance(texts, dict):
        return {}
    return {
        name: text
        for name, text in texts.items()
        if isinstance(text, str) and (DESCRIPTION in text if name == "" else name in proxies and holds(name, text))
    }


def _written(model: Any) -> dict[str, Any]:
    """A model as it would stand in its file."""
    fields: dict[str, Any] = {}
    for field in model_fields(type(model)):
        value = getattr(model, field.name)
        if value is not None or field.kind.null:
            fields[field.name] = _plain(value, field.kind)
    return fields


def _plain(value: Any, kind: Kind) -> Any:
    """A value as it would stand in its file."""
    if value is None:
        return None
    if kind.form is not None:
        return kind.form.write(value)
    if is_dataclass(value):
        return _written(value)
    if isinstance(value, tuple):
        item = kind_of(get_args(kind.type)[0])
        return [_plain(one, item) for one in value]
    if isinstance(value, Mapping):
        item = kind_of(get_args(kind.type)[1])
        return {name: _plain(one, item) for name, one in value.items()}
    return value
