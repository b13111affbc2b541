"""The changes that writers make to one directory. Each is made under the directory's own lock, so that none of them
removes what another has just put there."""

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Iterator
from itertools import count

from smartstack.errors import RegistryUnavailable
from smartstack.registry.directory.layout import (
    TEMPORARY_SUFFIX,
    has_owner,
    is_leftover,
    node_of,
    open_file,
    read_payload,
)

LOCK_SECONDS = 2.0
"""How long to wait for another writer to be done with a directory; it takes microseconds, unless it hangs."""

_TEMPORARY = re.compile(r"\.\d+-\d+" + re.escape(TEMPORARY_SUFFIX))
_numbers = count(1)


@contextlib.contextmanager
def open_directory(directory: str) -> Iterator[int]:
    """A descriptor of the directory. Raises OSError."""
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield opened
    finally:
        os.close(opened)


@contextlib.contextmanager
def locked(directory: str) -> Iterator[int]:
    """A descriptor of the directory, which no other writer changes meanwhile.

    Raises OSError, and RegistryUnavailable when another writer does not let go of it.
    """
    with open_directory(directory) as opened:
        end = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise RegistryUnavailable(
                        f"cannot write to {directory}: another process has held its lock for {LOCK_SECONDS:g} s"
                    ) from None
                time.sleep(0.002)
        yield opened


def prove_writable(opened: int) -> None:
    """Make and remove a file. Raises OSError when that is not possible."""
    os.close(_create(opened, temporary := _temporary_name()))
    os.unlink(temporary, dir_fd=opened)


def replace(opened: int, name: str, payload: bytes) -> int:
    """Put a file there, over what is there, and return its descriptor, locked. Raises OSError and changes nothing.

    It is written and locked under another name first: nobody ever sees it half, or without its owner.
    """
    descriptor = _create(opened, temporary := _temporary_name())
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        written = 0
        while written < len(payload):
            written += os.write(descriptor, payload[written:])
        now = time.time_ns()  # the file system's own clock ticks too coarsely to tell which of two nodes is newer
        os.utime(descriptor, ns=(now, now))
        os.rename(temporary, name, src_dir_fd=opened, dst_dir_fd=opened)
    except OSError:
        os.close(descriptor)
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=opened)
        raise
    return descriptor


def remove(opened: int, name: str, inode: tuple[int, int]) -> None:
    """Remove a file if it is still this very one. Raises OSError."""
    status = os.stat(name, dir_fd=opened, follow_symlinks=False)
    if (status.st_dev, status.st_ino) == inode:
        os.unlink(name, dir_fd=opened)


def sweep(opened: int) -> None:
    """Remove what dead writers left: registrations and files half written. What cannot be removed stays."""
    for name in os.listdir(opened):
        temporary = _TEMPORARY.fullmatch(name) is not None
        if not temporary and node_of(name) is None:
            continue
        with contextlib.suppress(OSError):
            descriptor = open_file(name, opened)
            if isinstance(descriptor, str):
                continue
            try:
                dead = not has_owner(descriptor) and (temporary or is_leftover(read_payload(descriptor)))
            finally:
                os.close(descriptor)
            if dead:
                os.unlink(name, dir_fd=opened)


def _temporary_name() -> str:
    return f".{os.getpid()}-{next(_numbers)}{TEMPORARY_SUFFIX}"


def _create(opened: int, name: str) -> int:
    return os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=opened)
