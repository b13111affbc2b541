"""`nerve status` for people: the lines that are made of an answer of /status."""

from typing import Any

import pytest

from nerve.cli import status_lines

CONNECTED = {"connected": True, "detail": "connected to ZooKeeper at 10.0.0.9:2181", "session": "0x1a2b"}


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        pytest.param(
            {"registry": CONNECTED},
            "registry  connected: connected to ZooKeeper at 10.0.0.9:2181 (session 0x1a2b)",
            id="connected",
        ),
        pytest.param(
            {"registry": CONNECTED, "registry_error": "no answer for 3 s"},
            "registry  AWAY: no answer for 3 s (session 0x1a2b)",
            id="away, while the session may last",
        ),
        pytest.param(
            {"registry": {"connected": True, "detail": "the directory /r", "session": None}},
            "registry  connected: the directory /r",
            id="a registry without sessions",
        ),
    ],
)
def test_the_registry_is_told_with_its_session(answer: dict[str, Any], line: str) -> None:
    """Whether a session expired is seen by its name."""
    assert status_lines(answer, 0.0)[0] == line
