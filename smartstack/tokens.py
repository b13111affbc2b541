"""Tokens: who may read a file in the run directory may ask for actions."""

import grp
import hmac
import os
import secrets
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from smartstack.errors import SmartStackError
from smartstack.process import write_atomically
from smartstack.responses import Response, text_response

TOKEN: Final = "token"
"""The file of the token that opens every action."""

HEARTBEAT_TOKEN: Final = "heartbeat-token"
"""The file of the token that opens the heartbeats of services only, for a group."""

_DIRECTORY_MODE: Final = 0o755
_LONGEST: Final = 1000
_RENEW: Final = "restart the daemon, which writes a new one"


class Token:
    """A random word in a file, new at each start: `<run_directory>/<name>`, for the daemon's user alone (mode 0600).

    With a `group`, the members of that group may read it too (mode 0640). The file is looked at again whenever the
    token is used: one that others may read, or that is no longer the file that was written, opens nothing.
    """

    def __init__(self, run_directory: str | Path, name: str = TOKEN, *, group: str | None = None) -> None:
        self.path = Path(run_directory) / name
        self._group = group
        self._mode = 0o600 if group is None else 0o640
        self._secret = ""
        self._written: os.stat_result | None = None
        self._failure: str | None = "it was not written yet"

    @property
    def was_written(self) -> bool:
        """Whether there ever was a token in this life of the daemon."""
        return self._failure is None

    def write(self) -> None:
        """Write a new token; makes the directory (mode 0755). Never raises: what failed is the `problem` of it."""
        self._secret = secrets.token_urlsafe(32)
        try:
            _make_directory(self.path.parent)
            group_id = _group_id(self._group)
            write_atomically(self.path, f"{self._secret}\n".encode(), mode=0o600)
            self._written = self._hand_over(group_id)
        except SmartStackError as error:
            self._failure = f"there is no token: {error}; then restart the daemon"
        else:
            self._failure = None

    @property
    def problem(self) -> str | None:
        """Why the token opens nothing, and what to do about it; None when all is well. Looks at the file."""
        return self._failure or self._look()

    def opens(self, offered: str) -> bool:
        """Whether this is the token; in the same time for any word of one length. Does not look at the file."""
        return self.was_written and hmac.compare_digest(offered.encode(), self._secret.encode())

    def _hand_over(self, group_id: int | None) -> os.stat_result:
        """Give the file to its group, and only then let the group read it."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if group_id is not None:
                    os.fchown(descriptor, -1, group_id)
                    os.fchmod(descriptor, self._mode)
                return os.fstat(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise SmartStackError(
                f"cannot give {self.path} to the group {self._group}: {(error.strerror or str(error)).lower()}; run "
                "the daemon as root or as a member of that group"
            ) from error

    def _look(self) -> str | None:
        try:
            return self._difference(os.lstat(self.path))
        except FileNotFoundError:
            return f"{self.path} was removed: {_RENEW}"
        except OSError as error:
            return f"cannot look at {self.path}: {(error.strerror or str(error)).lower()}; {_RENEW}"

    def _difference(self, found: os.stat_result) -> str | None:
        """What is not as it was written. A file of others is not opened: a pipe would wait for its writer."""
        written = self._written
        same = written is not None and (found.st_dev, found.st_ino) == (written.st_dev, written.st_ino)
        # A number of a file that is gone may be given to the next one, of whatever kind.
        if written is None or not same or not stat.S_ISREG(found.st_mode):
            return f"{self.path} was replaced: {_RENEW}"
        if found.st_uid != os.geteuid():
            return f"{self.path} belongs to another user (uid {found.st_uid}): {_RENEW}"
        if self._group is not None and found.st_gid != written.st_gid:
            return f"{self.path} belongs to another group (gid {found.st_gid}) than {self._group}: {_RENEW}"
        mode = stat.S_IMODE(found.st_mode)
        if mode & ~self._mode:
            return (
                f"{self.path} is open to others (mode {mode:04o}): chmod {self._mode:o} it, and restart the daemon if "
                "others may have read it"
            )
        if not hmac.compare_digest(_content(self.path), f"{self._secret}\n".encode()):
            return f"{self.path} was changed: {_RENEW}"
        return None


def refusal(tokens: Sequence[Token], authorization: str | None) -> Response | None:
    """The refusal of a request whose `Authorization` is this, None when one of the tokens lets it through.

    503 where there is no token at all, 401 where none was sent, 403 where it is wrong or where its file opens nothing.
    """
    problems = {token: token.problem for token in tokens}
    sound = [token for token, problem in problems.items() if problem is None]
    problem = next((problem for problem in problems.values() if problem is not None), None)
    if not sound:
        return text_response(403 if any(token.was_written for token in tokens) else 503, f"refused: {problem}")
    places = " or ".join(str(token.path) for token in sound)
    scheme, _, offered = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not offered.strip():
        return text_response(
            401,
            f"refused: this needs a token: send the header `Authorization: Bearer TOKEN` with what {places} holds",
            ("WWW-Authenticate", "Bearer"),
        )
    if any(token.opens(offered.strip()) for token in sound):
        return None
    return text_response(403, f"refused: {problem or f'this is not the token: read it from {places}'}")


def _content(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.read(descriptor, _LONGEST)
    finally:
        os.close(descriptor)


def _group_id(group: str | None) -> int | None:
    if group is None:
        return None
    try:
        return grp.getgrnam(group).gr_gid
    except (KeyError, ValueError):
        raise SmartStackError(
            f"there is no group {group!a} on this machine: make it, or set heartbeat_group to another one or to null"
        ) from None


def _make_directory(directory: Path) -> None:
    """Make the directory and what is missing above it, so that everybody may look into it whatever the umask is."""
    try:
        for each in reversed([each for each in (directory, *directory.parents) if not each.exists()]):
            each.mkdir(exist_ok=True)
            each.chmod(_DIRECTORY_MODE)
    except OSError as error:
        raise SmartStackError(
            f"cannot make the directory {directory}: {(error.strerror or str(error)).lower()}; make it for the "
            "daemon's user, or set run_directory to another one"
        ) from error
