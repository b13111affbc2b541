"""The directory of definitions: read incrementally, and never worse than it was."""

import errno
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest

import smartstack.definitions
from smartstack.definition import ServiceDefinition
from smartstack.definitions import EMPTY_MARK, Definitions, DefinitionsView, load_settings
from smartstack.errors import ConfigError
from smartstack.file_text import SETTLED_NS, Fingerprint, read_file
from smartstack.forms import PATH, REGISTRY, RegistryUrl
from smartstack.model import OneOf, model_fields


class Site:
    """A directory of definitions with its directory of last good copies, and daemons that start on them."""

    def __init__(self, root: Path, env: Mapping[str, str] | None = None) -> None:
        self.directory = root / "services"
        self.keep = root / "state" / "definitions"
        self.directory.mkdir()
        self._env = env or {}
        self.start()

    def start(self) -> None:
        """A daemon starts (again)."""
        self._definitions = Definitions(str(self.directory), str(self.keep), env=self._env)

    def write(self, file: str, text: str, age_ns: int = 2 * SETTLED_NS) -> Path:
        """Write a file as it would be some seconds later, so that its fingerprint counts."""
        path = self.directory / file
        path.write_text(text)
        then = path.stat().st_mtime_ns - age_ns
        os.utime(path, ns=(then, then))
        return path

    def look(self) -> DefinitionsView:
        """What the daemon sees now, and a turn of it later."""
        self._definitions.refresh()
        self._definitions.keep()
        return self._definitions.view()

    def ports(self) -> dict[str, int]:
        """The port of each service that the daemon sees now."""
        return {name: definition.port for name, definition in self.look().definitions.items()}

    def said(self) -> dict[str, list[str]]:
        """Its problems now, without the directory's name."""
        found = self.look().problems
        return {
            name: [str(problem).replace(str(self.directory), "DIR") for problem in some] for name, some in found.items()
        }

    def kept(self) -> set[str]:
        """The copies that survive a restart."""
        return {path.name for path in self.keep.glob("*")} if self.keep.exists() else set()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """An empty directory of definitions, with a daemon that has not looked yet."""
    return Site(tmp_path)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read from now on."""
    names: list[str] = []

    def counted(path: str) -> tuple[bytes, Fingerprint]:
        names.append(os.path.basename(path))
        return read_file(path)

    monkeypatch.setattr(smartstack.definitions, "read_file", counted)
    return names


def test_a_file_is_a_service(site: Site) -> None:
    """The name of a file without its ending is the name of a service; the order is that of names."""
    site.write("web.yaml", "port: 8080")
    site.write("api-2.x.yml", "port: 9000")
    view = site.look()
    assert list(view.definitions) == ["api-2.x", "web"]
    assert view.definitions["web"] == ServiceDefinition(port=8080)
    assert view.problems == {}


@pytest.mark.parametrize(
    "file",
    [".web.yaml", "web.yaml~", "#web.yaml#", ".#web.yaml", "web.yaml.swp", "web.yaml.bak", "web.yaml.rpmnew", "4913",
     "web.json", "README.md", "..data", "~web.yaml", "web.yaml.tmp", ".web.yaml.Zx81pq", "yaml"],
)  # fmt: skip
def test_files_that_are_no_definitions(site: Site, file: str) -> None:
    """Hidden files, and what editors, rsync and package managers leave, are not looked at."""
    site.write(file, "not: [yaml")
    assert site.look() == DefinitionsView(definitions={}, problems={})


@pytest.mark.parametrize("file", ["a b.yaml", "-a.yaml", "a;b.yaml", "é.yaml", "a\nb.yaml", "a" * 101 + ".yaml"])
def test_names_that_no_service_can_have(site: Site, file: str) -> None:
    """A file whose name is outside the alphabet of names is a problem in one printable line; the others go on."""
    site.write(file, "port: 1")
    site.write("web.yaml", "port: 8080")
    view = site.look()
    assert list(view.definitions) == ["web"]
    [(name, (problem,))] = view.problems.items()
    assert "a file is named like its service" in problem.message
    assert name.isprintable()
    assert str(problem).isprintable()


def test_a_name_of_bytes(site: Site) -> None:
    """A file name that is not UTF-8 is a problem like any other."""
    with open(os.fsencode(site.directory) + b"/\xff.yaml", "wb") as file:
        file.write(b"port: 1")
    [((name), (problem,))] = site.look().problems.items()
    assert (name + str(problem)).isprintable()


def test_unchanged_files_are_not_read_again(site: Site, reads: list[str]) -> None:
    """Only a file whose times, size or inode changed is read; every other definition stays the same object."""
    site.write("web.yaml", "port: 8080")
    site.write("api.yaml", "port: 9000")
    first = site.look().definitions
    reads.clear()
    assert site.look().definitions["web"] is first["web"]
    assert reads == []
    site.write("web.yaml", "port: 8081")
    second = site.look().definitions
    assert reads == ["web.yaml"]
    assert second["web"].port == 8081
    assert second["api"] is first["api"]


def test_an_unchanged_link_is_not_followed_again(site: Site, tmp_path: Path, reads: list[str]) -> None:
    """What counts is the file at the end of a link, so that a directory of links costs no more than one of files."""
    (tmp_path / "web").write_text("port: 8080")
    os.utime(tmp_path / "web", ns=(5, 5))
    (site.directory / "web.yaml").symlink_to(tmp_path / "web")
    site.look()
    reads.clear()
    assert site.ports() == {"web": 8080}
    assert reads == []


def test_a_touched_file_is_the_same_definition(site: Site) -> None:
    """New times over the same text change nothing."""
    path = site.write("web.yaml", "port: 8080")
    first = site.look().definitions["web"]
    os.utime(path, ns=(1, 1))
    assert site.look().definitions["web"] is first


def test_a_broken_file_is_not_read_at_every_look(site: Site, reads: list[str]) -> None:
    """Its problem stays as it was until the file changes."""
    site.write("web.yaml", "prot: 8080")
    first = site.look().problems
    reads.clear()
    assert site.look().problems == first
    assert reads == []


def test_a_young_file_is_read_again(site: Site) -> None:
    """Two edits within one tick of the file system's clock, of one size: the second is seen all the same."""
    path = site.write("web.yaml", "port: 8080", age_ns=0)
    status = path.stat()
    assert site.ports() == {"web": 8080}
    path.write_text("port: 8081")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert site.ports() == {"web": 8081}


