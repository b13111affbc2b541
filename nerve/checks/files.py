"""Files that a check names (certificates, passwords): read at each use, so that renewed ones count."""

import os

from smartstack import file_text
from smartstack.file_text import NO_FINGERPRINT, Fingerprint
from smartstack.yaml_file import SIZE_LIMIT


class UnusableFile(OSError):
    """A file that a check needs cannot be used; the text is one sentence that names it."""


def read_file(what: str, path: str) -> tuple[bytes, Fingerprint]:
    """The content of a regular file, and its fingerprint if that proves anything. `what` it is (`key file`) stands in
    the error.

    Raises UnusableFile, and never waits: a named pipe is refused.
    """
    try:
        data, fingerprint = file_text.read_file(path)
    except OSError as error:
        raise UnusableFile(f"cannot read {what} {path}: {file_text.reason(error)}") from error
    if len(data) > SIZE_LIMIT:
        raise UnusableFile(f"cannot read {what} {path}: it is larger than {SIZE_LIMIT} bytes")
    return data, fingerprint


def fingerprint_now(path: str) -> Fingerprint:
    """The fingerprint of a file or a directory as it is now; NO_FINGERPRINT when it cannot be seen."""
    try:
        return file_text.fingerprint(os.stat(path))
    except OSError:
        return NO_FINGERPRINT
