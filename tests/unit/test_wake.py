"""The doorbell: rings coalesce, none is lost, and a signal handler may ring."""

import os
import signal
import threading
import time

import pytest

from smartstack.wake import Wake


def test_nobody_rang() -> None:
    """Without a ring a wait ends when its time is over, and says so."""
    start = time.monotonic()
    assert not Wake().wait(0.05)
    assert time.monotonic() - start >= 0.05


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_no_time_to_wait_is_a_look(seconds: float) -> None:
    """A wait for no time, or less, asks whether somebody rang and returns at once."""
    wake = Wake()
    assert not wake.wait(seconds)
    wake.ring()
    assert wake.wait(seconds)


def test_many_rings_are_one() -> None:
    """However often it was rung before, one wait answers all of it."""
    wake = Wake()
    for _ in range(1_000):
        wake.ring()
    assert wake.wait(0)
    assert not wake.wait(0)


def test_a_ring_ends_a_wait() -> None:
    """Whoever waits is woken by a ring from another thread, long before the time is over."""
    wake = Wake()
    ringer = threading.Timer(0.02, wake.ring)
    ringer.start()
    start = time.monotonic()
    assert wake.wait(30)
    assert time.monotonic() - start < 10
    ringer.join()


def test_a_ring_after_a_wait_began_to_drain_is_answered_by_the_next() -> None:
    """With many ringing while one waits: after the last ring there is always a wait that answers it."""
    wake = Wake()
    rounds = 2_000
    last_seen = 0
    state = 0

    def ring_all() -> None:
        nonlocal state
        for number in range(1, rounds + 1):
            state = number
            wake.ring()

    ringer = threading.Thread(target=ring_all)
    ringer.start()
    while last_seen < rounds:
        assert wake.wait(5), f"the ring after {last_seen} was lost"
        last_seen = state
    ringer.join()


def test_a_signal_handler_may_ring_while_the_same_thread_waits() -> None:
    """A handler that interrupts `wait` rings without a deadlock, and the wait answers it."""
    wake = Wake()
    before = signal.signal(signal.SIGUSR1, lambda number, frame: wake.ring())
    sender = threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGUSR1))
    try:
        sender.start()
        assert wake.wait(30)
    finally:
        sender.join()
        signal.signal(signal.SIGUSR1, before)


def test_a_storm_of_signals_does_not_hang_the_loop() -> None:
    """Handlers that interrupt `ring` and `wait` at any place leave a bell that works."""
    wake = Wake()
    before = signal.signal(signal.SIGALRM, lambda number, frame: wake.ring())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        for _ in range(500):
            wake.ring()
            assert wake.wait(5)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    wake.wait(0)
    wake.ring()
    assert wake.wait(0)