def test_a_date_proves_nothing(site: Site) -> None:
    """An archive gives all its files one date, and a new file may get the number of the old one: an edit that leaves
    number, size and date as they were is seen all the same."""
    path = site.write("web.yaml", "port: 8080")
    status = path.stat()
    assert site.ports() == {"web": 8080}
    path.write_text("port: 8081")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (path.stat().st_ino, path.stat().st_size) == (status.st_ino, status.st_size)
    assert site.ports() == {"web": 8081}


def test_swapped_links_are_seen(site: Site, tmp_path: Path) -> None:
    """A link to another directory, swapped in one step as Kubernetes does with `..data`, is an edit of each file."""
    for name, port in (("one", 8080), ("two", 8081)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "web.yaml").write_text(f"port: {port}")
        os.utime(tmp_path / name / "web.yaml", ns=(5, 5))
    (site.directory / "..data").symlink_to(tmp_path / "one")
    (site.directory / "web.yaml").symlink_to("..data/web.yaml")
    assert site.ports() == {"web": 8080}
    (site.directory / "..new").symlink_to(tmp_path / "two")
    os.rename(site.directory / "..new", site.directory / "..data")
    assert site.ports() == {"web": 8081}


def test_a_broken_edit_changes_nothing_but_the_problems(site: Site) -> None:
    """A file that does not validate leaves its service as it was and says why; the others follow their files."""
    site.write("web.yaml", "port: 8080")
    site.write("api.yaml", "port: 9000")
    before = site.look().definitions["web"]
    site.write("web.yaml", "prot: 8080")
    site.write("api.yaml", "port: 9001")
    view = site.look()
    assert view.definitions["web"] is before
    assert view.definitions["api"].port == 9001
    assert site.said() == {
        "web": [
            "DIR/web.yaml:1:1: port: is missing; it is required (where an instance listens)",
            "DIR/web.yaml:1:1: prot: unknown key; did you mean 'port'?",
        ]
    }


def test_a_mended_file_is_taken(site: Site) -> None:
    """A file that is right again takes effect and its problem goes, also with the very text from before."""
    site.write("web.yaml", "port: 8080")
    first = site.look().definitions["web"]
    for text, port in (("port: 8081", 8081), ("port: 8080", 8080)):
        site.write("web.yaml", "port: x")
        assert "web" in site.look().problems
        site.write("web.yaml", text)
        assert site.ports() == {"web": port}
        assert site.said() == {}
    assert site.look().definitions["web"] == first


