"""The check threads, with checks that do what a test tells them."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import ClassVar

import pytest

from nerve import runner as runner_module
from nerve.checks.base import Heartbeat, Outcome, Target, failed, passed
from nerve.runner import HANG_MARGIN_SECONDS, CheckResult, Prompt, Runner
from nerve.services import Probe
from smartstack.forms import TcpAddress
from smartstack.wake import Wake
from tests.support.eventually import eventually

ADDRESS = TcpAddress("127.0.0.1", 8080)


@dataclass(frozen=True, kw_only=True)
class Scripted:
    """A check that does what it is told."""

    kind: ClassVar[str] = "scripted"

    act: Callable[[Target], Outcome | None]
    interval: float = 0.01
    timeout: float = 1.0
    rise: int = 2
    fall: int = 3
    down_interval: float | None = None

    def run(self, target: Target) -> Outcome | None:
        return self.act(target)


def well(target: Target) -> Outcome:
    return passed(f"{target.address} is well")


class Watched:
    """A runner, its bell, and everything it ever said."""

    def __init__(self) -> None:
        self.wake = Wake()
        self.runner = Runner(self.wake.ring, Random(7))
        self.said: list[CheckResult] = []

    def watch(self, **checks: Scripted) -> None:
        """Watch a service of each name with this one check."""
        self.runner.watch({name: Probe(address=ADDRESS, checks={"it": check}) for name, check in checks.items()})

    def heard(self, service: str) -> list[CheckResult]:
        """What was said of a service so far."""
        self.said += self.runner.drain()
        return [one for one in self.said if one.service == service]


@pytest.fixture
def watched() -> Iterator[Watched]:
    """A runner that is stopped at the end."""
    made = Watched()
    yield made
    made.runner.stop()


def threads(service: str) -> int:
    """How many check threads a service has."""
    return sum(thread.name == f"check-{service}" for thread in threading.enumerate())


def test_each_service_is_checked_again_and_again(watched: Watched) -> None:
    """One thread for each service; each result rings and says whose it is, what it was and how long it took."""
    before = time.monotonic()
    watched.watch(web=Scripted(act=well), api=Scripted(act=well))
    assert watched.wake.wait(5)
    eventually(lambda: len(watched.heard("web")) >= 3 and len(watched.heard("api")) >= 3)
    one = watched.heard("web")[0]
    assert (one.check, one.result.passed, one.result.reason) == ("it", True, "127.0.0.1:8080 is well")
    assert before <= one.result.at <= time.monotonic()
    assert 0 <= one.result.duration_seconds < 1
    assert (threads("web"), threads("api")) == (1, 1)


def test_several_checks_of_a_service_keep_their_own_pace(watched: Watched) -> None:
    """Each check is due by its own interval."""
    probe = Probe(address=ADDRESS, checks={"fast": Scripted(act=well), "slow": Scripted(act=well, interval=3600.0)})
    watched.runner.watch({"web": probe})
    eventually(lambda: len(watched.heard("web")) >= 5)
    assert [one.check for one in watched.heard("web")].count("slow") == 1


def test_a_check_that_blows_up_is_a_failure(watched: Watched) -> None:
    """A defect of a check is its failure, with its text, and the next run comes all the same."""

    def blow_up(target: Target) -> Outcome:
        raise ZeroDivisionError("no\nway")

    watched.watch(web=Scripted(act=blow_up))
    eventually(lambda: len(watched.heard("web")) >= 2)
    result = watched.heard("web")[0].result
    assert (result.passed, result.reason) == (False, r"the check itself failed: ZeroDivisionError: no\nway")


def test_a_check_that_hangs_is_reported_while_it_hangs(watched: Watched) -> None:
    """The loop hears of a failure for each interval that it hangs beyond its time-out, and of nothing before."""
    started, release = threading.Event(), threading.Event()

    def hang(target: Target) -> Outcome:
        started.set()
        release.wait(30)
        return passed("at last")

    watched.watch(web=Scripted(act=hang, interval=2.0))
    assert started.wait(5)
    now = time.monotonic()
    assert watched.runner.hanging(now) == []
    assert 0 < watched.runner.next_look(now) <= 1.0 + HANG_MARGIN_SECONDS

    [first] = watched.runner.hanging(now + 3.2)
    assert (first.result.passed, first.result.reason) == (False, "still running after 3.2 s, time-out 1s")
    assert watched.runner.hanging(now + 3.3) == []
    assert [one.result.passed for one in watched.runner.hanging(now + 3.7)] == [False]
    release.set()
    eventually(lambda: len(watched.heard("web")) >= 1)
    assert watched.runner.hanging(now + 3.8) == []


def test_a_look_that_is_overdue_does_not_spin_the_loop(watched: Watched) -> None:
    """When a machine was suspended, or a thread does not get its turn, the loop asks again soon, but not at once."""
    watched.watch(web=Scripted(act=well, interval=3600.0))
    eventually(lambda: watched.heard("web"))
    assert watched.runner.next_look(time.monotonic() + 10_000.0) == 0.05


def test_a_pass_that_comes_too_late_is_a_failure(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that comes back long after its time-out has not passed, whatever it says."""
    monkeypatch.setattr(runner_module, "HANG_MARGIN_SECONDS", 0.01)
    pause = threading.Event()

    def late(target: Target) -> Outcome:
        pause.wait(0.1)
        return passed("late")

    watched.watch(web=Scripted(act=late, timeout=0.02))
    eventually(lambda: watched.heard("web"))
    result = watched.heard("web")[0].result
    assert not result.passed
    assert "time-out 0.02s" in result.reason


