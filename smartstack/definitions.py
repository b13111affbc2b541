"""The directory of service definitions, and the file of a host's settings: what stands in them now, or stood last.

A definition that was good once stays until its file is deleted: through edits that do not validate, through an
unreadable or emptied directory, and through a restart (by a copy of its text in `keep_directory`).
"""

import contextlib
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from smartstack.definition import ServiceDefinition, claims, expand, parent_name
from smartstack.errors import ConfigError, Problem, SmartStackError
from smartstack.file_text import NO_FINGERPRINT, Fingerprint, fingerprint, read_file, reason
from smartstack.instance import NAME
from smartstack.model import Families, anchored
from smartstack.process import write_atomically
from smartstack.tree import Node, Table, short
from smartstack.validation import validate
from smartstack.yaml_file import load

T = TypeVar("T")

EMPTY_MARK = "EMPTY"
"""A file of this name in the directory of definitions says that it is meant to be empty. Not a hidden one: the file
watch passes over those, and the operator would wait for the resync."""


KEPT_AT_ONCE = 100
"""So many copies are made in one turn of a daemon: each costs the disk some milliseconds, and nobody waits for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DefinitionsView:
    """The good definitions by service, and what is wrong by service.

    Each further port of a definition is a service of its own beside it (`web` and `web.admin`, see `expand`), whose
    problems are those of `web`. A service may be in both: then its file is wrong, and the definition is the last good
    one. Problems of no service are under the empty key (the directory) or under a file's name (when that is no
    service's name).
    """

    definitions: Mapping[str, ServiceDefinition]
    problems: Mapping[str, tuple[Problem, ...]]


@dataclass(slots=True, kw_only=True)
class _Known:
    """One file's service. `digest` is of the text of `definition`; `unsaved` is that text while it is not on disk.

    `services` are what the definition stands for; `claims` those beside itself of the last text that could be read
    (with the keys that say so), also while it is not taken because somebody else has one of them.
    """

    path: str = ""
    fingerprint: Fingerprint = NO_FINGERPRINT
    digest: bytes = b""
    definition: ServiceDefinition | None = None
    problems: tuple[Problem, ...] = ()
    unsaved: bytes | None = None
    services: Mapping[str, ServiceDefinition] = field(default_factory=dict)
    claims: Mapping[str, str] = field(default_factory=dict)

    def take(self, name: str, definition: ServiceDefinition, digest: bytes) -> None:
        self.definition, self.digest = definition, digest
        self.services = expand(name, definition)


@dataclass(slots=True)
class _Directory:
    """What one look at the directory found."""

    files: dict[str, list[str]] = field(default_factory=dict)
    problems: dict[str, tuple[Problem, ...]] = field(default_factory=dict)


class Definitions:
    """Reads the directory again on demand, only the files whose fingerprint changed.

    `unkept` says why copies of the good ones could not be made, None while they can. Unless it `writes`, what an
    earlier run kept is read, and the disk stays as it is.
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
        self.unkept: Problem | None = None
        self._new: dict[str, None] = {}
        self._may_keep = True
        self._of_directory: dict[str, tuple[Problem, ...]] = {}

    def refresh(self) -> DefinitionsView:
        """What holds now. Never raises for what is wrong with the files."""
        known = self._known = self._restore() if self._known is None else self._known
        self._may_keep = True
        problems: dict[str, tuple[Problem, ...]] = {}
        directory = self._list()
        good = sum(one.definition is not None for one in known.values())
        if isinstance(directory, Problem):
            problems[""] = (directory,)
        elif not directory.files and good > 1 and not (self._directory / EMPTY_MARK).exists():
            problems[""] = (self._emptied(good),)
        else:
            problems |= directory.problems
            undeleted = [self._forget(name, known) for name in known.keys() - directory.files.keys()]
            problems |= {"": tuple(problem for problem in undeleted if problem is not None)[:1]}
            # In the order of names, in which a service comes before its ports.
            for name, paths in sorted(directory.files.items()):
                self._look(name, paths, known, directory.files)
        self._of_directory = {name: some for name, some in problems.items() if some}
        return self.view()

    def keep(self) -> bool:
        """Make copies of what is new and good, as many as do not hold up a daemon; whether there are more to make.

        What fails is tried again after the next look at the files.
        """
        if not (self._writes and self._may_keep):
            return False
        self.unkept = None
        for name in list(self._new)[:KEPT_AT_ONCE]:
            self.unkept = self._save(name)
            if self.unkept is not None:
                # A full disk is the same problem for each of a hundred services.
                self._may_keep = False
                return False
        return bool(self._new)

    def view(self) -> DefinitionsView:
        """What holds by the last look."""
        known = self._known or {}
        problems = dict(self._of_directory)
        if self.unkept is not None:
            problems[""] = (*problems.get("", ()), self.unkept)
        problems |= {name: one.problems for name, one in known.items() if one.problems}
        definitions = {service: definition for one in known.values() for service, definition in one.services.items()}
        return DefinitionsView(
            definitions=MappingProxyType(dict(sorted(definitions.items()))),
            problems=MappingProxyType(dict(sorted(problems.items()))),
        )

    def _list(self) -> _Directory | Problem:
        try:
            files = sorted(os.listdir(self._directory))
        except OSError as error:
            message = f"cannot be read: {reason(error)}; the definitions that are known stay as they are"
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

    def _look(self, name: str, paths: list[str], everyone: dict[str, _Known], files: Mapping[str, list[str]]) -> None:
        """Bring one service up to date with its file."""
        known = everyone.setdefault(name, _Known())
        path = paths[0]
        if len(paths) > 1:
            known.fingerprint = NO_FINGERPRINT
            both = " and ".join(os.path.basename(path) for path in paths)
            known.problems = (Problem(path=path, message=f"{both} are the same service; delete one of them"),)
            return
        try:
            if known.path != path or known.fingerprint != fingerprint(os.stat(path)):
                known.path = path
                data, known.fingerprint = read_file(path)
                self._take(name, data, everyone, files)
            elif not known.problems:
                self._agree(name, known.claims, everyone, files)
        except OSError as error:
            known.fingerprint = NO_FINGERPRINT
            known.problems = (_unreadable(path, error),)
        except ConfigError as error:
            known.problems = error.problems

    def _take(self, name: str, data: bytes, everyone: dict[str, _Known], files: Mapping[str, list[str]]) -> None:
        """Take a text over. Raises ConfigError when it stays at the one before."""
        known = everyone[name]
        digest = hashlib.sha256(data).digest()
        definition = known.definition if digest == known.digest else None
        if definition is None:
            known.claims = {}
            definition = self._definition(name, data, known.path)
        known.claims = claims(name, definition)
        self._agree(name, known.claims, everyone, files)
        if definition is not known.definition:
            known.take(name, definition, digest)
            known.unsaved = data
            self._new[name] = None
        known.problems = ()

    def _agree(
        self, name: str, claimed: Mapping[str, str], everyone: dict[str, _Known], files: Mapping[str, list[str]]
    ) -> None:
        """Raises ConfigError when a port of this service has a file of its own, or this service is a port of another:
        whoever was there first stays, and both are asked again until one of the two places is gone."""
        known, parent = everyone[name], parent_name(name)
        problems = [
            Problem(
                path=known.path,
                key=claimed[claim],
                message=f"is the service {claim}, and so is {os.path.basename(files[claim][0])}; delete one of them",
            )
            for claim in sorted(claimed)
            if claim in files
        ]
        if parent in files and name in {*everyone[parent].claims, *everyone[parent].services}:
            key = everyone[parent].claims.get(name, f"ports.{name.removeprefix(f'{parent}.')}")
            file = os.path.basename(files[parent][0])
            message = f"is the service {name}, and so is {key} in {file}; delete one of them"
            problems.append(Problem(path=known.path, message=message))
        if problems:
            known.fingerprint = NO_FINGERPRINT
            raise ConfigError(problems)

    def _definition(self, name: str, data: bytes, path: str) -> ServiceDefinition:
        """What a text says, with paths below the directory of definitions, also when it is the copy that is read."""
        tree = load(data, path, self._env)
        definition = validate(ServiceDefinition, tree, path=path, families=self._families)
        too_long = [key for service, key in claims(name, definition).items() if not NAME.fullmatch(service)]
        if too_long:
            raise ConfigError([_too_long(key, tree, path) for key in too_long])
        return anchored(definition, os.path.abspath(self._directory))

    def _forget(self, name: str, known: dict[str, _Known]) -> Problem | None:
        """The service is gone, and so is its copy; what keeps the copy from going."""
        del known[name]
        self._new.pop(name, None)
        if not self._writes:
            return None
        try:
            (self._keep / f"{name}.yaml").unlink(missing_ok=True)
        except OSError as error:
            return Problem(path=str(self._keep), message=f"cannot delete {name}.yaml: {reason(error)}")
        return None

    def _save(self, name: str) -> Problem | None:
        """Make a copy of a service's last good text; what keeps it from being made."""
        known = (self._known or {})[name]
        try:
            self._keep.mkdir(parents=True, exist_ok=True)
            write_atomically(self._keep / f"{name}.yaml", known.unsaved or b"", 0o600)
        except OSError as error:
            why = reason(error)
        except SmartStackError as error:
            why = str(error)
        else:
            known.unsaved = None
            del self._new[name]
            return None
        message = f"the last good definitions cannot be kept for the next start: {why}"
        return Problem(path=str(self._keep), message=message)

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
                    data, _ = read_file(str(self._keep / file))
                    definition = self._definition(name, data, str(self._keep / file))
                    known[name].take(name, definition, hashlib.sha256(data).digest())
        return known


