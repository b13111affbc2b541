"""The kinds of source, each by itself: what stands in a definition, and what instances come of it."""

import json
import time
from pathlib import Path

import pytest

from smartstack.definition import ServiceDefinition
from smartstack.errors import ConfigError
from smartstack.forms import DirectoryUrl
from smartstack.installed import source_families
from smartstack.registry.protocol import Listing, Unknown
from smartstack.validation import validate
from smartstack.yaml_file import load
from synapse.settings import Settings
from synapse.sources import instances_file
from synapse.sources.base import Place, Shared, Source
from synapse.sources.dns import MISSING
from synapse.sources.dns_answers import (
    Target,
    addresses_listing,
    best_targets,
    pause_seconds,
    retry_seconds,
    targets_listing,
)
from synapse.sources.instances_file import instances_in
from synapse.sources.listing import listing_of
from synapse.sources.registries import Registries
from tests.support.eventually import eventually
from tests.support.registries import Bell

FAMILIES = source_families()


def source_of(text: str) -> object:
    """The model of one source, as it stands in a definition's list."""
    definition = validate(
        ServiceDefinition, load(f"port: 8080\nsources: [{text}]", "f", {}), path="f", families=FAMILIES
    )
    return definition.sources[0]


def place(directory: Path) -> Place:
    registries = Registries(Settings(registry=DirectoryUrl(str(directory / "registry"))))
    return Place(service="web", port=8080, path="services/web", registries=registries, shared=Shared())


def opened(text: str, directory: Path) -> Source:
    source: Source = source_of(text).open(place(directory))  # type: ignore[attr-defined]
    return source


def addresses(known: Listing | Unknown) -> list[str]:
    assert isinstance(known, Listing), known
    return [record.instance.address for record in known.records]


def test_every_kind_is_installed() -> None:
    """By entry points, as a third party adds its own."""
    assert set(FAMILIES["source"]) == {"registry", "static", "dns", "file"}


# static


def test_static_servers_are_instances(tmp_path: Path) -> None:
    """With everything that a registered instance may have; the port is the definition's if they give none."""
    known = opened(
        "{type: static, servers: [{host: 10.0.0.1}, {host: '2001:DB8::1', port: 9, weight: 7, labels: {zone: a},"
        " name: old-box}]}",
        tmp_path,
    ).read()
    assert addresses(known) == ["10.0.0.1:8080", "[2001:db8::1]:9"]
    assert isinstance(known, Listing)
    instance = known.records[1].instance
    assert (instance.weight, instance.labels, instance.name) == (7, (("zone", "a"),), "old-box")


def test_static_servers_never_change(tmp_path: Path) -> None:
    """The same object each time, so nobody has work of it."""
    source = opened("{type: static, servers: [{host: 10.0.0.1}]}", tmp_path)
    assert source.read() is source.read()
    assert source.due_in() is None


# what is no registry comes through the registry's door


def test_what_is_no_instance_is_refused() -> None:
    """Bad data from outside is a value, and stops nobody else's."""
    known = listing_of(
        [
            ("1", {"host": "10.0.0.1", "port": 80}),
            ("2", {"host": "0.0.0.0", "port": 80}),
            ("3", {"host": "224.0.0.1", "port": 80}),
            ("4", {"host": "255.255.255.255", "port": 80}),
            ("5", {"host": "10.0.0.1", "port": 80, "weight": 3}),
            ("6", {"host": "10.0.0.2", "port": 80, "name": "x\nserver evil"}),
            ("7\n", {"host": "web.example.com", "port": 80}),
        ]
    )
    assert addresses(known) == ["10.0.0.1:80"]
    refused = {each.node: each.reason for each in known.refused}
    assert refused.keys() == {"2", "3", "4", "5", "6", "7\\n"}
    assert refused["5"] == "10.0.0.1:80 is 1 already"
    assert all("not an address of one machine" in refused[node] for node in "234")


# file

FILES = {
    "a list of JSON": ('[{"host": "10.0.0.1", "port": 80}]', ["10.0.0.1:80"]),
    "a mapping of JSON": ('{"service": "web", "instances": [{"host": "10.0.0.1", "port": 80}]}', ["10.0.0.1:80"]),
    "YAML": ("instances:\n- {host: 10.0.0.1}\n- {host: 10.0.0.2, port: 81}\n", ["10.0.0.1:8080", "10.0.0.2:81"]),
    "an empty list of JSON": ("[]", []),
    "an empty list of YAML": ("instances: []", []),
}


