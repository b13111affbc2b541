"""Connections that are still there: tables as the kernel prints them, and real ones on loopback."""

import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from nerve.connections import established, established_each
from smartstack.errors import SmartStackError
from tests.support.eventually import eventually

HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
STATES = {
    "ESTABLISHED": 1,
    "SYN_SENT": 2,
    "SYN_RECV": 3,
    "FIN_WAIT1": 4,
    "FIN_WAIT2": 5,
    "TIME_WAIT": 6,
    "CLOSE": 7,
    "CLOSE_WAIT": 8,
    "LAST_ACK": 9,
    "LISTEN": 10,
    "CLOSING": 11,
}


def words(packed: bytes) -> str:
    """An address as the kernel's `%08X` prints its words."""
    return "".join(f"{word:08X}" for word in struct.unpack(f"={len(packed) // 4}I", packed))


def end(address: str, port: int) -> str:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return f"{words(socket.inet_pton(family, address))}:{port:04X}"


def line(local: tuple[str, int], remote: tuple[str, int], state: str = "ESTABLISHED", unsent: int = 0) -> str:
    """A line as tcp4_seq_show and tcp6_seq_show write it."""
    return (
        f"   0: {end(*local)} {end(*remote)} {STATES[state]:02X} {unsent:08X}:00000000 00:00000000 00000000"
        "  1000        0 123456 1 0000000000000000 20 4 30 10 -1\n"
    )


HERE, CLIENT = ("10.0.0.5", 8080), ("10.0.0.9", 40000)
V6, V6_CLIENT = ("2001:db8::5", 8080), ("2001:db8::9", 40000)
MAPPED, MAPPED_CLIENT = ("::ffff:10.0.0.5", 8080), ("::ffff:10.0.0.9", 40000)
NOBODY, NOBODY_6 = ("0.0.0.0", 0), ("::", 0)


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    for name in ("tcp", "tcp6"):
        (tmp_path / name).write_text(HEADER)
    return tmp_path


def fill(proc: Path, *lines: str) -> str:
    """Put the lines in the table of their family."""
    for text in lines:
        with (proc / ("tcp6" if len(text.split(":")[1]) > 20 else "tcp")).open("a") as file:
            file.write(text)
    return str(proc)


