"""A configuration file's bytes, and by what to know later that they are still the same."""

import os
import stat
import time
from typing import TypeAlias

from smartstack.yaml_file import SIZE_LIMIT

Fingerprint: TypeAlias = tuple[int, ...]
"""Where a file is, its size, when it was written, and when anything of it last changed.

The last of these is the kernel's alone: archives and deployment tools give every file of a release one date, and the
new file may get the number of the old one.
"""

NO_FINGERPRINT: Fingerprint = ()

SETTLED_NS = 2_000_000_000
"""A file younger than this may be written again without a change of its times (they are as coarse as 10 ms, or 2 s on
some file systems), so that its fingerprint proves nothing yet."""


def fingerprint(status: os.stat_result) -> Fingerprint:
    """That of the file at the end of all links."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def read_file(path: str) -> tuple[bytes, Fingerprint]:
    """A regular file's bytes, at most one more than the limit, and its fingerprint when that proves anything.

    Raises OSError.
    """
    # Not blocking: a named pipe would wait for its writer for ever.
    with open(path, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError("it is not a file")
        data = file.read(SIZE_LIMIT + 1)
    settled = abs(time.time_ns() - status.st_mtime_ns) > SETTLED_NS
    return data, fingerprint(status) if settled else NO_FINGERPRINT


def reason(error: OSError) -> str:
    """What the operating system says of it, without its number."""
    return (error.strerror or str(error)).lower()
