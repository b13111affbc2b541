"""Where things lie in a registry directory, and what one file in it is worth. Used by its reader and its writer."""

import fcntl
import json
import os
import stat

from smartstack.errors import RegistryRefused
from smartstack.instance import PAYLOAD_LIMIT, decode, encode, payload_in_name, printable
from smartstack.registry.protocol import Record, Refused

SUFFIX = ".json"
NAME_LIMIT = 255
"""Longest file name in bytes (Linux: NAME_MAX)."""

TEMPORARY_SUFFIX = ".new"
"""A file that is being written is called `.<pid>-<number>.new`; readers and watches pass over leading dots."""


def service_directory(root: str, path: str) -> str:
    """The directory of a service's path; an absolute path lies below the same root.

    Raises RegistryRefused for a path that would lead elsewhere.
    """
    steps = [step for step in path.split("/") if step]
    if not steps or any(step.startswith(".") or "\0" in step for step in steps):
        raise RegistryRefused(f"cannot keep {printable(path)!r} in {root}: no part of the path may start with a dot")
    return "/".join((root.rstrip("/"), *steps))


def file_name(node: str) -> str:
    """The file of a node. Raises RegistryRefused for a name that no file can have or no reader would look at."""
    name = node + SUFFIX
    if not node or node.startswith(".") or "/" in node or not node.isprintable():
        raise RegistryRefused(f"cannot register node {printable(node)!r}: its name cannot be the name of a file")
    if len(os.fsencode(name)) > NAME_LIMIT:
        raise RegistryRefused(
            f"cannot register node {printable(node)}: its name is longer than a file's may be ({NAME_LIMIT} bytes); "
            "use node_names: address"
        )
    return name


def node_of(name: str) -> str | None:
    """The node of a file, or None for a file that is none of the registry's."""
    return name[: -len(SUFFIX)] if name.endswith(SUFFIX) and not name.startswith(".") else None


def open_file(name: str, directory: int) -> int | str:
    """A descriptor to read a file of this directory with, or in a few words why it is not to be read.

    Never waits (a pipe) and never follows a symbolic link. Opened for reading only, so that its closing rings no
    bell. Raises FileNotFoundError when it is gone, OSError when the machine fails.
    """
    if not stat.S_ISREG(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
        return "not a regular file"
    try:
        return os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except PermissionError:
        return "permission denied"


def has_owner(descriptor: int) -> bool:
    """Whether the process that wrote this file lives and holds it. Disturbs neither it nor another reader."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False


def read_payload(descriptor: int) -> bytes:
    """What stands in the file, from its start; one byte over the limit when it is too long."""
    parts, size = [], 0
    while size <= PAYLOAD_LIMIT:
        part = os.pread(descriptor, PAYLOAD_LIMIT + 1 - size, size)
        if not part:
            break
        parts.append(part)
        size += len(part)
    return b"".join(parts)


def judge(node: str, payload: bytes, version: int, *, owned: bool) -> Record | Refused | None:
    """What a file says: an instance, something to be refused, or nothing (its writer died)."""
    if not node.isprintable():
        return Refused(node=printable(node), reason="its name is not printable")
    if len(payload) > PAYLOAD_LIMIT:
        return Refused(node=printable(node), reason=f"payload is over the limit of {PAYLOAD_LIMIT} bytes")
    if not owned and not is_static(payload):
        if is_leftover(payload):
            return None
        instance = decode(payload)
        why = instance if isinstance(instance, str) else 'nobody holds it, and it does not say "static": true'
        return Refused(node=printable(node), reason=why)
    in_name = payload_in_name(node)
    instance = decode(payload if in_name is None else in_name)
    if isinstance(instance, str):
        return Refused(node=printable(node), reason=instance)
    return Record(node=node, instance=instance, version=version)


def is_leftover(payload: bytes) -> bool:
    """Whether a file without an owner was left by a writer: byte for byte what `encode` writes.

    What a hand has written is not (at the least its last line has an end), and is left alone.
    """
    instance = decode(payload)
    return not isinstance(instance, str) and encode(instance) == payload


def is_static(payload: bytes) -> bool:
    """Whether a file says of itself that it was written by hand and has no owner."""
    try:
        data = json.loads(payload)
    except (ValueError, RecursionError):
        return False
    return isinstance(data, dict) and data.get("static") is True
