"""A daemon's configuration while it runs: every way in which files change is heard of, and read once it is over."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest

from smartstack.definitions import DefinitionsView
from smartstack.forms import PATH
from smartstack.live import LiveConfiguration
from tests.support.edits import WAYS, Files, InPlace, LinkTarget
from tests.support.eventually import eventually
from tests.support.registries import Bell

QUIET_SECONDS = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A host's settings, as a daemon would have them."""

    services: Annotated[str, "", PATH]
    state_directory: Annotated[str, "", PATH]
    number: int = 0


class Site:
    """A settings file and definitions, each changed in a way of its own, and whoever watches them."""

    def __init__(self, root: Path, settings: type[Files], services: type[Files]) -> None:
        self.root = root
        self.services = services(root / "b" / "services", {"web.yaml": "port: 8080", "api.yaml": "port: 9000"})
        self.settings = settings(root / "a" / "etc", {"host.yaml": self.text(1)})
        self.live = LiveConfiguration(Settings, str(root / "a" / "etc" / "host.yaml"), env={})
        self.bell = Bell()
        self.live.watch(self.bell.ring)
        self.live.refresh(everything=True)

    def text(self, number: int) -> str:
        """The settings file."""
        return f"services: {self.root}/b/services\nstate_directory: {self.root}/state\nnumber: {number}"

    def ports(self) -> dict[str, int]:
        """The ports of the definitions, read again only if something was heard."""
        self.live.refresh()
        return {name: definition.port for name, definition in self.live.view.definitions.items()}

    def number(self) -> int:
        """What the settings file says, read again only if something was heard."""
        self.live.refresh()
        return self.live.settings.number


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[Callable[[type[Files], type[Files]], Site]]:
    """Sites whose watch ends with the test."""
    sites: list[Site] = []

    def make(settings: type[Files], services: type[Files]) -> Site:
        sites.append(Site(tmp_path, settings, services))
        return sites[-1]

    yield make
    for site in sites:
        site.live.stop()


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_definition_is_read_again_however_it_changes(
    make_site: Callable[[type[Files], type[Files]], Site], way: type[Files]
) -> None:
    """Changed, changed again, added and deleted: heard of each time, without a resync."""
    site = make_site(InPlace, way)
    for port in (8081, 8082):
        site.services.write("web.yaml", f"port: {port}")
        eventually(lambda port=port: site.ports() == {"api": 9000, "web": port})  # type: ignore[misc]
    site.services.write("new.yaml", "port: 1")
    eventually(lambda: site.ports() == {"api": 9000, "new": 1, "web": 8082})
    site.services.delete("web.yaml")
    eventually(lambda: site.ports() == {"api": 9000, "new": 1})
    assert site.live.view.problems == {}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_settings_are_read_again_however_they_change(
    make_site: Callable[[type[Files], type[Files]], Site], way: type[Files]
) -> None:
    """The host's own file is heard of in the same ways."""
    site = make_site(way, InPlace)
    for number in (2, 3):
        site.settings.write("host.yaml", site.text(number))
        eventually(lambda number=number: site.number() == number)  # type: ignore[misc]
    assert site.live.problems == ()


def test_a_new_link_is_followed_from_its_first_reading_on(
    make_site: Callable[[type[Files], type[Files]], Site],
) -> None:
    """A definition becomes a link: an edit behind it is heard, and behind the link that was there before no more."""
    site = make_site(InPlace, LinkTarget)
    before = (site.services.directory / "web.yaml").resolve()
    elsewhere = site.root / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "web.yaml").write_text("port: 8081")
    (site.services.directory / "web.yaml").unlink()
    (site.services.directory / "web.yaml").symlink_to(elsewhere / "web.yaml")
    eventually(lambda: site.ports()["web"] == 8081)
    (elsewhere / "web.yaml").write_text("port: 8082")
    eventually(lambda: site.ports()["web"] == 8082)
    eventually(lambda: site.bell.silent_for(QUIET_SECONDS))
    rings = site.bell.rings
    before.write_text("port: 1")
    (elsewhere / "web.yaml").write_text("port: 8083")
    eventually(lambda: site.ports()["web"] == 8083)
    eventually(lambda: site.bell.silent_for(QUIET_SECONDS))
    assert site.bell.rings == rings + 2  # the close of the one file, and its echo


def test_an_edit_behind_a_link_while_it_is_read_for_the_first_time(
    make_site: Callable[[type[Files], type[Files]], Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Watched first, then read: what is edited after the first reading, however soon, is read again."""
    site = make_site(InPlace, InPlace)
    elsewhere = site.root / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "web.yaml").write_text("port: 8081")
    (site.services.directory / "web.yaml").unlink()
    (site.services.directory / "web.yaml").symlink_to(elsewhere / "web.yaml")
    real = site.live._definitions.refresh

    def edited_right_after() -> DefinitionsView:
        view = real()
        if view.definitions["web"].port == 8081:
            (elsewhere / "web.yaml").write_text("port: 8082")
        return view

    monkeypatch.setattr(site.live._definitions, "refresh", edited_right_after)
    eventually(lambda: site.ports()["web"] == 8082)