def test_a_new_file_that_is_broken(site: Site) -> None:
    """A service that never was good has a problem and no definition."""
    site.write("web.yaml", "port: x")
    view = site.look()
    assert view.definitions == {}
    assert set(view.problems) == {"web"}
    assert site.kept() == set()


def test_a_deleted_file_is_a_service_gone(site: Site) -> None:
    """Deleting one of several, or the last one, ends the service, its problems and its copy."""
    paths = [site.write("web.yaml", "port: 8080"), site.write("api.yaml", "port: 9000")]
    assert site.ports() == {"api": 9000, "web": 8080}
    assert site.kept() == {"api.yaml", "web.yaml"}
    site.write("web.yaml", "port: x")
    assert set(site.said()) == {"web"}
    paths[0].unlink()
    assert site.ports() == {"api": 9000}
    assert site.said() == {}
    assert site.kept() == {"api.yaml"}
    paths[1].unlink()
    assert site.ports() == {}
    assert site.kept() == set()


def test_an_emptied_directory_keeps_everything(site: Site) -> None:
    """Several definitions that vanish at once are an accident (a failed mount, a bad sync) until somebody says no."""
    paths = [site.write("web.yaml", "port: 8080"), site.write("api.yaml", "port: 9000")]
    site.look()
    for path in paths:
        path.unlink()
    assert site.ports() == {"api": 9000, "web": 8080}
    assert site.said() == {
        "": [
            (
                "DIR: holds no definition, but held 2; all of them are kept. "
                "If it is meant to be empty, make a file named EMPTY in it"
            )
        ]
    }
    site.start()
    assert site.ports() == {"api": 9000, "web": 8080}
    site.write("web.yaml", "port: 8081")
    assert site.ports() == {"web": 8081}
    assert site.said() == {}


def test_an_emptied_directory_that_is_meant(site: Site) -> None:
    """The mark of emptiness is the operator's word."""
    paths = [site.write("web.yaml", "port: 8080"), site.write("api.yaml", "port: 9000")]
    site.look()
    for path in paths:
        path.unlink()
    site.write(EMPTY_MARK, "")
    assert site.look() == DefinitionsView(definitions={}, problems={})
    assert site.kept() == set()


def test_a_missing_directory_keeps_everything(site: Site) -> None:
    """A directory that is gone says nothing of its services, before a restart and after it."""
    path = site.write("web.yaml", "port: 8080")
    site.look()
    path.unlink()
    site.directory.rmdir()
    message = "DIR: cannot be read: no such file or directory; the definitions that are known stay as they are"
    for _ in range(2):
        assert site.ports() == {"web": 8080}
        assert site.said() == {"": [message]}
        site.start()
    site.directory.mkdir()
    site.write("web.yaml", "port: 8081")
    assert site.ports() == {"web": 8081}
    assert site.said() == {}


def test_a_directory_that_is_a_file(site: Site) -> None:
    """A wrong path is a problem, not a crash."""
    site.directory.rmdir()
    site.directory.write_text("x")
    assert site.said() == {
        "": ["DIR: cannot be read: not a directory; the definitions that are known stay as they are"]
    }


def test_a_restart_with_a_broken_file(site: Site) -> None:
    """The last good text survives the daemon, until the file is mended."""
    site.write("web.yaml", "port: 8080")
    site.look()
    site.write("web.yaml", "port: x")
    site.start()
    assert site.ports() == {"web": 8080}
    assert set(site.said()) == {"web"}
    site.write("web.yaml", "port: 8082")
    assert site.ports() == {"web": 8082}
    site.start()
    site.write("web.yaml", "port: x")
    assert site.ports() == {"web": 8082}


def test_a_file_deleted_while_nobody_looked(site: Site) -> None:
    """A copy whose file is gone at the start is not a service, and is deleted."""
    path = site.write("web.yaml", "port: 8080")
    site.write("api.yaml", "port: 9000")
    site.look()
    path.unlink()
    site.start()
    assert site.ports() == {"api": 9000}
    assert site.kept() == {"api.yaml"}


@pytest.mark.parametrize("copy", [b"", b"\xff", b"port: x", b"[" * 1000])
def test_a_copy_that_is_damaged(site: Site, copy: bytes) -> None:
    """A copy that cannot be read is as good as none, and is replaced when its file is good."""
    site.keep.mkdir(parents=True)
    (site.keep / "web.yaml").write_bytes(copy)
    (site.keep / "not a name.yaml").write_bytes(b"port: 1")
    site.write("web.yaml", "port: x")
    assert site.ports() == {}
    site.write("web.yaml", "port: 8080")
    assert site.ports() == {"web": 8080}
    assert (site.keep / "web.yaml").read_text() == "port: 8080"


