"""Whatever arrives at the feed's address, reading it gives a value."""

from hypothesis import given
from hypothesis import strategies as st

from smartstack.traffic_forms import CALLER_NAME
from synapse.telemetry.line import LINE_LIMIT, Bad, parse
from synapse.telemetry.request import Request
from synapse.telemetry.source import of_cgroup, safe

KEY = "0123456789abcdef"
FIELDS = 26

fields = st.text(st.characters(max_codepoint=127, exclude_characters="\t\n"), max_size=20) | st.sampled_from(
    ["-", "-1", "0", "+1", "1e9", "nan", "inf", "٣", "1_0", "http", "tcp", "listener", "header", "<NOSRV>", "9" * 5000]
)


@given(st.binary(max_size=2 * LINE_LIMIT))
def test_any_bytes_are_a_value(datagram: bytes) -> None:
    """What does not begin with the magic and the key is never believed."""
    assert isinstance(parse(datagram, KEY), Bad)


@given(st.lists(fields, min_size=FIELDS - 3, max_size=FIELDS), st.binary(max_size=50))
def test_any_line_with_the_key_is_a_value(found: list[str], end: bytes) -> None:
    """Even who knows the key makes no crash: numbers stay in their range, a named caller keeps its alphabet."""
    told = parse("\t".join(["S1", KEY, *found]).encode() + end, KEY)
    if isinstance(told, Request):
        assert max(told.total_ms, told.status, told.sent_bytes, told.retries) <= 2**53
        assert min(told.total_ms, told.status) >= 0
        assert 0 < told.share <= 1
        assert told.source_kind == "host" or CALLER_NAME.fullmatch(told.source)


@given(
    st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=3000).map("/{}".format),
    st.integers(0, 2**40),
    st.integers(-1, 10**9),
)
def test_no_line_is_lost_to_a_long_path(path: str, size: int, response: int) -> None:
    """A line that HAProxy cut off says everything but the end of its path."""
    head = f"S1\t{KEY}\thttp\tweb\tweb\ts1\t10.0.0.5\t80\t200\t5\t{response}\t0\t0\t--\t0\t{size}\t1"
    whole = f"{head}\t127.0.0.1\t9\t127.0.0.1\t3210\t-\t-\t-\tGET\t{path}\n".encode()
    told = parse(whole[:LINE_LIMIT], KEY)
    assert isinstance(told, Request)
    assert told.sent_bytes == size
    assert told.response_ms == (None if response < 0 else response)
    assert path.startswith(told.path)
    assert told.path == path or len(told.path) > 800


@given(st.text())
def test_any_name_becomes_a_caller(text: str) -> None:
    """Of hosts, units, containers and processes: whatever they are called, the name passes everywhere."""
    assert CALLER_NAME.fullmatch(safe(text))
    named = of_cgroup(text)
    assert named is None or CALLER_NAME.fullmatch(named)
