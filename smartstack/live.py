"""A daemon's configuration while it runs: read again when a file changed, never worse than it was."""

import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from smartstack.debounce import Debounce
from smartstack.definitions import Definitions, DefinitionsView, load_settings
from smartstack.errors import ConfigError, Problem
from smartstack.files import FileWatch


class HasServices(Protocol):
    """Host settings that name the directory of the service definitions."""

    @property
    def services(self) -> str: ...

    @property
    def state_directory(self) -> str: ...


S = TypeVar("S", bound=HasServices)


class LiveConfiguration(Generic[S]):
    """The host settings and the service definitions of one daemon.

    `settings` and `view` are always whole and valid; `problems` are those of the settings file as it is now, while
    the settings are still the last good ones. The first read raises `ConfigError` when the settings are wrong.
    With `keep`, each good definition is copied to the state directory, where a restart finds it if the file is
    broken by then; without, the disk is only read.
    """

    def __init__(
        self,
        model: type[S],
        path: str,
        *,
        families: Mapping[str, Mapping[str, type]] | None = None,
        env: Mapping[str, str] | None = None,
        keep: bool = True,
    ) -> None:
        self._model = model
        self._path = os.path.abspath(path)
        self._env = os.environ if env is None else env
        self.settings: S = self._load()
        self.problems: tuple[Problem, ...] = ()
        kept = str(Path(self.settings.state_directory) / "definitions") if keep else None
        self._definitions = Definitions(self.settings.services, kept, families or {})
        self.view: DefinitionsView = self._definitions.refresh()
        self._changed = Debounce()
        self._watch: FileWatch | None = None

    def watch(self, ring: Callable[[], None], more: Collection[str] = ()) -> None:
        """Ring when a file changed, here or in `more` directories, and when it is time to read it."""

        def heard() -> None:
            self._changed.touch()
            ring()

        self._watch = FileWatch(heard)
        self._watch.watch({os.path.dirname(self._path), self.settings.services, *more})

    def stop(self) -> None:
        """End the watch."""
        if self._watch is not None:
            self._watch.stop()

    def due_in(self) -> float | None:
        """In how many seconds changed files should be read, None when nothing changed."""
        return self._changed.due_in()

    def refresh(self, *, everything: bool = False) -> bool:
        """Read again what changed, once the burst of changes is over, or now if `everything` is to be looked at.

        Answers whether files were read. What is wrong is in `problems` and `view.problems`, nothing is raised.
        """
        if not everything and self._changed.due_in() != 0.0:
            return False
        self._changed.take()
        try:
            settings = self._load()
            self.problems = ()
            if settings != self.settings:
                self.settings = settings
        except ConfigError as error:
            self.problems = error.problems
        self.view = self._definitions.refresh()
        return True

    def _load(self) -> S:
        return load_settings(self._model, self._path, self._env)
