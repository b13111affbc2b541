"""Whether we may write at all, found out before anything has to be written, and without writing anything."""

import time
from collections.abc import Iterable

from kazoo.exceptions import NoAuthError, NoNodeError

from smartstack.registry.zookeeper import access, wire
from smartstack.registry.zookeeper import paths as tree
from smartstack.registry.zookeeper.link import Link

AGAIN_SECONDS = 10.0
"""How long a refusal stands, at least, before the right to write is tried again."""

_NAME = ".smartstack-trial"


class Rights:
    """The right to write, as it was when it was last tried: once in every session, and from time to time while it is
    refused."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._tried_in: int | None = None
        self._again_at = 0.0
        self.refused = ""
        self.note = ""

    def check(self, session: int | None, directories: Iterable[str]) -> None:
        """Try it in these directories, if it is time. Raises `RegistryUnavailable`.

        `refused` says why we may write in none of them. Where only some are closed to us the others go on: `note` says
        which, and a put there is refused by itself. A password that was corrected in its file is shown first.
        """
        if session != self._tried_in or (self.refused and time.monotonic() >= self._again_at):
            if self.refused and session == self._tried_in:
                self._link.show_anew()
            self._try(list(dict.fromkeys(directories)))
            self._tried_in = session
            self._again_at = time.monotonic() + AGAIN_SECONDS

    def _try(self, directories: list[str]) -> None:
        closed = self._closed(directories)
        self.refused = self.note = ""
        if not closed:
            return
        where = f"{closed[0]}" + (f" and {len(closed) - 1} more places" if len(closed) > 1 else "")
        if len(closed) < len(directories):
            self.note = f"writing in {where} is not allowed {access.who(self._link.options)}"
            return
        if self._link.options.user is None:
            cure = "the tree belongs to somebody: give user and password, or open it"
        else:
            cure = (
                "the password is wrong, or the tree belongs to somebody else: correct it, or give this user the right"
            )
        self.refused = f"cannot write in {where} in ZooKeeper {access.who(self._link.options)}: {cure}"

    def _closed(self, directories: list[str]) -> list[str]:
        """Those of these directories in which we may make nothing; of one that is not there its lowest ancestor counts,
        in which it would have to be made."""
        closed = []
        lowest = {directory: directory for directory in directories}
        while lowest:
            asked = list(dict.fromkeys(lowest.values()))
            requests = [wire.try_create(tree.join(place, _NAME), self._link.rights) for place in asked]
            answers = dict(zip(asked, (answer for _request, answer in self._link.ask(requests)), strict=True))
            missing = {}
            for directory, place in lowest.items():
                answer = answers[place]
                first = answer[0] if isinstance(answer, list) and answer else answer
                if isinstance(first, NoAuthError):
                    closed.append(directory)
                elif isinstance(first, NoNodeError) and place != "/":
                    missing[directory] = tree.split(place)[0]
            lowest = missing
        return closed