def load_settings(model: type[T], path: str, env: Mapping[str, str], base: str | None = None) -> T:
    """A host's settings. Relative paths in them are below `base`, which is the file's own directory if not given.

    Raises ConfigError with every problem of the file, or with the one that it cannot be read.
    """
    try:
        data, _ = read_file(path)
    except OSError as error:
        raise ConfigError([_unreadable(path, error)]) from error
    settings = validate(model, load(data, path, env), path=path)
    return anchored(settings, os.path.abspath(os.path.dirname(path) if base is None else base))


def short_path(path: str) -> str:
    """A path that can be printed: its directory as it is, its last part made harmless."""
    directory, file = os.path.split(path)
    return os.path.join(directory, short(file))


def _too_long(key: str, tree: Node, path: str) -> Problem:
    group, _, name = key.partition(".")
    named = tree.entries[group].value if isinstance(tree, Table) else None
    entry = named.entries[name] if isinstance(named, Table) else None
    what = "service and port" if group == "ports" else "service and subset"
    return Problem(
        path=path,
        line=entry.line if entry else 0,
        column=entry.column if entry else 0,
        key=f"{group}.{short(name)}",
        message=f"is too long: the names of {what} have at most 100 characters, with the dot between them",
    )


def _unreadable(path: str, error: OSError) -> Problem:
    return Problem(path=path, message=f"cannot be read: {reason(error)}")