def test_what_did_not_change_goes_on_undisturbed(watched: Watched) -> None:
    """A new set of services restarts only the threads whose checks are others than before."""
    beginnings: list[str] = []

    def named(name: str) -> Callable[[Target], Outcome]:
        def act(target: Target) -> Outcome:
            beginnings.append(threading.current_thread().name + str(threading.get_ident()))
            return passed(name)

        return act

    same = Scripted(act=named("same"))
    watched.watch(web=same, api=Scripted(act=named("old")))
    eventually(lambda: watched.heard("web") and watched.heard("api"))
    watched.watch(web=same, api=Scripted(act=named("new")))
    eventually(lambda: watched.heard("api")[-1].result.reason == "new")
    assert len({one for one in beginnings if one.startswith("check-web")}) == 1
    eventually(lambda: threads("api") == 1)


def test_a_late_answer_of_a_replaced_check_is_not_heard(watched: Watched) -> None:
    """What the check before the edit says after the edit says nothing of the service as it is now."""
    started, release = threading.Event(), threading.Event()

    def old(target: Target) -> Outcome:
        started.set()
        release.wait(30)
        return passed("old")

    watched.watch(web=Scripted(act=old))
    assert started.wait(5)
    watched.watch(web=Scripted(act=well))
    release.set()
    eventually(lambda: threads("web") == 1)
    eventually(lambda: len(watched.heard("web")) >= 3)
    assert "old" not in {one.result.reason for one in watched.heard("web")}


def test_what_is_not_watched_any_more_ends_at_once(watched: Watched) -> None:
    """A thread that waits for its next check ends without waiting for it; a hanging check holds nobody up."""
    release = threading.Event()

    def hang(target: Target) -> Outcome:
        release.wait(30)
        return passed("at last")

    watched.watch(web=Scripted(act=well, interval=3600.0), api=Scripted(act=hang))
    eventually(lambda: watched.heard("web"))
    watched.runner.stop()
    eventually(lambda: threads("web") == 0, within=2)
    assert watched.runner.next_look(time.monotonic()) == float("inf")
    release.set()
    eventually(lambda: threads("api") == 0)


def test_a_service_without_checks_has_no_thread(watched: Watched) -> None:
    """Nothing to do needs nobody who does it."""
    watched.runner.watch({"web": Probe(address=ADDRESS)})
    assert threads("web") == 0


def test_a_prompt_runs_every_check_at_once(watched: Watched) -> None:
    """Whatever the interval is, a prompted check runs now; only a pass that was said to be READY is conclusive."""
    verdicts = {"web": True}

    def act(target: Target) -> Outcome:
        return passed("ready") if verdicts["web"] else failed("not yet")

    checks = {name: Scripted(act=act, interval=3600.0) for name in ("one", "two")}
    watched.runner.watch({"web": Probe(address=ADDRESS, checks=checks)})
    eventually(lambda: len(watched.heard("web")) == 2)
    for why, well_now, conclusive in (
        (Prompt.LOOK, True, False),
        (Prompt.READY, True, True),
        (Prompt.READY, False, False),
    ):
        watched.said.clear()
        verdicts["web"] = well_now
        watched.runner.prompt("web", why)
        eventually(lambda: len(watched.heard("web")) == 2)
        assert {one.check for one in watched.heard("web")} == {"one", "two"}
        assert {one.result.conclusive for one in watched.heard("web")} == {conclusive}


