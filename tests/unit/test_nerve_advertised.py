"""This host's address over time: when it is looked up, and what stands while that fails."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from nerve.advertised import KEPT_FILE, Advertised
from nerve.settings import Settings
from smartstack.errors import ConfigError, Problem
from smartstack.forms import DirectoryUrl
from smartstack.logs import EventLog, configure
from tests.support.eventually import eventually

HERE = Settings(registry=DirectoryUrl("/r"), host="here.example")
THERE = Settings(registry=DirectoryUrl("/r"), host="there.example")
ELSEWHERE = Settings(registry=DirectoryUrl("/elsewhere"), host="here.example")


class NameServer:
    """Says what the test put in, notes who asked, and lets nobody go while it is `slow`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.addresses: dict[str | None, str] = {"here.example": "10.0.0.5", "there.example": "10.0.0.6"}
        self.asked: list[str] = []
        self.answers = threading.Event()
        self.answers.set()

    def find(self, settings: Settings, path: str) -> str:
        self.asked.append(threading.current_thread().name)
        self.answers.wait(30)
        if settings.host not in self.addresses:
            raise ConfigError([Problem(path=path, key="host", message="cannot be resolved")])
        return self.addresses[settings.host]

    def start(self) -> Advertised:
        """What a nerve has that was just started."""
        return Advertised("nerve.yaml", str(self.directory), EventLog("nerve"), self.find)

    @property
    def kept(self) -> Path:
        return self.directory / KEPT_FILE


@pytest.fixture
def names(tmp_path: Path) -> Iterator[NameServer]:
    made = NameServer(tmp_path)
    yield made
    made.answers.set()


def test_nothing_is_looked_up_while_the_settings_stay(names: NameServer) -> None:
    """A resync costs no question to a name server; another host or another registry is one question."""
    advertised = names.start()
    assert [advertised(HERE) for _ in range(3)] == ["10.0.0.5"] * 3
    assert len(names.asked) == 1
    assert advertised(THERE) == "10.0.0.6"
    assert advertised(ELSEWHERE) == "10.0.0.5"
    assert len(names.asked) == 3


def test_a_start_without_dns_takes_the_kept_address(names: NameServer, capfd: pytest.CaptureFixture[str]) -> None:
    """It is said in one warning, and the address of the name as it is now is taken when the name is found again."""
    configure("info", "text")
    names.start()(HERE)
    names.addresses.clear()
    advertised = names.start()
    assert [advertised(HERE) for _ in range(5)] == ["10.0.0.5"] * 5
    log = capfd.readouterr().err
    assert log.count("the last one that was found is announced") == 1
    assert "address=10.0.0.5" in log and "cannot be resolved" in log
    names.addresses["here.example"] = "10.0.0.7"
    eventually(lambda: advertised(HERE) == "10.0.0.7")
    asked = len(names.asked)
    advertised(HERE)
    assert len(names.asked) == asked
    assert json.loads(names.kept.read_text())["address"] == "10.0.0.7"


@pytest.mark.parametrize("settings", [THERE, ELSEWHERE])
def test_an_address_of_other_settings_is_not_taken(names: NameServer, settings: Settings) -> None:
    """What was found for another host or another registry says nothing; then a failure is an error of the settings."""
    names.start()(HERE)
    names.addresses.clear()
    with pytest.raises(ConfigError, match=r"nerve\.yaml: host: cannot be resolved"):
        names.start()(settings)


def test_a_name_server_that_hangs_holds_the_loop_up_once(names: NameServer) -> None:
    """After a failure all further questions are asked by a thread, one at a time."""
    advertised = names.start()
    names.addresses.clear()
    with pytest.raises(ConfigError):
        advertised(HERE)
    names.answers.clear()
    for _ in range(3):
        with pytest.raises(ConfigError):
            advertised(HERE)
    eventually(lambda: names.asked == [threading.current_thread().name, "advertised"])
    names.addresses["here.example"] = "10.0.0.5"
    names.answers.set()

    def answers() -> bool:
        try:
            return advertised(HERE) == "10.0.0.5"
        except ConfigError:
            return False

    eventually(answers)


def test_an_edit_that_is_taken_back_asks_nobody(names: NameServer) -> None:
    """The last good address belongs to the settings before the edit, and so stands again at once."""
    advertised = names.start()
    advertised(HERE)
    names.addresses.clear()
    with pytest.raises(ConfigError):
        advertised(THERE)
    asked = len(names.asked)
    assert advertised(HERE) == "10.0.0.5"
    assert len(names.asked) == asked


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "7", "{}", '{"host": 5, "registry": "file:/r", "address": "10.0.0.5"}',
     '{"host": "here.example", "registry": "file:/r", "address": "10.0.0"}', "[" * 100_000, "\udcff"],
)  # fmt: skip
def test_a_damaged_file_is_as_good_as_none(names: NameServer, text: str) -> None:
    """It stops no start where the name is found, and gives no address where it is not."""
    names.kept.write_bytes(text.encode("utf-8", "surrogateescape"))
    advertised = names.start()
    assert advertised(HERE) == "10.0.0.5"
    names.kept.write_bytes(text.encode("utf-8", "surrogateescape"))
    names.addresses.clear()
    with pytest.raises(ConfigError):
        names.start()(HERE)


def test_a_full_disk_costs_the_file_only(names: NameServer, capfd: pytest.CaptureFixture[str]) -> None:
    """The address is announced; that it cannot be kept is a warning."""
    configure("info", "text")
    names.directory = names.directory / "not-there"
    assert names.start()(HERE) == "10.0.0.5"
    assert "cannot be kept for the next start" in capfd.readouterr().err
