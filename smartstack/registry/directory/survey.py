"""Surveyor on a registry directory: looks at every file in the directories of services, and holds nothing."""

import os
from collections.abc import Callable, Collection

from smartstack.errors import RegistryRefused, RegistryUnavailable
from smartstack.forms import DirectoryUrl
from smartstack.instance import PAYLOAD_LIMIT, payload_in_name, printable
from smartstack.registry.directory import changes
from smartstack.registry.directory.layout import (
    has_owner,
    is_static,
    node_of,
    open_file,
    read_payload,
    service_directory,
)
from smartstack.registry.survey import Holder, Node, Survey, Unread

_PASSES = 5
"""How often a file that is replaced while it is looked at is looked at again."""


class DirectorySurveyor:
    """See `Surveyor`. There is no session: whoever holds a file holds its lock."""

    def __init__(self, url: DirectoryUrl) -> None:
        self._root = os.path.abspath(url.path)

    def start(self) -> None:
        """Nothing is to be connected."""

    def survey(self, directories: Collection[str], parents: Collection[str], worth: Callable[[str], bool]) -> Survey:
        """See `Surveyor.survey`."""
        try:
            with os.scandir(self._root):
                pass
        except OSError as error:
            raise RegistryUnavailable(
                f"cannot see what is registered: registry directory {self._root}: {_words(error)}"
            ) from error
        unread: list[Unread] = []
        places = {place for path in directories if (place := self._directory(path, unread)) is not None}
        for path in parents:
            parent = self._directory(path, unread)
            if parent is not None:
                places.update(_directories_in(parent, unread))
        nodes = [node for place in sorted(places) for node in _nodes_in(place, worth, unread)]
        return Survey(
            nodes=tuple(sorted(nodes, key=lambda node: node.where)),
            unread=tuple(sorted(unread, key=lambda one: one.where)),
            looked_in=len(places),
        )

    def remove(self, node: Node) -> bool:
        """See `Surveyor.remove`: looked at once more while the directory is locked, so that no writer is in between."""
        directory, file = os.path.split(node.where)
        try:
            with changes.locked(directory) as opened:
                now = _look(opened, directory, file, node.name)
                if now is None:
                    return True
                if now != node or node.holder is not Holder.NOBODY:
                    return False
                os.unlink(file, dir_fd=opened)
        except FileNotFoundError:
            return True
        except OSError as error:
            raise RegistryRefused(
                f"cannot remove {printable(node.where, 300)}: {_words(error)}; let user id {os.geteuid()} write there"
            ) from error
        return True

    def stop(self) -> None:
        """Nothing was begun."""

    def _directory(self, path: str, unread: list[Unread]) -> str | None:
        try:
            return service_directory(self._root, path)
        except RegistryRefused as refusal:
            unread.append(Unread(where=path, name=None, reason=str(refusal)))
            return None


def _directories_in(parent: str, unread: list[Unread]) -> list[str]:
    try:
        with os.scandir(parent) as entries:
            return [entry.path for entry in entries if not entry.name.startswith(".") and entry.is_dir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        unread.append(Unread(where=parent, name=None, reason=_words(error)))
        return []


def _nodes_in(directory: str, worth: Callable[[str], bool], unread: list[Unread]) -> list[Node]:
    try:
        with changes.open_directory(directory) as opened:
            files = [(file, name) for file in os.listdir(opened) if (name := node_of(file)) is not None and worth(name)]
            found = [_look(opened, directory, file, name) for file, name in files]
    except FileNotFoundError:
        return []
    except OSError as error:
        unread.append(Unread(where=directory, name=None, reason=_words(error)))
        return []
    unread += [one for one in found if isinstance(one, Unread)]
    return [one for one in found if isinstance(one, Node)]


def _look(opened: int, directory: str, file: str, name: str) -> Node | Unread | None:
    """One file as it is now, None when it is not there. Raises OSError when the machine fails."""
    where = f"{directory}/{file}"
    for _pass in range(_PASSES):
        try:
            descriptor = open_file(file, opened)
        except FileNotFoundError:
            return None
        if isinstance(descriptor, str):
            return Unread(where=where, name=name, reason=descriptor)
        try:
            status = os.fstat(descriptor)
            owned = has_owner(descriptor)
            data = read_payload(descriptor)
            replaced = not owned and os.fstat(descriptor).st_nlink == 0
        finally:
            os.close(descriptor)
        if replaced:
            continue  # its owner lives, and has just put another file in its place and let go of this one
        if len(data) > PAYLOAD_LIMIT:
            return Unread(where=where, name=name, reason=f"it holds more than {PAYLOAD_LIMIT} bytes")
        in_name = payload_in_name(name)
        return Node(
            where=where,
            name=name,
            payload=data if in_name is None else in_name,
            holder=Holder.ALIVE if owned else Holder.HAND if is_static(data) else Holder.NOBODY,
            stamp=(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns),
        )
    return Unread(where=where, name=name, reason="it changes while it is looked at")


def _words(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
