"""The dashboard's files: all that are there are served, and nothing else; none asks another host or makes markup."""

import re
from pathlib import Path

import pytest

from synapse import dashboard

HERE = Path(dashboard.__file__).parent
OURS = sorted(path for path in HERE.iterdir() if path.suffix in (".js", ".html", ".css", ".svg"))
MODULE_LINES = 300


def test_every_file_is_served_and_no_other() -> None:
    """A module that is added and forgotten in the table would be missing on every host."""
    there = {
        str(path.relative_to(HERE)) for path in HERE.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    assert there == set(dashboard.FILES)


@pytest.mark.parametrize("name", dashboard.FILES)
def test_each_file_is_what_it_is(name: str) -> None:
    """Whole, with its type, and with the policy that keeps a browser from loading anything from elsewhere."""
    answer = dashboard.file(name)
    assert (answer.status, answer.body) == (200, (HERE / name).read_bytes())
    kinds = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".mjs": "text/javascript"}
    assert answer.content_type.startswith(kinds.get(Path(name).suffix, ("text/plain", "image/svg+xml")))
    assert ("Content-Security-Policy", dashboard.POLICY) in answer.headers


def test_the_page_is_the_first_file() -> None:
    """`/` is what a person types."""
    assert dashboard.page() == dashboard.file("index.html")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "__init__.py",
        "../daemon.py",
        "vendor/../__init__.py",
        "/etc/passwd",
        "vendor",
        "vendor/",
        "INDEX.HTML",
        "a\0",
    ],
)
def test_what_is_not_in_the_table_is_not_there(name: str) -> None:
    """A name is looked up, never opened."""
    assert dashboard.file(name).status == 404


def test_the_policy_lets_nothing_in_from_elsewhere() -> None:
    """Nor a script that stands in the page itself."""
    assert dashboard.POLICY.startswith("default-src 'self';")
    assert "unsafe" not in dashboard.POLICY


@pytest.mark.parametrize("path", OURS, ids=lambda path: str(path.name))
def test_no_file_of_ours_makes_markup_or_asks_elsewhere(path: Path) -> None:
    """What synapse answers comes from strangers: it becomes text nodes. And a host may have no way out."""
    text = path.read_text()
    markup = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|dangerouslySetInnerHTML|DOMParser"
    assert re.findall(rf"{markup}|\beval\(|new Function", text) == []
    links = [link for link in re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]+", text) if "www.w3.org" not in link]
    assert links == []
    assert not re.search(r"<script(?![^>]*\bsrc=)|\son[a-z]+=\"|style=\"", text)
    assert len(text.splitlines()) < MODULE_LINES


def test_what_is_by_others_says_so() -> None:
    """Each file by others stands in the table of its directory, with a licence beside it."""
    table = (HERE / "vendor" / "README.md").read_text()
    for path in (HERE / "vendor").iterdir():
        if path.name != "README.md":
            assert f"`{path.name}`" in table
            assert path.read_text().strip()
