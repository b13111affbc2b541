"""This host's address while nerve runs: looked up when the settings change, kept on disk for a start without DNS."""

import ipaddress
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from nerve.address import advertised_address
from nerve.settings import Settings
from smartstack.errors import ConfigError, SmartStackError
from smartstack.logs import EventLog
from smartstack.process import write_atomically

KEPT_FILE = "advertised.json"
"""The last address that was found, in the state directory, with the settings `host` and `registry` it was found for."""

Found: TypeAlias = str | ConfigError
_Wanted: TypeAlias = tuple[str | None, str]


class Advertised:
    """The address for some settings; called by the loop thread only. `path` is the settings' file, for the errors.

    A call waits for a name server only when `host` or `registry` differ from those of the call before and of the last
    address that was found. What could not be found is looked up again, by a thread, at later calls; meanwhile the kept
    address stands if it was found for the same settings. Raises ConfigError when there is none.
    """

    def __init__(
        self, path: str, directory: str, log: EventLog, find: Callable[[Settings, str], str] = advertised_address
    ) -> None:
        self._path = path
        self._file = Path(directory) / KEPT_FILE
        self._log = log
        self._find = find
        self._kept = _load(self._file)
        self._confirmed: _Wanted | None = None
        self._asked: _Wanted | None = None
        self._failure: ConfigError | None = None
        self._again: _LookUp | None = None

    def __call__(self, settings: Settings) -> str:
        wanted = (settings.host, str(settings.registry))
        if wanted != self._confirmed:
            if wanted != self._asked:
                self._asked, self._again, self._failure = wanted, None, None
                self._take(wanted, self._look_up(settings))
            else:
                self._retry(wanted, settings)
        if self._kept is not None and self._kept[0] == wanted:
            return self._kept[1]
        assert self._failure is not None
        raise self._failure

    def _retry(self, wanted: _Wanted, settings: Settings) -> None:
        if self._again is not None and not self._again.is_alive():
            found, self._again = self._again.found, None
            if found is not None:
                self._take(wanted, found)
        if wanted != self._confirmed and self._again is None:
            self._again = _LookUp(lambda: self._look_up(settings))
            self._again.start()

    def _look_up(self, settings: Settings) -> Found:
        try:
            return self._find(settings, self._path)
        except ConfigError as error:
            return error

    def _take(self, wanted: _Wanted, found: Found) -> None:
        if isinstance(found, ConfigError):
            if self._failure is None and self._kept is not None and self._kept[0] == wanted:
                sentence = "the address of this host cannot be found; the last one that was found is announced"
                self._log.warning(sentence, address=self._kept[1], why=str(found))
            self._failure = found
            return
        self._failure, self._confirmed = None, wanted
        if self._kept != (wanted, found):
            self._kept = (wanted, found)
            self._save(wanted, found)

    def _save(self, wanted: _Wanted, address: str) -> None:
        host, registry = wanted
        text = json.dumps({"host": host, "registry": registry, "address": address})
        try:
            write_atomically(self._file, f"{text}\n".encode())
        except SmartStackError as error:
            self._log.warning("the address of this host cannot be kept for the next start", why=str(error))


class _LookUp(threading.Thread):
    """One look-up that may take as long as a name server takes; `found` once it is not alive any more."""

    def __init__(self, look_up: Callable[[], Found]) -> None:
        super().__init__(name="advertised", daemon=True)
        self.found: Found | None = None
        self._look_up = look_up

    def run(self) -> None:
        self.found = self._look_up()


def kept_address(directory: str) -> str | None:
    """The last address that a nerve with this state directory announced, whatever its settings were; None if none is
    kept there."""
    kept = _load(Path(directory) / KEPT_FILE)
    return None if kept is None else kept[1]


def _load(file: Path) -> tuple[_Wanted, str] | None:
    """What was kept; a file that is not there or is no such file is as good as none."""
    try:
        kept = json.loads(file.read_bytes())
        host, registry, address = kept["host"], kept["registry"], kept["address"]
        if (host is None or isinstance(host, str)) and isinstance(registry, str) and isinstance(address, str):
            return (host, registry), str(ipaddress.ip_address(address))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    return None
