"""What synapse finds on disk after a restart: what it wrote, and nothing that it would not take from elsewhere."""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from smartstack.errors import SmartStackError
from smartstack.forms import TcpAddress, UnixSocket
from smartstack.instance import Instance
from smartstack.traffic import Proxy, Timeouts
from synapse.plan import Structure
from synapse.store import Running, Store
from tests.support.definitions import proxy

WEB = Instance(
    host="10.0.0.5",
    port=8080,
    name="host5",
    weight=7,
    haproxy_server_options="backup",
    labels=(("zone", "a"), ("état", "prêt")),
)
API = Instance(host="2001:db8::1", port=9000)
RUNNING = Running(
    structure=Structure(description="smartstack-1", digests={"": "0", "api": "1", "web": "2"}),
    proxies={
        "api": Proxy(
            listen=(UnixSocket("/run/api.sock"),),
            mode="tcp",
            balance="source",
            timeouts=Timeouts(connect=0.25, client=3600.0, server=1.5, queue=0.001),
            retries=0,
            shrink_floor=0.125,
            shrink_confirm=90.0,
        ),
        "v6": proxy(listen=(TcpAddress("::1", 3211),)),
        "web": proxy(),
    },
)


@pytest.fixture
def directory(tmp_path: Path) -> str:
    return str(tmp_path)


def test_nothing_was_kept_yet(directory: str) -> None:
    """A first start finds nothing, and that is no problem."""
    store = Store(directory)
    assert (store.load_good(), store.load_running(), store.problems) == ({}, None, [])


def test_the_last_good_instances_come_back(directory: str) -> None:
    """Every field of every instance, and services that have none: an empty set that was good is knowledge."""
    good = {"web": (WEB, API), "api": (API,), "none": ()}
    Store(directory).save_good(good)
    store = Store(directory)
    assert store.load_good() == good
    assert store.problems == []


def test_what_runs_comes_back(directory: str) -> None:
    """The structure, and each definition's `proxy` with all its fields."""
    Store(directory).save_running(RUNNING)
    store = Store(directory)
    assert store.load_running() == RUNNING
    assert store.problems == []


def test_the_texts_that_a_sites_templates_made_come_back(directory: str) -> None:
    """Those that are whole, of the services that are known; without them it is as with the package's templates."""
    texts = {"": "global\n    description smartstack-kept\n", "web": "backend web\n    mode http\n"}
    Store(directory).save_running(dataclasses.replace(RUNNING, texts=texts))
    running = Store(directory).load_running()
    assert running is not None
    assert running.texts == texts
    bad: dict[str, Any] = {
        "": "global\n",
        "web": "backend web",
        "api": "backend web\n",
        "v6": 1,
        "other": "backend other\n",
    }
    Store(directory).save_running(dataclasses.replace(RUNNING, texts=bad))
    assert Store(directory).load_running() == RUNNING


def test_the_same_content_is_not_written_again(directory: str) -> None:
    """A cycle that changes nothing does not write, whatever the order of the services; one that does, does."""
    store, path = Store(directory), Path(directory) / "last_good.json"
    store.save_good({"web": (WEB,), "api": (API,)})
    before = path.stat()
    store.save_good({"api": (API,), "web": (WEB,)})
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    store.save_good({"api": (API,)})
    assert path.stat().st_ino != before.st_ino
    assert Store(directory).load_good() == {"api": (API,)}


def test_what_somebody_removed_is_written_again(directory: str) -> None:
    """Though nothing changes: the next start may need it."""
    store = Store(directory)
    store.save_good({"web": (WEB,)})
    store.save_running(RUNNING)
    for file in Path(directory).iterdir():
        file.unlink()
    store.touch_good()
    assert Store(directory).load_good() == {"web": (WEB,)}
    assert Store(directory).load_running() == RUNNING


CORRUPT: Mapping[str, bytes] = {
    "empty": b"",
    "cut": b'{"format": 1, "content": {"web"',
    "not UTF-8": b"\xff\xfe\x00",
    "no JSON": b"web: 1",
    "too deep": b"[" * 100_000,
    "a number of too many digits": b'{"format": ' + b"1" * 5000 + b"}",
    "a list": b"[]",
    "null": b"null",
    "another format": b'{"format": 2, "content": {}}',
    "no format": b'{"content": {}}',
    "no content": b'{"format": 1}',
    "content of another kind": b'{"format": 1, "content": []}',
}


@pytest.mark.parametrize("data", CORRUPT.values(), ids=CORRUPT)
def test_a_corrupt_file_is_as_if_it_were_not_there(directory: str, data: bytes) -> None:
    """It is told, and it does not keep synapse from starting, nor from writing anew."""
    for name in ("last_good.json", "running.json"):
        (Path(directory) / name).write_bytes(data)
    store = Store(directory)
    assert (store.load_good(), store.load_running()) == ({}, None)
    assert len(store.problems) == 2
    assert all("last_good.json" in problem or "running.json" in problem for problem in store.problems)
    store.save_good({"web": (WEB,)})
    assert Store(directory).load_good() == {"web": (WEB,)}


