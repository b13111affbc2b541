"""A run of tests in the background of a script ignores Ctrl-C, and so would every command that a test interrupts: what
is ignored is inherited. A handler is not."""

import signal


def pytest_configure() -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
