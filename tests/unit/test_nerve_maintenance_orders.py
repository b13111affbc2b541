"""Orders to drain and to undrain: bodies of requests, and what they mean or what is wrong with them."""

from typing import Any

import pytest

from nerve.maintenance import EVERYTHING
from nerve.maintenance_orders import DrainOrder, UndrainOrder, drain, parse_drain, parse_undrain, undrain
from smartstack.maintenance import Maintenances, begin

SERVICES = ("api", "web", "web.admin")
NOW = 1000.0
WHY = {"reason": "deploy 123"}


def order(*scopes: str, reason: str = "deploy 123", owner: str = "", until: float | None = None) -> DrainOrder:
    return DrainOrder(scopes=scopes, reason=reason, owner=owner, until=until)


@pytest.mark.parametrize(
    ("body", "parsed"),
    [
        pytest.param({"services": ["web"], **WHY}, order("web"), id="one service"),
        pytest.param({"services": ["web", "api", "web"], **WHY}, order("web", "api"), id="several, one of them twice"),
        pytest.param({"services": ["web.admin"], **WHY}, order("web.admin"), id="a port of a service"),
        pytest.param({"all": True, **WHY}, order(EVERYTHING), id="everything"),
        pytest.param({"all": True, "services": None, **WHY}, order(EVERYTHING), id="everything, and null services"),
        pytest.param({"all": False, "services": ["web"], **WHY}, order("web"), id="not everything"),
        pytest.param(
            {"services": ["web"], "reason": " new\ndisk ", "owner": "al\tice"},
            order("web", reason="new disk", owner="al ice"),
            id="as it was typed",
        ),
        pytest.param(
            {"services": ["web"], "reason": "x" * 300, "owner": "y" * 300},
            order("web", reason="x" * 199 + "…", owner="y" * 79 + "…"),
            id="too long is cut",
        ),
        pytest.param({"services": ["web"], **WHY, "for_seconds": 1}, order("web", until=1001.0), id="for a second"),
        pytest.param({"services": ["web"], **WHY, "for_seconds": 1.5}, order("web", until=1001.5), id="and a half"),
        pytest.param(
            {"services": ["web"], **WHY, "for_seconds": 2_592_000}, order("web", until=2_593_000.0), id="for 30 days"
        ),
        pytest.param(
            {"services": ["web"], **WHY, "for_seconds": None, "owner": None}, order("web"), id="null is left out"
        ),
        pytest.param({}, 'services must be a list of names; for all of them say "all": true', id="nothing"),
        pytest.param({**WHY}, 'services must be a list of names; for all of them say "all": true', id="no services"),
        pytest.param(
            {"services": [], **WHY}, 'services must be a list of names; for all of them say "all": true', id="none"
        ),
        pytest.param(
            {"services": "web", **WHY}, 'services must be a list of names; for all of them say "all": true', id="a text"
        ),
        pytest.param(
            {"services": [1], **WHY}, 'services must be a list of names; for all of them say "all": true', id="numbers"
        ),
        pytest.param({"all": 1, **WHY}, "all must be true or false", id="all is 1"),
        pytest.param({"all": True, "services": ["web"], **WHY}, "give services or all, not both", id="both"),
        pytest.param({"services": ["web"]}, "reason is missing; say why in a few words, for whoever finds it drained"),
        pytest.param(
            {"services": ["web"], "reason": " \n"},
            "reason is missing; say why in a few words, for whoever finds it drained",
            id="an empty reason",
        ),
        pytest.param(
            {"services": ["web"], "reason": 5},
            "reason is missing; say why in a few words, for whoever finds it drained",
            id="a reason that is a number",
        ),
        pytest.param({"services": ["web"], **WHY, "owner": 5}, "owner must be a text", id="an owner that is a number"),
        pytest.param({"services": ["web"], **WHY, "for_seconds": "30m"}, "for_seconds must be a number", id="a unit"),
        pytest.param({"services": ["web"], **WHY, "for_seconds": True}, "for_seconds must be a number", id="true"),
        pytest.param(
            {"services": ["web"], **WHY, "for_seconds": 0},
            "for_seconds must be from 1 to 2592000, which is 30 days",
            id="for no time",
        ),
        pytest.param(
            {"services": ["web"], **WHY, "for_seconds": 2_592_001},
            "for_seconds must be from 1 to 2592000, which is 30 days",
            id="for too long",
        ),
        pytest.param(
            {"services": ["web"], **WHY, "for_seconds": float("nan")},
            "for_seconds must be from 1 to 2592000, which is 30 days",
            id="for no number",
        ),
        pytest.param(
            {"services": ["web"], **WHY, "for_second": 60},
            "unknown key 'for_second'; did you mean 'for_seconds'?",
            id="a misspelt key",
        ),
        pytest.param(
            {"services": ["web"], **WHY, "x\n": 60},
            r"unknown key 'x\n'; known are services, all, reason, owner, for_seconds",
            id="a strange key",
        ),
    ],
)
def test_an_order_to_drain(body: dict[str, Any], parsed: DrainOrder | str) -> None:
    """A body is an order, or a sentence that says what to write instead."""
    expected = f"cannot drain: {parsed}" if isinstance(parsed, str) else parsed
    assert parse_drain(body, SERVICES, NOW) == expected


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        pytest.param("wbe", "'wbe': no such service is announced here; did you mean 'web'?", id="misspelt"),
        pytest.param("elsewhere", "'elsewhere': no such service is announced here", id="nothing like it"),
        pytest.param("*", "'*': no such service is announced here", id="everything has a key of its own"),
        pytest.param("a\nb", r"'a\nb': no such service is announced here", id="no name at all"),
    ],
)
def test_who_is_not_announced_here_cannot_be_drained(name: str, sentence: str) -> None:
    """A misspelt name must not look drained; the sentence says what was probably meant."""
    assert parse_drain({"services": ["web", name], **WHY}, SERVICES, NOW) == f"cannot drain {sentence}"
    assert parse_undrain({"services": ["web", name]}, SERVICES, {}) == f"cannot undrain {sentence}"


DRAINS = begin({}, "gone", reason="old", owner="", now=0.0, until=None)


@pytest.mark.parametrize(
    ("body", "parsed"),
    [
        pytest.param({"services": ["web", "api"]}, UndrainOrder(scopes=("web", "api")), id="services"),
        pytest.param({"all": True}, UndrainOrder(scopes=("*",)), id="everything"),
        pytest.param({"services": ["gone"]}, UndrainOrder(scopes=("gone",)), id="drained, but not announced any more"),
        pytest.param(
            {"services": ["web"], "reason": "x"},
            "cannot undrain: unknown key 'reason'; known are services, all",
            id="a key of the other order",
        ),
    ],
)
def test_an_order_to_undrain(body: dict[str, Any], parsed: UndrainOrder | str) -> None:
    """It names the drains that end."""
    assert parse_undrain(body, SERVICES, DRAINS) == parsed


def test_orders_are_carried_out() -> None:
    """All scopes of an order change together, and nothing else."""
    drains: Maintenances = drain(DRAINS, order("web", "api", until=1060.0), NOW)
    assert {scope: (one.since, one.until) for scope, one in drains.items()} == {
        "gone": (0.0, None),
        "web": (NOW, 1060.0),
        "api": (NOW, 1060.0),
    }
    assert undrain(drains, UndrainOrder(scopes=("web", "api", "other"))) == DRAINS