def test_copies_are_private_and_written_once(site: Site) -> None:
    """A copy is readable by the daemon only, and not written again for a definition that did not change."""
    site.write("web.yaml", "port: 8080")
    site.look()
    copy = site.keep / "web.yaml"
    assert copy.stat().st_mode & 0o777 == 0o600
    inode = copy.stat().st_ino
    site.start()
    os.utime(site.directory / "web.yaml")
    site.look()
    assert copy.stat().st_ino == inode


def test_copies_that_cannot_be_written(site: Site) -> None:
    """No room for copies is one problem of the directory of copies, not a crash, and is tried again at each look."""
    site.keep.parent.write_text("in the way")
    site.write("web.yaml", "port: 8080")
    site.write("api.yaml", "port: 9000")
    assert site.ports() == {"api": 9000, "web": 8080}
    [said] = site.said()[""]
    assert said.startswith(f"{site.keep}: the last good definitions cannot be kept for the next start: ")
    site.keep.parent.unlink()
    assert site.said() == {}
    assert site.kept() == {"api.yaml", "web.yaml"}


def test_a_great_directory_is_kept_bit_by_bit(site: Site) -> None:
    """Copies never hold up a daemon: a look makes none, and then there are a hundred in a turn."""
    for number in range(150):
        site.write(f"web{number}.yaml", "port: 8080")
    assert len(site._definitions.refresh().definitions) == 150
    assert site.kept() == set()
    assert site._definitions.keep()
    assert len(site.kept()) == 100
    assert not site._definitions.keep()
    assert len(site.kept()) == 150


