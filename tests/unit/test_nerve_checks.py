"""What all kinds of check have in common, and the kinds that ask nobody."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nerve.checks.base import Check, Heartbeat, Outcome, Target
from nerve.checks.expectation import Expectation
from nerve.checks.http import HttpCheck
from nerve.checks.noop import NoopCheck
from nerve.checks.tcp import TcpCheck
from nerve.checks.ttl import TtlCheck
from smartstack.definition import ServiceDefinition
from smartstack.errors import SmartStackError
from smartstack.installed import check_families
from smartstack.model import model_fields
from smartstack.validation import validate
from smartstack.yaml_file import load
from tests.support.check_servers import NOWHERE, answer, outcome_of, server

KINDS = check_families()["check"]


def test_the_kinds_are_these() -> None:
    """Found by the entry points of what is installed, each under its own name."""
    assert sorted(KINDS) == ["exec", "grpc", "http", "noop", "redis", "tcp", "ttl"]
    assert all(model.kind == name for name, model in KINDS.items())  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_says_what_its_keys_mean(kind: str) -> None:
    """Each key has words that an editor can show; the common ones have the documented defaults."""
    fields = {field.name: field for field in model_fields(KINDS[kind])}
    assert all(field.kind.description for field in fields.values())
    defaults = {name: fields[name].default for name in ("interval", "down_interval", "timeout", "rise", "fall")}
    once = kind == "ttl"  # a service that says itself how it is needs no second opinion
    assert {name: default and default() for name, default in defaults.items()} == {
        "interval": 2.0,
        "down_interval": None,
        "timeout": 1.0,
        "rise": 1 if once else 2,
        "fall": 1 if once else 3,
    }


@pytest.mark.parametrize(
    ("heartbeat", "now", "outcome"),
    [
        pytest.param(None, 109.9, None, id="not heard of yet"),
        pytest.param(
            None, 110.0, (False, "no heartbeat since nerve began to watch it, 10 s"), id="never heard of for a ttl"
        ),
        pytest.param((True, "", 105.0), 115.0, (True, "heartbeat"), id="young enough"),
        pytest.param((True, "9 workers", 105.0), 106.0, (True, "9 workers"), id="with a note"),
        pytest.param((True, "\x1b[2J", 105.0), 106.0, (True, r"\x1b[2J"), id="with a hostile note"),
        pytest.param(
            (True, "9 workers", 105.0), 115.1, (False, "the last heartbeat was 10 s ago, ttl 10s"), id="too old"
        ),
        pytest.param(
            (False, "", 105.0), 106.0, (False, "the service reports itself as not well"), id="not well, without a note"
        ),
        pytest.param((False, "disk full", 105.0), 106.0, (False, "disk full"), id="not well"),
        pytest.param((True, "", 40.0), 101.0, (False, "the last heartbeat was 61 s ago, ttl 10s"), id="from before"),
    ],
)
def test_ttl_judges_the_last_heartbeat(
    heartbeat: tuple[bool, str, float] | None, now: float, outcome: tuple[bool, str] | None
) -> None:
    """With a ttl of 10 s, watched since 100: what the service said, for a ttl; no verdict before the first ttl is
    over, so that a restart of nerve takes nobody out."""
    said = Heartbeat(passed=heartbeat[0], note=heartbeat[1], at=heartbeat[2]) if heartbeat else None
    found = TtlCheck(ttl=10.0).run(Target(service="web", address=NOWHERE, heartbeat=said, watched_since=100.0, now=now))
    assert found == (Outcome(passed=outcome[0], reason=outcome[1]) if outcome else None)


def test_noop_always_passes() -> None:
    """Nobody is asked."""
    assert outcome_of(NoopCheck()) == Outcome(passed=True, reason="not asked")


def test_one_check_may_run_in_many_threads_at_once() -> None:
    """A check holds nothing of a run: each thread gets the answer of the server that it asked."""
    text = "HTTP/1.1 200 OK\r\nContent-Length: {1}\r\nX-Service: {0}\r\n\r\n{0}"
    check = HttpCheck(timeout=20.0, expect=Expectation(headers={"X-Service": "one"}, body_regex="^one$"))
    greeting = TcpCheck(timeout=20.0, send="x", expect="X-Service: one")
    with server(answer(text.format("one", 3))) as one, server(answer(text.format("two", 3))) as two:
        with ThreadPoolExecutor(8) as pool:
            runs = [(each, address) for _ in range(50) for each in (check, greeting) for address in (one, two)]
            outcomes = list(pool.map(lambda run: outcome_of(*run).passed, runs))
        assert outcomes == [address == one for _, address in runs]


def test_a_check_without_a_descriptor_fails_and_says_why() -> None:
    """Nothing is loaded any more then, not even what puts the reason into words: its first failure ends no thread."""
    program = (
        "import resource\n"
        "from nerve.checks.base import Target\n"
        "from nerve.checks.exec import ExecCheck\n"
        "from nerve.checks.http import HttpCheck\n"
        "from nerve.checks.redis import RedisCheck\n"
        "from nerve.checks.tcp import TcpCheck\n"
        "from smartstack.forms import TcpAddress\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))\n"
        "target = Target(service='web', address=TcpAddress('127.0.0.1', 1))\n"
        "for check in (TcpCheck(), HttpCheck(), RedisCheck(), ExecCheck(command=('true',))):\n"
        "    print(check.run(target).reason)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    expected = ["too many open files"] * 3 + ["cannot run true: too many open files"]
    assert (done.stdout.splitlines(), done.stderr) == (expected, "")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that Python imports from, as if packages were installed there."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def install(site: Path, name: str, entry_point: str, module: str) -> None:
    """A small distribution with one module and one kind of check."""
    (site / f"{name}.py").write_text(module)
    metadata = site / f"{name}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[smartstack.checks]\n{entry_point}\n")


COIN = '''
from dataclasses import dataclass
from typing import Annotated, ClassVar
from nerve.checks.base import Outcome, Pace, Target, passed

@dataclass(frozen=True, slots=True, kw_only=True)
class CoinCheck(Pace):
    """Toss a coin."""
    kind: ClassVar[str] = "coin"
    side: Annotated[str, "the side that is meant"]

    def run(self, target: Target) -> Outcome:
        return passed(f"{self.side} for {target.service}")
'''


def test_others_add_kinds_by_an_entry_point(site: Path) -> None:
    """A package that is installed beside this one: its kind is validated, and runs, like ours."""
    install(site, "smartstack_coin", "coin = smartstack_coin:CoinCheck", COIN)
    text = b"port: 8080\ncheck: {type: coin, side: heads, interval: 5s}\n"
    definition = validate(ServiceDefinition, load(text, "web.yaml", {}), path="web.yaml", families=check_families())
    check: Check = definition.check
    assert (check.kind, check.interval) == ("coin", 5.0)
    assert outcome_of(check).reason == "heads for web"
    sys.modules.pop("smartstack_coin")


@pytest.mark.parametrize(
    ("entry_point", "module", "said"),
    [
        pytest.param(
            "bad = smartstack_bad:BadCheck", "import no_such_thing", "No module named 'no_such_thing'", id="import"
        ),
        pytest.param(
            "bad = smartstack_bad:BadCheck",
            "def",
            "invalid syntax (smartstack_bad.py, line 1)",
            id="syntax",
        ),
        pytest.param(
            "bad = smartstack_bad:BadCheck", "", "module 'smartstack_bad' has no attribute 'BadCheck'", id="attribute"
        ),
    ],
)
def test_a_kind_that_cannot_be_loaded_is_named(entry_point: str, module: str, said: str, site: Path) -> None:
    """One sentence: which kind, of which package, why, and what to do."""
    install(site, "smartstack_bad", entry_point, module)
    with pytest.raises(SmartStackError) as raised:
        check_families()
    wanted = f"cannot load 'bad' (smartstack.checks) of smartstack_bad: {said}; reinstall or remove that package"
    assert str(raised.value) == wanted
    sys.modules.pop("smartstack_bad", None)
