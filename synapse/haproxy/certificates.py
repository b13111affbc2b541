"""Certificate files: what HAProxy reads of them, and renewals, which it is given at run time, without a reload.

A file that a definition names is read here, and its content goes to HAProxy only when it can be used: first into the
running process, then into the copy that the next process reads. So a copy is never newer than what the worker has, and
whoever starts next (HAProxy, after a crash; synapse, after an upgrade) finds in it what was good last.
"""

import contextlib
import os
import ssl
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from smartstack.errors import Problem, SmartStackError
from smartstack.file_text import read_file, reason
from smartstack.logs import EventLog
from smartstack.process import write_atomically
from smartstack.yaml_file import SIZE_LIMIT
from synapse.haproxy.certificate_commands import Loading, Shown, abort, load, parse_loaded, parse_shown, show
from synapse.metrics import Metrics
from synapse.pem import UnusablePem, authorities_text, certificate_text, fingerprints
from synapse.tls import Kind, TlsFile, TlsState, overdue

KEPT = "its last good content stays in use"


class UnusableFile(SmartStackError):
    """A certificate file cannot be used, and why: it continues a sentence that begins with the file."""


class Certificates:
    """The copies in one directory, and what the running HAProxy has of them. For one thread only.

    `states` is what came of each file when all were last looked at. `ask` has the running worker answer a command
    (`Runtime.ask`). `mode` is that of the copies: there are keys in them, for those alone who run HAProxy.
    """

    def __init__(
        self,
        directory: str,
        ask: Callable[[str], str],
        metrics: Metrics,
        log: EventLog,
        *,
        mode: int = 0o600,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.states: Mapping[TlsFile, TlsState] = {}
        self._directory = directory
        self._ask = ask
        self._metrics = metrics
        self._log = log
        self._mode = mode
        self._clock = clock
        self._touched = True
        self._worker: int | None = None

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with the files, and which should have been renewed by now."""
        return tuple(
            Problem(path=str(file), message=message)
            for file, state in self.states.items()
            for message in (state.problem, state.warning)
            if message is not None
        )

    def touch(self) -> None:
        """A file may have changed."""
        self._touched = True

    def due(self, worker: int | None) -> bool:
        """Whether the files are to be looked at: one may have changed, or this process was not asked about them yet."""
        return self._touched or worker != self._worker

    def admit(self, file: TlsFile) -> str | None:
        """See that there is a copy of this file for HAProxy to read; answer why there is none."""
        if os.path.exists(self._copy(file)):
            return None
        try:
            self._write(self._copy(file), self._read(file, None))
        except SmartStackError as error:
            return f"{file} {error}"
        return None

    def renew(self, files: Collection[TlsFile], worker: int | None, spoken_of: str) -> Mapping[str, str]:
        """Look at these files, and give the running worker what changed; answer which must be loaded by a reload,
        because that does not work at run time, with why. `worker` is None when HAProxy is not running.

        Copies of other files are removed, unless `spoken_of`, haproxy.cfg, still names them. Raises `HAProxyAway`; all
        is tried again at the next call then.
        """
        reloads: dict[str, str] = {}
        states = {}
        for file in sorted(files, key=str):
            states[file] = self._renew(file, worker, reloads)
        self._gauge(states)
        self.states = states
        self._sweep({file.copy for file in files}, spoken_of)
        self._touched, self._worker = False, worker
        return reloads

    def _renew(self, file: TlsFile, worker: int | None, reloads: dict[str, str]) -> TlsState:
        kept = self._kept(file)
        try:
            wanted = self._read(file, kept)
        except SmartStackError as error:
            problem = str(error) if kept is None else f"{error}; {KEPT}"
            return self._state(file, () if worker is None else self._shown(file), problem)
        shown = () if worker is None else self._shown(file)
        if shown is None and wanted != kept:
            reloads[str(file)] = "this HAProxy takes no renewed file of this kind at run time"
        elif shown and (wanted != kept or not _holds(file, shown, wanted)):
            loading, words = self._load(file, wanted)
            if loading is Loading.REFUSED:
                return self._state(file, shown, f"is refused by HAProxy: {words}; {KEPT}")
            if loading is Loading.IMPOSSIBLE:
                reloads[str(file)] = "its new content cannot be loaded at run time"
            shown = self._shown(file)
        if wanted != kept:
            try:
                self._write(self._copy(file), wanted)
            except SmartStackError as error:
                return self._state(file, shown, str(error))
        return self._state(file, shown, None)

    def _state(self, file: TlsFile, shown: Sequence[Shown] | None, problem: str | None) -> TlsState:
        shown = shown or ()
        if file.kind is Kind.CERTIFICATE:
            shown = shown[:1]
        last = max(shown, key=lambda each: each.expires, default=None)
        warning = None if last is None else overdue(last.begins, last.expires, self._clock())
        return TlsState(
            file=file,
            serials=tuple(each.serial for each in shown),
            expires=None if last is None else last.expires,
            problem=problem,
            warning=warning,
        )

    def _read(self, file: TlsFile, kept: str | None) -> str:
        """The content of a file as HAProxy is to have it. Raises `UnusableFile`."""
        text = _bytes(file.path)
        try:
            if file.kind is Kind.AUTHORITIES:
                pem = authorities_text(text)
            else:
                pem = certificate_text(text, None if file.key is None else _bytes(file.key, "has a key that "))
        except UnusablePem as error:
            raise UnusableFile(str(error)) from error
        if pem != kept:
            self._prove(file, pem)
        return pem

    def _prove(self, file: TlsFile, pem: str) -> None:
        """Have OpenSSL read it, as HAProxy will. Raises `UnusableFile`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        proof = f"{self._copy(file)}.new"
        try:
            if file.kind is Kind.AUTHORITIES:
                context.load_verify_locations(cadata=pem)
            else:
                self._write(proof, pem, durable=False)
                context.load_cert_chain(proof, password="")
        except ssl.SSLError as error:
            why = f"is refused by OpenSSL: {(error.reason or str(error)).lower().replace('_', ' ')}"
            if error.reason == "KEY_VALUES_MISMATCH":
                why = "is not the certificate of its key, as when only one of them is renewed"
            raise UnusableFile(why) from error
        except OSError as error:
            raise UnusableFile(f"cannot be read: {reason(error)}") from error
        finally:
            with contextlib.suppress(OSError):
                os.unlink(proof)

    def _shown(self, file: TlsFile) -> tuple[Shown, ...] | None:
        """What the running worker has loaded of a file, as `parse_shown` answers."""
        command = show(file.kind, self._copy(file))
        return None if command is None else parse_shown(self._ask(command))

    def _load(self, file: TlsFile, pem: str) -> tuple[Loading, str]:
        """Give the running worker this content, and look whether it has it then."""
        commands = load(file.kind, self._copy(file), pem)
        if commands is None:
            return Loading.IMPOSSIBLE, ""
        loading, words = parse_loaded(self._ask(commands))
        if loading is not Loading.DONE:
            self._ask(abort(file.kind, self._copy(file)))
        elif not _holds(file, self._shown(file) or (), pem):
            loading = Loading.IMPOSSIBLE
        done = loading is Loading.DONE
        self._metrics.certificates_loaded.labels("done" if done else "failed").inc()
        if done:
            self._log.info("loaded a renewed certificate file", file=str(file), kind=file.kind.value)
        return loading, words

    def _gauge(self, states: Mapping[TlsFile, TlsState]) -> None:
        self._metrics.certificate_expiry.clear()
        for file, state in states.items():
            if state.expires is not None:
                self._metrics.certificate_expiry.labels(file.path).set(state.expires)

    def _sweep(self, keep: Collection[str], spoken_of: str) -> None:
        with contextlib.suppress(OSError):
            for name in os.listdir(self._directory):
                if name not in keep and name not in spoken_of:
                    os.unlink(f"{self._directory}/{name}")

    def _copy(self, file: TlsFile) -> str:
        return f"{self._directory}/{file.copy}"

    def _kept(self, file: TlsFile) -> str | None:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            return Path(self._copy(file)).read_text(encoding="ascii")
        return None

    def _write(self, path: str, pem: str, *, durable: bool = True) -> None:
        """Make it whole, and the directory where it is not there. Raises `SmartStackError`."""
        with contextlib.suppress(OSError):
            os.makedirs(self._directory, mode=self._mode | (self._mode & 0o440) >> 2, exist_ok=True)
        write_atomically(path, pem.encode("ascii"), self._mode, durable=durable)


def _holds(file: TlsFile, shown: Sequence[Shown], pem: str) -> bool:
    """Whether what HAProxy shows is what this text has. Of a certificate it shows the first one only."""
    wanted, has = fingerprints(pem), [each.fingerprint for each in shown]
    return has[:1] == list(wanted[:1]) if file.kind is Kind.CERTIFICATE else set(has) == set(wanted)


def _bytes(path: str, whose: str = "") -> bytes:
    """What is in a file. Raises `UnusableFile`."""
    try:
        data, _ = read_file(path)
    except OSError as error:
        raise UnusableFile(f"{whose}cannot be read: {reason(error)}") from error
    if len(data) > SIZE_LIMIT:
        raise UnusableFile(f"{whose}has more than {SIZE_LIMIT} bytes")
    return data
