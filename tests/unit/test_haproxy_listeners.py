"""Which addresses HAProxy could listen on: from the kernel's tables, and by trying."""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from smartstack.forms import Listen, TcpAddress, UnixSocket
from synapse.haproxy import listeners
from synapse.haproxy.sharing import shared
from synapse.haproxy.sockets import listening, listening_sockets, parse_table

TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:85A2 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 134476 1 00000000eab9d574 100 0 1 10 0
   1: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 134477 1 000000003f5c3d17 100 0 1 10 0
   2: 0500000A:0C8A 0600000A:D2F0 01 00000000:00000000 00:00000000 00000000     0        0 134478 1 00000000f3d82180 100 0 1 10 0
   3: 0100007F:85A2 0100007F:A29B 06 00000000:00000000 03:000010BA 00000000     0        0 0 3 0000000010df3ab9
"""  # noqa: E501 - as the kernel prints it
TCP6 = """\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000001000000:85A3 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 136588 1 000000003a19d048 100 0 1 10 0
   1: B80D0120000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 136589 1 000000003a19d048 100 0 1 10 0
   2: 0000000000000000FFFF00000100007F:AA29 0000000000000000FFFF00000100007F:E748 06 00000000:00000000 03:000010BA 00000000     0        0 0 3 0000000010df3ab9
"""  # noqa: E501 - as the kernel prints it

TABLES: Mapping[str, tuple[str, set[str], set[tuple[str, int]]]] = {
    "one of ours": (TCP, {"134476"}, {("127.0.0.1", 34210)}),
    "two of ours, one on every address": (TCP, {"134476", "134477"}, {("127.0.0.1", 34210), ("0.0.0.0", 22)}),
    "a connection is not a listener": (TCP, {"134478"}, set()),
    "inode 0 is nobody's": (TCP, {"0"}, set()),
    "none of ours": (TCP, {"1"}, set()),
    "no sockets": (TCP, set(), set()),
    "IPv6": (TCP6, {"136588", "136589"}, {("::1", 34211), ("2001:db8::1", 80)}),
    "an empty table": (TCP.splitlines()[0], {"134476"}, set()),
    "nothing": ("", {"134476"}, set()),
    "a line that was cut": (TCP[:150], {"134476"}, set()),
}


@pytest.mark.parametrize(("text", "inodes", "addresses"), TABLES.values(), ids=TABLES)
def test_the_kernels_table(text: str, inodes: set[str], addresses: set[tuple[str, int]]) -> None:
    """From /proc/net/tcp and tcp6: the listening sockets with these inodes, as addresses."""
    assert parse_table(text, inodes) == addresses


def listener(host: str = "127.0.0.1") -> socket.socket:
    """A socket of this process that listens on a free port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.bind((host, 0))
    made.listen(1)
    return made


def address(of: socket.socket) -> TcpAddress:
    host, port = of.getsockname()[:2]
    return TcpAddress(host, port)


def taken(addresses: Mapping[str, Listen], *arguments: Any, **more: Any) -> dict[str, str]:
    """Of services with one address each."""
    return listeners.taken({name: (address,) for name, address in addresses.items()}, *arguments, **more)


def free_address(host: str = "127.0.0.1") -> TcpAddress:
    with listener(host) as one:
        return address(one)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1"])
def test_a_listening_socket_is_found(host: str) -> None:
    """What this process really listens on is in the list, and gone from it when it is closed."""
    with listener(host) as one:
        where = address(one)
        assert (host, where.port) in listening([os.getpid()])
    assert (host, where.port) not in listening([os.getpid()])


def test_processes_that_are_gone_have_no_sockets() -> None:
    """A worker that ended in the meantime, or /proc that cannot be read, is no error."""
    assert listening([2**22 + 1]) == frozenset()
    assert listening([os.getpid()], Path("/nowhere")) == frozenset()