def test_lines_of_a_real_kernel(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copied from Linux on x86: a connection by IPv4 and one by IPv6 to port 8080, a listener, one end of a client."""
    monkeypatch.setattr(sys, "byteorder", "little")
    (proc / "tcp").write_text(
        HEADER + "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1590 1 "
        "000000007d6234e5 100 0 0 10 0                      \n"
        "   1: 0100007F:1F90 0100007F:D2A6 01 00000000:00000000 00:00000000 00000000     0        0 1592 1 "
        "0000000000000000 20 4 30 10 -1                     \n"
        "   2: 0100007F:D2A6 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 1591 1 "
        "0000000000000000 20 4 30 10 -1                     \n"
    )
    (proc / "tcp6").write_text(
        HEADER + "   0: 00000000000000000000000001000000:1F90 00000000000000000000000001000000:A5B2 01 "
        "00000000:00000000 00:00000000 00000000     0        0 1612 1 0000000000000000 20 4 30 10 -1\n"
    )
    assert established(8080, proc=str(proc)) == 2
    assert established(8080, "::1", proc=str(proc)) == 1


def test_another_order_of_bytes(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel prints words as the machine has them: 127.0.0.1 is 0100007F on one and 7F000001 on another."""
    text = line(("127.0.0.1", 8080), CLIENT).replace(words(socket.inet_aton("127.0.0.1")), "7F000001")
    (proc / "tcp").write_text(HEADER + text + line(("127.0.0.2", 8080), NOBODY, "LISTEN"))
    monkeypatch.setattr(sys, "byteorder", "big")
    assert established(8080, "127.0.0.1", proc=str(proc)) == 1


@pytest.mark.parametrize(
    ("lines", "count"),
    [
        pytest.param([], 0, id="none"),
        pytest.param([line(HERE, CLIENT)], 1, id="one by IPv4"),
        pytest.param([line(V6, V6_CLIENT)], 1, id="one by IPv6"),
        pytest.param([line(MAPPED, MAPPED_CLIENT)], 1, id="one by IPv4 to a socket of both families"),
        pytest.param([line(HERE, CLIENT), line(HERE, ("10.0.0.9", 40001)), line(V6, V6_CLIENT)], 3, id="of all kinds"),
        pytest.param([line(HERE, CLIENT), line(HERE, CLIENT)], 1, id="a line that was read twice is one"),
        pytest.param([line(CLIENT, HERE)], 0, id="the other end of a connection is not another one"),
        pytest.param([line(("10.0.0.5", 8081), CLIENT)], 0, id="another port"),
        pytest.param([line(("10.0.0.5", 0x1F91), ("10.0.0.9", 0x1F90))], 0, id="our port at the other end"),
        pytest.param([line(HERE, NOBODY, "LISTEN")], 0, id="who listens is not connected"),
        pytest.param([line(HERE, CLIENT, "SYN_RECV")], 0, id="not open yet"),
        pytest.param([line(HERE, CLIENT, "TIME_WAIT")], 0, id="over, and only remembered"),
        pytest.param([line(HERE, CLIENT, "FIN_WAIT1", unsent=5000)], 0, id="closed here: the kernel sends the rest"),
        pytest.param([line(HERE, CLIENT, "FIN_WAIT2")], 0, id="closed here, not yet there"),
        pytest.param([line(HERE, CLIENT, "LAST_ACK", unsent=1)], 0, id="closed on both sides"),
        pytest.param([line(HERE, CLIENT, "CLOSE_WAIT")], 0, id="the client is gone and the service forgot it"),
        pytest.param([line(HERE, CLIENT, "CLOSE_WAIT", unsent=1)], 1, id="the client still takes its answer"),
        pytest.param([line(HERE, CLIENT, "ESTABLISHED", unsent=9)], 1, id="data on the way"),
        pytest.param(["nonsense:1F90 \n", ":1F90 \n", line(HERE, CLIENT)[:40]], 0, id="lines of another form"),
    ],
)
def test_what_counts(lines: list[str], count: int, proc: Path) -> None:
    """Each line whose local end is the port, if somebody may still be waiting for something there."""
    assert established(8080, proc=fill(proc, *lines)) == count


@pytest.mark.parametrize("port", [1, 80, 443, 4095, 4096, 65_535])
def test_ports_have_four_digits(port: int, proc: Path) -> None:
    """The kernel pads: port 80 is 0050. Who looked for 50 waited for nobody below port 4096."""
    place = fill(proc, line(("10.0.0.5", port), CLIENT), line(("2001:db8::5", port), V6_CLIENT))
    assert established(port, proc=place) == 2


def test_several_ports_with_one_look(proc: Path) -> None:
    """Each port has its own connections and listeners, in the order of the question, and may be asked for twice."""
    place = fill(
        proc,
        line(("0.0.0.0", 8080), NOBODY, "LISTEN"),
        line(("10.0.0.5", 80), NOBODY, "LISTEN"),
        line(HERE, CLIENT),
        line(V6, V6_CLIENT),
        line(("10.0.0.5", 80), CLIENT),
        line(("127.0.0.1", 80), ("127.0.0.1", 40000)),
    )
    asked = [(80, "10.0.0.5"), (8080, "10.0.0.5"), (81, None), (80, None)]
    assert established_each(asked, place) == (1, 2, 0, 2)
    assert established_each([], place) == ()


LOOPBACK, LOOPBACK_CLIENT = ("127.0.0.1", 8080), ("127.0.0.1", 40000)


@pytest.mark.parametrize(
    ("address", "lines", "count"),
    [
        pytest.param("10.0.0.5", [line(HERE, NOBODY, "LISTEN")], 1, id="its address only"),
        pytest.param("127.0.0.1", [line(LOOPBACK, NOBODY, "LISTEN")], 1, id="the other address only"),
        pytest.param("10.0.0.6", [line(("10.0.0.6", 8080), NOBODY, "LISTEN")], 0, id="none of them"),
        pytest.param("10.0.0.5", [line(("0.0.0.0", 8080), NOBODY, "LISTEN")], 2, id="one listener on all addresses"),
        pytest.param("10.0.0.5", [line(("::", 8080), NOBODY_6, "LISTEN")], 2, id="the same, of both families"),
        pytest.param("10.0.0.5", [], 2, id="the listener is closed: it may have been on all addresses"),
        pytest.param("0.0.0.0", [line(HERE, NOBODY, "LISTEN")], 2, id="all addresses, said by the caller"),
        pytest.param("::", [line(HERE, NOBODY, "LISTEN")], 2, id="the same in IPv6"),
        pytest.param("::ffff:10.0.0.5", [line(HERE, NOBODY, "LISTEN")], 1, id="an IPv4 address written as IPv6"),
        pytest.param("10.0.0.5", [line(MAPPED, NOBODY_6, "LISTEN")], 1, id="a socket of both families on one address"),
    ],
)
def test_to_which_address(address: str, lines: list[str], count: int, proc: Path) -> None:
    """Of one connection to 10.0.0.5 and one to loopback, those that may belong to who listens at this address."""
    place = fill(proc, line(HERE, CLIENT), line(LOOPBACK, LOOPBACK_CLIENT), *lines)
    assert established(8080, address, proc=place) == count


@pytest.mark.parametrize(
    "connection",
    [
        pytest.param((HERE, CLIENT), id="IPv4"),
        pytest.param((V6, V6_CLIENT), id="IPv6"),
        pytest.param((MAPPED, MAPPED_CLIENT), id="IPv4 to a socket of both families"),
        pytest.param((("fe80::5", 8080), ("fe80::9", 40000)), id="link-local"),
    ],
)
def test_some_remote_ends_are_ours(connection: tuple[tuple[str, int], tuple[str, int]], proc: Path) -> None:
    """A remote end in `ignore` is not counted, however its address is written; its port alone does not matter."""
    local, remote = connection
    place = fill(proc, line(local, remote), line(local, (remote[0], 40001)))
    plain = remote[0].removeprefix("::ffff:")
    zone = f"{plain}%eth0" if plain.startswith("fe80") else plain
    assert established(8080, proc=place, ignore=[(zone, 40000)]) == 1
    assert established(8080, proc=place, ignore=[("10.9.9.9", 40000)]) == 2


def test_a_kernel_without_ipv6(proc: Path) -> None:
    """Its table is not there, and that is all."""
    (proc / "tcp6").unlink()
    assert established(8080, proc=fill(proc, line(HERE, CLIENT))) == 1


@pytest.mark.parametrize("name", ["tcp", "tcp6"])
def test_a_table_that_cannot_be_read_is_not_empty(name: str, proc: Path) -> None:
    """Not known is not 0: who waits until it is safe to stop must not be told that it is."""
    (proc / name).unlink()
    (proc / name).mkdir()
    with pytest.raises(SmartStackError, match=f"^cannot count the connections to port 8080: {proc}/{name}: is a dir"):
        established(8080, proc=str(proc))


def test_no_proc_at_all(tmp_path: Path) -> None:
    """A /proc that is not mounted is said."""
    with pytest.raises(SmartStackError, match="tcp: no such file or directory"):
        established(8080, proc=str(tmp_path))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


REAL = [
    pytest.param(socket.AF_INET, "127.0.0.1", socket.AF_INET, "127.0.0.1", id="IPv4"),
    pytest.param(socket.AF_INET6, "::1", socket.AF_INET6, "::1", id="IPv6"),
    pytest.param(socket.AF_INET6, "::ffff:127.0.0.1", socket.AF_INET, "127.0.0.1", id="IPv4 to both families"),
]


class Pair:
    """A listener on loopback and connections to it; `served` are its ends, of which the first two were accepted."""

    def __init__(self, stack: ExitStack, family: int, bind: str, client_family: int, connect: str) -> None:
        self.stack = stack
        self.listener = stack.enter_context(socket.socket(family))
        if family == socket.AF_INET6:
            self.listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(client_family == family))
        self.listener.bind((bind, 0))
        self.listener.listen()
        self.port: int = self.listener.getsockname()[1]
        self.clients = [stack.enter_context(socket.socket(client_family)) for _ in range(3)]
        for client in self.clients:
            client.connect((connect, self.port))
        self.served = [stack.enter_context(self.listener.accept()[0]) for _ in range(2)]

    def becomes(self, count: int, **more: object) -> None:
        eventually(lambda: established(self.port, **more) == count)  # type: ignore[arg-type]


