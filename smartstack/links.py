"""Where symbolic links lead: the directories in which a file may change that is read by way of links."""

import os
from collections.abc import Iterator

_LINK_LIMIT = 40


def behind_file(path: str) -> Iterator[str]:
    """The directory of each file to which the links at this absolute path lead, one after the other.

    Each as the link names it, so that a link among its own steps (`current` in `../releases/current/web.yaml`) can be
    watched too. Nothing for what is no link, or cannot be read.
    """
    for _ in range(_LINK_LIMIT):
        try:
            target = os.readlink(path)
        except OSError:
            return
        path = os.path.join(os.path.dirname(path), target)
        yield os.path.dirname(path)


def behind_directory(directory: str) -> Iterator[str]:
    """The same for each link in an absolute directory, hidden ones left out. Nothing where it cannot be read."""
    try:
        with os.scandir(directory) as entries:
            links = sorted(entry.path for entry in entries if not entry.name.startswith(".") and entry.is_symlink())
    except OSError:
        return
    for link in links:
        yield from behind_file(link)
