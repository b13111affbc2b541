"""Sources of type `file`: a list of instances that another program keeps up to date."""

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from smartstack.errors import ConfigError
from smartstack.file_text import NO_FINGERPRINT, SETTLED_NS, Fingerprint, fingerprint, read_file, reason
from smartstack.files import FileWatch
from smartstack.forms import PATH
from smartstack.links import behind_file
from smartstack.registry.protocol import Listing, Ring, Unknown
from smartstack.tree import bad_parts, plain
from smartstack.yaml_file import SIZE_LIMIT, load
from synapse.sources.base import Place, Source
from synapse.sources.listing import listing_of

QUIET_SECONDS = 0.1
"""So long must a file be left alone before it is read: one that is written in place is short for a moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSource:
    """Instances in a file of JSON or YAML: a list, or a mapping that has it as `instances`. Each is what nerve writes
    into the registry: `{host: 10.0.0.5, port: 8080}`, with name, weight and labels where it has them."""

    path: Annotated[str, "the file; below the directory of the definitions, if relative", PATH]

    def open(self, place: Place) -> Source:
        """The file need not be there yet."""
        return _InstancesFile(self.path, place.port, place.shared.of(_Watch))


class _Watch:
    """One watch for all files: the kernel gives a user only so many."""

    def __init__(self) -> None:
        self._paths: dict[object, str] = {}
        self._watch: FileWatch | None = None

    def follow(self, owner: object, path: str, ring: Ring) -> None:
        """Ring when something changes where this file is."""
        self._paths[owner] = path
        if self._watch is None:
            self._watch = FileWatch(ring)
        self.look()

    def look(self) -> None:
        """Find out anew where links lead."""
        if self._watch is not None:
            paths = self._paths.values()
            self._watch.watch({place for path in paths for place in (os.path.dirname(path), *behind_file(path))})

    def forget(self, owner: object) -> None:
        """Stop to watch for this one; the last one ends the thread."""
        self._paths.pop(owner, None)
        if not self._paths and self._watch is not None:
            self._watch.stop()
            self._watch = None
        self.look()


class _InstancesFile:
    """One file, read again when it has changed and been left alone since."""

    def __init__(self, path: str, port: int, watch: _Watch) -> None:
        self._path = path
        self._port = port
        self._watch = watch
        self._seen: Fingerprint | None = None
        self._seen_at = 0.0
        self._read: Fingerprint | None = None
        self._answer: Listing | Unknown = Unknown(reason=f"{path} was not read yet", since=time.time())

    def start(self, ring: Ring) -> None:
        self._watch.follow(self, self._path, ring)

    def read(self) -> Listing | Unknown:
        try:
            found = fingerprint(os.stat(self._path))
        except OSError:
            found = NO_FINGERPRINT
        if found != self._seen:
            self._seen, self._seen_at, self._read = found, time.monotonic(), None
            self._watch.look()
        if self._read is None and time.monotonic() >= self._seen_at + QUIET_SECONDS:
            self._take()
        return self._answer

    def due_in(self) -> float | None:
        if self._read is not None:
            return None
        settled = SETTLED_NS / 1e9 if time.monotonic() >= self._seen_at + QUIET_SECONDS else QUIET_SECONDS
        return max(0.0, self._seen_at + settled - time.monotonic()) + 0.001

    def stop(self) -> None:
        self._watch.forget(self)

    def _take(self) -> None:
        answer: Listing | str
        try:
            data, settled = read_file(self._path)
        except OSError as error:
            answer, self._read = f"{self._path} cannot be read: {reason(error)}", self._seen
        else:
            answer, self._read = instances_in(data, self._path, self._port), settled or None
        if isinstance(answer, str):
            if not isinstance(self._answer, Unknown) or self._answer.reason != answer:
                since = self._answer.since if isinstance(self._answer, Unknown) else time.time()
                self._answer = Unknown(reason=answer, since=since)
        elif answer != self._answer:
            self._answer = answer


def instances_in(data: bytes, path: str, port: int) -> Listing | str:
    """The instances that a file lists, or in a few words why it lists none. `port` is that of instances without one."""
    if len(data) > SIZE_LIMIT:
        return f"{path} is over the limit of {SIZE_LIMIT} bytes"
    found = _content(data, path)
    if isinstance(found, str):
        return found
    payloads = []
    for index, one in enumerate(found):
        if not isinstance(one, Mapping):
            return f"{path} is wrong: item {index + 1} of its list is not a mapping with host and port"
        payloads.append((f"item {index + 1}", {"port": port, **one}))
    return listing_of(payloads)


def _content(data: bytes, path: str) -> list[Any] | str:
    if data.lstrip()[:1] == b"[":
        try:
            listed = json.loads(data)
        except (ValueError, RecursionError) as error:
            return f"{path} is wrong: it is not JSON: {error}"
    else:
        try:
            tree = load(data, path, {})
        except ConfigError as error:
            return str(error.problems[0])
        bad = next(bad_parts(tree), None)
        if bad is not None:
            return f"{path} is wrong: {bad[0]} {bad[1].message}"
        listed = plain(tree).get("instances")
    return listed if isinstance(listed, list) else f"{path} is wrong: it has no list of instances"
