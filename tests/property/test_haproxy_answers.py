"""Whatever comes out of a socket is a value."""

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from synapse.haproxy.answers import (
    alerts,
    parse_info,
    parse_processes,
    parse_servers,
    split_replies,
    succeeded,
)

WORDS = [
    "Pid: ", "description: ", "Stopping: ", "# ", "# old workers\n", "be_name srv_name srv_addr srv_op_state ",
    "srv_admin_state srv_uweight srv_port\n", "web s1 10.0.0.1 2 0 100 80\n", "12 master ", "12 worker ", "[failed: ",
    "]", "[ALERT]", "IP changed from '", "' to '", "nothing changed", "²", "٣", "-1", "\n", "\n\n", " ", "\0", "\u2028",
]  # fmt: skip
texts = st.text(max_size=80) | st.lists(st.sampled_from(WORDS) | st.text(max_size=3), max_size=12).map("".join)


@given(texts)
def test_any_text_is_an_answer_or_none(text: str) -> None:
    """No text makes a parser raise, and what is taken from it is in range."""
    info = parse_info(text)
    assert info is None or info.pid >= 0
    processes = parse_processes(text)
    assert processes is None or processes.master > 0
    for slots in parse_servers(text).values():
        assert slots
        assert all(slot.port >= 0 and slot.weight >= 0 and slot.name for slot in slots)
    for reply in split_replies(text):
        assert not succeeded(reply) or reply == "" or "chang" in reply
    assert set(alerts(text)) <= {*text, "\n"}


@given(st.lists(st.sampled_from(["", "No such server.", "two\nlines"]), max_size=20))
def test_replies_are_told_apart(replies: list[str]) -> None:
    """As many replies come out as HAProxy wrote, each as it was written."""
    assert split_replies("".join(f"{reply}\n\n" if reply else "\n" for reply in replies)) == replies


@given(st.ip_addresses(v=6), st.booleans())
def test_an_address_is_read_as_it_was_written(address: ipaddress.IPv6Address, dotted: bool) -> None:
    """However HAProxy writes an IPv6 address, it is the same host as the instance's."""
    tail = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    shown = f"{address.exploded.rsplit(':', 2)[0]}:{tail}" if dotted else str(address)
    header = "# be_name srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_port\n"
    [slot] = parse_servers(f"{header}web s1 {shown} 2 0 100 80\n")["web"]
    assert slot.host == str(address)
