"""The ways in which files change under a daemon: by hand, by an editor, by configuration management, by Kubernetes."""

import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path


class Files(ABC):
    """A directory as a daemon sees it (`directory`), and one way in which its files are changed.

    What this way needs beside the directory (releases, the files behind links) is made beside it.
    """

    def __init__(self, directory: Path, texts: Mapping[str, str]) -> None:
        self.directory = directory
        self.texts: dict[str, str] = {}
        directory.parent.mkdir(parents=True, exist_ok=True)
        self.begin(dict(texts))

    @abstractmethod
    def begin(self, texts: dict[str, str]) -> None:
        """Make the directory with these files."""

    @abstractmethod
    def write(self, name: str, text: str) -> None:
        """Change a file, or add one."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Take a file away."""


class InPlace(Files):
    """`echo text > file`: emptied, then written."""

    def begin(self, texts: dict[str, str]) -> None:
        self.directory.mkdir()
        for name, text in texts.items():
            self.write(name, text)

    def write(self, name: str, text: str) -> None:
        (self.directory / name).write_text(text)

    def delete(self, name: str) -> None:
        (self.directory / name).unlink()


class Renamed(InPlace):
    """A temporary file that is renamed: rsync, most programs, many editors."""

    def write(self, name: str, text: str) -> None:
        (self.directory / f".{name}.x7").write_text(text)
        (self.directory / f".{name}.x7").rename(self.directory / name)


class Backup(InPlace):
    """The file becomes its own backup, a new one is written, the backup is deleted: vi, emacs."""

    def write(self, name: str, text: str) -> None:
        file, backup = self.directory / name, self.directory / f"{name}~"
        if file.exists():
            file.rename(backup)
        file.write_text(text)
        backup.unlink(missing_ok=True)


class DeletedFirst(InPlace):
    """Deleted and made anew, in one go."""

    def write(self, name: str, text: str) -> None:
        (self.directory / name).unlink(missing_ok=True)
        (self.directory / name).write_text(text)


class OldDate(Renamed):
    """As an archive is unpacked: every file, old or new, has the date of the archive."""

    def write(self, name: str, text: str) -> None:
        super().write(name, text)
        os.utime(self.directory / name, (0, 0))


class _Releases(Files):
    """Whole directories beside the one that is seen, a new one for each change."""

    number = 0

    def release(self, texts: Mapping[str, str], below: str = "") -> Path:
        """A new directory with these files (`below`: in a directory in it)."""
        self.number += 1
        made = self.directory.parent / "releases" / str(self.number)
        (made / below).mkdir(parents=True)
        for name, text in texts.items():
            (made / below / name).write_text(text)
        return made


def swap(link: Path, target: Path | str) -> None:
    """Let a symbolic link lead elsewhere, in one step."""
    new = link.with_name(f".{link.name}.swap")
    new.symlink_to(target)
    new.rename(link)


class LinkSwapped(_Releases):
    """Each file is a link into a release (`web.yaml -> ../releases/2/web.yaml`); the link is swapped in one step."""

    def begin(self, texts: dict[str, str]) -> None:
        self.directory.mkdir()
        for name, text in texts.items():
            self.write(name, text)

    def write(self, name: str, text: str) -> None:
        swap(self.directory / name, f"../releases/{self.release({name: text}).name}/{name}")

    def delete(self, name: str) -> None:
        (self.directory / name).unlink()


class LinkReplaced(LinkSwapped):
    """`ln -sf`: the link is deleted, and another is made."""

    def write(self, name: str, text: str) -> None:
        target = self.release({name: text}) / name
        (self.directory / name).unlink(missing_ok=True)
        (self.directory / name).symlink_to(target)


class LinkTarget(LinkSwapped):
    """Each file is a link to a file elsewhere, which is edited there in place."""

    def write(self, name: str, text: str) -> None:
        if (self.directory / name).exists():
            (self.directory / name).write_text(text)
        else:
            super().write(name, text)


class LinkStepSwapped(_Releases):
    """Each file is a link through a link (`web.yaml -> ../current/web.yaml`), and `current` is swapped."""

    def begin(self, texts: dict[str, str]) -> None:
        self.directory.mkdir()
        self.texts = texts
        self._swap()
        for name in texts:
            (self.directory / name).symlink_to(f"../current/{name}")

    def write(self, name: str, text: str) -> None:
        self.texts[name] = text
        self._swap()
        if not (self.directory / name).is_symlink():
            (self.directory / name).symlink_to(f"../current/{name}")

    def delete(self, name: str) -> None:
        (self.directory / name).unlink()
        del self.texts[name]
        self._swap()

    def _swap(self) -> None:
        swap(self.directory.parent / "current", self.release(self.texts))


class DirectorySwapped(_Releases):
    """The directory is a link to one in a release, and is swapped; the release before is deleted."""

    def begin(self, texts: dict[str, str]) -> None:
        self.texts = texts
        self._swap()

    def write(self, name: str, text: str) -> None:
        self.texts[name] = text
        self._swap()

    def delete(self, name: str) -> None:
        del self.texts[name]
        self._swap()

    def _swap(self) -> None:
        before = self.directory.resolve() if self.directory.exists() else None
        swap(self.directory, self.release(self.texts, "files") / "files")
        if before is not None:
            shutil.rmtree(before.parent)


class ConfigMap(Files):
    """A ConfigMap mounted by the kubelet (its AtomicWriter): the files are links through `..data`, which is swapped.

    The order is the kubelet's: a new directory with a date, a new `..data`, links of files that came, links of files
    that went, the old directory.
    """

    number = 0

    def begin(self, texts: dict[str, str]) -> None:
        self.directory.mkdir()
        self.texts = texts
        self._swap()

    def write(self, name: str, text: str) -> None:
        self.texts[name] = text
        self._swap()

    def delete(self, name: str) -> None:
        del self.texts[name]
        self._swap()

    def _swap(self) -> None:
        self.number += 1
        made, data = self.directory / f"..2026_11_25_18_00_{self.number:02}.7", self.directory / "..data"
        made.mkdir()
        for name, text in self.texts.items():
            (made / name).write_text(text)
        before = self.directory / os.readlink(data) if data.is_symlink() else None
        (self.directory / "..data_tmp").symlink_to(made.name)
        (self.directory / "..data_tmp").rename(data)
        for name in self.texts:
            if not (self.directory / name).is_symlink():
                (self.directory / name).symlink_to(f"..data/{name}")
        for file in self.directory.iterdir():
            if not file.name.startswith("..") and file.name not in self.texts:
                file.unlink()
        if before is not None:
            shutil.rmtree(before)


WAYS: dict[str, type[Files]] = {
    "written in place": InPlace,
    "a temporary file renamed": Renamed,
    "an editor's backup": Backup,
    "deleted and made anew": DeletedFirst,
    "unpacked with an old date": OldDate,
    "a link swapped": LinkSwapped,
    "a link replaced": LinkReplaced,
    "the file behind a link": LinkTarget,
    "a link among the steps of a link": LinkStepSwapped,
    "the whole directory swapped": DirectorySwapped,
    "a Kubernetes ConfigMap": ConfigMap,
}
