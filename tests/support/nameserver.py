"""A real nameserver on loopback, over UDP and TCP, in a child process that a test may suspend. Run as a program, this
module is that child. The tests of a module share one, and each has a new zone at a new port."""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

UDP_LIMIT = 512
"""Longest answer over UDP, as for a client that does not say otherwise."""

Zone = dict[str, Any]
"""By lower-case name: `{"A": [ttl, ["10.0.0.1"]]}`, or in place of records what is wrong: `SERVFAIL`, `REFUSED`,
`silent`, `referral`. A name that is not there does not exist. `soa` is the negative time to live."""


class Nameserver:
    """The server; `zone` is replaced as a whole. `asked` is how often each name was asked for since the start, or since
    `begin`."""

    def __init__(self) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.begin()

    def begin(self) -> None:
        """An empty zone that nobody has asked for yet, at a port of its own; whoever asks at the one before it is
        answered as before."""
        self._zone: Zone = {}
        self._tell({"begin": True})
        self.port = int(self._answer)
        self.address = f"127.0.0.1:{self.port}"

    def say(self, **names: Any) -> None:
        """Answer so from now on; names with dots are given with `__` in their place. None: it does not exist."""
        for key, records in names.items():
            name = key.replace("__", ".")
            self._zone.pop(name, None)
            if records is not None:
                self._zone[name] = records
        self._tell({"zone": self._zone})

    def asked(self) -> dict[str, int]:
        """How often each name was asked for."""
        self._tell({"asked": True})
        answer: dict[str, int] = json.loads(self._answer)
        return answer

    def suspend(self) -> None:
        """It hangs: packets go nowhere."""
        os.kill(self._child.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """It goes on."""
        os.kill(self._child.pid, signal.SIGCONT)

    def stop(self) -> None:
        """End it."""
        self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                pipe.close()

    def _tell(self, order: dict[str, Any]) -> None:
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps(order) + "\n")
        self._child.stdin.flush()
        self._answer = self._line()

    def _line(self) -> str:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        assert line, "the nameserver ended"
        return line


@pytest.fixture(scope="module")
def _shared_nameserver() -> Iterator[Nameserver]:
    made = Nameserver()
    yield made
    made.stop()


@pytest.fixture
def nameserver(_shared_nameserver: Nameserver) -> Iterator[Nameserver]:
    """A nameserver with an empty zone."""
    _shared_nameserver.begin()
    yield _shared_nameserver
    _shared_nameserver.resume()


class _Server:
    """What the child does."""

    def __init__(self) -> None:
        self.zone: Zone = {}
        self.asked: dict[str, int] = {}

    def answer(self, wire: bytes, limit: int) -> bytes | None:
        """The answer to one packet; None is silence."""
        query = dns.message.from_wire(wire)
        response = dns.message.make_response(query)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        self.asked[f"{name} {kind}"] = self.asked.get(f"{name} {kind}", 0) + 1
        there = self.zone.get(name)
        soa = dns.rrset.from_text(".", self.zone.get("soa", 1), "IN", "SOA", f". . 1 1 1 1 {self.zone.get('soa', 1)}")
        if isinstance(there, dict) and isinstance(there.get(kind), str):
            there = there[kind]
        if there == "silent":
            return None
        if there == "referral":
            response.authority.append(dns.rrset.from_text("test.", 60, "IN", "NS", "elsewhere.test."))
        elif isinstance(there, str):
            response.set_rcode(dns.rcode.from_text(there))
        elif there is None:
            response.set_rcode(dns.rcode.NXDOMAIN)
            response.authority.append(soa)
        elif kind in there:
            ttl, records = there[kind]
            response.answer.append(dns.rrset.from_text(question.name, ttl, "IN", kind, *records))
        elif "CNAME" in there:
            ttl, (target,) = there["CNAME"]
            response.answer.append(dns.rrset.from_text(question.name, ttl, "IN", "CNAME", target))
            ttl, records = self.zone.get(target.rstrip("."), {}).get(kind, (0, []))
            if records:
                response.answer.append(dns.rrset.from_text(target, ttl, "IN", kind, *records))
        else:
            response.authority.append(soa)
        if there != "referral" and not (isinstance(there, dict) and there.get("authoritative")):
            response.flags |= dns.flags.RA
        packed = response.to_wire(max_size=65_535)
        if len(packed) > limit:
            response = dns.message.make_response(query)
            response.flags |= dns.flags.TC
            packed = response.to_wire()
        return packed


def _serve_udp(server: _Server, udp: socket.socket) -> None:
    while True:
        wire, client = udp.recvfrom(65_535)
        answer = server.answer(wire, UDP_LIMIT)
        if answer is not None:
            udp.sendto(answer, client)


def _serve_tcp(server: _Server, tcp: socket.socket) -> None:
    while True:
        connection, _ = tcp.accept()
        with connection:
            (length,) = struct.unpack("!H", connection.recv(2, socket.MSG_WAITALL))
            answer = server.answer(connection.recv(length, socket.MSG_WAITALL), 65_535)
            if answer is not None:
                connection.sendall(struct.pack("!H", len(answer)) + answer)


def _open() -> tuple[_Server, int]:
    """A server that answers at a free port from now on."""
    server = _Server()
    tcp, udp = socket.create_server(("127.0.0.1", 0)), socket.socket(type=socket.SOCK_DGRAM)
    udp.bind(tcp.getsockname())
    threading.Thread(target=_serve_udp, args=(server, udp), daemon=True).start()
    threading.Thread(target=_serve_tcp, args=(server, tcp), daemon=True).start()
    return server, tcp.getsockname()[1]


def _main() -> None:
    server = _Server()
    for line in sys.stdin:
        order = json.loads(line)
        if "begin" in order:
            server, port = _open()
            print(port, flush=True)
            continue
        server.zone = order.get("zone", server.zone)
        print(json.dumps(server.asked), flush=True)


if __name__ == "__main__":
    _main()