def test_a_directory_in_the_place_of_a_file(directory: str) -> None:
    """What cannot be read for another reason is told too."""
    (Path(directory) / "last_good.json").mkdir()
    store = Store(directory)
    assert store.load_good() == {}
    assert ["Is a directory" in problem for problem in store.problems] == [True]


def keep(directory: str, name: str, content: Any) -> Store:
    (Path(directory) / name).write_text(json.dumps({"format": 1, "content": content}))
    return Store(directory)


def test_instances_pass_the_same_door_as_those_of_the_registry(directory: str) -> None:
    """Names and payloads that a registry may not have, the disk may not have either; the good ones stay, and
    none that passes is not an empty set that was good."""
    good = {"host": "10.0.0.5", "port": 80}
    content = {
        "web": [good, {"host": "10.0.0.6\n", "port": 80}, {"host": "evil", "port": 80}, "text", None, 1.5, [good]],
        "web\nbackend evil": [good],
        "../web": [good],
        "text": "10.0.0.5",
        "null": None,
        "empty": [],
        "surrogates": [{**good, "labels": {"\ud800": "x"}}],
        "nan": [{**good, "weight": float("nan")}],
    }
    assert keep(directory, "last_good.json", content).load_good() == {
        "web": (Instance(host="10.0.0.5", port=80),),
        "empty": (),
    }


def test_an_address_is_one_instance_on_disk_too(directory: str) -> None:
    """Of two for one address one is taken: a slot can have only one weight."""
    twice = [{"host": "10.0.0.5", "port": 80, "weight": 1}, {"host": "10.0.0.5", "port": 80, "weight": 2}]
    assert len(keep(directory, "last_good.json", {"web": twice}).load_good()["web"]) == 1


HOSTILE_FIELDS: Mapping[str, Any] = {
    "a second line in the mode": {"mode": "http\n    bind :1"},
    "a balance that is none": {"balance": "uri whole"},
    "a text for a number": {"retries": "2\n    option x"},
    "a number for a text": {"listen": 1.5},
    "a path that is none": {"listen": "/run/x y"},
    "time-outs of another kind": {"timeouts": {"connect": ["1s"]}},
    "a time-out without unit": {"timeouts": {"connect": 1.0}},
    "a key that nobody knows": {"extra": 1},
    "null": {"mode": None},
    "surrogates": {"mode": "\ud800"},
    "a rule over two keys": {"mode": "tcp", "balance": "hash"},
}


@pytest.mark.parametrize("fields", HOSTILE_FIELDS.values(), ids=HOSTILE_FIELDS)
def test_definitions_pass_the_same_door_as_those_of_ops(directory: str, fields: Mapping[str, Any]) -> None:
    """A kept definition that no file could have is left out and told; the others, and the structure, stay."""
    content = {
        "description": "smartstack-1",
        "digests": {"": "0"},
        "proxies": {"bad": {"listen": 3211, **fields}, "web": {"listen": 3210}, "no/name": {"listen": 3212}},
    }
    store = keep(directory, "running.json", content)
    running = store.load_running()
    assert running == Running(
        structure=Structure(description="smartstack-1", digests={"": "0"}), proxies={"web": proxy()}
    )
    assert ["has no good definition of bad" in problem for problem in store.problems] == [True]


@pytest.mark.parametrize("bad", [[], "text", None, 1, [["listen", 3210]]])
def test_a_definition_that_is_no_mapping_is_left_out(directory: str, bad: Any) -> None:
    """Whatever stands in the place of a definition."""
    store = keep(directory, "running.json", {"description": "d", "digests": {}, "proxies": {"web": bad}})
    running = store.load_running()
    assert running is not None
    assert (running.proxies, len(store.problems)) == ({}, 1)


@pytest.mark.parametrize(
    "content",
    [
        {"description": "d", "digests": {}},
        {"description": "d", "proxies": {}},
        {"digests": {}, "proxies": {}},
        {"description": 1, "digests": {}, "proxies": {}},
        {"description": "d", "digests": [], "proxies": {}},
        {"description": "d", "digests": {}, "proxies": []},
    ],
)
def test_what_runs_is_known_whole_or_not_at_all(directory: str, content: Any) -> None:
    """Without a part of it, it is not known what runs."""
    store = keep(directory, "running.json", content)
    assert store.load_running() is None
    assert ["is not of this version" in problem for problem in store.problems] == [True]


def test_a_disk_that_cannot_be_written(directory: str) -> None:
    """It is told in one sentence that names the file, and the next time is another attempt."""
    gone = Path(directory) / "gone"
    store = Store(str(gone))
    with pytest.raises(SmartStackError, match=r"cannot write .*last_good.json: no such file or directory"):
        store.save_good({"web": (WEB,)})
    with pytest.raises(SmartStackError, match=r"cannot write .*running.json"):
        store.save_running(RUNNING)
    os.mkdir(gone)
    store.save_good({"web": (WEB,)})
    assert Store(str(gone)).load_good() == {"web": (WEB,)}