def test_a_free_address_is_not_taken() -> None:
    """Free ports, and 127.0.0.1 beside ::1 on the same port, are fine; trying them does not keep them."""
    one = free_address()
    addresses: dict[str, Listen] = {"web": one, "api": free_address(), "v6": TcpAddress("::1", one.port)}
    assert taken(addresses, []) == {}
    assert taken(addresses, []) == {}


def test_an_address_of_ours_is_not_taken() -> None:
    """What our own HAProxy listens on stays where it is over a reload."""
    with listener() as one:
        assert taken({"web": address(one)}, [os.getpid()]) == {}


@pytest.fixture
def stranger() -> Iterator[tuple[TcpAddress, int]]:
    """Where another process listens, and its process id; with SO_REUSEPORT, as a second HAProxy would."""
    code = (
        "import socket, sys\n"
        "one = socket.socket()\n"
        "one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)\n"
        "one.bind(('127.0.0.1', 0))\n"
        "one.listen(1)\n"
        "print(one.getsockname()[1], flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield TcpAddress("127.0.0.1", int(process.stdout.readline())), process.pid
        process.kill()


def test_an_address_of_another_process_is_taken(stranger: tuple[TcpAddress, int]) -> None:
    """Also when that one would share it: two HAProxy of one user share a port without a word. Who it is, is told."""
    where, pid = stranger
    assert taken({"web": where, "api": free_address()}, [os.getpid()]) == {
        "web": f"cannot listen on {where}: another process has it: {Path(sys.executable).name} (pid {pid})"
    }


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_every_address_of_a_port_that_another_process_has_is_taken(stranger: tuple[TcpAddress, int], host: str) -> None:
    """0.0.0.0 includes 127.0.0.1, and so does [::] as HAProxy binds it."""
    everywhere, pid = TcpAddress(host, stranger[0].port), stranger[1]
    why = taken({"web": everywhere}, [])["web"]
    assert why.startswith(f"cannot listen on {everywhere}: another process has it: ")
    assert why.endswith(f"(pid {pid})")


def test_an_address_of_ours_is_not_tried(tmp_path: Path) -> None:
    """What our worker holds is fine although this process could not bind it: a low port, an address that is gone."""
    (tmp_path / "7" / "fd").mkdir(parents=True)
    (tmp_path / "net").mkdir()
    (tmp_path / "7" / "fd" / "3").symlink_to("socket:[134476]")
    (tmp_path / "net" / "tcp").write_text(TCP.replace("0100007F:85A2 00000000", "010200C0:0050 00000000"))
    addresses = {"web": TcpAddress("192.0.2.1", 80)}
    assert taken(addresses, [7], tmp_path) == {}
    assert taken(addresses, [8], tmp_path) != {}


def test_one_address_becomes_every_address() -> None:
    """A service that moves from 127.0.0.1 to 0.0.0.0 on its port is in nobody's way but our own."""
    with listener() as one:
        assert taken({"web": TcpAddress("0.0.0.0", address(one).port)}, [os.getpid()]) == {}


def test_two_services_cannot_have_one_address() -> None:
    """The first by name has it, the other is told whose it is."""
    where = free_address()
    both: dict[str, Listen] = {"web": where, "api": where}
    assert taken(both, []) == {"web": f"{where} is the address of api already"}
    sockets: dict[str, Listen] = {"web": UnixSocket("/run/one.sock"), "api": UnixSocket("/run/one.sock")}
    assert taken(sockets, [])["web"] == "/run/one.sock is the address of api already"


def test_a_service_with_several_addresses() -> None:
    """One that is taken keeps the service from all of them: half an offer would be a riddle; the others stay free."""
    one, two, three = free_address(), free_address(), free_address()
    found = listeners.taken({"api": (one, two), "web": (three, two), "zap": (three,)}, [])
    assert found == {"web": f"{two} is the address of api already"}


def test_a_service_that_listens_there_already_keeps_its_address() -> None:
    """A newcomer takes nobody's address, whatever its name."""
    where = free_address()
    both: dict[str, Listen] = {"web": where, "api": where}
    assert taken(both, [], settled=["web"]) == {"api": f"{where} is the address of web already"}
    assert taken(both, [], settled=["gone"]) == {"web": f"{where} is the address of api already"}


def test_an_address_that_this_host_has_not() -> None:
    """The kernel's own word is told."""
    nowhere = TcpAddress("192.0.2.1", 3210)
    assert taken({"web": nowhere}, []) == {"web": "cannot listen on 192.0.2.1:3210: cannot assign requested address"}


def test_unix_sockets() -> None:
    """A new path in a directory that is there, and a socket that is there, are fine; anything else is told."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        path = Path(directory)
        (path / "file").write_text("")
        with socket.socket(socket.AF_UNIX) as old:
            old.bind(str(path / "old"))
        addresses: dict[str, Listen] = {
            "directory": UnixSocket(directory),
            "file": UnixSocket(f"{directory}/file"),
            "new": UnixSocket(f"{directory}/new"),
            "nowhere": UnixSocket(f"{directory}/none/new"),
            "no place for files": UnixSocket("/proc/new"),
            "old": UnixSocket(f"{directory}/old"),
            "under a file": UnixSocket(f"{directory}/file/new"),
        }
        assert taken(addresses, []) == {
            "directory": f"cannot listen on {directory}: there is a file that is not a socket",
            "file": f"cannot listen on {directory}/file: there is a file that is not a socket",
            "nowhere": f"cannot listen on {directory}/none/new: there is no directory {directory}/none",
            "no place for files": "cannot listen on /proc/new: no socket can be made in /proc",
            "under a file": f"cannot listen on {directory}/file/new: not a directory",
        }


def test_a_unix_socket_that_somebody_serves() -> None:
    """HAProxy would put its own in its place without a word, so it is tried whether anybody answers; what our own
    HAProxy serves is fine, and trying leaves nothing behind."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory, socket.socket(socket.AF_UNIX) as served:
        path = f"{directory}/served"
        served.bind(path)
        served.listen(1)
        why = taken({"web": UnixSocket(path)}, [])["web"]
        assert why.startswith(f"cannot listen on {path}: another process has it: ")
        assert why.endswith(f"(pid {os.getpid()})")
        assert taken({"web": UnixSocket(path)}, [], held=[path]) == {}
        assert taken({"web": UnixSocket(f"{directory}/new")}, []) == {}
        assert os.listdir(directory) == ["served"]


def test_who_else_listens_at_an_address_of_ours(stranger: tuple[TcpAddress, int]) -> None:
    """Two processes of one user may share a port, and each gets a part of the connections: it is told which one, and
    nothing where all sockets are ours or nobody's."""
    where, pid = stranger
    with socket.socket() as ours, listener() as alone:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        ours.bind((where.host, where.port))
        ours.listen(1)
        addresses = {"web": (where, UnixSocket("/run/x.sock")), "api": (address(alone),)}
        told = shared(addresses, [os.getpid()])
        assert told is not None
        assert told.startswith("web: ")
        assert f"(pid {pid}) listens on {where} too" in told
        assert shared(addresses, [os.getpid(), pid]) is None
        with subprocess.Popen(["sleep", "10"], pass_fds=[alone.fileno()]) as heir:
            assert shared({"api": (address(alone),)}, [os.getpid()]) is None, "the same socket in two processes"
            heir.kill()
        assert shared({"api": (address(alone),)}, [os.getpid()]) is None
        assert shared(addresses, [2**22 + 1]) is None, "whose sockets cannot be seen"


def test_the_kernels_table_is_read_no_further_than_its_listeners(tmp_path: Path) -> None:
    """They come first; a host may have a hundred thousand connections after them."""
    lines = TCP.splitlines()
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "tcp").write_text("\n".join([*lines, lines[1]]))
    (tmp_path / "net" / "tcp6").write_text(TCP6)
    assert [(each.host, each.port) for each in listening_sockets(tmp_path)] == [
        ("127.0.0.1", 34210),
        ("0.0.0.0", 22),
        ("::1", 34211),
        ("2001:db8::1", 80),
    ]