@pytest.mark.parametrize(("text", "expected"), FILES.values(), ids=FILES)
def test_what_a_file_may_hold(text: str, expected: list[str]) -> None:
    """A list of instances, as the registry has them; an empty list is the knowledge that there are none."""
    known = instances_in(text.encode(), "f", 8080)
    assert not isinstance(known, str)
    assert addresses(known) == expected


WRONG_FILES = {
    "nothing": ("", "f: the file is empty"),
    "half of a list": ('[{"host": "10.0.0.1", "po', "it is not JSON"),
    "half of YAML": ("instances:\n- {host: 10.0.0.1", "f:3:1: is not YAML"),
    "no list": ("servers: []", "f is wrong: it has no list of instances"),
    "a list of texts": ('["10.0.0.1:80"]', "item 1 of its list is not a mapping"),
    "a mapping instead of a list": ("instances: {host: 10.0.0.1}", "it has no list of instances"),
    "a variable": ("instances:\n- {host: '${HOST}'}", "HOST is not set"),
    "too much": ("[" + " " * 1_100_000 + "]", "over the limit"),
}


@pytest.mark.parametrize(("text", "expected"), WRONG_FILES.values(), ids=WRONG_FILES)
def test_a_wrong_file_is_no_empty_list(text: str, expected: str) -> None:
    """What cannot be read says nothing of the instances, and says why."""
    known = instances_in(text.encode(), "f", 8080)
    assert isinstance(known, str)
    assert expected in known


def test_a_file_is_followed(tmp_path: Path) -> None:
    """It comes, changes, is broken, is whole again and goes; only a whole file changes the instances."""
    path, bell = tmp_path / "web.json", Bell()
    source = opened(f"{{type: file, path: '{path}'}}", tmp_path)
    source.start(bell.ring)

    def says(expected: str) -> bool:
        known = source.read()
        shown = known.reason if isinstance(known, Unknown) else " ".join(addresses(known))
        assert expected in shown, shown
        return True

    eventually(lambda: says("no such file"))
    rings = bell.rings
    path.write_text('[{"host": "10.0.0.1", "port": 80}]')
    eventually(lambda: says("10.0.0.1:80"))
    assert bell.rings > rings
    known = source.read()
    path.write_text('[{"host": "10.0.0.1", "port": 80} ]')
    eventually(lambda: source.read() is known and bell.silent_for(3 * instances_file.QUIET_SECONDS))
    path.write_text('[{"host"')
    eventually(lambda: says("not JSON"))
    path.write_text('[{"host": "10.0.0.2", "port": 80}]')
    eventually(lambda: says("10.0.0.2:80"))
    path.unlink()
    eventually(lambda: says("no such file"))
    source.stop()