@pytest.mark.parametrize(("family", "bind", "client_family", "connect"), REAL)
def test_real_connections(family: int, bind: str, client_family: int, connect: str, stack: ExitStack) -> None:
    """Three connections, one of which was not accepted yet; then the tether is left out; then they close one by one,
    first by the service, then by the client, and the descriptor that the service forgets does not count."""
    pair = Pair(stack, family, bind, client_family, connect)
    pair.becomes(3)
    pair.becomes(3, address=connect)
    tether = pair.clients[0].getsockname()
    pair.becomes(2, ignore=[tether[:2]])
    by_port = {client.getsockname()[1]: client for client in pair.clients}
    closed = by_port.pop(pair.served[0].getpeername()[1])
    pair.served[0].close()
    closed.close()
    pair.becomes(2)
    by_port.pop(pair.served[1].getpeername()[1]).close()
    pair.becomes(1)
    by_port.popitem()[1].close()
    pair.becomes(0)


def test_a_client_that_half_closed_still_waits_for_its_answer(stack: ExitStack) -> None:
    """It said that it sends no more, and does not read yet: as long as the answer is on the way, it counts."""
    pair = Pair(stack, socket.AF_INET, "127.0.0.1", socket.AF_INET, "127.0.0.1")
    served = pair.served[0]
    client = next(one for one in pair.clients if one.getsockname() == served.getpeername())
    client.shutdown(socket.SHUT_WR)
    pair.becomes(2)
    served.setblocking(False)
    sent = 0
    try:
        while True:
            sent += served.send(b"x" * 65_536)
    except BlockingIOError:
        pass
    pair.becomes(3)
    client.settimeout(5)
    while sent:
        sent -= len(client.recv(min(sent, 1_048_576)))
    pair.becomes(2)