def test_a_prompt_during_a_run_is_answered_by_another_run(watched: Watched) -> None:
    """What was begun before something happened says nothing of what happened."""
    started, release, runs = threading.Event(), threading.Event(), []

    def act(target: Target) -> Outcome:
        runs.append(target.now)
        started.set()
        release.wait(30)
        return passed("at last")

    watched.watch(web=Scripted(act=act, interval=3600.0, timeout=60.0))
    assert started.wait(5)
    watched.runner.prompt("web", Prompt.READY)
    watched.runner.prompt("web", Prompt.LOOK)
    release.set()
    eventually(lambda: len(watched.heard("web")) == 2)
    assert [one.result.conclusive for one in watched.heard("web")] == [False, True]
    assert len(runs) == 2


def test_a_prompt_of_what_is_not_watched_is_nothing(watched: Watched) -> None:
    """A service may be gone by the time that somebody asks."""
    watched.runner.prompt("web", Prompt.READY)
    watched.runner.report("web", Heartbeat(passed=True, note="", at=0.0))
    assert watched.heard("web") == []


def test_a_check_hears_what_the_service_reported(watched: Watched) -> None:
    """The last report stands in every later run; the report itself prompts one, and a good one makes it conclusive."""

    def act(target: Target) -> Outcome | None:
        return None if target.heartbeat is None else passed(target.heartbeat.note)

    watched.watch(web=Scripted(act=act, interval=0.02))
    beat = Heartbeat(passed=True, note="warm", at=time.monotonic())
    watched.runner.report("web", beat)
    eventually(lambda: len(watched.heard("web")) >= 2)
    assert {one.result.reason for one in watched.heard("web")} == {"warm"}
    assert watched.heard("web")[0].result.conclusive


def test_no_verdict_is_no_result(watched: Watched) -> None:
    """A check may say that it does not know yet: that is neither a pass nor a failure."""
    runs: list[float] = []

    def act(target: Target) -> Outcome | None:
        runs.append(target.watched_since)
        return None

    watched.watch(web=Scripted(act=act))
    eventually(lambda: len(runs) >= 3)
    assert watched.heard("web") == []
    assert len(set(runs)) == 1


def test_a_service_that_is_down_is_checked_at_its_own_pace(watched: Watched) -> None:
    """`down_interval` takes the place of the interval as long as the service is down."""
    watched.watch(web=Scripted(act=well, down_interval=3600.0), api=Scripted(act=well))
    watched.runner.down(["web"])
    before, of_api = len(watched.heard("web")), len(watched.heard("api"))
    eventually(lambda: len(watched.heard("api")) >= of_api + 20)
    assert len(watched.heard("web")) <= before + 1, "the one that was under way"
    watched.runner.down([])
    watched.runner.prompt("web", Prompt.LOOK)
    eventually(lambda: len(watched.heard("web")) >= 5)


def test_only_what_may_matter_rings(watched: Watched) -> None:
    """A hundred services that are well must not wake the loop a hundred times a second. Results that agree with many
    before them wait for the next turn; one that disagrees with its past, or with the state, rings."""
    verdict = {"well": True}

    def act(target: Target) -> Outcome:
        return passed("well") if verdict["well"] else failed("ill")

    watched.watch(web=Scripted(act=act))
    eventually(lambda: len(watched.heard("web")) >= 10)
    watched.wake.wait(0)
    count = len(watched.heard("web"))
    eventually(lambda: len(watched.heard("web")) >= count + 5)
    assert not watched.wake.wait(0)
    verdict["well"] = False
    assert watched.wake.wait(5)
    eventually(lambda: len([one for one in watched.heard("web") if not one.result.passed]) >= 10)
    watched.runner.down(["web"])
    watched.wake.wait(0)
    verdict["well"] = True
    eventually(lambda: watched.heard("web")[-1].result.passed)
    for _ in range(5):
        assert watched.wake.wait(5), "as long as the state disagrees, every result rings"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_a_check_has_ended_is_started_anew(watched: Watched) -> None:
    """A check kind may do what it likes, and exit its thread: the service is checked again at the loop's next look."""
    runs: list[float] = []

    def leave_once(target: Target) -> Outcome:
        runs.append(target.now)
        if len(runs) == 1:
            raise SystemExit
        return passed("back")

    watched.watch(web=Scripted(act=leave_once))
    eventually(lambda: runs and threads("web") == 0)
    assert watched.heard("web") == []
    watched.runner.hanging(time.monotonic())
    eventually(lambda: len(watched.heard("web")) >= 2)
    assert threads("web") == 1
