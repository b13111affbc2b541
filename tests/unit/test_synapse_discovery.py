"""What is told of a service without the proxy, how old it may be, and the files that say it."""

import json
import os
import signal
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from smartstack.instance import Instance
from smartstack.logs import EventLog
from smartstack.registry.protocol import Listing, Unknown
from synapse.discovery import service_view, shell_variables
from synapse.offers import Offer
from synapse.outputs import Outputs
from synapse.placement import Placed, Placement, Role
from synapse.proxy import Admin, Slot
from synapse.selection import Choice, Memory, Origin
from synapse.settings import Output
from synapse.staleness import stale
from tests.support.definitions import definition
from tests.support.eventually import eventually

ONE, TWO = Instance(host="10.0.0.1", port=80, weight=5), Instance(host="::1", port=81, labels=(("zone", "a"),))


def offer(*placed: Placed, origin: Origin = Origin.LISTING, known: Listing | Unknown | None = None) -> Offer:
    instances = tuple(each.instance for each in placed)
    choice = Choice(instances=instances, origin=origin, reason="why", memory=Memory())
    return Offer(definition=definition(), known=known or Listing(), choice=choice, placement=Placement(members=placed))


def view(*placed: Placed, slots: Iterable[Slot] = ()) -> dict[str, Any]:
    return service_view("web", offer(*placed), "127.0.0.1:3210", tuple(slots))


USES = {
    "primary": (Placed(instance=ONE, role=Role.PRIMARY), "traffic"),
    "backup": (Placed(instance=ONE, role=Role.BACKUP, ring=2), "backup"),
    "held": (Placed(instance=ONE, role=Role.HELD), "drain"),
    "drained by its nerve": (Placed(instance=replace(ONE, weight=0), role=Role.PRIMARY), "drain"),
}


@pytest.mark.parametrize(("placed", "use"), USES.values(), ids=USES)
def test_what_an_instance_is_for(placed: Placed, use: str) -> None:
    """A client that picks for itself takes `traffic`, and `backup` when there is no other."""
    assert [each["use"] for each in view(placed)["instances"]] == [use]


def test_who_is_not_for_this_host_is_not_told() -> None:
    """What `where` leaves out is nobody's business here."""
    assert view(Placed(instance=ONE, role=Role.OUT))["instances"] == []


def test_what_haproxy_finds_is_told() -> None:
    """Up and down by HAProxy's checks; not known where no slot has the instance, or only one in maintenance."""
    slot = Slot(name="s1", host="10.0.0.1", port=80, weight=5, admin=Admin.READY, up=False)
    placed = Placed(instance=ONE, role=Role.PRIMARY), Placed(instance=TWO, role=Role.PRIMARY)
    assert [each["up"] for each in view(*placed, slots=[slot])["instances"]] == [False, None]
    assert [each["up"] for each in view(*placed, slots=[replace(slot, admin=Admin.MAINT)])["instances"]] == [None, None]


def test_variables_for_a_shell() -> None:
    """A service's name becomes that of a variable; only who takes traffic is listed."""
    told = view(Placed(instance=ONE, role=Role.PRIMARY), Placed(instance=TWO, role=Role.BACKUP))
    assert shell_variables(told) == 'WEB_LISTEN="127.0.0.1:3210"\nWEB_COUNT=1\nWEB_INSTANCES="10.0.0.1:80"\n'
    named = {**told, "service": "9-lives.admin", "listen": None}
    assert shell_variables(named).startswith('_9_LIVES_ADMIN_LISTEN=""\n')


AGES: Mapping[str, tuple[Offer, set[str], float | None, tuple[str, ...]]] = {
    # the offer of web, what was not heard of since the start, when it was kept, what is stale at 1000 beyond 100 s
    "the sources speak": (offer(), set(), 1.0, ()),
    "away for long": (offer(origin=Origin.LAST_GOOD, known=Unknown(reason="", since=900.0)), set(), 1.0, ("web",)),
    "away for a while": (offer(origin=Origin.LAST_GOOD, known=Unknown(reason="", since=901.0)), set(), 1.0, ()),
    "kept long ago": (offer(origin=Origin.LAST_GOOD, known=Unknown(reason="", since=999.0)), {"web"}, 1.0, ("web",)),
    "kept just now": (offer(origin=Origin.LAST_GOOD, known=Unknown(reason="", since=999.0)), {"web"}, 990.0, ()),
    "never kept": (offer(origin=Origin.LAST_GOOD, known=Unknown(reason="", since=999.0)), {"web"}, None, ()),
    "held back": (offer(origin=Origin.HELD_BACK), set(), 1.0, ()),
}


@pytest.mark.parametrize(("one", "unheard", "kept_at", "expected"), AGES.values(), ids=AGES)
def test_what_is_served_for_too_long(
    one: Offer, unheard: set[str], kept_at: float | None, expected: tuple[str, ...]
) -> None:
    """Instances that nobody confirmed: since the sources went away, or since they were written down before a start."""
    found = stale({"web": one}, unheard, kept_at, 1000.0, 100.0)
    assert (found.services if found else ()) == expected


