"""The admin address where there is no descriptor left: patient, and brief."""

import errno
from collections.abc import Callable

import pytest

from smartstack.http_accept import PAUSE_SECONDS, PatientAccept
from smartstack.logs import configure

EMFILE = OSError(errno.EMFILE, "Too many open files")


def accepting(*answers: object) -> Callable[[], object]:
    """An `accept` that gives these, or raises them."""
    left = list(answers)

    def accept() -> object:
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return accept


def test_who_has_no_descriptor_waits_and_says_so_once(capsys: pytest.CaptureFixture[str]) -> None:
    """One line for each time of need, and a pause after each attempt; then connections are taken as before."""
    configure("info", "text")
    pauses: list[float] = []
    accept = PatientAccept(accepting(EMFILE, EMFILE, None, EMFILE, "connection", EMFILE, "another"), pauses.append)
    assert [accept() for _ in range(7)] == [None, None, None, None, "connection", None, "another"]
    assert pauses == [PAUSE_SECONDS] * 4
    assert capsys.readouterr().err.count("takes nobody for now") == 2


def test_any_other_error_of_accept_is_the_servers() -> None:
    """What is not a lack is for the server to log."""
    error = OSError(errno.EPROTO, "Protocol error")
    pauses: list[float] = []
    with pytest.raises(OSError, match="Protocol error"):
        PatientAccept(accepting(error), pauses.append)()
    assert not pauses
