"""Where links lead: whom to watch when a file is read by way of them."""

from pathlib import Path

import pytest

from smartstack.links import behind_directory, behind_file


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory of definitions and, beside it, two releases with one that is current."""
    (tmp_path / "services").mkdir()
    for release in ("1", "2"):
        (tmp_path / "releases" / release).mkdir(parents=True)
        (tmp_path / "releases" / release / "web.yaml").touch()
    (tmp_path / "releases" / "current").symlink_to("1")
    return tmp_path / "services"


def test_a_file_that_is_no_link(place: Path) -> None:
    """Nothing is behind a file, nor behind what is not there."""
    (place / "web.yaml").touch()
    assert list(behind_file(str(place / "web.yaml"))) == []
    assert list(behind_file(str(place / "api.yaml"))) == []


def test_a_link_among_the_steps_of_a_link_is_left_as_it_is(place: Path) -> None:
    """Whoever watches the directory watches that link too, so its name must be in the path."""
    (place / "web.yaml").symlink_to("../releases/current/web.yaml")
    assert list(behind_file(str(place / "web.yaml"))) == [f"{place}/../releases/current"]


def test_a_link_to_a_link(place: Path) -> None:
    """The directory of each is one where the file may change."""
    (place.parent / "web").symlink_to(place.parent / "releases" / "2" / "web.yaml")
    (place / "web.yaml").symlink_to("../web")
    assert list(behind_file(str(place / "web.yaml"))) == [f"{place}/..", f"{place.parent}/releases/2"]


def test_a_link_that_leads_nowhere(place: Path) -> None:
    """What is not there yet may come; a circle has an end."""
    (place / "web.yaml").symlink_to("/nowhere/web.yaml")
    (place / "api.yaml").symlink_to("api.yaml")
    assert list(behind_file(str(place / "web.yaml"))) == ["/nowhere"]
    assert set(behind_file(str(place / "api.yaml"))) == {str(place)}


def test_the_links_of_a_directory(place: Path) -> None:
    """Of all that is in it, hidden links excepted (`..data` of a Kubernetes volume is heard of as it is)."""
    (place / "..data").symlink_to("..2")
    (place / "web.yaml").symlink_to("..data/web.yaml")
    (place / "api.yaml").symlink_to("/else/api.yaml")
    (place / "file.yaml").touch()
    assert list(behind_directory(str(place))) == ["/else", f"{place}/..data"]
    assert list(behind_directory(str(place / "no"))) == []
