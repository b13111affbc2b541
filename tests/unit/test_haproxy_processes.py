"""Whoever has no descriptor left to look with says nothing of processes, which is not that there are none."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from synapse.haproxy import proc
from synapse.haproxy.errors import HAProxyAway
from synapse.telemetry.callers import holders


@pytest.fixture
def no_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is opened from now on is one too many."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "listdir", refuse)
    monkeypatch.setattr(Path, "read_text", refuse)


LOOKS: dict[str, Callable[[], object]] = {
    "all": lambda: proc.processes_with("a file"),
    "one": lambda: proc.runs_with(os.getpid(), "a file"),
    "who leads": lambda: proc.leader_with("a file"),
    "who serves": lambda: proc.serving_with("a file"),
}


@pytest.mark.usefixtures("no_descriptors")
@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_who_cannot_look_does_not_say_that_nobody_is_there(look: Callable[[], object]) -> None:
    """Or synapse would start a second HAProxy beside the one that it cannot see."""
    with pytest.raises(HAProxyAway, match="too many open files"):
        look()


def test_a_process_that_is_gone_is_not_there() -> None:
    """Which is what every other mistake means."""
    assert not proc.runs_with(2**22 + 1, "a file")


@pytest.mark.usefixtures("no_descriptors")
def test_who_calls_stays_unknown() -> None:
    """And the thread that looks for it lives on."""
    assert list(holders({1})) == []