def test_a_full_disk(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that fails midway leaves the copy before it, and the definition is used all the same."""
    site.write("web.yaml", "port: 8080")
    site.look()

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        site.write("web.yaml", "port: 8081")
        assert site.ports() == {"web": 8081}
        assert "no space left" in site.said()[""][0].lower()
        assert (site.keep / "web.yaml").read_text() == "port: 8080"
    assert site.said() == {}
    assert (site.keep / "web.yaml").read_text() == "port: 8081"


def test_a_copy_that_cannot_be_deleted(site: Site) -> None:
    """The service is gone all the same, with a problem."""
    path = site.write("web.yaml", "port: 8080")
    site.look()
    (site.keep / "web.yaml").unlink()
    (site.keep / "web.yaml").mkdir()
    path.unlink()
    view = site.look()
    assert view.definitions == {}
    assert "cannot delete web.yaml" in str(view.problems[""][0])


def test_one_service_in_two_files(site: Site) -> None:
    """web.yaml beside web.yml is nobody's intention: the service stays as it was until one of them goes."""
    site.write("web.yaml", "port: 8080")
    before = site.look().definitions
    second = site.write("web.yml", "port: 8081")
    assert site.look().definitions == before
    assert site.said() == {"web": ["DIR/web.yaml: web.yaml and web.yml are the same service; delete one of them"]}
    (site.directory / "web.yaml").unlink()
    assert site.ports() == {"web": 8081}
    assert site.said() == {}
    second.rename(site.directory / "web.yaml")
    assert site.ports() == {"web": 8081}


def test_things_that_are_no_files(site: Site) -> None:
    """A directory, a named pipe that nobody writes, a socket and a dangling link have one problem each; none blocks."""
    (site.directory / "dir.yaml").mkdir()
    os.mkfifo(site.directory / "pipe.yaml")
    (site.directory / "link.yaml").symlink_to("nowhere")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(os.path.relpath(site.directory / "sock.yaml"))
        said = site.said()
    assert set(said) == {"dir", "link", "pipe", "sock"}
    assert said["dir"] == ["DIR/dir.yaml: cannot be read: is a directory"]
    assert said["pipe"] == ["DIR/pipe.yaml: cannot be read: it is not a file"]
    assert said["link"] == ["DIR/link.yaml: cannot be read: no such file or directory"]


def test_a_link_that_dangles_for_a_while(site: Site, tmp_path: Path) -> None:
    """A file that is there but cannot be read is not a deleted file."""
    (tmp_path / "web").write_text("port: 8080")
    (site.directory / "web.yaml").symlink_to(tmp_path / "web")
    assert site.ports() == {"web": 8080}
    (tmp_path / "web").rename(tmp_path / "away")
    assert site.ports() == {"web": 8080}
    assert set(site.said()) == {"web"}
    (tmp_path / "away").rename(tmp_path / "web")
    assert site.ports() == {"web": 8080}
    assert site.said() == {}


def test_files_are_filled_in_from_the_environment(tmp_path: Path) -> None:
    """Definitions may hold variables; one that is not set is a problem of its service."""
    site = Site(tmp_path, {"PORT": "8080"})
    site.write("web.yaml", "port: ${PORT}")
    site.write("api.yaml", "port: ${NO_PORT}")
    assert site.ports() == {"web": 8080}
    assert set(site.said()) == {"api"}


def test_checks_are_models_where_families_are_given(tmp_path: Path) -> None:
    """nerve's reader knows the kinds of check; one that is unknown leaves the service as it was."""

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Ping:
        count: int = 1

    (tmp_path / "web.yaml").write_text("port: 1\ncheck: {type: ping, count: 2}")
    (tmp_path / "api.yaml").write_text("port: 1\ncheck: {type: pong}")
    view = Definitions(str(tmp_path), str(tmp_path / "keep"), {"check": {"ping": Ping}}, env={}).refresh()
    assert view.definitions["web"].check == Ping(count=2)
    assert set(view.problems) == {"api"}
    assert Definitions(str(tmp_path), str(tmp_path / "keep"), env={}).refresh().definitions["web"].check == {
        "type": "ping",
        "count": 2,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """A check that reads a file."""

    file: Annotated[str, "", PATH]


@pytest.mark.parametrize("broken", [False, True], ids=["the file", "the copy that was kept of it"])
def test_paths_in_a_definition_are_below_its_directory(tmp_path: Path, broken: bool) -> None:
    """A relative path stands for the same file whether the definition is read, or the copy of it in the state
    directory."""
    services, keep = tmp_path / "services", tmp_path / "state"
    services.mkdir()
    (services / "web.yaml").write_text(
        "port: 1\nchecks: [{type: secret, file: tls/ca.pem}]\n"
        "ports: {admin: {port: 2, check: {type: secret, file: /run/token}}}"
    )
    families = {"check": {"secret": Secret}}
    definitions = Definitions(str(services), str(keep), families, env={})
    view = definitions.refresh()
    definitions.keep()
    if broken:
        (services / "web.yaml").write_text("port: x")
        view = Definitions(str(services), str(keep), families, env={}).refresh()
        assert set(view.problems) == {"web"}
    assert view.definitions["web"].checks == (Secret(file=f"{services}/tls/ca.pem"),)
    assert view.definitions["web.admin"].check == Secret(file="/run/token")


def test_the_only_family_is_checks() -> None:
    """`check` and `checks` name the family that nerve registers."""
    kinds = {field.name: field.kind.one_of for field in model_fields(ServiceDefinition)}
    assert kinds["check"] == OneOf("check")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A host's settings, as a daemon would have them."""

    registry: Annotated[RegistryUrl, "where", REGISTRY]
    services: Annotated[str, "which", PATH] = "services"


def test_settings_are_below_their_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative paths in a file are below the file's directory, wherever the daemon was started; or below `base`."""
    (tmp_path / "host.yaml").write_text("registry: file:${NAME}")
    monkeypatch.chdir(tmp_path)
    for path in (str(tmp_path / "host.yaml"), "host.yaml", "./host.yaml"):
        settings = load_settings(Settings, path, {"NAME": "registry"})
        assert settings.services == str(tmp_path / "services")
        assert str(settings.registry) == f"file:{tmp_path}/registry"
    assert load_settings(Settings, "host.yaml", {"NAME": "/x"}, "/base").services == "/base/services"


def test_settings_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file, a directory and a wrong file are each a ConfigError, whose text begins with the path."""
    (tmp_path / "wrong.yaml").write_text("registry: zk://x\nservice: x\n")
    said = {
        "missing.yaml": "cannot be read: no such file or directory",
        "": "cannot be read: is a directory",
        "wrong.yaml": ":1:11: registry: must begin with a known scheme",
    }
    for file, text in said.items():
        path = str(tmp_path / file)
        with pytest.raises(ConfigError) as raised:
            load_settings(Settings, path, {})
        assert str(raised.value).startswith(path)
        assert text in str(raised.value)
    assert len(raised.value.problems) == 2
