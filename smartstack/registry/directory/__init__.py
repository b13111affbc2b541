"""The `file:` registry: a directory on this machine, no server.

    <directory>/services/web/10.0.0.5_0000008080.json      one file for an instance, its payload as JSON

A writer keeps each of its files open and locked (`flock`). When it dies, however it dies, the kernel closes the file:
readers are told at once, and a lock that they can get proves that the owner is gone. A file written by hand has no
owner and says so itself, with `"static": true`.
"""

from smartstack.registry.directory.reader import DirectoryReader
from smartstack.registry.directory.writer import DirectoryWriter

__all__ = ["DirectoryReader", "DirectoryWriter"]