def test_a_file_that_is_being_written_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that a program writes in place is short for a moment, and half of a list may be a list: it is read once it
    has not changed for a tenth of a second."""
    clock = [100.0]
    monkeypatch.setattr(instances_file, "time", _Clock(clock))
    path = tmp_path / "web.json"
    path.write_text('[{"host": "10.0.0.1", "port": 80}]')
    source = opened(f"{{type: file, path: '{path}'}}", tmp_path)
    source.start(Bell().ring)
    source.read()
    clock[0] += 1
    assert addresses(source.read()) == ["10.0.0.1:80"]
    path.write_text("[]")
    assert addresses(source.read()) == ["10.0.0.1:80"]
    assert source.due_in() is not None
    clock[0] += 0.05
    path.write_text('[{"host": "10.0.0.2", "port": 80}]  ')
    assert addresses(source.read()) == ["10.0.0.1:80"]
    clock[0] += 0.06
    assert addresses(source.read()) == ["10.0.0.1:80"]
    clock[0] += 0.05
    assert addresses(source.read()) == ["10.0.0.2:80"]
    source.stop()


class _Clock:
    def __init__(self, now: list[float]) -> None:
        self._now = now

    def monotonic(self) -> float:
        return self._now[0]

    def time(self) -> float:
        return time.time()


def test_all_files_have_one_watch(tmp_path: Path) -> None:
    """The kernel gives a user 128 of them; the last source to go ends the thread."""
    where = place(tmp_path)
    sources, bell = [], Bell()
    for number in range(3):
        path = tmp_path / str(number) / "web.json"
        path.parent.mkdir()
        path.write_text("[]")
        source: Source = source_of(f"{{type: file, path: '{path}'}}").open(where)  # type: ignore[attr-defined]
        source.start(bell.ring)
        sources.append(source)
    watch = where.shared.of(instances_file._Watch)
    assert watch._watch is not None
    sources[0].stop()
    eventually(lambda: bell.silent_for(0.2))
    rings = bell.rings
    (tmp_path / "2" / "web.json").write_text(json.dumps([{"host": "10.0.0.9", "port": 80}]))
    eventually(lambda: bell.rings > rings)
    eventually(lambda: addresses(sources[2].read()) == ["10.0.0.9:80"])
    for source in sources[1:]:
        source.stop()
    assert watch._watch is None


# dns: what answers mean


def test_each_address_of_a_name_is_an_instance() -> None:
    """In one order, whatever that of the answer, at one port."""
    assert addresses(addresses_listing(["10.0.0.2", "10.0.0.1", "2001:db8::1", "10.0.0.2"], 80)) == [
        "10.0.0.1:80",
        "10.0.0.2:80",
        "[2001:db8::1]:80",
    ]


def target(name: str, priority: int = 0, weight: int = 0, port: int = 80) -> Target:
    return Target(priority=priority, weight=weight, port=port, name=name)


def test_only_targets_of_the_best_priority_are_used() -> None:
    """The lowest number is the best. A target that is the root says that there is no service."""
    assert best_targets([target("b", 10), target("a", 10), target("c", 20)]) == (target("a", 10), target("b", 10))
    assert best_targets([target(".")]) == ()


WEIGHTS = {
    "all alike": ((5, 5), [None, None]),
    "no weights": ((0, 0), [None, None]),
    "the heaviest is full": ((10, 40), [25, 100]),
    "no weight is the least, not a drain": ((0, 40), [1, 100]),
    "large ones": ((1, 65_535), [1, 100]),
}


@pytest.mark.parametrize(("weights", "expected"), WEIGHTS.values(), ids=WEIGHTS)
def test_weights_of_srv_records(weights: tuple[int, ...], expected: list[int | None]) -> None:
    """They are relative to each other, and HAProxy's range is smaller."""
    targets = [target(f"host{number}", weight=weight) for number, weight in enumerate(weights)]
    known = targets_listing(targets, {one.name: [f"10.0.0.{number}"] for number, one in enumerate(targets, 1)})
    assert [record.instance.weight for record in known.records] == expected


def test_targets_become_instances() -> None:
    """At the port that the record says, or at the definition's if the source gives one; one without address is told."""
    targets = [target("a.test", port=81), target("b.test", port=82), target("c.test", port=83)]
    places = {"a.test": ["10.0.0.1"], "b.test": ["10.0.0.3", "10.0.0.2"], "c.test": []}
    known = targets_listing(targets, places)
    assert addresses(known) == ["10.0.0.1:81", "10.0.0.2:82", "10.0.0.3:82"]
    assert [record.instance.name for record in known.records] == ["a.test", "b.test", "b.test"]
    assert [(each.node, each.reason) for each in known.refused] == [("c.test:83", "its name has no address")]
    assert addresses(targets_listing(targets, places, 9)) == ["10.0.0.1:9", "10.0.0.2:9", "10.0.0.3:9"]


@pytest.mark.parametrize(
    ("ttl", "jitter", "expected"),
    [(30, 0.0, 30), (0, 0.0, 5), (86_400, 0.0, 60), (30, 1.0, 33)],
    ids=["as it says", "at least", "at most", "a little later"],
)
def test_a_time_to_live_is_honoured_within_bounds(ttl: float, jitter: float, expected: float) -> None:
    """min_ttl keeps a time to live of 0 from asking all the time, max_ttl a long one from hiding changes."""
    assert pause_seconds(ttl, 5, 60, jitter) == pytest.approx(expected)


def test_after_a_failure_it_is_asked_again_soon_and_then_later() -> None:
    """Twice as long each time, up to half a minute, and never longer than max_ttl."""
    assert [retry_seconds(failures, 60, 0.0) for failures in (1, 2, 3, 4, 5, 6, 99)] == [1, 2, 4, 8, 16, 30, 30]
    assert retry_seconds(9, 2.0, 0.0) == 2.0
    assert retry_seconds(1, 60, 1.0) == pytest.approx(1.1)


def test_without_dnspython_the_definition_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """At its place in the file, before anything is started."""
    monkeypatch.setattr("synapse.sources.dns.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"f:2:18: sources\[0\]\.type") as raised:
        source_of("{type: dns, name: web.test}")
    assert MISSING in str(raised.value)
