"""The last guard before HAProxy's socket: exact commands, nothing hostile, lines that are short enough."""

from collections.abc import Callable, Sequence

import pytest

from synapse.haproxy.commands import LINE_LIMIT, batches, command
from synapse.plan import Action, Disable, Enable, SetAddress, SetWeight


def address(slot: str = "s1", host: str = "10.0.0.1", port: int = 80, backend: str = "web") -> SetAddress:
    return SetAddress(backend=backend, slot=slot, host=host, port=port)


def weight(value: int = 1, slot: str = "s1", backend: str = "web") -> SetWeight:
    return SetWeight(backend=backend, slot=slot, host="10.0.0.1", port=80, weight=value)


def enable(slot: str = "s1", backend: str = "web") -> Enable:
    return Enable(backend=backend, slot=slot, host="10.0.0.1", port=80)


def disable(slot: str = "s1", backend: str = "web") -> Disable:
    return Disable(backend=backend, slot=slot, host="10.0.0.1", port=80)


@pytest.mark.parametrize(
    ("action", "text"),
    [
        (address(), "set server web/s1 addr 10.0.0.1 port 80"),
        (address(host="2001:db8::1", port=65_535), "set server web/s1 addr 2001:db8::1 port 65535"),
        (address(host="2001:0DB8::0001"), "set server web/s1 addr 2001:db8::1 port 80"),
        (weight(0), "set server web/s1 weight 0"),
        (weight(256), "set server web/s1 weight 256"),
        (enable(), "set server web/s1 state ready"),
        (disable(), "set server web/s1 state maint"),
        (disable(slot="s10", backend="Api.v2_a-b"), "set server Api.v2_a-b/s10 state maint"),
    ],
)
def test_the_command_of_an_action(action: Action, text: str) -> None:
    """One action is one command, with the address in its canonical form."""
    assert command(action) == text


HOSTILE = [
    "",
    ".web",
    "-web",
    "web s2",
    "web;disable frontend api",
    "web\n",
    "web\r",
    "web\0",
    "web\u2028",
    "web/s2",
    "web#",
    "web<<",
    "web\\",
    "$web",
    "wéb",
    "w" * 101,
]
MAKERS: Sequence[Callable[..., Action]] = (address, weight, enable, disable)


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("make", MAKERS)
def test_a_hostile_name_is_a_defect(name: str, make: Callable[..., Action]) -> None:
    """Neither a backend nor a slot whose name could end the command reaches the socket."""
    for action in (make(backend=name), make(slot=name)):
        with pytest.raises(ValueError, match="may not be sent to HAProxy"):
            command(action)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "web",
        "10.0.0.1;",
        "10.0.0.1 port 1",
        "10.0.0.1\n",
        "10.0.0",
        "010.0.0.1",
        "10.0.0.1/8",
        "/run/x",
        "[::1]",
        "*",
    ],
)
def test_a_hostile_host_is_a_defect(host: str) -> None:
    """Only an IP address reaches the socket: no name, no path, no second word."""
    with pytest.raises(ValueError, match="IP"):
        command(address(host=host))


@pytest.mark.parametrize("host", ["fe80::1%eth0", "fe80::1%eth0;disable frontend api", "fe80::1%\n", "fe80::1% x"])
def test_an_address_with_a_zone_is_a_defect(host: str) -> None:
    """What stands after the % of an IPv6 address is any text, so it does not pass."""
    with pytest.raises(ValueError, match="may not be sent to HAProxy"):
        command(address(host=host))


@pytest.mark.parametrize("port", [0, -1, 65_536, 99_999])
def test_a_port_out_of_range_is_a_defect(port: int) -> None:
    """HAProxy takes 99999 and makes 34463 of it."""
    with pytest.raises(ValueError, match=f"port {port} may not be sent"):
        command(address(port=port))


@pytest.mark.parametrize("value", [-1, 257])
def test_a_weight_out_of_range_is_a_defect(value: int) -> None:
    """Weights are 0 to 256."""
    with pytest.raises(ValueError, match=f"weight {value} may not be sent"):
        command(weight(value))


def test_nothing_to_do_is_no_batch() -> None:
    """No line is sent for no action."""
    assert list(batches([])) == []


def test_what_may_go_together_goes_together() -> None:
    """Independent commands share a line, also the enabling of one slot and the address of another."""
    actions: list[Action] = [
        disable("s1"),
        weight(slot="s2"),
        enable("s3"),
        address("s4"),
        weight(slot="s4"),
        enable("s4", "api"),
    ]
    assert list(batches(actions)) == [actions]


def test_a_slot_is_enabled_on_a_line_of_its_own_after_its_address() -> None:
    """HAProxy may apply an address a moment after it said so; the line that enables waits for it to show."""
    actions: list[Action] = [address("s1"), weight(slot="s1"), enable("s1"), disable("s2")]
    assert list(batches(actions)) == [actions[:2], actions[2:]]


def test_many_slots_take_two_lines() -> None:
    """Addresses first come on as few lines as their order allows."""
    actions: list[Action] = []
    for slot in ("s1", "s2", "s3"):
        actions += [address(slot), enable(slot)]
    assert [len(run) for run in batches(actions)] == [1, 2, 2, 1]


def test_a_slot_that_was_enabled_before_moves_on_the_same_line() -> None:
    """Only an Enable that comes after the SetAddress of its slot has to wait."""
    actions: list[Action] = [enable("s1"), disable("s1"), address("s1"), enable("s2")]
    assert list(batches(actions)) == [actions]


def test_lines_are_short_enough() -> None:
    """A line is at most 8000 bytes, because HAProxy hangs above 16 KB, and it is nearly full before it is cut."""
    actions = [weight(slot=f"s{number}", backend="b" * 100) for number in range(1000)]
    runs = list(batches(actions))
    lines = [";".join(map(command, run)) for run in runs]
    assert [action for run in runs for action in run] == actions
    assert max(map(len, lines)) <= LINE_LIMIT
    assert min(map(len, lines[:-1])) > LINE_LIMIT - 150
    assert LINE_LIMIT < 16_384 / 2
