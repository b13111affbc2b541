"""A daemon's configuration while it runs: read again when a file changed, never worse than it was."""

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from smartstack.debounce import Debounce
from smartstack.definitions import Definitions, DefinitionsView, load_settings
from smartstack.errors import ConfigError, Problem
from smartstack.files import FileWatch
from smartstack.links import behind_directory, behind_file
from smartstack.model import model_fields


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
    Each good definition is copied to the state directory, where a restart finds it if the file is broken by then; so a
    daemon makes this only when the directory is its own, and what only looks does not let it write. `live` names the
    keys (dotted; a prefix is enough) that the daemon takes from `settings` at each turn; of the others `needs_restart`
    tells when they were edited.
    """

    def __init__(
        self,
        model: type[S],
        path: str,
        *,
        families: Mapping[str, Mapping[str, type]] | None = None,
        env: Mapping[str, str] | None = None,
        live: Collection[str] = (),
        writes: bool = True,
    ) -> None:
        self._model = model
        self.path = os.path.abspath(path)
        self._env = os.environ if env is None else env
        self._live = tuple(live)
        self.settings: S = self._load()
        self._first = self.settings
        self.problems: tuple[Problem, ...] = ()
        kept = str(Path(self.settings.state_directory) / "definitions")
        self._definitions = Definitions(self.settings.services, kept, families, env=self._env, writes=writes)
        self.view: DefinitionsView = self._definitions.refresh()
        self._view_is_new = False
        self._changed = Debounce()
        self._watch: FileWatch | None = None
        self._more: Callable[[S], Collection[str]] = lambda settings: ()

    def watch(self, ring: Callable[[], None], more: Callable[[S], Collection[str]] = lambda settings: ()) -> None:
        """Ring when a file changed, here or in the directories that `more` names, and when it is time to read it."""

        def heard() -> None:
            self._changed.touch()
            ring()

        self._more = more
        self._watch = FileWatch(heard)
        self._listen()

    def stop(self) -> None:
        """End the watch."""
        if self._watch is not None:
            self._watch.stop()

    def due_in(self) -> float | None:
        """In how many seconds changed files should be read, None when nothing changed."""
        return 0.0 if self._view_is_new else self._changed.due_in()

    def keep(self) -> bool:
        """Make copies of the good definitions, for a restart while one of them is broken; whether there are more to
        make. For the end of a turn, when nobody waits for the daemon."""
        before = self._definitions.unkept
        more = self._definitions.keep()
        if self._definitions.unkept != before:
            self.view = self._definitions.view()
            self._view_is_new = True
        return more

    def refresh(self, *, everything: bool = False) -> bool:
        """Read again what changed, once the burst of changes is over; with `everything` also when none was heard of.

        A burst is waited for in any case: what is seen in the middle of one (a file that an editor deletes and writes
        again) was never meant. Answers whether there is something new, right or wrong. What is wrong is in `problems`
        and `view.problems`, nothing is raised.
        """
        is_new, self._view_is_new = self._view_is_new, False
        due_in = self._changed.due_in()
        if due_in is None and not everything:
            return is_new
        if due_in:
            return is_new
        self._changed.take()
        # Before anything is read: a link may lead elsewhere since the last time, and what it leads to may change.
        self._listen()
        try:
            settings = self._load()
            self.problems = ()
            if settings != self.settings:
                self.settings = settings
        except ConfigError as error:
            self.problems = error.problems
        self.view = self._definitions.refresh()
        self._listen()
        return True

    def _listen(self) -> None:
        """Watch every directory in which something may change that is read from here."""
        if self._watch is None:
            return
        services, more = self._first.services, self._more(self.settings)
        links = (*behind_file(self.path), *(link for place in (services, *more) for link in behind_directory(place)))
        self._watch.watch({os.path.dirname(self.path), services, *more, *links})

    @property
    def needs_restart(self) -> tuple[str, ...]:
        """The keys, dotted, that were edited since the start and that only a restart applies."""
        before = dict(_leaves(self._first))
        return tuple(
            key
            for key, value in _leaves(self.settings)
            if value != before.get(key) and not any(key == name or key.startswith(f"{name}.") for name in self._live)
        )

    def _load(self) -> S:
        return load_settings(self._model, self.path, self._env)


def _leaves(model: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each key of a model, dotted, with its value."""
    for field in model_fields(type(model)):
        value = getattr(model, field.name)
        if field.kind.form is None and is_dataclass(value):
            yield from _leaves(value, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", value
