"""Registries: where nerve writes who is well and synapse reads it. One sub-package for each kind.

A kind's module is imported only when a URL of that kind is opened: kazoo costs a daemon on a `file:` registry nothing.
"""

from smartstack.forms import DirectoryUrl, RegistryUrl
from smartstack.registry.options import NOBODY, ZooKeeperOptions
from smartstack.registry.protocol import RegistryReader, RegistryWriter
from smartstack.registry.survey import Surveyor


def open_reader(
    url: RegistryUrl, *, session_timeout_seconds: float, options: ZooKeeperOptions = NOBODY
) -> RegistryReader:
    """The reader for a registry, not started yet. A directory has no use for time-out and options.

    Raises `RegistryRefused` when a file that the options name (a password, a certificate) is wrong.
    """
    if isinstance(url, DirectoryUrl):
        from smartstack.registry.directory import DirectoryReader

        return DirectoryReader(url)
    from smartstack.registry.zookeeper import ZooKeeperReader

    return ZooKeeperReader(url, session_timeout_seconds=session_timeout_seconds, options=options)


def open_writer(
    url: RegistryUrl,
    *,
    session_timeout_seconds: float,
    options: ZooKeeperOptions = NOBODY,
    session_file: str | None = None,
) -> RegistryWriter:
    """The writer for a registry, not started yet. A directory has no use for time-out, options and session file.

    In `session_file` ZooKeeper's session is kept for the process that comes after this one. Raises `RegistryRefused`
    when a file that the options name (a password, a certificate) is wrong.
    """
    if isinstance(url, DirectoryUrl):
        from smartstack.registry.directory import DirectoryWriter

        return DirectoryWriter(url)
    from smartstack.registry.zookeeper import ZooKeeperWriter

    return ZooKeeperWriter(
        url,
        session_timeout_seconds=session_timeout_seconds,
        options=options,
        session_file=session_file,
    )


def open_surveyor(url: RegistryUrl, *, options: ZooKeeperOptions = NOBODY, session_file: str | None = None) -> Surveyor:
    """The surveyor for a registry, not started yet. A directory has no use for options and session file.

    `session_file` is only read. Raises `RegistryRefused` when a file that the options name is wrong.
    """
    if isinstance(url, DirectoryUrl):
        from smartstack.registry.directory.survey import DirectorySurveyor

        return DirectorySurveyor(url)
    from smartstack.registry.zookeeper.survey import ZooKeeperSurveyor

    return ZooKeeperSurveyor(url, options=options, session_file=session_file)
