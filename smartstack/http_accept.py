"""How the admin address takes connections where there is no descriptor left for them."""

import errno
import os
import time
from collections.abc import Callable
from typing import Any, Final

from smartstack.logs import EventLog

PAUSE_SECONDS: Final = 0.1
"""Between two attempts. The kernel keeps who waits meanwhile, and says at once and for ever that somebody does."""

_EXHAUSTED: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

_log = EventLog("admin")


class PatientAccept:
    """A server's `accept` that waits a little when this process or machine has no descriptor left, and says so once.

    Raises what `accept` raises beyond that. `sleep` is called on the server's own thread.
    """

    def __init__(self, accept: Callable[[], Any], sleep: Callable[[float], None] = time.sleep) -> None:
        self._accept = accept
        self._sleep = sleep
        self._told = False

    def __call__(self) -> Any:
        """The next connection, None where there is none that could be taken."""
        try:
            found = self._accept()
        except OSError as error:
            if error.errno not in _EXHAUSTED:
                raise
            if not self._told:
                self._told = True
                _log.warning("the admin address takes nobody for now", why=os.strerror(error.errno).lower())
            self._sleep(PAUSE_SECONDS)
            return None
        if found is not None:
            self._told = False
        return found