class Site:
    """Outputs that are written here and now, in a directory, of services that are known."""

    def __init__(self, root: Path) -> None:
        self.directory, self.root = root / "out", root
        self.start()

    def start(self) -> None:
        self.outputs = Outputs(self.root / "outputs.json", EventLog("test"), lambda: None)

    def write(self, *known: str, present: Iterable[str] | None = None, **fields: Any) -> tuple[str, ...]:
        output = Output(directory=str(self.directory), **fields)

        def views(names: Iterable[str]) -> Mapping[str, Mapping[str, Any]]:
            told = view(Placed(instance=ONE, role=Role.PRIMARY))
            return {name: {**told, "service": name} for name in names if name in known}

        everyone = frozenset(known if present is None else present)
        return self.outputs.write((output,), everyone, everyone, views)

    def files(self) -> list[str]:
        return sorted(path.name for path in self.directory.iterdir())


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Nothing is written yet."""
    return Site(tmp_path)


def test_files_are_named_like_their_services(site: Site) -> None:
    """With the format's suffix, or one's own."""
    assert site.write("web", "api") == ()
    assert site.files() == ["api.json", "web.json"]
    assert json.loads((site.directory / "web.json").read_text())["service"] == "web"
    assert site.write("web", "api", suffix=".list") == ()
    assert site.files() == ["api.list", "web.list"]


def test_only_files_of_our_own_are_removed(site: Site) -> None:
    """B16: other programs' files stay, also with our suffix; ours go with their services, also after a restart."""
    site.write("web", "api")
    (site.directory / "mine.json").write_text("{}")
    site.start()
    assert site.write("web") == ()
    assert site.files() == ["mine.json", "web.json"]


def test_b16_a_file_that_cannot_be_read_is_replaced(site: Site) -> None:
    """Airbnb's synapse ends in a loop of crashes on a file of its own that is broken."""
    site.directory.mkdir()
    (site.directory / "web.json").write_bytes(b"\xff{")
    assert site.write("web") == ()
    assert json.loads((site.directory / "web.json").read_text())["service"] == "web"


def test_nothing_is_removed_while_nothing_is_known(site: Site) -> None:
    """A service that is there and of which nothing is known keeps its file; no service at all is no knowledge."""
    site.write("web", "api")
    assert site.write("web", present=["web", "api"]) == ()
    assert site.files() == ["api.json", "web.json"]
    assert site.write() == ()
    assert site.files() == ["api.json", "web.json"]


def test_what_did_not_change_is_not_written(site: Site, tmp_path: Path) -> None:
    """Nor does the command run."""
    counted = tmp_path / "counted"
    command = ("/bin/sh", "-c", f"echo ran >> {counted}")
    for _ in range(2):
        assert site.write("web", command=command) == ()
    assert counted.read_text() == "ran\n"


def test_a_command_that_failed_runs_again(site: Site, tmp_path: Path) -> None:
    """Until it succeeds, though no file changes any more; what it said is told."""
    flag = tmp_path / "flag"
    command = ("/bin/sh", "-c", f"test -e {flag} || {{ echo not yet; exit 3; }}")
    expected = f"{' '.join(command)} ended with 3: not yet"
    assert site.write("web", command=command) == (expected,)
    assert site.write("web", command=command) == (expected,)
    flag.touch()
    assert site.write("web", command=command) == ()


def test_a_command_may_leave_a_daemon_behind(site: Site, tmp_path: Path) -> None:
    """It has ended when it has ended, whoever holds its output open; what takes too long ends with all it started."""
    left = tmp_path / "left"
    script = f"sleep 60 & echo $! > {left}"
    assert site.write("web", command=("/bin/sh", "-c", script), timeout=20.0) == ()
    os.kill(int(left.read_text()), signal.SIGKILL)
    [why] = site.write("api", command=("/bin/sh", "-c", f"{script}; wait"), timeout=0.3)
    assert "took longer than 0.3 s" in why
    eventually(lambda: not Path(f"/proc/{left.read_text().strip()}").exists() or is_dead(int(left.read_text())))


def is_dead(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"


TEMPLATES = {
    "syntax": ("{% for %}", "line 1 of the template"),
    "unknown name": ("{{ nothing }}", "'nothing' is undefined"),
    "nonsense": ("{{ 1 / 0 }}", "ZeroDivisionError"),
}


@pytest.mark.parametrize(("text", "words"), TEMPLATES.values(), ids=TEMPLATES)
def test_a_template_that_is_wrong(site: Site, tmp_path: Path, text: str, words: str) -> None:
    """The file stays as it was, and what is wrong is told."""
    template = tmp_path / "hosts.conf.j2"
    template.write_text("{{ service }}")
    assert site.write("web", format="template", template=str(template)) == ()
    template.write_text(text)
    [problem] = site.write("web", format="template", template=str(template))
    assert words in problem
    assert (site.directory / "web.conf").read_text() == "web"
