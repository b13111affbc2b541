"""The renderer's edges: a site's own templates that are wrong, and the small things that templates print."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from smartstack.forms import Listen, TcpAddress, UnixSocket
from synapse.backend import milliseconds
from synapse.frontend import bind
from synapse.proxy import Service, Target
from synapse.render import Renderer, TemplateError, seat, slot_names
from synapse.settings import HAProxySettings
from tests.support.definitions import proxy

WEB = Service(name="web", proxy=proxy(), targets=(), slots=4)


def renderer(templates: Path | None = None, maxconn: int = 2000) -> Renderer:
    settings = HAProxySettings(templates=None if templates is None else str(templates), maxconn=maxconn)
    return Renderer(settings, "/run/haproxy.sock", (2, 6))


WRONG: Mapping[str, tuple[bytes, str]] = {
    "syntax": (b"one\ntwo {% if %}\n", "service.cfg.j2:2: Expected an expression, got 'end of statement block'"),
    "a name that is not given": (b"{{ nothing }}", "cannot render service.cfg.j2: 'nothing' is undefined"),
    "a field that a definition has not": (b"{{ proxy.nothing }}", "has no attribute 'nothing'"),
    "another template that is not there": (
        b"{% include 'none.j2' %}",
        "cannot render service.cfg.j2: 'none.j2' not found",
    ),
    "text and number": (b"{{ proxy.retries + 'x' }}", "cannot render service.cfg.j2: TypeError: "),
    "a division by nothing": (b"{{ 1 / 0 }}", "cannot render service.cfg.j2: ZeroDivisionError: "),
    "no number": (b"{{ name | milliseconds }}", "cannot render service.cfg.j2: TypeError: "),
    "not UTF-8": (b"\xff\xfe", "cannot render service.cfg.j2: UnicodeDecodeError: "),
    "itself": (b"{% include 'service.cfg.j2' %}", "cannot render service.cfg.j2: RecursionError: "),
}


@pytest.mark.parametrize(("template", "words"), WRONG.values(), ids=WRONG)
def test_a_template_that_is_wrong_is_an_error_that_names_it(tmp_path: Path, template: bytes, words: str) -> None:
    """Whatever a site's template does wrong is a TemplateError in one line, never another exception."""
    (tmp_path / "service.cfg.j2").write_bytes(template)
    with pytest.raises(TemplateError) as raised:
        renderer(tmp_path).digest(WEB)
    assert words in str(raised.value)


def test_a_directory_of_templates_that_is_not_there() -> None:
    """It is said at once, with the key of the file that names it."""
    with pytest.raises(TemplateError, match=r"there is no directory /nowhere \(haproxy.templates in synapse.yaml\)"):
        renderer(Path("/nowhere"))


def test_an_empty_directory_of_templates_changes_nothing(tmp_path: Path) -> None:
    """Only the files that are there override the package's."""
    assert renderer(tmp_path).digest(WEB) == renderer().digest(WEB)
    assert renderer(tmp_path).global_part("x") == renderer().global_part("x")


def test_the_description_is_of_everything_that_a_reload_changes() -> None:
    """Another host setting, another service or another definition is another description; the order is not."""
    descriptions = {
        renderer().structure({}).description,
        renderer(maxconn=4000).structure({}).description,
        renderer().structure({"web": "1"}).description,
        renderer().structure({"api": "1"}).description,
        renderer().structure({"web": "2"}).description,
        renderer().structure({"web": "1", "api": "2"}).description,
        renderer().structure({"web": "2", "api": "1"}).description,
    }
    assert len(descriptions) == 7
    one, other = {"web": "1", "api": "2"}, {"api": "2", "web": "1"}
    assert renderer().structure(one) == renderer().structure(other)


def test_a_description_is_one_plain_word() -> None:
    """It stands in the file and comes back in `show info` as it is."""
    assert renderer().structure({}).description.replace("-", "").isalnum()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1.0, "1000ms"), (0.001, "1ms"), (0.25, "250ms"), (480 * 3600.0, "1728000000ms"), (1.1, "1100ms")],
)
def test_a_duration_as_haproxy_writes_it(seconds: float, text: str) -> None:
    """Whole milliseconds, always with the unit; the largest is within HAProxy's 31 bits."""
    assert milliseconds(seconds) == text


@pytest.mark.parametrize(
    ("listen", "text"),
    [
        (TcpAddress("127.0.0.1", 3210), "127.0.0.1:3210"),
        (TcpAddress("::", 3210), "[::]:3210"),
        (UnixSocket("/run/web.sock"), "unix@/run/web.sock mode 666"),
    ],
)
def test_an_address_as_haproxy_writes_it(listen: Listen, text: str) -> None:
    """IPv6 in brackets, unix sockets by their kind, for everybody who may enter their directory."""
    assert bind(listen) == text


def test_slots_are_called_by_number() -> None:
    """The name never says who is behind it."""
    one = Service(name="web", proxy=proxy(), targets=(), slots=3)
    assert list(slot_names(one)) == ["s1", "s2", "s3"]
    assert list(slot_names(replace(one, slots=1, backups=2))) == ["s1", "b1", "b2"]


def target(port: int, weight: int = 100) -> Target:
    return Target(host="10.0.0.1", port=port, weight=weight)


SEATS: Mapping[str, tuple[list[Target], dict[str, Target], dict[str, int]]] = {
    "nobody": ([], {}, {}),
    "all are new": ([target(1), target(2)], {}, {"s1": 1, "s2": 2}),
    "who sits, stays": ([target(1), target(2)], {"s2": target(1)}, {"s1": 2, "s2": 1}),
    "who left, leaves the seat to others": ([target(2)], {"s1": target(1)}, {"s1": 2}),
    "who sits twice, stays in the first": ([target(1)], {"s1": target(1), "s3": target(1)}, {"s1": 1}),
    "a seat that there is no more": ([target(1)], {"s9": target(1)}, {"s1": 1}),
    "another weight is the same seat": ([target(1, 7)], {"s3": target(1)}, {"s3": 1}),
    "no seat to spare": (
        [target(1), target(2), target(3), target(4)],
        {"s4": target(1)},
        {"s1": 2, "s2": 3, "s3": 4, "s4": 1},
    ),
}


@pytest.mark.parametrize(("targets", "seated", "seats"), SEATS.values(), ids=SEATS)
def test_seats(targets: list[Target], seated: dict[str, Target], seats: dict[str, int]) -> None:
    """Each target has one seat, its own where it has one, with its weight of now."""
    found = seat(Service(name="web", proxy=proxy(), targets=tuple(targets), slots=4), seated)
    assert {name: each.port for name, each in found.items()} == seats
    assert sorted(found.values()) == sorted(targets)
