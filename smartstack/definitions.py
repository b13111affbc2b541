"""The directory of service definitions, and the file of a host's settings: what stands in them now, or stood last.

A definition that was good once stays until its file is deleted: through edits that do not validate, through an
unreadable or emptied directory, and through a restart (by a copy of its text in `keep_directory`).
"""

import contextlib
import hashlib
import os
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias, TypeVar

from smartstack.definition import ServiceDefinition
from smartstack.errors import ConfigError, Problem, SmartStackError
from smartstack.instance import NAME
from smartstack.model import Families, anchored
from smartstack.process import write_atomically
from smartstack.tree import short
from smartstack.validation import validate
from smartstack.yaml_file import SIZE_LIMIT, load

T = TypeVar("T")
Fingerprint: TypeAlias = tuple[int, int, int]

EMPTY_MARK = "EMPTY"
"""A file of this name in the directory of definitions says that it is meant to be empty. Not a hidden one: the file
watch passes over those, and the operator would wait for the resync."""

SETTLED_NS = 2_000_000_000
"""A file younger than this may be written again without a change of its times (they are as coarse as 10 ms, or 2 s on
some file systems), so that its fingerprint proves nothing yet."""

_ABSENT: Fingerprint = (0, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class DefinitionsView:
    """The good definitions by service, and what is wrong by service.

    A service may be in both: then its file is wrong, and the definition is the last good one. Problems of no service
    are under the empty key (the directory) or under a file's name (when that is no service's name).
    """

    definitions: Mapping[str, ServiceDefinition]
    problems: Mapping[str, tuple[Problem, ...]]


@dataclass(slots=True, kw_only=True)
class _Known:
    """One service. `digest` is of the text of `definition`; `unsaved` is that text while it is not on disk."""

    path: str = ""
    fingerprint: Fingerprint = _ABSENT
    digest: bytes = b""
    definition: ServiceDefinition | None = None
    problems: tuple[Problem, ...] = ()
    unsaved: bytes | None = None


@dataclass(slots=True)
class _Directory:
    """What one look at the directory found."""

    files: dict[str, list[str]] = field(default_factory=dict)
    problems: dict[str, tuple[Problem, ...]] = field(default_factory=dict)


class Definitions:
    """Reads the directory again on demand, only the files whose fingerprint changed.

    Unless it `writes`, what an earlier run kept is read, and the disk stays as it is.
    """

    def __init__(
        self,
        directory: str,
        keep_directory: str,
        families: Families | None = None,
        *,
        env: Mapping[str, str] | None = None,
        writes: bool = True,
    ) -> None:
        self._directory = Path(directory)
        self._keep = Path(keep_directory)
        self._writes = writes
        self._families = families or {}
        self._env = os.environ if env is None else env
        self._known: dict[str, _Known] | None = None
        self._keep_problems: list[Problem] = []

    def refresh(self) -> DefinitionsView:
        """What holds now. Never raises for what is wrong with the files."""
        known = self._known = self._restore() if self._known is None else self._known
        self._keep_problems.clear()
        problems: dict[str, tuple[Problem, ...]] = {}
        directory = self._list()
        good = sum(one.definition is not None for one in known.values())
        if isinstance(directory, Problem):
            problems[""] = (directory,)
        elif not directory.files and good > 1 and not (self._directory / EMPTY_MARK).exists():
            problems[""] = (self._emptied(good),)
        else:
            problems |= directory.problems
            for name in known.keys() - directory.files.keys():
                self._forget(name, known)
            for name, paths in directory.files.items():
                self._look(name, paths, known.setdefault(name, _Known()))
        if self._keep_problems:
            # One is enough: a full disk is the same problem for each of a hundred services.
            problems[""] = (*problems.get("", ()), self._keep_problems[0])
        problems |= {name: one.problems for name, one in known.items() if one.problems}
        return DefinitionsView(
            definitions=MappingProxyType(
                {name: one.definition for name, one in sorted(known.items()) if one.definition is not None}
            ),
            problems=MappingProxyType(dict(sorted(problems.items()))),
        )

    def _list(self) -> _Directory | Problem:
        try:
            files = sorted(os.listdir(self._directory))
        except OSError as error:
            message = f"cannot be read: {_reason(error)}; the definitions that are known stay as they are"
            return Problem(path=str(self._directory), message=message)
        found = _Directory()
        for file in files:
            name, dot, suffix = file.rpartition(".")
            # Hidden files, and what editors and rsync leave beside a file while they write it.
            if not dot or suffix not in ("yaml", "yml") or file.startswith((".", "#", "~")):
                continue
            path = str(self._directory / file)
            if NAME.fullmatch(name):
                found.files.setdefault(name, []).append(path)
            else:
                allowed = "1 to 100 letters, digits, '_', '.' and '-', beginning with a letter or a digit"
                problem = Problem(path=short_path(path), message=f"a file is named like its service: {allowed}")
                found.problems[short(file)] = (problem,)
        return found

    def _emptied(self, good: int) -> Problem:
        message = (
            f"holds no definition, but held {good}; all of them are kept. "
            f"If it is meant to be empty, make a file named {EMPTY_MARK} in it"
        )
        return Problem(path=str(self._directory), message=message)

    def _look(self, name: str, paths: list[str], known: _Known) -> None:
        """Bring one service up to date with its file."""
        path = paths[0]
        if len(paths) > 1:
            files = " and ".join(os.path.basename(path) for path in paths)
            known.fingerprint = _ABSENT
            known.problems = (Problem(path=path, message=f"{files} are the same service; delete one of them"),)
            return
        try:
            if known.path != path or known.fingerprint != _fingerprint(os.stat(path)):
                known.path = path
                data, known.fingerprint = _read(path)
                self._take(name, data, known)
        except OSError as error:
            known.fingerprint = _ABSENT
            known.problems = (_unreadable(path, error),)
        except ConfigError as error:
            known.problems = error.problems
        if known.unsaved is not None and self._writes:
            self._save(name, known, known.unsaved)

    def _take(self, name: str, data: bytes, known: _Known) -> None:
        digest = hashlib.sha256(data).digest()
        if known.definition is None or digest != known.digest:
            known.definition = self._definition(data, known.path)
            known.digest = digest
            known.unsaved = data
        known.problems = ()

    def _definition(self, data: bytes, path: str) -> ServiceDefinition:
        return validate(ServiceDefinition, load(data, path, self._env), path=path, families=self._families)

    def _forget(self, name: str, known: dict[str, _Known]) -> None:
        del known[name]
        if not self._writes:
            return
        try:
            (self._keep / f"{name}.yaml").unlink(missing_ok=True)
        except OSError as error:
            message = f"cannot delete {name}.yaml: {_reason(error)}"
            self._keep_problems.append(Problem(path=str(self._keep), message=message))

    def _save(self, name: str, known: _Known, text: bytes) -> None:
        try:
            self._keep.mkdir(parents=True, exist_ok=True)
            write_atomically(self._keep / f"{name}.yaml", text, 0o600)
            known.unsaved = None
        except OSError as error:
            self._unkept(_reason(error))
        except SmartStackError as error:
            self._unkept(str(error))

    def _unkept(self, reason: str) -> None:
        message = f"the last good definitions cannot be kept for the next start: {reason}"
        self._keep_problems.append(Problem(path=str(self._keep), message=message))

    def _restore(self) -> dict[str, _Known]:
        """The last good definitions of the run before. One that does not validate any more is as good as none."""
        known: dict[str, _Known] = {}
        with contextlib.suppress(OSError):
            for file in sorted(os.listdir(self._keep)):
                name = file.removesuffix(".yaml")
                if name == file or not NAME.fullmatch(name):
                    continue
                known[name] = _Known()
                with contextlib.suppress(OSError, ConfigError):
                    data, _ = _read(str(self._keep / file))
                    definition = self._definition(data, str(self._keep / file))
                    known[name] = _Known(definition=definition, digest=hashlib.sha256(data).digest())
        return known


def load_settings(model: type[T], path: str, env: Mapping[str, str], base: str | None = None) -> T:
    """A host's settings. Relative paths in them are below `base`, which is the file's own directory if not given.

    Raises ConfigError with every problem of the file, or with the one that it cannot be read.
    """
    try:
        data, _ = _read(path)
    except OSError as error:
        raise ConfigError([_unreadable(path, error)]) from error
    settings = validate(model, load(data, path, env), path=path)
    return anchored(settings, os.path.abspath(os.path.dirname(path) if base is None else base))


def short_path(path: str) -> str:
    """A path that can be printed: its directory as it is, its last part made harmless."""
    directory, file = os.path.split(path)
    return os.path.join(directory, short(file))


def _fingerprint(status: os.stat_result) -> Fingerprint:
    return status.st_mtime_ns, status.st_size, status.st_ino


def _read(path: str) -> tuple[bytes, Fingerprint]:
    """A regular file's bytes, at most one more than the limit, and its fingerprint when that proves anything."""
    # Not blocking: a named pipe would wait for its writer for ever.
    with open(path, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError("it is not a file")
        data = file.read(SIZE_LIMIT + 1)
    settled = abs(time.time_ns() - status.st_mtime_ns) > SETTLED_NS
    return data, _fingerprint(status) if settled else _ABSENT


def _unreadable(path: str, error: OSError) -> Problem:
    return Problem(path=path, message=f"cannot be read: {_reason(error)}")


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
