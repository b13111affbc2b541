"""Files that say where services are, for programs that do without the proxy, and a command after they changed.

They are written on a thread of their own: a full disk, a slow command or a template that is wrong holds up nobody.
Only files that were written here are ever removed; which those are is kept in the state directory.
"""

import json
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jinja2

from smartstack.errors import SmartStackError
from smartstack.file_text import reason
from smartstack.logs import EventLog
from smartstack.process import write_atomically
from smartstack.responses import json_response
from synapse.discovery import shell_variables
from synapse.operator_command import run_command
from synapse.settings import Output

_RETRY_SECONDS = 1.0
_RETRY_LIMIT_SECONDS = 60.0
_MISTAKES = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What a template that Jinja takes may still do wrong."""

Views = Callable[[Iterable[str]], Mapping[str, Mapping[str, Any]]]
"""What /services/<name> answers for each of these that is known; called on the outputs' thread."""


class Outputs:
    """Keeps the files of every output in step with what is posted. `manifest` is where their paths are kept; `ring` is
    called when `problems` changed."""

    def __init__(self, manifest: Path, log: EventLog, ring: Callable[[], None]) -> None:
        self.problems: tuple[str, ...] = ()
        self._manifest = manifest
        self._log = log
        self._ring_loop = ring
        self._bell = threading.Condition()
        self._outputs: tuple[Output, ...] = ()
        self._dirty: set[str] = set()
        self._all: frozenset[str] = frozenset()
        self._views: Views | None = None
        self._rung = False
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._own = self._load()
        self._commands_due: set[Output] = set()

    def configure(self, outputs: tuple[Output, ...]) -> None:
        """Write these from now on. Called by the loop; costs nothing when they are the same."""
        with self._bell:
            if outputs == self._outputs:
                return
            self._outputs = outputs
            self._dirty |= self._all
            self._ring()

    def post(self, changed: Iterable[str], present: Mapping[str, object], views: Views) -> None:
        """These services changed, of those that are present. Called by the loop."""
        with self._bell:
            self._views = views
            self._dirty.update(changed)
            self._all = frozenset(present)
            if self._outputs or self._own:
                self._ring()

    def stop(self) -> None:
        """Finish what is being written, and end; the files stay."""
        with self._bell:
            self._stopping = True
            self._bell.notify()
        if self._thread is not None:
            self._thread.join(2)

    def _ring(self) -> None:
        self._rung = True
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="outputs", daemon=True)
            self._thread.start()
        self._bell.notify()

    def _run(self) -> None:
        failures = 0
        while True:
            with self._bell:
                wait = min(_RETRY_SECONDS * 2.0 ** min(failures - 1, 10), _RETRY_LIMIT_SECONDS) if failures else None
                self._bell.wait_for(lambda: self._rung or self._stopping, wait)
                if self._stopping:
                    return
                self._rung = False
                outputs, dirty, present, views = self._outputs, self._dirty, self._all, self._views
                self._dirty = set()
            if views is None:
                continue
            problems = self.write(outputs, dirty, present, views)
            if problems and problems != self.problems:
                self._log.error("cannot keep the outputs in step", why="; ".join(problems[:3]))
            elif self.problems and not problems:
                self._log.info("the outputs are in step again")
            if problems != self.problems:
                self.problems = problems
                self._ring_loop()
            failures = failures + 1 if problems else 0
            if problems:
                with self._bell:
                    self._dirty |= dirty & self._all

    def write(
        self, outputs: tuple[Output, ...], dirty: Iterable[str], present: frozenset[str], views: Views
    ) -> tuple[str, ...]:
        """Write what changed, remove what is gone, run the commands; answer what went wrong, in words."""
        known = views(dirty)
        problems: list[str] = []
        before = set(self._own)
        for output in outputs:
            wanted = {name for name in present if output.services is None or name in output.services}
            for name in sorted(wanted & known.keys()):
                path = str(Path(output.directory) / f"{name}{_suffix(output)}")
                self._own.add(path)
                try:
                    if _replace(Path(path), _content(output, known[name])):
                        self._commands_due.add(output)
                except (SmartStackError, OSError, jinja2.TemplateError, *_MISTAKES) as error:
                    problems.append(f"{path}: {_words(error)}")
        problems += self._remove(outputs, present)
        if self._own != before:
            problems += self._save()
        self._commands_due &= set(outputs)
        for output in outputs:
            if output in self._commands_due:
                why = _follow(output, dirty) if output.command else None
                if why is None:
                    self._commands_due.discard(output)
                else:
                    problems.append(why)
        return tuple(problems)

    def _remove(self, outputs: tuple[Output, ...], present: frozenset[str]) -> list[str]:
        """Files of services, or of outputs, that are gone. Nothing goes while no service is known at all."""
        if not present:
            return []
        wanted = {
            str(Path(output.directory) / f"{name}{_suffix(output)}")
            for output in outputs
            for name in present
            if output.services is None or name in output.services
        }
        problems = []
        for path in sorted(self._own - wanted):
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass
            except OSError as error:
                problems.append(f"cannot remove {path}: {reason(error)}")
                continue
            self._own.discard(path)
            self._commands_due.update(output for output in outputs if Path(path).parent == Path(output.directory))
        return problems

    def _load(self) -> set[str]:
        try:
            paths = json.loads(self._manifest.read_bytes())
        except (OSError, ValueError, RecursionError):
            return set()
        return {path for path in paths if isinstance(path, str)} if isinstance(paths, list) else set()

    def _save(self) -> list[str]:
        try:
            write_atomically(self._manifest, json.dumps(sorted(self._own)).encode())
        except SmartStackError as error:
            return [str(error)]
        return []


def _suffix(output: Output) -> str:
    if output.suffix is not None:
        return output.suffix
    if output.template is not None:
        return Path(output.template.removesuffix(".j2")).suffix or ".txt"
    return f".{output.format}"


def _content(output: Output, view: Mapping[str, Any]) -> bytes:
    if output.format == "json":
        return json_response(200, view).body
    if output.format == "env":
        return shell_variables(view).encode()
    assert output.template is not None
    text = Path(output.template).read_text(encoding="utf-8")
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    return environment.from_string(text).render(view).encode()


def _replace(path: Path, content: bytes) -> bool:
    """Whether it changed. Whatever stands there is no reason to fail: it is replaced."""
    try:
        if path.read_bytes() == content:
            return False
    except OSError:
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content, durable=False)
    return True


def _follow(output: Output, changed: Iterable[str]) -> str | None:
    """Run its command; None when it ended with 0, else what went wrong."""
    told = {"SMARTSTACK_SERVICES": " ".join(sorted(changed))}
    return run_command(output.command, output.timeout, environment=told, end_group=True)


def _words(error: Exception) -> str:
    if isinstance(error, jinja2.TemplateSyntaxError):
        return f"line {error.lineno} of the template: {error.message}"
    return str(error) if isinstance(error, SmartStackError) else f"{type(error).__name__}: {error}"
